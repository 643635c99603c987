"""Starting: the cache of compiled programs is on, has a folder for each kind of machine, and changes no bit."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.command import compilation_cache

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import experiments
import jax, jax.numpy as jnp
import numpy as np
from jaxgen import nn
def loss(w, x):
    return jnp.mean(jnp.square(jnp.tanh(nn.conv(x, w)) - x))
x, w = (np.random.default_rng(0).normal(size=s).astype(np.float32) for s in ((4, 8, 8, 4), (3, 3, 4, 4)))
step = jax.jit(lambda w: w - 0.1 * jax.grad(loss)(w, x))
for _ in range(3):
    w = step(w)
bits = jax.device_get(w).tobytes().hex()
place, kernels = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_enable_xla_caches
"""
HELP = """
import runpy, sys
for name in ("vae", "deep_autoencoder"):
    sys.argv = [name, "--help"]
    try:
        runpy.run_module(f"experiments.{name}", run_name="__main__")
    except SystemExit:
        pass
modules = sorted(sys.modules)
"""
CHECK = """
from experiments import vae
from experiments.command import cli
found = []
for preset in ("quick", "paper_burda"):
    cli.checked(vae.PRESETS[preset], lambda config: None)
    found.append(jax.config.jax_persistent_cache_enable_xla_caches)
"""


def run(program, **environment):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env={**kept, "JAX_PLATFORMS": "cpu", **environment},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()


@pytest.fixture(scope="module")
def cold(tmp_path_factory):
    """(folder, [place, bits, kernels, modules]) of a process that begins with an empty folder."""
    folder = tmp_path_factory.mktemp("cache")
    program = HELP + TRAIN + "print(place, bits, kernels, *modules)"
    return folder, run(program, XDG_CACHE_HOME=str(folder), XLA_FLAGS=compilation_cache.DETERMINISTIC)


@pytest.fixture(scope="module")
def uncached():
    """[bits, kernels at the start, after the check of a quick preset, of a deterministic one] without a cache."""
    return run(TRAIN + CHECK + "print(bits, kernels, *found)", JAX_COMPILATION_CACHE_DIR="", XLA_FLAGS="")


def test_same_bits_without_cache_with_a_cold_and_with_a_warm_one(cold, uncached):
    folder, (place, bits, *_) = cold
    assert place == str(folder / "jaxgen" / "xla" / compilation_cache.name())
    entries = {path.name for path in Path(place).iterdir()}
    assert entries
    warm = run(
        TRAIN + "print(place, bits)", XDG_CACHE_HOME=str(folder), XLA_FLAGS=compilation_cache.DETERMINISTIC
    )  # fmt: skip
    assert warm == [place, bits]
    assert {path.name for path in Path(place).iterdir()} == entries
    assert uncached[0] == bits


def test_another_processor_or_version_has_another_folder(monkeypatch):
    found = {compilation_cache.name()}
    monkeypatch.setattr(compilation_cache.metadata, "version", lambda package: "9.8")
    for flags in ("avx2 fma", "avx2 avx512f fma"):
        monkeypatch.setattr(compilation_cache.Path, "read_text", lambda path, f=flags: f"flags\t: {f}\n")
        found.add(compilation_cache.name())
    monkeypatch.setattr(compilation_cache.metadata, "version", lambda package: "9.9")
    found.add(compilation_cache.name())
    assert len(found) == 4


def test_what_is_set_stays(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    compilation_cache.use(Path("here"))
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "elsewhere"


def test_kernels_measured_elsewhere_decide_nothing_in_a_deterministic_program(uncached):
    _, started, quick, paper = uncached
    assert quick == started != "none" and paper == "none"


def test_a_flag_against_determinism_is_refused(monkeypatch):
    for flags, kept in (("--a=1", f"--a=1 {compilation_cache.DETERMINISTIC}"), *((f, f) for f in (
        compilation_cache.DETERMINISTIC, "--xla_gpu_deterministic_ops --b", "--b --xla_gpu_deterministic_ops",
    ))):  # fmt: skip
        monkeypatch.setenv("XLA_FLAGS", flags)
        compilation_cache.make_deterministic()
        assert os.environ["XLA_FLAGS"] == kept
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=false")
    with pytest.raises(ValueError, match="no-deterministic"):
        compilation_cache.make_deterministic()


def test_help_loads_nothing_that_only_training_needs(cold):
    """A program that starts with the flag also ignores kernels that were measured elsewhere."""
    _, (_, _, kernels, *modules) = cold
    assert kernels == "none"
    loaded = {module.split(".")[0] for module in modules}
    assert not loaded & {"matplotlib", "orbax", "sklearn", "tensorflow_datasets", "imageio", "scipy", "tensorboardX"}
    assert "jaxgen" in loaded
