"""The feature classifier on images whose classes are plain to see, and the measures on its features."""

import numpy as np
import pytest

from experiments.sample_batches import feature_classifier
from jaxgen import data, metrics
from jaxgen.metrics import sample_evaluation
from tests.experiments import one_program
from tests.parameters import random_parameters

SMALL = feature_classifier.Settings(channels=4, num_features=8, steps=40, batch_size=20)


def stripes(num, seed):
    """Class 0 has horizontal stripes, class 1 vertical ones, each with noise."""
    generator = np.random.default_rng(seed)
    label = np.arange(num, dtype=np.int32) % 2
    bright = (np.arange(8) % 2 * 120).astype(np.uint8)
    image = np.where(label[:, None, None] == 0, bright[None, :, None], bright[None, None, :])
    noise = generator.integers(0, 100, (num, 8, 8))
    return data.Images((image + noise)[..., None].astype(np.uint8), label, f"stripes {num} {seed}")


@pytest.fixture(scope="module")
def splits():
    return stripes(120, 0), stripes(60, 1)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("features") / "features.npz"


@pytest.fixture(scope="module")
def extractor(splits, file):
    """Trained from parameters that NumPy drew: the initializers would take longer to compile than the training."""
    network = metrics.FeatureClassifier(2, SMALL.num_features, SMALL.channels)
    start = {"params": random_parameters(network, np.zeros((1, 8, 8, 1), np.float32))}
    with pytest.MonkeyPatch.context() as patch:
        one_program.networks(patch)
        patch.setattr(metrics.FeatureClassifier, "lazy_init", lambda *_: start)
        return feature_classifier.cached(file, *splits, settings=SMALL)


@pytest.mark.slow
def test_it_learns_from_its_own_initializers(splits, tmp_path):
    accuracy = feature_classifier.cached(tmp_path / "features.npz", *splits, settings=SMALL).accuracy
    assert accuracy is not None and accuracy > 0.95


def test_it_learns_and_says_how_well(extractor, splits):
    found, probabilities = extractor(splits[1].image, batch_size=25)
    assert found.shape == (60, 8) and found.min() >= 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert extractor.accuracy == np.mean(probabilities.argmax(axis=1) == splits[1].label) > 0.95


def test_it_is_trained_once_and_read_back_bit_for_bit(extractor, splits, file, monkeypatch):
    monkeypatch.setattr(feature_classifier, "fit", lambda *_: pytest.fail("trained again"))
    again = feature_classifier.cached(file, *splits, settings=SMALL)
    assert (again.sha256, again.accuracy) == (extractor.sha256, extractor.accuracy)
    np.testing.assert_array_equal(again(splits[0].image)[0], extractor(splits[0].image)[0])


def test_it_is_read_back_without_its_data(extractor, splits, file, tmp_path):
    again = feature_classifier.read(file)
    assert (again.sha256, again.accuracy, again.name) == (extractor.sha256, extractor.accuracy, "classifier_fid")
    for found, expected in zip(again(splits[1].image[:5]), extractor(splits[1].image[:5]), strict=True):
        np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="made for another size or kind"):
        sample_evaluation.sizes(again, (16, 16, 1))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(ValueError, match="holds no feature classifier"):
        feature_classifier.read(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match="expected the features.npz of a run"):
        feature_classifier.read(tmp_path / "none.npz")


def test_features_do_not_depend_on_the_batch_nor_on_how_pixels_are_written(extractor, splits):
    image = splits[1].image[:7]
    bytes_in_one, _ = extractor(image)
    np.testing.assert_array_equal(extractor(image, batch_size=500)[0][:3], extractor(image[:3])[0])
    np.testing.assert_allclose(extractor(image, batch_size=3)[0], bytes_in_one, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(extractor(image / 255.0)[0], bytes_in_one, rtol=1e-4, atol=1e-4)


def test_another_s_file_a_damaged_one_and_missing_labels_are_refused(splits, extractor, file, tmp_path):
    train, test = splits
    with pytest.raises(ValueError, match="classifier of another train"):
        feature_classifier.cached(file, stripes(120, 5), test, SMALL)
    with pytest.raises(ValueError, match="classifier of another settings"):
        feature_classifier.cached(file, train, test, feature_classifier.Settings(channels=4, num_features=8, steps=61))
    with np.load(file) as saved:
        arrays = {name: saved[name] for name in saved.files}
    arrays["last/bias"] = arrays["last/bias"] + np.float32(1)
    np.savez(tmp_path / "edited.npz", **arrays)
    with pytest.raises(ValueError, match="not those that were saved"):
        feature_classifier.cached(tmp_path / "edited.npz", train, test, SMALL)
    (tmp_path / "cut.npz").write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="not a whole file"):
        feature_classifier.cached(tmp_path / "cut.npz", train, test, SMALL)
    unlabelled = data.Images(train.image, None, "none")
    with pytest.raises(ValueError, match="no labels"):
        feature_classifier.cached(tmp_path / "none.npz", unlabelled, unlabelled, SMALL)
    with pytest.raises(ValueError, match=r"images lie in \[-1, 1\]"):
        extractor(np.linspace(-1, 1, 64).reshape(1, 8, 8, 1))


def test_the_floor_is_what_real_images_score(extractor, splits):
    """Samples that are the held-out images score exactly the floor; noise scores far worse."""
    train, test = splits
    found = metrics.sample_quality(extractor, test.image[:40], train.image, test.image)
    for name in ("classifier_fid", "precision", "recall"):
        assert found[name] == found[f"{name}_floor"]
    assert (found["fid_samples"], found["floor_images"], found["reference_images"]) == (40, 40, 120)
    noise = np.random.default_rng(2).integers(0, 256, (40, 8, 8, 1), dtype=np.uint8)
    worse = metrics.sample_quality(extractor, noise, train.image, test.image)
    assert worse["classifier_fid_floor"] == found["classifier_fid_floor"]
    assert worse["classifier_fid"] > 5 * found["classifier_fid"] and worse["precision"] < found["precision"]


def test_precision_and_recall_are_of_equal_counts(extractor, splits):
    """The reference split's first N images, whatever its size."""
    real, some = extractor(splits[0].image)[0], extractor(splits[1].image[:30])[0]
    whole, cut = metrics.compare_features(real, some), metrics.compare_features(real[:30], some)
    assert whole["precision"] == cut["precision"] and whole["recall"] == cut["recall"]
    assert whole["classifier_fid"] != cut["classifier_fid"]
