"""The GAN experiment: its data, its measures and what it says of a game that goes wrong, on small exact cases."""

import dataclasses
import functools
import json
import math
from types import SimpleNamespace

import jax
import numpy as np
import one_program
import optax
import pytest
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)

from experiments import flat_images, gan, gan_data, gan_evaluation, gan_figures, gan_game, gan_health, optimizers
from jaxgen import data, metrics, training
from jaxgen import gan as mathematics
from jaxgen.gan import NON_SATURATING

KEY = training.keys.root(3)
POSITIONS = np.arange(6, dtype=np.int32)


def images(num=40, seed=0, label=True):
    x = np.random.default_rng(seed).integers(0, 256, (num, 64), dtype=np.uint8)
    return flat_images.FlatImages(x, np.arange(num, dtype=np.int32) % 3 if label else None, (8, 8, 1), f"random {seed}")


def splits(signed=False, label=True):
    whole = images(label=label)
    part = lambda chosen: dataclasses.replace(whole, x=whole.x[chosen], label=whole.label[chosen] if label else None)
    return gan_data.Images(part(slice(30)), part(slice(30, None)), images(20, 1, label), whole, signed)


def made(batches, steps, positions=POSITIONS):
    """The batches of some steps, each array [steps, ...]."""
    make = jax.vmap(batches.make, (None, None, 0, None))
    return jax.device_get(jax.jit(make)(KEY, batches.arrays, np.arange(steps, dtype=np.int32), positions))


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
    compiled = jax.jit(lambda means, std, x: density(data.Mixture(means, std), x), static_argnums=1)
    monkeypatch.setattr(data, "ring_mixture", lambda: of_one_program(ring))
    monkeypatch.setattr(data, "grid_mixture", lambda: of_one_program(grid))
    monkeypatch.setattr(data, "mixture_log_density", lambda mixture, x: compiled(mixture.means, mixture.std, x))
    init = mathematics.Players.init
    start = lambda players, key, batch: one_program.on_host(jax.jit(functools.partial(init, players))(key, batch))
    monkeypatch.setattr(mathematics.Players, "init", start)
    one_program.networks(monkeypatch)
    one_program.whole(monkeypatch, data, "draw_mixture")
    one_program.whole(monkeypatch, mathematics, "value", "optimal_logits")


# Data.


def test_mixtures_have_unit_variance_and_keep_their_proportions(few_programs):
    for name, std_of_radius, modes in (("ring", 0.02 / 2, 8), ("grid", 0.05 / 32**0.5, 25)):
        mixture = gan_data.load(flat_images.Data(name), 10, False).mixture
        assert len(mixture.means) == modes
        furthest = np.linalg.norm(mixture.means, axis=1).max()
        np.testing.assert_allclose(mixture.std / furthest, std_of_radius, rtol=1e-5)
        np.testing.assert_allclose(np.mean(mixture.means**2) + mixture.std**2, 1, rtol=1e-5)


def test_every_discriminator_step_sees_points_of_its_own(few_programs):
    points = gan_data.load(flat_images.Data("ring"), 10, False)
    batches = points.batches(6, 3)
    x = made(batches, 2)["x"].reshape(12, 3, 2)
    assert len(np.unique(x.reshape(-1, 2), axis=0)) == 36
    distance = np.linalg.norm(x[:, :, None] - np.asarray(points.mixture.means), axis=-1).min(axis=-1)
    assert distance.max() < 5 * points.mixture.std
    # A point belongs to its position, whatever other positions are asked for.
    alone = made(batches, 2, POSITIONS[2:3])["x"]
    np.testing.assert_allclose(alone[0, 0], x[2], rtol=1e-6)


def test_images_of_an_epoch_are_each_seen_once_with_their_labels():
    found = splits()
    one = made(found.batches(6, 1), 5)["x"].reshape(30, 64)
    seen = np.rint(255 * one).astype(np.uint8)
    np.testing.assert_array_equal(np.unique(seen, axis=0), np.unique(found.train.x, axis=0))
    two = made(found.batches(3, 2), 5, POSITIONS[:3])
    assert two["x"].shape == (5, 3, 2, 64)
    np.testing.assert_array_equal(np.rint(255 * two["x"].reshape(30, 64)), seen)
    row = {bytes(x): y for x, y in zip(found.train.x, found.train.label, strict=True)}
    assert [row[bytes(x)] for x in seen] == two["label"].reshape(-1).tolist()


