"""The commands of `sample_batches`, from the command line."""

import json
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from experiments import sample_pack
from experiments.sample_batches import commands, reference
from jaxgen import data, diffusion, metrics, pictures, weights
from jaxgen.diffusion.pretrained import files
from tests.diffusion.pretrained.toys import CONDITIONAL, PLAIN, SIZE
from tests.metrics.pixel_features import FID, images
from tests.parameters import random_parameters


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


def test_nothing_is_overwritten_silently(tmp_path, published, monkeypatch, capsys):
    diffusion.save_parameters(tmp_path / "toy.npz", PLAIN.params)
    diffusion.save_parameters(tmp_path / "other.npz", CONDITIONAL.params)
    metrics.save_sample_batch(tmp_path / "r.npz", {"arr_0": images(9, 0)}, {})
    (tmp_path / "e.json").write_text("{}")
    monkeypatch.setattr(reference, "load_extractor", lambda inception, features: FID)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for command in (
        ["convert", "toy.npz", "other.npz"],
        ["make-reference", ".", "r.npz"],
        ["evaluate", "r.npz", "r.npz", "--json", "e.json"],
        ["sample", "toy.npz", "p.npz", "--save-converted", "other.npz", "--sampler.steps", "5"],
        ["sample", "toy.npz", "r.npz", "--sampler.steps", "5"],
    ):
        with pytest.raises(SystemExit):
            run(capsys, *(tmp_path / word if "." in word and "-" not in word else word for word in command))
        message = capsys.readouterr().err
        assert "is there already; give another name, or --overwrite" in message or "holds" in message, message
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    run(capsys, "evaluate", tmp_path / "r.npz", tmp_path / "r.npz", "--json", tmp_path / "e.json", "--overwrite")
    assert json.loads((tmp_path / "e.json").read_text())["metrics"]["samples"] == 9


OWN = diffusion.UNet(
    out_channels=6, channels=32, multipliers=(1, 2), num_blocks=1, attention_resolutions=(4,), dropout=0.0, num_heads=2,
    embedding="cos_sin", stride_padding="symmetric", norm_epsilon=1e-5, initialization="fan_in", scale_shift=True,
)  # fmt: skip
FLAGS = ["--model.image-size", 8, "--model.noise-schedule", "cosine", "--model.num-heads", 2]


@pytest.fixture
def own(tmp_path):
    """A file of guided-diffusion of a small network, beside an image and a mask."""
    arrays = diffusion.to_guided_diffusion(
        OWN, random_parameters(OWN, np.zeros((1, 8, 8, 3), np.float32), np.zeros(1, np.int32))
    )
    weights.write_weights(tmp_path / "ema_0.9999_500000.safetensors", arrays)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    pictures.save_png(tmp_path / "photo.png", picture)
    mask = np.zeros((8, 8), np.uint8)
    mask[:4] = 255
    pictures.save_png(tmp_path / "mask.png", mask)
    return tmp_path / "ema_0.9999_500000.safetensors"


def test_one_s_own_network_is_converted_by_flags(own, tmp_path, capsys):
    out = run(capsys, "convert", own, tmp_path / "diffusers", "--to", "diffusers", *FLAGS)
    assert "ema_0.9999_500000 (image_size 8, noise_schedule cosine, num_heads 2): " in out
    run(capsys, "convert", tmp_path / "diffusers", tmp_path / "back.npz", "--to", "guided_diffusion")
    # Of diffusers q, k and v come first, and then the heads.
    found, given = (weights.read_weights(path) for path in (tmp_path / "back.npz", own))
    assert set(found) == set(given)
    for name, array in given.items():
        if "qkv" not in name:
            np.testing.assert_array_equal(found[name], array)
    for arguments, message in (
        (["--to", "diffusers"], "holds config.json"),
        (["--model.num-channels", 64], "num_channels is 64; the file's is 32"),
        ([], "do not show the settings of one's own network"),
    ):
        target = tmp_path / ("diffusers" if "--to" in arguments else "new.npz")
        layout = [] if "--to" in arguments or not arguments else ["--to", "guided_diffusion"]
        with pytest.raises(SystemExit):
            run(capsys, "convert", own, target, *layout, *arguments, *FLAGS)
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_the_commands_of_the_page_on_sampling(own, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("fid_stats.npz", mu=np.zeros(4), sigma=np.eye(4))
    monkeypatch.setattr(reference, "load_extractor", lambda inception, features: FID)
    page = (Path(commands.__file__).parents[2] / "docs" / "sampling.md").read_text()
    section = page.split("## One's own networks")[1]
    lines = [shlex.split(line)[3:] for line in section.splitlines() if line.startswith("python -m")]
    assert [line[0] for line in lines] == ["sample", "sample", "sample", "convert", "sample", "evaluate"]
    for line in lines:
        few = ["--num", 2, "--sampler.steps", 3, "--devices", 1] if line[0] == "sample" else []
        run(capsys, *line, *few)
    known = metrics.read_sample_batch("inpainted.npz").image
    np.testing.assert_array_equal(known[0, :4], known[1, :4])
    assert np.any(known[0, 4:] != known[1, 4:])
    assert metrics.read_sample_batch("wide.npz").image.shape == (2, 8, 16, 3)
    ours, theirs = (metrics.read_sample_batch(name).image.astype(int) for name in ("samples.npz", "again.npz"))
    assert np.abs(ours - theirs).max() <= 2


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
