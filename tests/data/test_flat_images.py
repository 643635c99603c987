import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import data
from jaxgen.data import random_affine


@pytest.fixture(scope="module")
def images():
    image = np.arange(10 * 16, dtype=np.uint8).reshape(10, 4, 4, 1)
    return data.Images(image, np.arange(10, dtype=np.int32), "none")


def maker(batches):
    """make(step, positions) as one program for each number of positions, with the key 0."""
    make = jax.jit(lambda *args: batches.make(jax.random.key(0), *args))
    return lambda step, positions: jax.device_get(make(batches.arrays, step, np.asarray(positions, np.int32)))


@pytest.fixture(scope="module")
def epoch(images):
    """The first epoch, two batches of five put together."""
    make = maker(data.image_batches(images, 5, flat=True))
    made = [make(step, range(5)) for step in (0, 1)]
    return {name: np.concatenate([batch[name] for batch in made]) for name in ("x", "label")}


def test_an_epoch_visits_every_image_with_its_label(images, epoch):
    np.testing.assert_array_equal(np.sort(epoch["label"]), np.arange(10))
    np.testing.assert_allclose(epoch["x"], images.unit()[epoch["label"]], rtol=1e-6)


def test_distortion_changes_about_half_and_never_the_labels(images, epoch):
    make = maker(data.image_batches(images, 10, flat=True, distort=1.0))
    moved = make(0, range(10))
    np.testing.assert_array_equal(epoch["label"], moved["label"])
    changed = np.any(epoch["x"] != moved["x"], axis=1)
    assert 2 <= changed.sum() <= 8
    # A position's distortion does not depend on which other positions are computed with it.
    positions = [7, 7, 3, 2, 1, 0, 9, 8, 7, 6]
    np.testing.assert_array_equal(make(0, positions)["x"], moved["x"][positions])


def test_features_are_each_visited_once(images):
    features = data.array_batches({"x": images.unit()}, 5)
    make = maker(features)
    rows = np.concatenate([make(step, range(5))["x"] for step in (0, 1)])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, images.unit()))


def test_pixels_are_drawn_anew_at_each_visit_and_once_for_all(images):
    every = data.image_batches(images, 10, flat=True, binarize=True)
    draw = maker(every)
    visits = [draw(step, range(10)) for step in range(400)]
    x, label = (np.stack([v[name] for v in visits]) for name in ("x", "label"))
    assert set(np.unique(x)) == {0.0, 1.0}
    by_image = np.stack([x[label == i] for i in range(10)])  # [image, visit, pixel]
    expected = images.unit()
    error = 4 * np.sqrt(expected * (1 - expected) / 400) + 1e-9
    assert np.mean(np.abs(by_image.mean(1) - expected) <= error) > 0.98
    once = data.binarized(jax.random.key(1), images)
    assert set(np.unique(once.image)) <= {0, 255} and once.image.shape == images.image.shape
    assert abs(once.unit().mean() - expected.mean()) < 0.2


def test_without_shuffling_every_epoch_is_in_order(images):
    make = maker(data.image_batches(images, 5, flat=True, shuffle=False))
    labels = [make(step, range(5))["label"] for step in range(3)]
    np.testing.assert_array_equal(np.concatenate(labels), [*range(10), *range(5)])


ROWS, COLUMNS = np.mgrid[-10:11, -10:11].astype(np.float32)
DISC = np.clip(6 - np.hypot(ROWS, COLUMNS), 0, 1)
BAR = ((np.abs(ROWS) < 1.5) & (np.abs(COLUMNS) < 8)).astype(np.float32)
SQUARE = np.zeros((21, 21), np.float32)
SQUARE[8:13, 8:13] = 1
BLOB = np.exp(-(ROWS**2 + COLUMNS**2) / 8).astype(np.float32)


@pytest.fixture(scope="module")
def affine():
    """{what: image}: an image with no amounts, a square moved 200 times, a disc and a bar turned by `angle`."""

    @jax.jit
    def apply(image):
        key = lambda: jax.random.key(3)
        moved = jax.vmap(lambda k: random_affine(k, SQUARE[..., None], shift=3.0))
        return {
            "plain": random_affine(jax.random.key(1), image),
            "moved": moved(jax.random.split(jax.random.key(0), 200))[..., 0],
            "disc and bar": random_affine(key(), np.stack([DISC, BAR], axis=-1), rotation=90.0),
            "angle": jnp.pi / 2 * jax.random.uniform(key(), (6,), minval=-1, maxval=1)[0],
            "blob": random_affine(key(), BLOB[..., None], scale=0.3, shear=0.3)[..., 0],
            "amounts": 0.3 * jax.random.uniform(key(), (6,), minval=-1, maxval=1)[1:4],
        }

    image = np.random.default_rng(0).uniform(size=(5, 7, 2)).astype(np.float32)
    return {"image": image, **jax.tree.map(np.asarray, apply(image))}


def test_no_distortion_is_the_identity(affine):
    np.testing.assert_allclose(affine["plain"], affine["image"], atol=1e-6)


def test_a_shift_moves_the_centre_of_mass_by_at_most_its_bound(affine):
    moved, grid = affine["moved"].astype(np.float64), np.arange(21.0)
    mass = moved.sum(axis=(1, 2))
    np.testing.assert_allclose(mass, 25.0, rtol=1e-4)
    y = (moved.sum(axis=2) @ grid) / mass - 10
    x = (moved.sum(axis=1) @ grid) / mass - 10
    for offset in (y, x):
        assert np.abs(offset).max() < 3.001 and np.abs(offset).max() > 2.5
        assert abs(offset.mean()) < 4 * np.sqrt(3.0 / 200)  # uniform on [-3, 3] has variance 3


def test_a_rotation_keeps_a_disc_and_turns_a_bar(affine):
    disc, p = np.moveaxis(affine["disc and bar"], -1, 0)
    np.testing.assert_allclose(disc, DISC, atol=0.25)
    # Counter-clockwise as seen: rows count downwards.
    x, y, angle = COLUMNS, ROWS, affine["angle"]
    covariance = np.array([[(p * x * x).sum(), (p * x * y).sum()], [(p * x * y).sum(), (p * y * y).sum()]])
    axis = np.linalg.eigh(covariance)[1][:, 1]
    assert abs(abs(axis @ [np.cos(angle), -np.sin(angle)]) - 1) < 1e-2


def test_scales_and_shear_change_the_second_moments_as_drawn(affine):
    """A blob with variances v: rows' become v (1 + a)^2, columns' (1 + b)^2 (v + (c (1 + a))^2 v), c the shear."""
    p, (a, b, c) = affine["blob"].astype(np.float64), affine["amounts"].astype(np.float64)
    # The bilinear interpolant is the pixels convolved with a triangle of variance 1/6.
    mass, before = p.sum(), (BLOB * ROWS * ROWS).sum() / BLOB.sum() + 1 / 6
    assert np.abs([a, b, c]).min() > 0.03
    found = np.array([(p * i * j).sum() for i, j in ((ROWS, ROWS), (COLUMNS, COLUMNS), (ROWS, COLUMNS))]) / mass
    rows = (1 + a) ** 2
    expected = [rows, (1 + b) ** 2 * (1 + c * c * rows), -c * (1 + b) * rows]
    np.testing.assert_allclose(found / before, expected, atol=0.01)
