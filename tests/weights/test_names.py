"""Prefixes of names, and what is said of a file that does not fit."""

import logging

import numpy as np
import pytest

from jaxgen import weights

NAMES = ["conv.weight", "conv.bias", "out.weight"]


def state(prefix, value):
    return {f"{prefix}{name}": np.full(2, value) for name in NAMES}


@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.", "state_dict.", "ema.", "state_dict.model.module.", "_orig_mod."]
)
def test_a_prefix_is_taken_off(prefix):
    found = weights.select(state(prefix, 1), NAMES)
    assert list(found) == NAMES and all((found[name] == 1).all() for name in NAMES)


@pytest.mark.parametrize("ema", ["ema.", "model_ema.module.", "state_dict.ema.", "params_ema."])
def test_the_moving_average_is_preferred_and_said(ema, caplog):
    file = {"epoch": np.asarray(3), **state("model.", 1), **state(ema, 2), "optimizer.state.0.exp_avg": np.ones(2)}
    with caplog.at_level(logging.INFO):
        found = weights.select(file, NAMES)
    assert list(found) == NAMES and all((found[name] == 2).all() for name in NAMES)
    assert "the moving average" in caplog.text and repr(ema) in caplog.text and "'model.'" in caplog.text


def test_an_average_that_lacks_names_is_not_preferred():
    partial = {"ema.conv.weight": np.zeros(2)}
    found = weights.select({**state("model.", 1), **partial}, NAMES)
    assert list(found) == NAMES and found["conv.weight"][0] == 1


def test_names_that_fit_nothing_are_left_alone():
    other = {"module.x": np.ones(2), "y": np.ones(2)}
    assert weights.select(other, NAMES) == other
    # What stands under the names of the network and is unknown stays, so that it is reported.
    assert "extra" in weights.select({**state("", 1), "extra": np.ones(2)}, NAMES)
    assert "extra" in weights.select({**state("module.", 1), "module.extra": np.ones(2)}, NAMES)


def test_a_file_that_does_not_fit_is_explained():
    assert weights.explain([]) == "The file holds no arrays."
    text = weights.explain(["a.b", *(f"c{i}" for i in range(9))])
    assert text == "The file holds 10 arrays: 'a.b', 'c0', 'c1', 'c2', 'c3', 'c4' and others."
    optimizer = ["state.0.step", "state.0.exp_avg", "state.0.exp_avg_sq", "param_groups.0.lr"]
    assert "this is an optimizer's state, not the network" in weights.explain(optimizer)