def test_convolutions_see_pictures_from_minus_one_to_one():
    found = splits(signed=True)
    x = made(found.batches(6, 1), 5)["x"][0]
    assert x.shape == (6, 8, 8, 1) and -1 <= x.min() < -0.9 and 0.9 < x.max() <= 1
    flat = made(splits().batches(6, 1), 5)["x"][0]
    np.testing.assert_allclose(found.to_unit(x), flat, atol=1e-6)


# Measures.


def test_best_discriminator_of_known_generators(few_programs):
    mixture = gan_data.load(flat_images.Data("ring"), 10, False).mixture
    x = np.asarray(mixture.means)
    rng = np.random.default_rng(1)
    same = x[rng.integers(0, 8, 20_000)] + mixture.std * rng.normal(size=(20_000, 2)).astype(np.float32)
    np.testing.assert_allclose(gan_evaluation.best_logits(mixture, same, x), 0, atol=0.1)
    noise = mixture.std * np.random.default_rng(0).normal(size=(20_000, 2)).astype(np.float32)
    # A generator of the first mode alone is eight times as dense there, and nothing elsewhere.
    found = gan_evaluation.best_logits(mixture, x[:1] + noise, x)
    assert abs(found[0] + math.log(8)) < 0.05 and found[1:].min() > 100
    floored = gan_evaluation.best_logits(mixture, x[:1] + noise, 3 * x, floor=-7.0)
    np.testing.assert_allclose(floored, 0, atol=1e-6)


def test_kmeans_finds_separate_groups():
    centres = np.array([[10, 10], [200, 10], [10, 200]], np.uint8)
    x = np.repeat(centres, 50, axis=0) + np.random.default_rng(0).integers(0, 5, (150, 2), dtype=np.uint8)
    found = gan_evaluation.kmeans_centres(flat_images.FlatImages(x, None, (1, 2, 1), "groups"), 3, 2)
    expected = x.reshape(3, 50, 2).mean(axis=1) / 255
    np.testing.assert_allclose(found[np.lexsort(found.T[::-1])], expected[np.lexsort(expected.T[::-1])], atol=2e-3)


def test_over_seeds():
    found = gan_evaluation.over_seeds([{"modes": 8, "kl": 0.1}, {"modes": 6, "kl": 0.3}])
    assert found["modes"] == 7 and found["modes_least"] == 6 and found["seeds"] == 2
    np.testing.assert_allclose([found["kl"], found["kl_std"]], [0.2, 0.2 / 2**0.5])
    assert gan_evaluation.over_seeds([{"modes": 8}]) == {"modes": 8}


# Health.

HEALTHY = {
    "discriminator_loss": 1.3, "generator_loss": 0.8, "value": -1.3, "real_probability": 0.55, "fake_probability": 0.45,
    "variance": 0.9, "shift": 0.01,
}  # fmt: skip


def test_what_is_seen_of_a_game():
    real, fake = np.float32([[0.0, 0.0], [2.0, 4.0]]), np.float32([[3.0, 2.0], [3.0, 2.0]])
    found = gan_health.look(NON_SATURATING, np.float32([2, 2]), np.float32([-1, -1]), real, fake)
    sigmoid = lambda a: 1 / (1 + math.exp(-a))
    value = math.log(sigmoid(2)) + math.log(1 - sigmoid(-1))
    expected = {
        "value": value, "discriminator_loss": -value, "generator_loss": -math.log(sigmoid(-1)),
        "real_probability": sigmoid(2), "fake_probability": sigmoid(-1), "variance": 0.0, "shift": 4 / 5,
    }  # fmt: skip
    assert found.keys() == expected.keys()
    for name, number in expected.items():
        np.testing.assert_allclose(found[name], number, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("changed", "loss", "kinds"),
    [
        ({}, "non_saturating", []),
        ({"variance": 0.01, "fake_probability": 0.3}, "non_saturating", ["collapsed"]),
        ({"variance": 0.3, "modes": 1, "modes_in_all": 8}, "non_saturating", ["collapsed"]),
        ({"variance": 0.3, "modes": 1, "modes_in_all": 1}, "non_saturating", []),
        ({"real_probability": 0.999, "fake_probability": 0.001}, "saturating", ["certain"]),
        ({"real_probability": 0.999, "fake_probability": 0.5}, "saturating", []),
        ({"real_probability": 0.999, "fake_probability": 0.001}, "wasserstein", []),
        ({"discriminator_loss": 0.001}, "hinge", ["certain"]),
        ({"real_probability": 0.5, "fake_probability": 0.501, "shift": 2.0}, "non_saturating", ["indifferent"]),
        ({"real_probability": 0.5, "fake_probability": 0.501}, "non_saturating", []),
    ],
)
def test_what_is_wrong_with_a_game(changed, loss, kinds):
    said = gan_health.complaints({**HEALTHY, **changed}, loss)
    assert list(said) == kinds
    assert all("Try" in text for text in said.values())


