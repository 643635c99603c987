"""The commands of `sample_batches`, from the command line."""

import json

import jax
import numpy as np
import pytest

from experiments import sample_pack
from experiments.sample_batches import commands, reference
from jaxgen import data, diffusion, metrics, pictures
from jaxgen.diffusion.pretrained import files
from tests.diffusion.pretrained.toys import CONDITIONAL, PLAIN, SIZE
from tests.metrics.pixel_features import FID, images


@pytest.fixture(scope="module", autouse=True)
def order_in_one_program():
    """References compute their order outside of jit: one program for each size, not one for each operation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "shuffled_index", jax.jit(data.shuffled_index, static_argnums=(3, 4)))
        yield


@pytest.fixture
def published(monkeypatch):
    entries = {"toy.pt": PLAIN, "toy_classes.pt": CONDITIONAL}
    known = {name: diffusion.Released(entry.model, entry.num_parameters) for name, entry in entries.items()}
    monkeypatch.setattr(files, "released", lambda: known)


def run(capsys, *arguments):
    commands.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_the_commands(tmp_path, published, monkeypatch, capsys):
    diffusion.save_parameters(tmp_path / "toy_classes.npz", CONDITIONAL.params)
    draw = ["sample", tmp_path / "toy_classes.npz", tmp_path / "p.npz", "--num", 12, "--sampler.steps", 5,
            "--labels", "cycle", "--devices", 1, "--batch-size", 8]  # fmt: skip
    out = run(capsys, *draw, "--save-converted", tmp_path / "toy_classes.safetensors")
    assert "toy_classes: " in out and "8 of 12 samples" in out and "12 samples in" in out
    batch = metrics.read_sample_batch(tmp_path / "p.npz")
    assert batch.image.shape == (12, SIZE, SIZE, 3) and batch.settings["sampler"]["steps"] == "5"
    np.testing.assert_array_equal(batch.label, np.arange(12) % 3)
    draw[1] = tmp_path / "toy_classes.safetensors"
    assert "were there already" in run(capsys, *draw)
    run(capsys, "convert", tmp_path / "toy_classes.npz", tmp_path / "again.npz", "--network", "toy_classes")
    for name, array in np.load(tmp_path / "toy_classes.npz").items():
        np.testing.assert_array_equal(np.load(tmp_path / "again.npz")[name], array)
    for number in range(40):
        name = tmp_path / "real" / f"{number % 2}" / f"{number:02d}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pictures.save_png(name, images(1, number)[0])
    monkeypatch.setattr(reference, "load_extractor", lambda inception, features: FID)
    out = run(capsys, "make-reference", tmp_path / "real", tmp_path / "r.npz", "--inception", "weights")
    assert "40 images of (4, 4, 3), moments of fid's features" in out
    out = run(capsys, "evaluate", tmp_path / "p.npz", tmp_path / "r.npz", "--json", tmp_path / "e.json")
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["metrics"]["reference_images"] == 40 and written["samples"] == batch.settings
    assert out.splitlines()[0].split() == ["fid", f"{written['metrics']['fid']:.5g}"]


def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        commands.main(["sample", str(tmp_path / "none.pt"), str(tmp_path / "p.npz")])
    assert stopped.value.code == 1
    assert "FileNotFoundError: no file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        commands.main(["smaple"])
    assert stopped.value.code == 2


def test_the_command_of_0_1_0_still_starts():
    assert sample_pack.main is commands.main
