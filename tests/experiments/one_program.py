"""Makes short experiments cheap to compile: what they compute operation by operation becomes one program each.

An operation outside of `jax.jit` is a program for each shape. The slow tier runs the same experiments unchanged.
"""

from functools import partial

import jax
import pytest
from flax import linen as nn

from experiments import flat_images
from jaxgen import training


@pytest.fixture(scope="module")
def programs_end_with_module():
    """Programs without optimizations end with the module: other modules compare bits."""
    yield
    jax.clear_caches()


@pytest.fixture(autouse=True)
def unoptimized(request, programs_end_with_module):
    """Compiles without most optimizations, except in slow tests."""
    jax.config.update("jax_disable_most_optimizations", request.node.get_closest_marker("slow") is None)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def whole(monkeypatch, owner, *names, static=()):
    """Compiles functions of a module or class as one program each.

    Args:
        monkeypatch: undoes it.
        owner: the module or class.
        names: of its functions.
        static: names of arguments that are no arrays.
    """
    for name in names:
        monkeypatch.setattr(owner, name, jax.jit(getattr(owner, name), static_argnames=static))


def starts(monkeypatch):
    """Compiles the initialization of networks and of training states; both are then NumPy arrays."""
    init, create_state = nn.Module.init, training.create_state

    def network_init(module, *args, **kwargs):
        return _on_host(jax.jit(partial(init, module, **kwargs))(*args))

    def state(params, optimizer, *, ema=False, model_state=None):
        make = lambda params, model_state: create_state(params, optimizer, ema=ema, model_state=model_state)
        return _on_host(jax.jit(make)(params, model_state))

    monkeypatch.setattr(nn.Module, "init", network_init)
    monkeypatch.setattr(training, "create_state", state)


def few_images(monkeypatch, number=100):
    """Takes the first images of each split, as many of both: then they have one shape."""
    load = flat_images.load

    def first(config):
        return tuple(
            flat_images.FlatImages(
                split.x[:number], None if split.label is None else split.label[:number], split.shape, split.fingerprint
            )
            for split in load(config)
        )

    monkeypatch.setattr(flat_images, "load", first)


def _on_host(tree):
    traced = any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(tree))
    return tree if traced else jax.device_get(tree)
