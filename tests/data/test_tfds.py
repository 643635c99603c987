"""A real prepared dataset through TensorFlow Datasets, with no TensorFlow."""

import importlib
import shutil
import sys

import numpy as np
import pytest

from jaxgen.data import fingerprint, from_tfds, load, stored


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A TFDS folder: the digits as array_record, and data sets that cannot be used."""
    import tensorflow_datasets as tfds

    features = tfds.features

    def builder(name, spec, splits):
        def info(self):
            return tfds.core.DatasetInfo(builder=self, features=features.FeaturesDict(spec), disable_shuffling=True)

        def split_generators(self, dl_manager):
            return {split: iter(enumerate(examples)) for split, examples in splits.items()}

        # Not registered, so that it is found by its files alone, as on a user's machine.
        with importlib.import_module("tensorflow_datasets.core.registered").skip_registration():
            return type(
                name,
                (tfds.core.GeneratorBasedBuilder,),
                {
                    "VERSION": tfds.core.Version("1.0.0"),
                    "__module__": __name__,
                    "_info": info,
                    "_split_generators": split_generators,
                    "_generate_examples": None,
                },
            )

    def examples(split):
        digits = load("digits", split)
        return [
            {"image": image, "label": int(label)} for image, label in zip(digits["image"], digits["label"], strict=True)
        ]

    image = features.Tensor(shape=(8, 8, 1), dtype=np.uint8)
    label = features.ClassLabel(num_classes=10)
    folder = tmp_path_factory.mktemp("tfds")
    digits = {split: examples(split) for split in ("train", "test")}
    few = [{"picture": e["image"], "kind": e["label"], "other": 1} for e in digits["train"][:3]]
    vector = features.Tensor(shape=(3,), dtype=np.float32)
    vectors = [{"x": np.zeros(3, np.float32)}]
    sizes = [{"image": np.zeros((n, 3, 1), np.uint8)} for n in (3, 4)]
    unequal = {"image": features.Tensor(shape=(None, 3, 1), dtype=np.uint8)}
    for make in (
        builder("JaxgenDigits", {"image": image, "label": label}, digits),
        builder("OtherKeys", {"picture": image, "kind": label, "other": np.int64}, {"train": few}),
        builder("Vectors", {"x": vector}, {"train": vectors}),
        builder("Unequal", unequal, {"train": sizes}),
    ):
        make(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_every_value_of_the_digits(prepared):
    for split in ("train", "test"):
        expected = load("digits", split)
        dataset = load("tfds:jaxgen_digits", split, prepared)
        np.testing.assert_array_equal(dataset["image"], expected["image"])
        np.testing.assert_array_equal(dataset["label"], expected["label"])
        assert dataset["image"].dtype == np.uint8 and dataset["label"].dtype == np.int32
        assert dataset["image"].flags.c_contiguous
        assert fingerprint(dataset) == fingerprint(expected)
    assert "tensorflow" not in sys.modules


def test_a_version_and_a_slice_of_a_split(prepared):
    whole = from_tfds("jaxgen_digits", "train", prepared)
    part = from_tfds("jaxgen_digits:1.0.0", "train[1100:1200]", prepared)
    np.testing.assert_array_equal(part["image"], whole["image"][1100:1200])
    np.testing.assert_array_equal(part["label"], whole["label"][1100:1200])


def test_the_default_folder_is_tfds_own(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(load("tfds:jaxgen_digits", "test")["image"]) == 360


def test_the_only_image_and_the_only_class_label_are_found(prepared):
    dataset = load("tfds:other_keys", "train", prepared)
    expected = load("digits")
    np.testing.assert_array_equal(dataset["image"], expected["image"][:3])
    np.testing.assert_array_equal(dataset["label"], expected["label"][:3])


def test_no_image(prepared):
    with pytest.raises(ValueError, match="tfds:vectors: found the features x, of which 0 are"):
        load("tfds:vectors", "train", prepared)


def test_images_of_different_sizes(prepared):
    with pytest.raises(ValueError, match=r"unequal: found images of different shapes.*\(4, 3, 1\)"):
        load("tfds:unequal", "train", prepared)


def test_not_prepared_says_how(prepared, tmp_path):
    how = r"prepare it once with TensorFlow.*tfds.builder\('mnist'.*array_record.*download_and_prep"
    with pytest.raises(FileNotFoundError, match=rf"'mnist' is not prepared in .*digits.*{how}"):
        load("tfds:mnist", "train", prepared)
    with pytest.raises(FileNotFoundError, match=rf"no folder .*nowhere; .*--data.dir.*{how}"):
        load("tfds:mnist", "train", tmp_path / "nowhere")


def test_unknown_names_name_the_nearest(prepared):
    with pytest.raises(ValueError, match="data set 'jaxgen_digit'.*nearest: 'jaxgen_digits'"):
        load("tfds:jaxgen_digit", "train", prepared)
    with pytest.raises(ValueError, match="data set 'fashion_mist'.*nearest: 'fashion_mnist'"):
        load("tfds:fashion_mist", "train", prepared)
    with pytest.raises(ValueError, match="no TFDS data set ''"):
        load("tfds:", "train", prepared)


def test_unknown_version(prepared):
    with pytest.raises(ValueError, match="jaxgen_digits:2.0.0 cannot be opened.*holds 1.0.0"):
        load("tfds:jaxgen_digits:2.0.0", "train", prepared)


@pytest.mark.parametrize("split", ["tran", "train[:0]", ""])
def test_unknown_and_empty_splits(prepared, split):
    with pytest.raises(ValueError, match=r"no examples in the split .*train \(1,437\), test \(36"):
        load("tfds:jaxgen_digits", split, prepared)


def test_another_file_format(prepared, tmp_path):
    shutil.copytree(prepared / "jaxgen_digits", tmp_path / "jaxgen_digits")
    info = tmp_path / "jaxgen_digits/1.0.0/dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="not prepared as array_record.*prepare it once with"):
        load("tfds:jaxgen_digits", "train", tmp_path)


@pytest.mark.parametrize("keep", [0, 65_536, -1000])
def test_truncated_files(prepared, tmp_path, keep):
    shutil.copytree(prepared / "jaxgen_digits", tmp_path / "jaxgen_digits")
    (path,) = tmp_path.glob("*/1.0.0/*-train.*")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="tfds:jaxgen_digits in .* is damaged or incomplete"):
        load("tfds:jaxgen_digits", "train", tmp_path)


def test_missing_files(prepared, tmp_path):
    shutil.copytree(prepared / "jaxgen_digits", tmp_path / "jaxgen_digits")
    (path,) = tmp_path.glob("*/1.0.0/*-train.*")
    path.unlink()
    with pytest.raises(ValueError, match="tfds:jaxgen_digits in .* is damaged or incomplete"):
        load("tfds:jaxgen_digits", "train", tmp_path)


def test_examples_read_by_number_are_those_in_memory(prepared):
    images, whole = stored("tfds:jaxgen_digits", "train", prepared), load("digits", "train")
    assert (images.number, images.shape) == (1437, (8, 8, 1))
    numbers = np.array([1436, 0, 7, 7])
    batch = images.read(numbers)
    np.testing.assert_array_equal(batch["image"], whole["image"][numbers])
    np.testing.assert_array_equal(batch["label"], whole["label"][numbers])
    assert batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
    assert images.fingerprint == stored("tfds:jaxgen_digits", "train", prepared).fingerprint
    assert images.fingerprint != stored("tfds:jaxgen_digits", "test", prepared).fingerprint
    assert stored("tfds:other_keys", "train", prepared).read([2])["label"] == whole["label"][2]


def test_a_record_that_changed_is_told_and_a_copy_is_the_same(prepared, tmp_path):
    shutil.copytree(prepared / "jaxgen_digits", tmp_path / "jaxgen_digits", copy_function=shutil.copyfile)
    fingerprint = lambda split, folder: stored("tfds:jaxgen_digits", split, folder).fingerprint
    before = {split: fingerprint(split, prepared) for split in ("train", "test", "train[:50]")}
    assert before == {split: fingerprint(split, tmp_path) for split in before} and len(set(before.values())) == 3
    (path,) = tmp_path.glob("*/1.0.0/*-train.*")
    records = bytearray(path.read_bytes())
    records[(len(records) - 2**14) // 3 + 100] ^= 1  # in the second piece that is read
    path.write_bytes(records)
    changed = [split for split in before if fingerprint(split, tmp_path) != before[split]]
    assert changed == ["train", "train[:50]"]


def test_what_cannot_be_read_by_number(prepared):
    with pytest.raises(ValueError, match="found images of shape .4, 3, 1.; expected .3, 3, 1."):
        stored("tfds:unequal", "train", prepared).read([0, 1])
    with pytest.raises(ValueError, match="'digits' is read into memory by load"):
        stored("digits", "train")
    with pytest.raises(ValueError, match="only 'images' can be resized"):
        stored("tfds:jaxgen_digits", "train", prepared, size=4)
