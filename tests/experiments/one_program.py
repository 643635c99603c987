"""Makes short experiments cheap to compile: what they compute operation by operation becomes one program each.

An operation outside of `jax.jit` is a program for each shape. The slow tier runs the same experiments unchanged.
"""

import functools
import shutil
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from experiments.command import image_data
from experiments.sample_batches import feature_classifier
from jaxgen import metrics, training
from tests.programs import compiled


def whole(monkeypatch, owner, *names, static=()):
    """Compiles functions of a module or class as one program each; what they return is NumPy arrays.

    Args:
        monkeypatch: undoes it.
        owner: the module or class.
        names: of its functions.
        static: names of arguments that are no arrays.
    """
    for name in names:
        monkeypatch.setattr(owner, name, _jitted(getattr(owner, name), static))


@functools.cache
def _jitted(function, static):
    jitted = compiled(function, static_argnames=static)

    def call(*args, **kwargs):
        # Inside of another program there are no options of its own.
        return function(*args, **kwargs) if _traced((args, kwargs)) else on_host(jitted(*args, **kwargs))

    return call


def networks(monkeypatch):
    """Compiles networks, their initialization, and that of training states; the initial values are NumPy arrays."""
    init, apply, create_state = nn.Module.init, nn.Module.apply, training.create_state

    def network_init(module, *args, **kwargs):
        return on_host(_of_network(init, module, **kwargs)(*args))

    def network_apply(module, *args, **kwargs):
        if _traced((args, kwargs)):
            return apply(module, *args, **kwargs)
        arrays = {name: x for name, x in kwargs.items() if isinstance(x, (jax.Array, np.ndarray))}
        others = {name: x for name, x in kwargs.items() if name not in arrays}
        return on_host(_of_network(apply, module, **others)(*args, **arrays))

    def state(params, optimizer, *, ema=False, model_state=None):
        make = lambda params, model_state: create_state(params, optimizer, ema=ema, model_state=model_state)
        return on_host(jax.jit(make)(params, model_state))

    monkeypatch.setattr(nn.Module, "init", network_init)
    monkeypatch.setattr(nn.Module, "apply", network_apply)
    monkeypatch.setattr(training, "create_state", state)


@functools.cache
def _of_network(function, module, **kwargs):
    return jax.jit(partial(function, module, **kwargs))


def killed_after(step, folder):
    """Removes a run's checkpoints after a step, as if it had been killed there."""
    checkpoints = folder / "checkpoints"
    later = [p for p in (*checkpoints.glob("*"), *checkpoints.glob("*/*")) if p.name.isdigit() and int(p.name) > step]
    assert later
    for path in later:
        shutil.rmtree(path)


def few_images(monkeypatch, number=100):
    """Takes the first images of each split, as many of both: then they have one shape."""
    load = image_data.load

    def first(config, labelled=False):
        return tuple(split.select(slice(number)) for split in load(config, labelled))

    monkeypatch.setattr(image_data, "load", first)


def pixel_features(monkeypatch):
    """Compares samples by random projections of their pixels, in NumPy, in place of a trained classifier's features."""

    def cached(path, train, test):
        assert train.label is not None and test.label is not None
        directions = np.random.default_rng(0).normal(size=(np.prod(train.shape), 4))

        def extract(x) -> Any:
            found = np.asarray(x, np.float64).reshape(len(x), -1) @ directions
            probabilities = np.exp(found - found.max(axis=1, keepdims=True))
            return found.astype(np.float32), probabilities / probabilities.sum(axis=1, keepdims=True)

        return metrics.Extractor("classifier_fid", extract, "0" * 64, 0.5)

    monkeypatch.setattr(feature_classifier, "cached", cached)


def _traced(tree):
    return any(isinstance(x, Tracer) for x in jax.tree.leaves(tree))


def on_host(tree):
    """NumPy arrays, or what is being traced."""
    return tree if _traced(tree) else jax.device_get(tree)
