"""Measures of trained players: Parzen estimates, the best step, the optimal discriminator, several seeds."""

from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import optax
import pytest

from experiments.command import image_data
from experiments.gan import evaluate
from experiments.gan.config import Evaluation, Model
from experiments.gan.context import EvalContext, Trained
from experiments.gan.data import Points, load
from experiments.gan.train import build
from jaxgen import metrics, training
from jaxgen.gan import NON_SATURATING
from tests.experiments.gan.small_runs import splits, tiny


@pytest.fixture
def image_training(tmp_path, few_programs):
    """The context of a training on flat images and its state before the first step."""
    evaluation = Evaluation(samples=20, centres=6, select_every=2, frames=1)
    config = tiny("mnist", model=Model("maxout", "uniform", 5, (10,), (4,)), evaluation=evaluation)
    data = splits(label=False)
    players = build(config.model, data)
    params = players.init(jax.random.key(0), {"x": data.train.unit(0, 1)})
    state = training.create_state(params, optax.identity())
    state = state.replace(ema={"generator": params["generator"]})
    with training.Run(tmp_path, config, experiment="gan", quiet=True) as run:
        yield EvalContext(config, data, run, "", training.keys.root(3), players, NON_SATURATING), state


NO_RUN: Any = None


def test_the_best_step_is_kept(image_training, monkeypatch):
    context, state = image_training
    scores = iter([3.0, 5.0, 4.0])
    fake = lambda samples, validation, *_: SimpleNamespace(validation=(0.0, next(scores)), sigma=0.2)
    monkeypatch.setattr(metrics, "parzen_log_likelihood", fake)
    every, select = evaluate.select_callback(context)
    assert every == 2
    moved = lambda step: state.replace(ema=jax.tree.map(lambda x: x + np.float32(step), state.ema))
    # Step 4 comes twice, as after a resume: it is measured once. Step 5 is the end of a training that is made longer.
    for step in (2, 4, 4, 5, 6):
        select(step, moved(step))
    best = evaluate.best_generator(context).restore(state.ema)["generator"]
    jax.tree.map(np.testing.assert_array_equal, best, moved(4).ema["generator"])


def test_parzen_of_the_generator_of_images_and_of_centres(image_training):
    context, state = image_training
    generator = state.ema["generator"]
    found = evaluate.parzen(context, Trained(generator, generator, None))
    images = context.data
    parts = images.validation.unit(), images.test.unit()
    rows = np.asarray(jax.random.permutation(context.draw_key(18), 30))[:20]
    expected = metrics.parzen_log_likelihood(images.train.unit()[rows], *parts)
    np.testing.assert_allclose(found["parzen_of_training_images"], expected.mean, rtol=1e-6)
    assert found["parzen_of_training_images_sigma"] == expected.sigma
    own = metrics.parzen_log_likelihood(context.fake(generator, 11, 20), *parts)
    np.testing.assert_allclose(found["parzen"], own.mean, rtol=1e-6)
    centres = metrics.kmeans_centres(images.train.unit(), 6, context.config.seed)
    of_centres = metrics.parzen_log_likelihood(centres, *parts)
    np.testing.assert_allclose(found["parzen_of_kmeans_centres"], of_centres.mean, rtol=1e-6)


def test_the_optimal_discriminator_of_a_generator_that_is_the_mixture(tmp_path, few_programs, monkeypatch):
    config = tiny("quick")
    data, run = load(image_data.FlatImageData("ring"), 10, False), NO_RUN
    assert isinstance(data, Points)
    context = EvalContext(config, data, run, "", training.keys.root(3), build(config.model, data), NON_SATURATING)
    monkeypatch.setattr(EvalContext, "fake", lambda self, generator, number, num: data.draw(training.keys.root(3), num))
    found = evaluate.optimal_logits(context, Trained(None, None, None), np.asarray(data.mixture.means))
    assert len(found) == 1
    np.testing.assert_allclose(found[0], 0, atol=0.15)


def test_the_line_of_a_gaussian(few_programs):
    data = load(image_data.FlatImageData("gaussian"), 10, False)
    nothing: Any = None
    context = EvalContext(tiny("gaussian"), data, nothing, "", training.keys.root(3), nothing, NON_SATURATING)
    x = evaluate.line(context)
    assert x.shape == (201, 1) and x[100] == pytest.approx(1)
    np.testing.assert_allclose([x[0, 0], x[-1, 0]], [0, 2], atol=1e-6)


def test_over_seeds():
    found = evaluate.over_seeds([{"modes": 8, "kl": 0.1}, {"modes": 6, "kl": 0.3}])
    assert found["modes"] == 7 and found["modes_least"] == 6 and found["seeds"] == 2
    np.testing.assert_allclose([found["kl"], found["kl_std"]], [0.2, 0.2 / 2**0.5])
    assert evaluate.over_seeds([{"modes": 8}]) == {"modes": 8}
