"""Fixtures of the GAN experiment's tests: as few programs as possible."""

import functools
import importlib

import jax
import pytest

from jaxgen import data, gan
from tests.experiments import one_program


@functools.cache
def of_one_program(make):
    """The mixture of `make()`, whose means are one program."""
    std = []

    def means():
        mixture = make()
        std.append(mixture.std)
        return mixture.means

    return data.Mixture(jax.device_get(jax.jit(means)()), std[0])


@pytest.fixture
def few_programs(monkeypatch):
    """Most of what the experiment computes outside of its steps is one program, or NumPy."""
    ring, grid, density = data.ring_mixture, data.grid_mixture, data.mixture_log_density
    compute = jax.jit(lambda means, std, x: density(data.Mixture(means, std), x), static_argnums=1)
    monkeypatch.setattr(data, "ring_mixture", lambda: of_one_program(ring))
    monkeypatch.setattr(data, "grid_mixture", lambda: of_one_program(grid))
    monkeypatch.setattr(data, "mixture_log_density", lambda mixture, x: compute(mixture.means, mixture.std, x))
    init = gan.Players.init
    start = lambda players, key, batch: one_program.on_host(jax.jit(functools.partial(init, players))(key, batch))
    monkeypatch.setattr(gan.Players, "init", start)
    one_program.networks(monkeypatch)
    one_program.whole(monkeypatch, data, "draw_mixture")
    diagnostics = importlib.import_module("jaxgen.gan.diagnostics")
    one_program.whole(monkeypatch, diagnostics, "value", "optimal_logits")
