"""Metrics of sample batches, by hand on features that are pixels."""

import numpy as np
import pytest

from jaxgen import data, metrics
from tests.metrics.pixel_features import CLASSIFIER, FID, images


def batch_of(image, label=None, **rest):
    return metrics.SampleBatch(image, label, {}, rest)


def test_moments_in_batches_are_those_of_all():
    x = np.random.default_rng(0).normal(size=(57, 5)) * 3 + 1e4
    moments = metrics.no_moments(5)
    for part in (x[:1], x[1:30], x[30:]):
        moments = moments.plus(part)
    assert moments.number == 57
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-10, atol=1e-10)


def test_distances_are_of_all_and_precision_is_of_equal_counts():
    samples, real = images(130, 0, low=90), images(250, 1)
    label = np.zeros(130, np.int64)
    found = metrics.evaluate_sample_batch(batch_of(samples, label), batch_of(real), FID, num=60)
    ours, theirs = (np.asarray(data.signed(x)).reshape(len(x), -1) for x in (samples, real))
    assert found["fid"] == pytest.approx(metrics.frechet_distance(ours[:, :4], theirs[:, :4]), rel=1e-4)
    assert found["sfid"] == pytest.approx(metrics.frechet_distance(ours[:, 4:10], theirs[:, 4:10]), rel=1e-4)
    quality = metrics.precision_recall(theirs[:60, :4], ours[:60, :4])
    assert (found["precision"], found["recall"]) == (quality.precision, quality.recall)
    assert (found["samples"], found["reference_images"], found["precision_images"]) == (130, 250, 60)
    by_class = metrics.evaluate_sample_batch(batch_of(samples, label), batch_of(real), CLASSIFIER, num=60)
    assert by_class["classifier_fid"] == found["fid"] and "sfid" not in by_class and "inception_score" not in by_class
    assert by_class["label_accuracy_percent"] == pytest.approx(100 * np.mean(ours[:, 0] > 0))


def test_moments_of_other_features_are_refused():
    features = {"features": {"name": "classifier_fid", "sha256": "bbb"}}
    other = batch_of(images(40, 3), mu=np.zeros(4), sigma=np.eye(4))._replace(settings=features)
    with pytest.raises(ValueError, match="of features classifier_fid bbb, and those asked for are fid aaa"):
        metrics.evaluate_sample_batch(batch_of(images(20, 1)), other, FID)
    # guided-diffusion's files do not say what made them.
    virtual = batch_of(images(20, 2), mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(ValueError, match="mu of the reference has 2048 numbers and fid finds 4"):
        metrics.evaluate_sample_batch(batch_of(images(20, 1)), virtual, FID)
    named = batch_of(images(20, 2), mu=np.zeros(4), sigma=np.eye(4))
    found = metrics.evaluate_sample_batch(batch_of(images(20, 1)), named, FID)
    assert "sfid" not in found and found["fid"] > 0
    with pytest.raises(ValueError, match="1 image; a covariance needs"):
        metrics.summarize_features(FID, images(1, 0), 1)


def test_a_reference_of_statistics_alone_gives_the_distances(tmp_path):
    samples, real = images(60, 0, low=90), images(80, 1)
    flat = np.asarray(data.signed(real)).reshape(80, -1)
    moments = {"mu": flat[:, :4].mean(axis=0), "sigma": np.cov(flat[:, :4], rowvar=False)}
    spatial = {"mu_s": flat[:, 4:10].mean(axis=0), "sigma_s": np.cov(flat[:, 4:10], rowvar=False)}
    whole = metrics.evaluate_sample_batch(batch_of(samples), batch_of(real), FID)
    for rest, names in ((moments, {"fid"}), (moments | spatial, {"fid", "sfid"})):
        np.savez(tmp_path / "stats.npz", **rest)
        reference = metrics.read_sample_batch(tmp_path / "stats.npz")
        found = metrics.evaluate_sample_batch(batch_of(samples), reference, FID)
        assert {name for name in found if name in ("fid", "sfid", "precision", "recall", "reference_images")} == names
        for name in names:
            assert found[name] == pytest.approx(whole[name], rel=1e-4)
        assert (found["samples"], found["precision_images"]) == (60, 0)
    with pytest.raises(ValueError, match="the samples are a file of statistics alone"):
        metrics.evaluate_sample_batch(reference, reference, FID)


@pytest.mark.parametrize("num, names", [(2, set()), (3, set()), (4, {"precision", "recall"})])
def test_few_images_have_a_distance_without_precision_and_recall(num, names):
    few, many = batch_of(images(num, 0)), batch_of(images(30, 1))
    for samples, reference in ((few, many), (many, few)):
        found = metrics.evaluate_sample_batch(samples, reference, FID)
        assert {"precision", "recall"} & set(found) == names and found["fid"] > 0
        assert found["precision_images"] == (num if names else 0)
    with pytest.raises(ValueError, match="1 image; a covariance needs at least 2"):
        metrics.evaluate_sample_batch(batch_of(images(1, 0)), many, FID)


@pytest.mark.parametrize(
    "rest, message",
    [
        ({"mu": np.zeros(4)}, "one of mu and sigma"),
        (
            {"mu": np.zeros(4), "sigma": np.eye(3)},
            r"mu of the reference is float64\[4\] with a covariance float64\[3, 3\]",
        ),
        ({"mu": np.zeros((1, 4)), "sigma": np.eye(4)}, r"float64\[1, 4\]"),
        ({"mu": np.zeros(4, int), "sigma": np.eye(4)}, "expected floating point"),
        ({"mu": np.full(4, np.nan), "sigma": np.eye(4)}, "mu of the reference is not finite"),
        ({"mu": np.zeros(4), "sigma": np.triu(np.ones((4, 4)))}, "its covariance is not symmetric"),
    ],
)
def test_statistics_that_are_none_are_refused(rest, message):
    with pytest.raises(ValueError, match=message):
        metrics.evaluate_sample_batch(batch_of(images(9, 1)), batch_of(images(9, 2), **rest), FID)


def test_images_that_are_not_square_are_compared():
    tall = lambda seed: np.random.default_rng(seed).integers(0, 256, (20, 6, 4, 3), np.uint8)
    found = metrics.evaluate_sample_batch(batch_of(tall(0)), batch_of(tall(1)), FID)
    ours, theirs = (np.asarray(data.signed(tall(seed))).reshape(20, -1)[:, :4] for seed in (0, 1))
    assert found["fid"] == pytest.approx(metrics.frechet_distance(ours, theirs), rel=1e-4)