# The whole experiment, small.


def tiny(preset, **fields):
    config = gan.PRESETS[preset]
    return dataclasses.replace(
        config,
        train=training.Settings(num_steps=6, batch_size=8, log_every=2, save_every=3, devices=1),
        **fields,
    )


def played(config, prepared, workdir):
    with training.Run(workdir, config, experiment="gan", quiet=True, may_grow=gan.may_grow(config)) as run:
        return gan.train(config, prepared, run)


@pytest.mark.slow
def test_a_longer_game_goes_on_where_no_rate_knows_its_length(tmp_path, monkeypatch):
    monkeypatch.setattr(gan_evaluation, "GAME_SAMPLES", 500)
    sgd = optimizers.Optimizer("sgd", 0.1, "goodfellow", epoch_steps=1)
    config = tiny("gaussian", generator=sgd, discriminator=sgd, evaluation=gan.Evaluation(frames=2, check_every=3))
    shorter = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=3))
    prepared = gan.prepare(config)
    first, grown = (played(c, prepared, tmp_path / "grown") for c in (shorter, config))
    assert grown == {**played(config, prepared, tmp_path / "whole"), "seconds": grown["seconds"]}
    assert first["metrics"] != grown["metrics"]
    assert gan.may_grow(gan.PRESETS["paper"]) == ("train.num_steps",) and not gan.may_grow(gan.PRESETS["dcgan"])


def check_ring(folder, results):
    assert results["metrics"]["modes_in_all"] == 8 and not results["paper"] and results["step"] == 6
    assert {p.name for p in (folder / "figures").iterdir()} >= {"film.gif", "discriminator.png", "game.png"}
    assert {p.stem for p in (folder / "frames").iterdir()} >= {"000000000", "000000006"}
    looks = json.loads((folder / "measured.json").read_text())
    assert {"game at step 3", "game at step 6"} <= looks.keys()


RING = tiny(
    "quick",
    model=gan.Model(generator_widths=(8,), discriminator_widths=(8,)),
    evaluation=gan.Evaluation(frames=2, check_every=3),
)


def test_a_ring_resumed_and_made_longer(tmp_path, monkeypatch, few_programs):
    # Every batch of points has as many of them.
    for owner, name in ((gan_evaluation, "GAME_SAMPLES"), (gan_health, "SAMPLES"), (gan_evaluation, "MODE_SAMPLES")):
        monkeypatch.setattr(owner, name, 1000)
    monkeypatch.setattr(gan_figures, "FIELD", 100)
    monkeypatch.setattr(gan_figures, "FACTOR", 1)
    constant = optimizers.Optimizer("adam", 4e-3, beta1=0.5)
    config = dataclasses.replace(RING, generator=constant, discriminator=constant)
    prepared = gan.prepare(config)
    shorter = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=3))
    with monkeypatch.context() as patch:
        patch.setattr(gan_figures, "draw", lambda *_: None)
        first = played(shorter, prepared, tmp_path)
    assert first["step"] == 3
    grown = played(config, prepared, tmp_path)
    check_ring(tmp_path, grown)
    assert first["params_sha256"] != grown["params_sha256"] and first["metrics"] != grown["metrics"]
    # Nothing is trained or measured a second time.
    monkeypatch.setattr(gan_figures, "draw", lambda *_: None)
    again = played(config, prepared, tmp_path)
    assert again == {**grown, "seconds": again["seconds"]}
    with pytest.raises(training.RunRefused, match="seed: 0 -> 5"):
        played(dataclasses.replace(config, seed=5), prepared, tmp_path)


