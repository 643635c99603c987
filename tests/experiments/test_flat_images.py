import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import flat_images
from jaxgen import training
from jaxgen.data import random_affine


@pytest.fixture(scope="module")
def images():
    x = np.arange(10 * 16, dtype=np.uint8).reshape(10, 16)
    return flat_images.FlatImages(x, np.arange(10, dtype=np.int32), (4, 4, 1), "none")


def test_an_epoch_visits_every_image_with_its_label(images):
    batches = flat_images.batches(images, 5)
    made = [batches.make(jax.random.key(0), batches.arrays, s, jnp.arange(5)) for s in (0, 1)]
    x, label = (np.concatenate([batch[name] for batch in made]) for name in ("x", "label"))
    np.testing.assert_array_equal(np.sort(label), np.arange(10))
    np.testing.assert_allclose(x, images.unit()[label], rtol=1e-6)


def test_distortion_changes_about_half_and_never_the_labels(images):
    every = flat_images.batches(images, 10)
    plain = every.make(jax.random.key(0), every.arrays, 0, jnp.arange(10))
    some = flat_images.batches(images, 10, distort=1.0)
    moved = some.make(jax.random.key(0), some.arrays, 0, jnp.arange(10))
    np.testing.assert_array_equal(plain["label"], moved["label"])
    changed = np.asarray(jnp.any(plain["x"] != moved["x"], axis=1))
    assert 2 <= changed.sum() <= 8
    # A position's distortion does not depend on which other positions are computed with it.
    alone = some.make(jax.random.key(0), some.arrays, 0, jnp.arange(7, 8))
    np.testing.assert_array_equal(alone["x"][0], moved["x"][7])


def test_features_are_each_visited_once(images):
    features = flat_images.feature_batches(images.unit(), 5)
    key = training.keys.stream(training.keys.root(0), "order")
    rows = np.concatenate([features.make(key, features.arrays, s, jnp.arange(5))["x"] for s in (0, 1)])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, images.unit()))


def test_pixels_are_drawn_anew_at_each_visit_and_once_for_all(images):
    every = flat_images.batches(images, 10, binarize=True)
    arrays = jax.tree.map(jnp.asarray, every.arrays)
    draw = jax.jit(lambda step: every.make(jax.random.key(0), arrays, step, jnp.arange(10)))
    visits = [draw(step) for step in range(400)]
    x, label = (np.stack([v[name] for v in visits]) for name in ("x", "label"))
    assert set(np.unique(x)) == {0.0, 1.0}
    by_image = np.stack([x[label == i] for i in range(10)])  # [image, visit, pixel]
    expected = images.unit()
    error = 4 * np.sqrt(expected * (1 - expected) / 400) + 1e-9
    assert np.mean(np.abs(by_image.mean(1) - expected) <= error) > 0.98
    once = flat_images.binarized(jax.random.key(1), images)
    assert set(np.unique(once.x)) <= {0, 255} and once.x.shape == images.x.shape
    assert abs(once.unit().mean() - expected.mean()) < 0.2


def test_without_shuffling_every_epoch_is_in_order(images):
    batches = flat_images.batches(images, 5, shuffle=False)
    labels = [batches.make(jax.random.key(0), batches.arrays, s, jnp.arange(5))["label"] for s in range(3)]
    np.testing.assert_array_equal(np.concatenate(labels), [*range(10), *range(5)])


def test_no_distortion_is_the_identity():
    image = jax.random.uniform(jax.random.key(0), (5, 7, 2))
    np.testing.assert_allclose(random_affine(jax.random.key(1), image), image, atol=1e-6)


def test_a_shift_moves_the_centre_of_mass_by_at_most_its_bound():
    image = jnp.zeros((21, 21, 1)).at[8:13, 8:13].set(1.0)
    grid = jnp.arange(21.0)
    moved = jax.vmap(lambda k: random_affine(k, image, shift=3.0))(jax.random.split(jax.random.key(0), 200))
    mass = moved.sum(axis=(1, 2, 3))
    np.testing.assert_allclose(mass, 25.0, rtol=1e-4)
    y = (moved[..., 0].sum(axis=2) @ grid) / mass - 10
    x = (moved[..., 0].sum(axis=1) @ grid) / mass - 10
    for offset in (y, x):
        assert np.abs(offset).max() < 3.001 and np.abs(offset).max() > 2.5
        assert abs(offset.mean()) < 4 * np.sqrt(3.0 / 200)  # uniform on [-3, 3] has variance 3


def test_a_rotation_keeps_a_disc_and_turns_a_bar():
    y, x = np.mgrid[-10:11, -10:11].astype(np.float32)
    disc = jnp.asarray(np.clip(6 - np.hypot(y, x), 0, 1))[..., None]
    turned = random_affine(jax.random.key(3), disc, rotation=90.0)
    np.testing.assert_allclose(turned, disc, atol=0.25)
    # Counter-clockwise as seen: rows count downwards.
    bar = jnp.asarray((np.abs(y) < 1.5) & (np.abs(x) < 8), jnp.float32)[..., None]
    amount = 90.0
    angle = float(jnp.pi / 180 * amount * jax.random.uniform(jax.random.key(3), (6,), minval=-1, maxval=1)[0])
    p = np.asarray(random_affine(jax.random.key(3), bar, rotation=amount))[..., 0]
    covariance = np.array([[(p * x * x).sum(), (p * x * y).sum()], [(p * x * y).sum(), (p * y * y).sum()]])
    axis = np.linalg.eigh(covariance)[1][:, 1]
    assert abs(abs(axis @ [np.cos(angle), -np.sin(angle)]) - 1) < 1e-2
