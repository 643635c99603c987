"""Images for convolutional networks: bytes to [-1, 1] and back, the order, and flips keyed by position."""

import jax
import numpy as np
import pytest

from jaxgen import data, training

ORDER = lambda: training.keys.stream(training.keys.root(0), "order")


@pytest.fixture(scope="module")
def images():
    image = np.random.default_rng(0).integers(0, 256, (27, 4, 6, 3), dtype=np.uint8)
    return data.Images(image, np.arange(27, dtype=np.int32), "none")


def maker(images, flip=False):
    """make(step, positions) of batches of nine."""
    batches = data.image_batches(images, 9, flip=flip)
    assert isinstance(batches, data.DeviceBatches)
    make, arrays = jax.jit(batches.make), batches.arrays
    return lambda step, positions: jax.device_get(make(ORDER(), arrays, step, np.asarray(positions, np.int32)))


@pytest.fixture(scope="module")
def flipped(images):
    """(step, positions) -> (x, numbers of the images [9], which of them are mirrored [9])."""
    make = maker(images, flip=True)

    def made(step, positions):
        batch = make(step, positions)
        plain = images.signed()[batch["label"]]
        mirrored = [np.array_equal(x, p[:, ::-1]) for x, p in zip(batch["x"], plain, strict=True)]
        assert all(m or np.array_equal(x, p) for m, x, p in zip(mirrored, batch["x"], plain, strict=True))
        return batch["x"], batch["label"], np.array(mirrored)

    return made


def test_all_256_levels_become_the_nearest_float_and_come_back():
    levels = np.arange(256, dtype=np.uint8)
    exact = np.float32(levels.astype(np.float64) / 127.5 - 1)
    np.testing.assert_allclose(data.signed(levels), exact, rtol=0, atol=6e-8)
    assert data.signed(levels)[0] == -1 and data.signed(levels)[-1] == 1
    np.testing.assert_array_equal(jax.jit(data.signed)(levels), data.signed(levels))
    np.testing.assert_array_equal(data.to_bytes(data.signed(levels)), levels)
    np.testing.assert_array_equal(data.to_bytes([-7.0, 1.2]), [0, 255])


def test_an_epoch_visits_every_image_with_its_label(images):
    made = maker(images)
    epoch = [made(step, range(9)) for step in range(3)]
    labels = np.concatenate([batch["label"] for batch in epoch])
    assert sorted(labels) == list(range(27))
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in epoch]), images.signed()[labels])


def test_a_flip_is_the_position_s_own_and_drawn_anew_at_each_step(flipped):
    mirrored = np.array([flipped(step, range(9))[2] for step in range(45)])
    # 405 fair coins, and no position that always falls alike, nor many steps.
    assert abs(mirrored.mean() - 0.5) < 4 * 0.025
    assert 0 < mirrored.mean(axis=0).min() and mirrored.mean(axis=0).max() < 1
    assert np.mean(np.ptp(mirrored.astype(int), axis=1) == 0) < 0.1
    # The other positions of a batch do not matter.
    positions = [7, 7, 3, 2, 1, 0, 8, 7, 6]
    np.testing.assert_array_equal(flipped(3, positions)[0], flipped(3, range(9))[0][positions])


def test_from_disk_the_same_images_in_the_same_order(flipped, tmp_path):
    """However the hosts share the batch."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for i in range(30):
        Image.fromarray(generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)).save(tmp_path / f"{i:02}.png")
    memory, disk = (data.load_images("images", "train", tmp_path, on_disk=on_disk) for on_disk in (False, True))
    assert len(disk) == len(memory) == 27 and disk.shape == memory.shape
    np.testing.assert_array_equal(disk.signed(20, None), memory.signed(20, None))
    np.testing.assert_array_equal(disk.select(slice(3)).image, memory.image[:3])
    batches = data.image_batches(disk, 9, flip=True)
    assert isinstance(batches, training.HostBatches)
    for step in (0, 5):
        _, numbers, mirrored = flipped(step, range(9))
        whole = memory.signed()[numbers]
        whole[mirrored] = whole[mirrored][:, :, ::-1]
        for part in ([0, 1, 2], [3, 4, 5], [6, 7, 8]):
            np.testing.assert_array_equal(batches.make(ORDER(), step, np.array(part, np.int32))["x"], whole[part])