@pytest.mark.slow
def test_a_ring(tmp_path, monkeypatch):
    monkeypatch.setattr(gan_evaluation, "GAME_SAMPLES", 500)
    check_ring(tmp_path, played(RING, gan.prepare(RING), tmp_path))
    assert {p.stem for p in (tmp_path / "frames").iterdir()} == {"000000000", "000000002", "000000006"}


def test_several_seeds_are_the_runs_of_each(tmp_path, monkeypatch):
    games = []
    monkeypatch.setattr(gan, "play", lambda game: games.append(game) or ({}, {}, {}))
    monkeypatch.setattr(gan_evaluation, "measure", lambda game, *_: {"modes": len(games)})
    monkeypatch.setattr(gan_figures, "draw", lambda *_: None)
    config = tiny("quick", seed=5, seeds=3)
    found = played(config, gan_data.load(config.data, 1, False), tmp_path)["metrics"]
    assert [game.name for game in games] == ["seed5", "seed6", "seed7"]
    for seed, game in enumerate(games, 5):
        assert (jax.random.key_data(game.key) == jax.random.key_data(training.keys.root(seed))).all()
    assert found == {"modes": 2.0, "modes_std": 1.0, "modes_least": 1.0, "seeds": 3.0}


IMAGE_MODEL = gan.Model("maxout", "uniform", 5, (10,), (4,))
IMAGE_EVALUATION = gan.Evaluation(samples=20, centres=6, select_every=2, frames=1)


@pytest.mark.slow
def test_a_longer_game_selects_among_the_same_steps(tmp_path):
    config = tiny("mnist", model=IMAGE_MODEL, evaluation=IMAGE_EVALUATION)
    shorter = dataclasses.replace(config, train=dataclasses.replace(config.train, num_steps=3))
    looked_at = []
    for folder, configs in (("grown", (shorter, config)), ("whole", (config,))):
        results = [played(c, splits(label=False), tmp_path / folder) for c in configs][-1]
        measured = json.loads((tmp_path / folder / "measured.json").read_text())
        looked_at.append(({k: v for k, v in measured.items() if "validation" in k}, results["metrics"]))
    assert looked_at[0] == looked_at[1] and len(looked_at[0][0]) == 3


@pytest.fixture
def image_game(tmp_path, few_programs):
    """A game on flat images and its state before the first step."""
    config = tiny("mnist", model=IMAGE_MODEL, evaluation=IMAGE_EVALUATION)
    prepared = splits(label=False)
    players = gan.build(config.model, prepared)
    params = players.init(jax.random.key(0), {"x": prepared.train.unit(0, 1)})
    state = training.create_state(params, optax.identity())
    state = state.replace(ema={"generator": params["generator"]})
    with training.Run(tmp_path, config, experiment="gan", quiet=True) as run:
        yield gan_game.Game(config, prepared, run, "", KEY, players, NON_SATURATING), state


def test_the_best_step_is_kept(image_game, monkeypatch):
    game, state = image_game
    scores = iter([3.0, 5.0, 4.0])
    fake = lambda samples, validation, *_: SimpleNamespace(validation=(0.0, next(scores)), sigma=0.2)
    monkeypatch.setattr(metrics, "parzen_log_likelihood", fake)
    select = gan_evaluation.selector(game)
    moved = lambda step: state.replace(ema=jax.tree.map(lambda x: x + np.float32(step), state.ema))
    # Step 4 comes twice, as after a resume: it is measured once. Step 5 is the end of a game that is then made longer.
    for step in (2, 4, 4, 5, 6):
        select(step, moved(step))
    best = gan_evaluation.selected(game, state.ema["generator"])
    jax.tree.map(np.testing.assert_array_equal, best, moved(4).ema["generator"])


