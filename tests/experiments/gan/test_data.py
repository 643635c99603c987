"""The data of the GAN experiment: mixtures and images, as the players take them."""

import jax
import numpy as np
import pytest

from experiments.command import image_data
from experiments.gan import data as gan_data
from jaxgen import training
from tests.experiments.gan.small_runs import splits

POSITIONS = np.arange(6, dtype=np.int32)


def points(name):
    found = gan_data.load(image_data.FlatImageData(name), 10, False)
    assert isinstance(found, gan_data.Points)
    return found


def made(batches, steps, positions=POSITIONS):
    """The batches of some steps, each array [steps, ...]."""
    make = jax.vmap(batches.make, (None, None, 0, None))
    return jax.device_get(
        jax.jit(make)(training.keys.root(3), batches.arrays, np.arange(steps, dtype=np.int32), positions)
    )


def test_mixtures_have_unit_variance_and_keep_their_proportions(few_programs):
    for name, std_of_radius, modes in (("ring", 0.02 / 2, 8), ("grid", 0.05 / 32**0.5, 25)):
        mixture = points(name).mixture
        assert len(mixture.means) == modes
        furthest = np.linalg.norm(mixture.means, axis=1).max()
        np.testing.assert_allclose(mixture.std / furthest, std_of_radius, rtol=1e-5)
        np.testing.assert_allclose(np.mean(mixture.means**2) + mixture.std**2, 1, rtol=1e-5)


def test_every_discriminator_step_sees_points_of_its_own(few_programs):
    ring = points("ring")
    batches = ring.batches(6, 3)
    x = made(batches, 2)["x"].reshape(12, 3, 2)
    assert len(np.unique(x.reshape(-1, 2), axis=0)) == 36
    distance = np.linalg.norm(x[:, :, None] - np.asarray(ring.mixture.means), axis=-1).min(axis=-1)
    assert distance.max() < 5 * ring.mixture.std
    # A point belongs to its position, whatever other positions are asked for.
    alone = made(batches, 2, POSITIONS[2:3])["x"]
    np.testing.assert_allclose(alone[0, 0], x[2], rtol=1e-6)


def test_images_of_an_epoch_are_each_seen_once_with_their_labels():
    found = splits()
    one = made(found.batches(6, 1), 5)["x"].reshape(30, 64)
    seen = np.rint(255 * one).astype(np.uint8)
    np.testing.assert_array_equal(np.unique(seen, axis=0), np.unique(found.train.flat, axis=0))
    two = made(found.batches(3, 2), 5, POSITIONS[:3])
    assert two["x"].shape == (5, 3, 2, 64)
    np.testing.assert_array_equal(np.rint(255 * two["x"].reshape(30, 64)), seen)
    assert found.train.label is not None
    row = {bytes(x): y for x, y in zip(found.train.flat, found.train.label, strict=True)}
    assert [row[bytes(x)] for x in seen] == two["label"].reshape(-1).tolist()


def test_convolutions_see_pictures_from_minus_one_to_one():
    found = splits(signed=True)
    x = made(found.batches(6, 1), 5)["x"][0]
    assert x.shape == (6, 8, 8, 1) and -1 <= x.min() < -0.9 and 0.9 < x.max() <= 1
    flat = made(splits().batches(6, 1), 5)["x"][0]
    np.testing.assert_allclose(found.to_unit(x), flat, atol=1e-6)


def test_the_last_training_images_are_held_out():
    digits = image_data.FlatImageData()
    whole, test = image_data.load(digits)
    assert whole.label is not None
    found = gan_data.load(digits, 10, False)
    assert isinstance(found, gan_data.Images) and found.validation is not None and found.train.label is not None
    assert len(found.train) == len(whole) - 10 and len(found.validation) == 10 and found.num_classes == 10
    np.testing.assert_array_equal(found.validation.image, whole.image[-10:])
    np.testing.assert_array_equal(found.train.label, whole.label[:-10])
    np.testing.assert_array_equal(found.test.image, test.image)
    for held_out in (len(whole), 10_000):
        less = gan_data.load(digits, held_out, False)
        assert isinstance(less, gan_data.Images) and len(less.validation) == len(whole) // 6
    with pytest.raises(ValueError, match=f"held_out is 0; of {len(whole)} training images at least one"):
        gan_data.load(digits, 0, False)
