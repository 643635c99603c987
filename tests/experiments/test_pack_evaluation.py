"""Measures of packs: by hand on features that are pixels, and the commands from the command line."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)
from trained_toys import CONDITIONAL, PLAIN, SIZE

from experiments import features, image_batches, pack_evaluation, pack_files, sample_pack, trained_networks
from jaxgen import data, diffusion, metrics, pictures


@jax.jit
def pixels(x):
    """Four features, certain classes by the first pixel's sign, and six features that know places."""
    flat = x.reshape(len(x), -1)
    first = (flat[:, :1] > 0).astype(jnp.float32)
    return flat[:, :4], jnp.concatenate([first, 1 - first], axis=1), flat[:, 4:10]


@pytest.fixture(scope="module", autouse=True)
def order_in_one_program():
    """References compute their order outside of jit: one program for each size, not one for each operation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "shuffled_index", jax.jit(data.shuffled_index, static_argnums=(3, 4)))
        yield


FID = features.Extractor("fid", lambda x: pixels(x)[:2], "aaa", spatial=pixels)
CLASSIFIER = features.Extractor("classifier_fid", lambda x: pixels(x)[:2], "bbb", accuracy=1.0)


def images(num, seed, low=0):
    return np.random.default_rng(seed).integers(low, 256, (num, SIZE, SIZE, 3)).astype(np.uint8)


def split(num, seed, labelled=True):
    label = np.arange(num, dtype=np.int32) % 2 if labelled else None
    return image_batches.Images(images(num, seed), label, f"images {num} {seed}")


def pack_of(image, label=None, **rest):
    return pack_files.Pack(image, label, {}, rest)


def test_moments_in_batches_are_those_of_all():
    x = np.random.default_rng(0).normal(size=(57, 5)) * 3 + 1e4
    moments = pack_evaluation.no_moments(5)
    for part in (x[:1], x[1:30], x[30:]):
        moments = moments.plus(part)
    assert moments.number == 57
    np.testing.assert_allclose(moments.mean, x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(moments.covariance, np.cov(x, rowvar=False), rtol=1e-10, atol=1e-10)


def test_distances_are_of_all_and_precision_is_of_equal_counts():
    samples, real = images(130, 0, low=90), images(250, 1)
    label = np.zeros(130, np.int64)
    found = pack_evaluation.evaluate(pack_of(samples, label), pack_of(real), FID, num=60)
    ours, theirs = (np.asarray(image_batches.signed(x)).reshape(len(x), -1) for x in (samples, real))
    assert found["fid"] == pytest.approx(metrics.frechet_distance(ours[:, :4], theirs[:, :4]), rel=1e-4)
    assert found["sfid"] == pytest.approx(metrics.frechet_distance(ours[:, 4:10], theirs[:, 4:10]), rel=1e-4)
    quality = metrics.precision_recall(theirs[:60, :4], ours[:60, :4])
    assert (found["precision"], found["recall"]) == (quality.precision, quality.recall)
    assert (found["samples"], found["reference_images"], found["precision_images"]) == (130, 250, 60)
    by_class = pack_evaluation.evaluate(pack_of(samples, label), pack_of(real), CLASSIFIER, num=60)
    assert by_class["classifier_fid"] == found["fid"] and "sfid" not in by_class and "inception_score" not in by_class
    assert by_class["label_accuracy_percent"] == pytest.approx(100 * np.mean(ours[:, 0] > 0))


def test_a_reference_is_of_all_splits_in_mixed_order(tmp_path):
    splits = [split(90, 3), split(30, 4)]
    pack_evaluation.make_reference(tmp_path / "r.npz", splits, FID, 40)
    with np.load(tmp_path / "r.npz") as file:
        assert {"arr_0", "arr_1", "mu", "sigma", "mu_s", "sigma_s"} <= set(file.files)
    reference = pack_files.read(tmp_path / "r.npz")
    every = np.concatenate([s.image for s in splits])
    flat = np.asarray(image_batches.signed(every)).reshape(120, -1)
    np.testing.assert_allclose(reference.rest["mu"], flat[:, :4].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(reference.rest["sigma_s"], np.cov(flat[:, 4:10], rowvar=False), rtol=1e-4, atol=1e-6)
    where = [int(np.flatnonzero((every == image).all(axis=(1, 2, 3)))[0]) for image in reference.image]
    assert len(set(where)) == 40 and max(where) >= 90 and where != sorted(where)
    labels = np.concatenate([s.label for s in splits if s.label is not None])
    np.testing.assert_array_equal(reference.label, labels[where])
    found = pack_evaluation.evaluate(pack_of(images(50, 5)), reference, FID)
    ours = np.asarray(image_batches.signed(images(50, 5))).reshape(50, -1)
    assert found["fid"] == pytest.approx(metrics.frechet_distance(ours[:, :4], flat[:, :4]), rel=1e-3)
    assert found["reference_images"] == 120 and found["precision_images"] == 40


def test_moments_of_other_features_are_refused(tmp_path):
    pack_evaluation.make_reference(tmp_path / "r.npz", [split(40, 3, labelled=False)], CLASSIFIER, 0)
    reference = pack_files.read(tmp_path / "r.npz")
    assert reference.label is None and len(reference.image) == 40
    with pytest.raises(ValueError, match="of features classifier_fid bbb, and those asked for are fid aaa"):
        pack_evaluation.evaluate(pack_of(images(20, 1)), reference, FID)
    # guided-diffusion's files do not say what made them.
    virtual = pack_of(images(20, 2), mu=np.zeros(2048), sigma=np.eye(2048))
    with pytest.raises(ValueError, match="mu of the reference has 2048 numbers and fid finds 4"):
        pack_evaluation.evaluate(pack_of(images(20, 1)), virtual, FID)
    named = pack_of(images(20, 2), mu=np.zeros(4), sigma=np.eye(4))
    found = pack_evaluation.evaluate(pack_of(images(20, 1)), named, FID)
    assert "sfid" not in found and found["fid"] > 0
    with pytest.raises(ValueError, match="either --inception FILE"):
        pack_evaluation.load_extractor("a", "b")
    with pytest.raises(ValueError, match="a name ending with .npz"):
        pack_evaluation.make_reference(tmp_path / "r.pt", [split(4, 3)], None, 0)
    with pytest.raises(ValueError, match="1 image; a covariance needs"):
        pack_evaluation.look(FID, images(1, 0), 1)


@pytest.fixture
def published(monkeypatch):
    size = lambda model: sum(x.size for x in sample_pack.jax.tree.leaves(model.params))
    released = {
        f"{name}.pt": diffusion.Released(model.network, SIZE, size(model), "linear", 40)
        for name, model in {"toy": PLAIN, "toy_classes": CONDITIONAL}.items()
    }
    monkeypatch.setattr(diffusion, "released", lambda: released)


def run(capsys, *arguments):
    sample_pack.main([str(argument) for argument in arguments])
    return capsys.readouterr().out


def test_the_commands(tmp_path, published, monkeypatch, capsys):
    trained_networks.save(tmp_path / "toy_classes.npz", CONDITIONAL.params)
    draw = ["sample", tmp_path / "toy_classes.npz", tmp_path / "p.npz", "--num", 12, "--sampler.steps", 5,
            "--labels", "cycle", "--devices", 1, "--batch-size", 8]  # fmt: skip
    out = run(capsys, *draw, "--save-converted", tmp_path / "toy_classes.safetensors")
    assert "toy_classes: " in out and "8 of 12 samples" in out and "12 samples in" in out
    pack = pack_files.read(tmp_path / "p.npz")
    assert pack.image.shape == (12, SIZE, SIZE, 3) and pack.settings["sampler"]["steps"] == "5"
    np.testing.assert_array_equal(pack.label, np.arange(12) % 3)
    draw[1] = tmp_path / "toy_classes.safetensors"
    assert "were there already" in run(capsys, *draw)
    run(capsys, "convert", tmp_path / "toy_classes.npz", tmp_path / "again.npz", "--network", "toy_classes")
    for name, array in np.load(tmp_path / "toy_classes.npz").items():
        np.testing.assert_array_equal(np.load(tmp_path / "again.npz")[name], array)
    for number in range(40):
        name = tmp_path / "real" / f"{number % 2}" / f"{number:02d}.png"
        name.parent.mkdir(parents=True, exist_ok=True)
        pictures.save_png(name, images(1, number)[0])
    monkeypatch.setattr(pack_evaluation, "load_extractor", lambda inception, features: FID)
    out = run(capsys, "make-reference", tmp_path / "real", tmp_path / "r.npz", "--inception", "weights")
    assert "40 images of (4, 4, 3), moments of fid's features" in out
    out = run(capsys, "evaluate", tmp_path / "p.npz", tmp_path / "r.npz", "--json", tmp_path / "e.json")
    written = json.loads((tmp_path / "e.json").read_text())
    assert written["metrics"]["reference_images"] == 40 and written["samples"] == pack.settings
    assert out.splitlines()[0].split() == ["fid", f"{written['metrics']['fid']:.5g}"]


def test_what_is_wrong_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        sample_pack.main(["sample", str(tmp_path / "none.pt"), str(tmp_path / "p.npz")])
    assert stopped.value.code == 1
    assert "FileNotFoundError: no file or folder" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        sample_pack.main(["smaple"])
    assert stopped.value.code == 2
