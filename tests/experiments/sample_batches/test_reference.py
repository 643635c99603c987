"""References of real images: of all splits in mixed order, with the moments of their features."""

import jax
import numpy as np
import pytest

from experiments.sample_batches import reference
from jaxgen import data, metrics
from tests.metrics.pixel_features import CLASSIFIER, FID, images


@pytest.fixture(scope="module", autouse=True)
def order_in_one_program():
    """References compute their order outside of jit: one program for each size, not one for each operation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "shuffled_index", jax.jit(data.shuffled_index, static_argnums=(3, 4)))
        yield


def split(num, seed, labelled=True):
    label = np.arange(num, dtype=np.int32) % 2 if labelled else None
    return data.Images(images(num, seed), label, f"images {num} {seed}")


def batch_of(image, label=None, **rest):
    return metrics.SampleBatch(image, label, {}, rest)


def test_a_reference_is_of_all_splits_in_mixed_order(tmp_path):
    splits = [split(90, 3), split(30, 4)]
    reference.make_reference(tmp_path / "r.npz", splits, FID, 40)
    with np.load(tmp_path / "r.npz") as file:
        assert {"arr_0", "arr_1", "mu", "sigma", "mu_s", "sigma_s"} <= set(file.files)
    batch = metrics.read_sample_batch(tmp_path / "r.npz")
    every = np.concatenate([s.image for s in splits])
    flat = np.asarray(data.signed(every)).reshape(120, -1)
    np.testing.assert_allclose(batch.rest["mu"], flat[:, :4].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(batch.rest["sigma_s"], np.cov(flat[:, 4:10], rowvar=False), rtol=1e-4, atol=1e-6)
    where = [int(np.flatnonzero((every == image).all(axis=(1, 2, 3)))[0]) for image in batch.image]
    assert len(set(where)) == 40 and max(where) >= 90 and where != sorted(where)
    labels = np.concatenate([s.label for s in splits if s.label is not None])
    np.testing.assert_array_equal(batch.label, labels[where])
    found = metrics.evaluate_sample_batch(batch_of(images(50, 5)), batch, FID)
    ours = np.asarray(data.signed(images(50, 5))).reshape(50, -1)
    assert found["fid"] == pytest.approx(metrics.frechet_distance(ours[:, :4], flat[:, :4]), rel=1e-3)
    assert found["reference_images"] == 120 and found["precision_images"] == 40


def test_moments_of_other_features_are_refused(tmp_path):
    reference.make_reference(tmp_path / "r.npz", [split(40, 3, labelled=False)], CLASSIFIER, 0)
    batch = metrics.read_sample_batch(tmp_path / "r.npz")
    assert batch.label is None and len(batch.image) == 40
    with pytest.raises(ValueError, match="of features classifier_fid bbb, and those asked for are fid aaa"):
        metrics.evaluate_sample_batch(batch_of(images(20, 1)), batch, FID)


def test_what_cannot_be_made_is_refused(tmp_path):
    with pytest.raises(ValueError, match="either --inception FILE"):
        reference.load_extractor("a", "b")
    with pytest.raises(ValueError, match="a name ending with .npz"):
        reference.make_reference(tmp_path / "r.pt", [split(4, 3)], None, 0)
