"""The best of several steps: measured once, kept over sessions, restored or not there."""

import json

import numpy as np
import pytest

from jaxgen import training
from tests.training.engine_toy import Config

pytestmark = pytest.mark.optimized


def opened(path):
    return training.Run(path, Config(), experiment="toy", quiet=True)


def best(run, stage=""):
    return training.KeepBest(run, "best", "score", "validation", stage=stage)


def tree(value):
    return {"w": np.full(3, value, np.float32)}


def scores(*values):
    left = list(values)
    return lambda: {"score": left.pop(0)}


def test_the_highest_score_is_kept(tmp_path):
    with opened(tmp_path) as run:
        measure = scores(3.0, 5.0, 4.0)
        for step in (2, 4, 6):
            best(run).offer(step, tree(step), measure)
        np.testing.assert_array_equal(best(run).restore(tree(0.0))["w"], np.full(3, 4.0))


def test_without_an_offer_it_is_what_is_given(tmp_path):
    with opened(tmp_path) as run:
        like = tree(7.0)
        assert best(run).restore(like) is like


def test_a_step_is_measured_once_also_in_another_session(tmp_path):
    with opened(tmp_path) as run:
        best(run).offer(2, tree(2), scores(5.0))
    with opened(tmp_path) as run:
        best(run).offer(2, tree(2), lambda: pytest.fail("measured again"))
        # Of the step that was kept only the score is needed.
        best(run).offer(4, tree(4), scores(4.0))
        np.testing.assert_array_equal(best(run).restore(tree(0.0))["w"], np.full(3, 2.0))
        best(run).offer(6, tree(6), scores(6.0))
        np.testing.assert_array_equal(best(run).restore(tree(0.0))["w"], np.full(3, 6.0))
    entries = json.loads((tmp_path / "measured.json").read_text())
    keys = [{"what": "validation", "stage": "", "step": step} for step in (2, 4, 6)]
    assert entries == [{"key": k, "values": {"score": s}} for k, s in zip(keys, (5.0, 4.0, 6.0), strict=True)]


def test_an_equal_score_does_not_replace_the_first(tmp_path):
    with opened(tmp_path) as run:
        for step in (2, 4):
            best(run).offer(step, tree(step), scores(1.0))
        np.testing.assert_array_equal(best(run).restore(tree(0.0))["w"], np.full(3, 2.0))


def test_what_it_depends_on_keeps_stages_apart(tmp_path):
    with opened(tmp_path) as run:
        best(run, "a").offer(2, tree(2), scores(1.0))
        other = training.KeepBest(run, "b-best", "score", "validation", stage="b")
        other.offer(2, tree(3), scores(2.0))
        np.testing.assert_array_equal(best(run, "a").restore(tree(0.0))["w"], np.full(3, 2.0))
        np.testing.assert_array_equal(other.restore(tree(0.0))["w"], np.full(3, 3.0))
