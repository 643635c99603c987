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
