"""Sample batches: whole or not there, continued where they were, never mixed."""

import json

import numpy as np
import pytest

from jaxgen import metrics

SETTINGS = {"seed": 3, "network": "toy", "sampler": {"steps": "ddim5"}}


def samples(start, stop):
    """Samples that depend on their numbers alone."""
    i = np.arange(start, stop)
    image = (7 * i[:, None, None, None] + np.arange(2 * 3 * 3).reshape(1, 2, 3, 3)) % 256
    return image.astype(np.uint8), (i % 10).astype(np.int32)


def draw(path, num=10, batch_size=4, make=samples, settings=SETTINGS):
    return metrics.write_sample_batch(path, make, num, settings=settings, batch_size=batch_size)


def test_the_file_is_what_the_field_reads(tmp_path):
    assert draw(tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as file:
        image, label = file["arr_0"], file["arr_1"]
    assert (image.dtype, label.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(image, samples(0, 10)[0])
    np.testing.assert_array_equal(label, samples(0, 10)[1])
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    batch = metrics.read_sample_batch(tmp_path / "a.npz")
    assert batch.settings == {**SETTINGS, "num": 10} and not batch.rest
    np.testing.assert_array_equal(batch.image, image)


def test_a_killed_one_goes_on_with_another_batch_and_the_same_bytes(tmp_path):
    asked = []

    def killed(start, stop):
        asked.append((start, stop))
        if start >= 6:
            raise KeyboardInterrupt
        return samples(start, stop)

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "a.npz", batch_size=3, make=killed)
    with pytest.raises(FileNotFoundError, match="still being drawn"):
        metrics.read_sample_batch(tmp_path / "a.npz")
    assert asked == [(0, 3), (3, 6), (6, 9)] and not (tmp_path / "a.npz").exists()
    (tmp_path / "a.npz.parts" / "00000000-00000003.npz").unlink()
    # What a killed process was writing is no shard.
    (tmp_path / "a.npz.parts" / ".00000006-00000009.npz.77.part").write_bytes(b"half")
    asked.clear()

    def resumed(start, stop):
        asked.append((start, stop))
        return samples(start, stop)

    draw(tmp_path / "a.npz", batch_size=8, make=resumed)
    assert asked == [(0, 3), (6, 10)]
    draw(tmp_path / "b.npz", batch_size=10)
    assert not (tmp_path / "a.npz.parts").exists()
    for name, value in np.load(tmp_path / "b.npz").items():
        np.testing.assert_array_equal(np.load(tmp_path / "a.npz")[name], value)


def test_what_is_there_is_not_drawn_again_and_other_settings_are_refused(tmp_path):
    draw(tmp_path / "a.npz")
    assert not draw(tmp_path / "a.npz", make=lambda *_: pytest.fail("drawn again"))
    other = SETTINGS | {"sampler": {"steps": "ddim10"}}
    with pytest.raises(ValueError, match=r"other settings.*\n  sampler: \{'steps': 'ddim5'\} -> \{'steps': 'ddim10'\}"):
        draw(tmp_path / "a.npz", settings=other)
    with pytest.raises(ValueError, match="num: 10 -> 11"):
        draw(tmp_path / "a.npz", num=11)

    def killed(start, stop):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "b.npz", make=killed)
    with pytest.raises(ValueError, match="b.npz.parts holds samples of other settings"):
        draw(tmp_path / "b.npz", settings=SETTINGS | {"seed": 4})


def test_without_classes_there_are_no_labels(tmp_path):
    draw(tmp_path / "a.npz", make=lambda start, stop: (samples(start, stop)[0], None))
    assert sorted(np.load(tmp_path / "a.npz").files) == ["arr_0", "settings"]
    assert metrics.read_sample_batch(tmp_path / "a.npz").label is None


def test_a_damaged_shard_is_named(tmp_path):
    def killed(start, stop):
        if start:
            raise KeyboardInterrupt
        return samples(start, stop)

    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "a.npz", make=killed)
    shard = tmp_path / "a.npz.parts" / "00000000-00000004.npz"
    shard.write_bytes(shard.read_bytes()[:50])
    with pytest.raises(ValueError, match="00000000-00000004.npz is not a whole file"):
        draw(tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()
    shard.unlink()
    draw(tmp_path / "a.npz")
    np.testing.assert_array_equal(metrics.read_sample_batch(tmp_path / "a.npz").image, samples(0, 10)[0])


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"samples": np.zeros(3)}, "holds samples and no arr_0"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.float32)}, r"arr_0 of .* is float32 \[2, 4, 4, 3\]; expected uint8"),
        ({"arr_0": np.zeros((2, 4, 4), np.uint8)}, r"is uint8 \[2, 4, 4\]; expected uint8 \[N, H, W, C\]"),
        ({"arr_0": np.zeros((0, 4, 4, 3), np.uint8)}, r"is uint8 \[0, 4, 4, 3\]"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(3, int)}, r"arr_1 .* expected integers \[2\]"),
        ({"arr_0": np.zeros((2, 4, 4, 3), np.uint8), "arr_1": np.zeros(2)}, "arr_1 of .* is float64"),
    ],
)
def test_what_is_no_sample_batch_is_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        metrics.read_sample_batch(tmp_path / "x.npz")


def test_other_files_and_impossible_numbers_are_refused(tmp_path):
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match="not a whole file of arrays"):
        metrics.read_sample_batch(tmp_path / "x.npz")
    for settings, message in (
        ("[" * 100_000, "is no JSON"),
        ("{", "is no JSON"),
        ("[1]", "is a list; expected a JSON"),
    ):
        np.savez(tmp_path / "x.npz", arr_0=samples(0, 4)[0], settings=np.array(settings))
        with pytest.raises(ValueError, match=rf"settings of .*x\.npz {message}"):
            metrics.read_sample_batch(tmp_path / "x.npz")
    with pytest.raises(FileNotFoundError, match="expected a sample batch"):
        metrics.read_sample_batch(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r"the suffix \.npz"):
        draw(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="0 samples"):
        draw(tmp_path / "y.npz", num=0)


def test_further_entries_come_back(tmp_path):
    image = samples(0, 4)[0]
    metrics.save_sample_batch(tmp_path / "r.npz", {"arr_0": image, "mu": np.arange(3.0)}, {"images": 4})
    batch = metrics.read_sample_batch(tmp_path / "r.npz")
    assert batch.settings == {"images": 4} and list(batch.rest) == ["mu"]
    assert json.loads(str(np.load(tmp_path / "r.npz")["settings"])) == {"images": 4}
