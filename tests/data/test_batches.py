"""Batches that are made of other batches."""

import jax
import numpy as np

from jaxgen import data


def make_numbers(key, arrays, step, positions):
    return {"number": 100 * step + positions, "pair": arrays["x"][positions]}


X = np.arange(24, dtype=np.float32).reshape(12, 2)


def test_groups_are_neighbours_of_the_ungrouped_batch():
    batches = data.DeviceBatches(make_numbers, {"x": X}, 12)
    grouped = data.group_examples(batches, 3)
    assert grouped.batch_size == 4 and grouped.arrays is batches.arrays
    positions = np.array([0, 3, 1], np.int32)
    found = jax.jit(grouped.make)(jax.random.key(0), grouped.arrays, 2, positions)
    np.testing.assert_array_equal(found["number"], 200 + np.array([[0, 1, 2], [9, 10, 11], [3, 4, 5]]))
    np.testing.assert_array_equal(found["pair"], X.reshape(4, 3, 2)[positions])


def test_groups_of_one_are_the_batches_themselves():
    batches = data.DeviceBatches(make_numbers, {"x": X}, 12)
    assert data.group_examples(batches, 1) is batches


def test_batches_of_any_size_stay_so():
    assert data.group_examples(data.DeviceBatches(make_numbers, {"x": X}), 2).batch_size is None
