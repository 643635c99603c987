"""What the documents name exists, what they show runs, and their metadata agrees."""

import importlib
import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgen
from jaxgen import autoencoder, diffusion, nerf, training, vae

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
PACKAGES = "autoencoder|data|diffusion|experiments|gan|metrics|nerf|nn|training|vae"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(path):
    text = re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)
    for package, name in re.findall(rf"`(?!metrics\.jsonl)({PACKAGES})\.(\w+)", text):
        if package == "experiments":
            assert (ROOT / "experiments" / f"{name}.py").exists() or (ROOT / "experiments" / name).is_dir(), name
        else:
            assert name in importlib.import_module(f"jaxgen.{package}").__all__, f"{package}.{name}"
    files = [ROOT / name for name in re.findall(r"`((?:jaxgen|experiments|tests|docs)/[\w/.]+)`", text)]
    files += [path.parent / name for name in re.findall(r"\]\(([\w/.]+)(?:#[\w-]+)?\)", text)]
    assert not [file for file in files if not file.exists()]


def blocks():
    return re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "extending.md").read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def shown():
    """What the first three examples define, with parameters drawn by NumPy: no initializer is compiled."""
    names, shapes_of = {}, vae.init_params

    def drawn(*args):
        rng = np.random.default_rng(0)
        draw = lambda leaf: rng.normal(scale=0.1, size=leaf.shape).astype(leaf.dtype)
        return jax.tree.map(draw, jax.eval_shape(lambda: shapes_of(*args)))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vae, "init_params", drawn)
        for block in blocks()[:3]:
            exec(block, names)
    return names


def test_the_likelihood_is_a_density_and_trains(shown):
    log_prob = shown["laplace"](0.1).log_prob
    x = np.linspace(-3.0, 4.0, 70_001, dtype=np.float32)[:, None]
    density = np.exp(np.asarray(jax.jit(log_prob)(x, np.full_like(x, 0.5)), np.float64))
    assert np.trapezoid(density, x[:, 0]) == pytest.approx(1, abs=1e-4)
    x = np.full((2, 64), 0.5, np.float32)
    loss = lambda params, x: shown["loss"](
        params, {"x": x}, jax.random.split(jax.random.key(1), 2), training.Context(jnp.int32(0))
    )
    losses, _ = jax.jit(loss)(shown["params"], x)
    assert losses.shape == (2,) and np.isfinite(losses).all()
    assert vae.check_data(shown["laplace"](0.1), x) is None


def test_the_sampler_finds_the_only_image_there_is(shown):
    schedule = diffusion.make_schedule(diffusion.linear_betas(20, 0.01, 0.4))
    image = np.array([[0.5, -0.25]], np.float32)

    def denoise(x, t):
        scaled = jnp.sqrt(schedule.alphas_bar[t])[:, None] * image
        return (x - scaled) / jnp.sqrt(1 - schedule.alphas_bar[t])[:, None]

    drawn = jax.jit(lambda key: shown["draw"](key, denoise, (1, 2), schedule))(jax.random.key(0))
    assert np.allclose(drawn, image, atol=1e-5)


def test_the_batches_visit_every_row_once_an_epoch(shown):
    x = np.arange(12, dtype=np.float32)[:, None]
    batches = shown["batches_of"](x, 4)
    make = jax.jit(lambda x, step: batches.make(jax.random.key(0), x, step, jnp.arange(4))["x"])
    seen = [make(x, np.int32(step)) for step in range(3)]
    assert sorted(np.concatenate(seen)[:, 0]) == list(range(12))


def test_the_experiment_runs(monkeypatch, tmp_path):
    path = tmp_path / "linear_autoencoder.py"
    path.write_text(blocks()[3])
    spec = importlib.util.spec_from_file_location("linear_autoencoder", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "linear_autoencoder", module)
    spec.loader.exec_module(module)
    flags = ["--train.num-steps", "3", "--train.batch-size", "8", "--train.devices", "1", "--code-size", "2"]
    monkeypatch.setattr(sys, "argv", ["", "quick", *flags, "--workdir", str(tmp_path / "run")])
    command = importlib.import_module("experiments.command.cli")
    command.main("linear_autoencoder", module.PRESETS, module.validate_and_load, module.train, module.__doc__)
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert math.isfinite(results["metrics"]["test_error"]) and results["step"] == 3
    assert len(blocks()) == 5


def test_the_sample_of_given_noise_is_drawn_without_a_key():
    names = {}
    exec(blocks()[4], names)
    assert names["x"].shape == (2, 3) and np.isfinite(names["x"]).all()


def test_the_notes_are_corrected_as_the_functions_compute():
    """Numbers for the differences that docs/notes.md lists, each of which the notes' own form would fail."""
    x, other = np.array([[1.0, 2.0]], np.float32), np.array([[0.0, 0.0]], np.float32)
    assert autoencoder.squared_error(x, other)[0] == 5
    schedule = diffusion.make_schedule(diffusion.linear_betas(100))
    alphas = 1 - np.asarray(schedule.betas, np.float64)
    np.testing.assert_allclose(schedule.alphas_bar, np.cumprod(alphas), rtol=1e-5)
    t = np.array([[0.0, 1.0, 3.0]], np.float32)
    density, rgb = np.array([[0.5, 0.25, 0.0]], np.float32), np.ones((1, 3, 3), np.float32)
    direction = np.array([[0.0, 0.0, 1.0]], np.float32)
    weights = nerf.composite(rgb, density, t, direction, None).weights[0]
    first = 1 - math.exp(-0.5 * 1)
    np.testing.assert_allclose(weights, [first, (1 - first) * (1 - math.exp(-0.25 * 2)), 0], rtol=1e-5)
    encoded = [nerf.positional_encoding(x, 1, pi=pi) for pi in (True, False)]
    np.testing.assert_allclose(encoded[0], [[0, 0, -1, 1]], atol=1e-5)
    np.testing.assert_allclose(encoded[1][0, :2], np.sin(x[0]), rtol=1e-5)


def test_the_citation_is_of_this_version():
    cited = dict(re.findall(r"^([\w-]+): (.*)$", (ROOT / "CITATION.cff").read_text(), flags=re.MULTILINE))
    assert cited["version"] == jaxgen.__version__ and cited["license"] == "Apache-2.0"
    assert f"## {jaxgen.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_numbers_in_the_readme_are_measured_ones():
    section = (ROOT / "README.md").read_text().split("## Compared with the papers")[1].split("\n## ")[0]
    rows = re.findall(r"^\| .* \| ([\d.-]+) \| ([\d.]+) \|$", section, flags=re.MULTILINE)
    results = (ROOT / "experiments" / "RESULTS.md").read_text()
    numbers = {number for row in rows for number in row if number != "-"}
    missing = {number for number in numbers if not re.search(rf"(?<![\d.]){re.escape(number)}(?!\d|\.\d)", results)}
    assert len(rows) >= 8 and not missing


def test_the_readme_s_pictures_are_there_and_small():
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (ROOT / "README.md").read_text())
    assert len(shown) >= 6 and sum((ROOT / name).stat().st_size for name in shown) < 2**20