def test_parzen_of_the_generator_of_images_and_of_centres(image_game):
    game, state = image_game
    found = gan_evaluation.parzen(game, state.ema["generator"])
    images = game.data
    parts = images.validation.unit(), images.test.unit()
    rows = np.asarray(jax.random.permutation(game.draw_key(18), 30))[:20]
    expected = metrics.parzen_log_likelihood(images.train.unit()[rows], *parts)
    np.testing.assert_allclose(found["parzen_of_training_images"], expected.mean, rtol=1e-6)
    assert found["parzen_of_training_images_sigma"] == expected.sigma
    own = metrics.parzen_log_likelihood(game.fake(state.ema["generator"], 11, 20), *parts)
    np.testing.assert_allclose(found["parzen"], own.mean, rtol=1e-6)
    assert "parzen_of_kmeans_centres" in found


@pytest.mark.slow
def test_players_with_labels_and_a_normalised_discriminator(tmp_path, monkeypatch):
    monkeypatch.setattr(gan_evaluation, "on_features", lambda *_: {})
    config = tiny(
        "dcgan",
        data=flat_images.Data(),
        model=gan.Model("dcgan", "normal", 4, channels=8, conditional=True),
        objective=gan.Objective("hinge", penalty="none", spectral=True, discriminator_steps=2),
        evaluation=gan.Evaluation(samples=20, centres=0, frames=1),
    )
    prepared = splits(signed=True)
    found = played(config, prepared, tmp_path)["metrics"]
    assert "parzen_of_kmeans_centres" not in found and 0 < found["real_probability"] < 1
    assert (tmp_path / "figures/walks.png").exists()


def test_the_papers_settings():
    config = gan.PRESETS["paper"]
    losses = gan.losses_of(config.objective)
    players = gan.build(config.model, splits())

    @jax.jit
    def computed(zero):
        return losses.discriminator(zero, zero), losses.generator(zero), players.noise(jax.random.split(KEY, 1000))

    discriminator, generator, z = jax.device_get(computed(np.zeros(1, np.float32)))
    np.testing.assert_allclose(discriminator, [math.log(2)], rtol=1e-6)
    np.testing.assert_allclose(generator, [math.log(2)], rtol=1e-6)
    assert z.shape == (1000, 100) and 1.7 < np.abs(z).max() < 3**0.5
    params = jax.eval_shape(lambda: players.init(jax.random.key(0), {"x": np.zeros((1, 64), np.float32)}))
    shapes = sorted(x.shape for x in jax.tree.leaves(params) if len(x.shape) == 2)
    assert shapes == [(64, 1200), (100, 1200), (240, 1), (240, 1200), (1200, 64), (1200, 1200)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"data": flat_images.Data("digits")}, "it must be maxout or dcgan"),
        ({"model": gan.Model("maxout")}, "it must be points"),
        ({"model": gan.Model("dcgan")}, "it must be points"),
        ({"data": flat_images.Data("ring", distort=1.0)}, "points have no data.dir"),
        ({"objective": gan.Objective(discriminator_steps=0)}, "discriminator_steps is 0"),
        ({"objective": gan.Objective(ema=1.0)}, "objective.ema is 1.0"),
        ({"objective": gan.Objective(penalty="r1", penalty_weight=-1.0)}, "must not be negative"),
        ({"model": gan.Model(conditional=True)}, "needs model.architecture 'dcgan'"),
        ({"evaluation": gan.Evaluation(select_every=2)}, "only images have a Parzen"),
        ({"generator": optimizers.Optimizer("adam", -1.0)}, "learning_rate is -1.0"),
        ({"data": flat_images.Data(), "model": gan.Model("maxout")}, "held_out is 10000"),
    ],
)
def test_impossible_settings_are_refused(fields, message, few_programs):
    with pytest.raises(ValueError, match=message):
        gan.prepare(tiny("quick", **fields))


def test_an_image_size_that_does_not_halve_is_refused(monkeypatch):
    odd = flat_images.FlatImages(np.zeros((40, 81), np.uint8), None, (9, 9, 1), "odd")
    monkeypatch.setattr(flat_images, "load", lambda config: (odd, odd))
    config = tiny("dcgan", evaluation=gan.Evaluation(held_out=10, centres=0))
    with pytest.raises(ValueError, match="image size of 9"):
        gan.prepare(config)
    labelled = dataclasses.replace(config, model=gan.Model("dcgan", conditional=True))
    with pytest.raises(ValueError, match="needs labels"):
        gan.prepare(labelled)
