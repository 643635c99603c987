"""Interpolations between samples, and logits of a discriminator in batches."""

import jax
import numpy as np
from flax import linen as nn

from jaxgen import gan


class Sum(nn.Module):
    """The sum of x, times its label plus 1, times 100 where there are keys of dropout."""

    @nn.compact
    def __call__(self, x, labels, keys):
        value = x.sum(axis=-1) * (100.0 if keys is not None else 1.0)
        return value if labels is None else value * (labels + 1).astype(x.dtype)


def test_walks_are_straight_lines_between_draws():
    players = gan.mlp_players(3, gan.normal_noise(2), (), ())
    kernel = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    shapes = jax.eval_shape(lambda: players.init(jax.random.key(0), {"x": np.zeros((1, 3), np.float32)}))
    params = jax.tree.map(
        lambda s: kernel if len(s.shape) == 2 else np.array([1, 2, 3], np.float32), shapes["generator"]
    )
    walks = gan.interpolate(jax.random.key(4), players, params, 4, 5).reshape(4, 5, 3)
    ends = np.asarray(jax.jit(players.noise)(jax.random.split(jax.random.key(4), 8))).reshape(4, 2, 2)
    for line, (a, b) in zip(walks, ends, strict=True):
        np.testing.assert_allclose(line, np.linspace(a, b, 5) @ kernel + [1, 2, 3], rtol=1e-5, atol=1e-5)


def test_each_walk_keeps_its_label():
    labels = []

    class Label(nn.Module):
        @nn.compact
        def __call__(self, z, label):
            return label[:, None].astype(z.dtype)

    players = gan.Players(Label(), Sum(), gan.normal_noise(2), condition="label")
    labels = gan.interpolate(jax.random.key(0), players, {}, 3, 4, np.array([2, 0, 1]))
    np.testing.assert_array_equal(labels[:, 0], np.repeat([2, 0, 1], 4))


def test_logits_are_without_dropout_and_do_not_depend_on_the_batches():
    x = np.arange(14, dtype=np.float32).reshape(7, 2)
    labels = np.array([0, 1, 2, 0, 1, 2, 0], np.int32)
    players = gan.Players(Sum(), Sum(), gan.normal_noise(2))
    found = gan.discriminator_logits(players, {}, x, batch_size=3)
    np.testing.assert_array_equal(found, x.sum(axis=1))
    found = gan.discriminator_logits(players._replace(condition="label"), {}, x, labels, batch_size=4)
    np.testing.assert_array_equal(found, x.sum(axis=1) * (labels + 1))


def shapes_of(players, batch):
    params = jax.eval_shape(lambda: players.init(jax.random.key(0), batch))
    kernels = lambda tree: sorted(x.shape for x in jax.tree.leaves(tree) if len(x.shape) > 1)
    return kernels(params["generator"]), kernels(params["discriminator"])


def test_players_have_the_widths_that_are_asked_for():
    noise, x = gan.normal_noise(5), np.full((1, 6), 0.5, np.float32)
    generator, discriminator = shapes_of(gan.mlp_players(6, noise, (7, 8), (9,)), {"x": x})
    assert generator == [(5, 7), (7, 8), (8, 6)] and discriminator == [(6, 9), (9, 1)]
    generator, discriminator = shapes_of(gan.maxout_players(x, noise, (7,), (4,)), {"x": x})
    assert generator == [(5, 7), (7, 6)] and discriminator == [(4, 1), (6, 20)]


def test_the_papers_players_start_at_the_means_of_the_data():
    x = np.random.default_rng(0).uniform(0.2, 0.8, (50, 6)).astype(np.float32)
    players = gan.maxout_players(x, gan.normal_noise(5), (7,), (4,))
    params = jax.jit(players.init)(jax.random.key(0), {"x": x})["generator"]
    biases = [leaf for leaf in jax.tree.leaves(params) if leaf.shape == (6,)]
    mean = x.mean(axis=0)
    np.testing.assert_allclose(biases, [np.log(mean / (1 - mean))], rtol=1e-4, atol=1e-5)


def test_convolutional_players_take_labels_only_where_there_are_classes():
    noise = gan.normal_noise(3)
    plain, labelled = (gan.dcgan_players((8, 8, 1), noise, 4, 2, classes) for classes in (0, 3))
    assert plain.condition is None and labelled.condition == "label"
    batch = {"x": np.zeros((1, 8, 8, 1), np.float32), "label": np.zeros(1, np.int32)}
    count = lambda players: sum(map(len, shapes_of(players, batch)))
    assert count(labelled) > count(plain)
