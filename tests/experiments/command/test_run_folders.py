"""The files of a run as reports read them: damaged ones are left out or refused by name."""

import json
import os
import time

import pytest

from experiments.command import run_folders
from experiments.report import contents
from experiments.sample_batches import networks
from experiments.vae import PRESETS
from jaxgen import training
from tests.damage import damaged_json
from tests.run_files import FILES, write_run


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A folder with every file that a report reads, and their texts."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    texts = {path.name: path.read_text() for path in write_run(folder)}
    return folder, texts


def try_damaged(begun, name, seeds):
    """How many damaged copies of a file are refused."""
    (folder, texts), refused = begun, 0
    for seed in seeds:
        # Half of the runs are unfinished.
        for other, text in texts.items():
            (folder / other).write_text(text)
        if name != "results.json" and seed % 4 < 2:
            (folder / "results.json").unlink()
        content = damaged_json(texts[name], seed)
        (folder / name).write_bytes(content)
        start = time.process_time()
        try:
            (run,) = run_folders.read_all([folder])
            assert run.state() and run.seconds() is not None and run.sessions >= 0
            contents.report([run])
            if seed % 10 == 0:
                run_folders.same_but_for_seed([run, run])
                contents.report([run, run._replace(name="b")])
        except (ValueError, OSError) as error:
            refused += 1
            assert str(folder) in str(error), (seed, content[:200], error)
        except Exception as error:
            pytest.fail(f"{name}, seed {seed}: {type(error).__name__}: {error}: {content[:200]}")
        assert time.process_time() - start < 2
    return refused


@pytest.mark.parametrize("name", FILES)
def test_200_damaged_copies_of_each_file_are_reported_or_refused_by_name(name, begun):
    refused = try_damaged(begun, name, range(200))
    assert refused == 0 if name.endswith("l") else refused > 40


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_1000_damaged_copies_of_each_file_are_reported_or_refused_by_name(name, begun):
    try_damaged(begun, name, range(1000, 2000))


@pytest.mark.parametrize("name", [*FILES, "figures/samples.png"])
def test_pipes_and_folders_are_not_waited_for(name, begun, tmp_path):
    folder, texts = begun
    for other, text in texts.items():
        (folder / other).write_text(text)
    path, kept = folder / name, (folder / name).read_bytes()
    for make in (os.mkfifo, os.mkdir):
        path.unlink()
        make(path)
        if name.startswith("figures"):
            # What is not a picture is not one of the run's pictures.
            assert run_folders.read(folder).pictures == []
        else:
            with pytest.raises(ValueError, match=f"{name} is not a regular file"):
                run_folders.read(folder)
        path.rmdir() if make is os.mkdir else path.unlink()
        path.write_bytes(kept)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n", b"<html>" + bytes(30)])
def test_a_damaged_picture_is_named(content, begun):
    folder, texts = begun
    for other, text in texts.items():
        (folder / other).write_text(text)
    kept = (folder / "figures" / "samples.png").read_bytes()
    (folder / "figures" / "samples.png").write_bytes(content)
    with pytest.raises(ValueError, match="samples.png is not a whole PNG file"):
        contents.report([run_folders.read(folder)])
    (folder / "figures" / "samples.png").write_bytes(kept)


def test_200_damaged_configs_are_read_back_or_refused():
    preset = PRESETS["quick"]
    text = json.dumps(training.to_dict(preset))
    refused = 0
    for seed in range(0, 400, 2):
        try:
            recorded = json.loads(damaged_json(text, seed))
        except (ValueError, RecursionError):
            continue
        try:
            read = training.from_dict(preset, recorded)
        except ValueError as error:
            refused += 1
            assert "the run's config has" in str(error) or "must be" in str(error), error
        else:
            assert json.loads(json.dumps(training.to_dict(read))).keys() == json.loads(text).keys()
    assert refused > 50


def test_a_network_of_a_damaged_config_is_refused_with_its_file(tmp_path):
    config = {"network": {"channels": "many"}}
    record = {"experiment": "ddpm", "preset": "quick", "seed": 0, "config": config}
    (tmp_path / "config.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="config.json: the run's config has network.channels 'many'; expected int"):
        networks.load(tmp_path)
