"""The Inception network: its size, its pieces by hand, and its name in what is measured. Its weights are not here."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import metrics
from jaxgen.metrics import inception

SHAPES = inception.expected_shapes()


def test_it_has_the_published_number_of_parameters():
    """torchvision's inception_v3 without its auxiliary classifier has 23,834,568, of which the last layer 2,049,000."""
    trained = {n: s for n, s in SHAPES.items() if "running" not in n and not n.startswith("fc")}
    assert sum(math.prod(shape) for shape in trained.values()) == 23_834_568 - 2_049_000


class Asked(dict):
    """Remembers which weights were used."""

    def __init__(self, *args):
        super().__init__(*args)
        self.used = set()

    def __getitem__(self, name):
        self.used.add(name)
        return super().__getitem__(name)


def test_every_array_is_used_and_the_maps_fit():
    weights = Asked({name: jax.ShapeDtypeStruct(shape, jnp.float32) for name, shape in SHAPES.items()})

    def run(x):
        made = Asked({name: jnp.zeros(x.shape) for name, x in weights.items()})
        found = inception.inception(made, inception.prepared(x))
        weights.used = made.used
        return found

    found, probabilities = jax.eval_shape(run, jax.ShapeDtypeStruct((2, 32, 32, 3), jnp.float32))
    assert found.shape == (2, 2048) and probabilities.shape == (2, 1008)
    assert weights.used == set(SHAPES)


def test_a_unit_by_hand():
    generator = np.random.default_rng(0)
    x = generator.normal(size=(1, 4, 5, 2)).astype(np.float32)
    parts = {
        "conv.weight": generator.normal(size=(3, 2, 1, 3)),
        **{f"bn.{part}": generator.uniform(0.5, 2, 3) for part in ("weight", "bias", "running_mean", "running_var")},
    }
    weights = {f"u.{name}": value.astype(np.float32) for name, value in parts.items()}
    found = np.asarray(jax.jit(lambda weights, x: inception.unit(weights, "u", x, 1, "same"))(weights, x))
    padded = np.pad(x[0], ((0, 0), (1, 1), (0, 0)))
    for i, j, o in ((0, 0, 0), (2, 3, 1), (3, 4, 2)):
        y = sum(padded[i, j + v, c] * parts["conv.weight"][o, c, 0, v] for v in range(3) for c in range(2))
        mean, var = parts["bn.running_mean"][o], parts["bn.running_var"][o]
        y = (y - mean) / math.sqrt(var + 1e-3) * parts["bn.weight"][o] + parts["bn.bias"][o]
        assert found[0, i, j, o] == pytest.approx(max(y, 0), abs=1e-4)


def test_features_that_know_places_are_the_first_seven_channels_of_one_map(monkeypatch):
    """Of Mixed_6d, whose 1x1 branch comes first, rows first."""
    place = np.arange(17 * 17 * 768, dtype=np.float32).reshape(1, 17, 17, 768)
    for name in ("unit", "max_pool", "reduce_35", "reduce_17", "block_8"):
        monkeypatch.setattr(inception, name, lambda *a: jnp.zeros((1, 8, 8, 2048)))
    monkeypatch.setattr(inception, "block_35", lambda *a: a[1])
    monkeypatch.setattr(inception, "block_17", lambda weights, name, x: place * (1 if name == "Mixed_6d." else 0))
    weights = {"fc.weight": jnp.zeros((1008, 2048)), "fc.bias": jnp.zeros(1008)}
    found = jax.jit(lambda: inception.with_places(weights, jnp.zeros((1, 299, 299, 3)))[2])()
    assert found.shape == (1, 2023)
    np.testing.assert_array_equal(found[0], place[0, :, :, :7].ravel())


def test_pools_leave_out_what_is_outside():
    pools = lambda x: (inception.average_pool(x), inception.max_pool(-x, 1), inception.max_pool(x, 2))
    mean, same, half = map(np.asarray, jax.jit(pools)(np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)))
    assert mean[0, 0, 0, 0] == (0 + 1 + 4 + 5) / 4 and mean[0, 1, 1, 0] == 5 and mean[0, 2, 1, 0] == 7
    assert same[0, 2, 3, 0] == -6
    assert half.shape == (1, 1, 1, 1) and half[0, 0, 0, 0] == 10


def test_enlarging_is_bilinear_with_half_pixel_centres():
    x = np.broadcast_to(np.linspace(-1, 1, 13, dtype=np.float32).reshape(1, 1, 13, 1), (1, 13, 13, 1))
    found = np.asarray(jax.jit(inception.prepared)(x))[0, 7, :, 1]
    where = np.clip((np.arange(299) + 0.5) * 13 / 299 - 0.5, 0, 12)
    np.testing.assert_allclose(found, np.interp(where, np.arange(13), np.linspace(-1, 1, 13)), atol=1e-5)


def test_another_file_is_refused(tmp_path):
    np.savez(tmp_path / "other.npz", **{"fc.weight": np.zeros((1008, 2048), np.float32)}, allow_pickle=False)
    with pytest.raises(ValueError, match="expected pytorch-fid's"):
        metrics.load_inception(tmp_path / "other.npz")


def test_on_its_features_the_distance_is_called_fid():
    flat = jax.jit(lambda x: (x.reshape(len(x), -1)[:, :3], jnp.ones((len(x), 2)) / 2))
    extractor = metrics.Extractor("fid", flat, "none")
    image = np.random.default_rng(0).integers(0, 256, (40, 4, 4, 3), dtype=np.uint8)
    measured = metrics.sample_quality(extractor, image[:20], image, image)
    assert measured["fid"] == measured["fid_floor"] and measured["inception_score"] == pytest.approx(1)
    assert "classifier_score" not in measured and "classifier_accuracy_percent" not in measured
