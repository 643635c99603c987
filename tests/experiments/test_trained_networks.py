"""Which network a file holds, and what of it does not fit."""

import jax
import numpy as np
import pytest
from one_program import slow_tests_optimized, unoptimized  # noqa: F401 (fixtures)
from trained_toys import CLASSIFIER, CONDITIONAL, PLAIN, SIZE

from experiments import trained_networks
from jaxgen import diffusion, nn, training

TINY = diffusion.UNet(
    out_channels=6, channels=32, multipliers=(1,), num_blocks=1, dropout=0.0, embedding="cos_sin", norm_epsilon=1e-5,
    scale_shift=True,
)  # fmt: skip


def size_of(network, size):
    return sum(x.size for x in jax.tree.leaves(diffusion.parameter_shapes(network, size)))


RELEASED = {
    "tiny.pt": diffusion.Released(TINY, 8, size_of(TINY, 8), "cosine", 400, rescaled=True),
    "toy.pt": diffusion.Released(PLAIN.network, SIZE, size_of(PLAIN.network, SIZE), "linear", 40),
    "toy_dropout.pt": diffusion.Released(
        PLAIN.network.clone(dropout=0.5), SIZE, size_of(PLAIN.network, SIZE), "linear", 40
    ),
    "toy_classes.pt": diffusion.Released(CONDITIONAL.network, SIZE, size_of(CONDITIONAL.network, SIZE), "linear", 40),
    "toy_classifier.pt": diffusion.Released(CLASSIFIER.network, SIZE, size_of(CLASSIFIER.network, SIZE), "linear", 40),
}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    monkeypatch.setattr(diffusion, "released", lambda: RELEASED)


def authors_file(path, **changes):
    """A file of random weights under the authors' names."""
    shapes = diffusion.parameter_shapes(TINY, 8)
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda s: generator.normal(size=s.shape).astype(np.float32), shapes)
    weights = diffusion.to_guided_diffusion(TINY, params) | changes
    nn.write_weights(path, {name: array for name, array in weights.items() if array is not None})
    return params


@pytest.mark.parametrize("file", ["tiny.npz", "model500000.safetensors"])
def test_the_authors_weights_by_name_and_by_size(file, tmp_path):
    params = authors_file(tmp_path / file)
    model = trained_networks.load(tmp_path / file)
    assert (model.name, model.network, model.size, model.variance) == ("tiny", TINY, 8, "learned_range")
    assert model.rescaled and model.schedule.num_steps == 400 and model.num_classes is None
    assert training.tree_digest(model.params) == training.tree_digest(params)
    trained_networks.save(tmp_path / "ours.safetensors", model.params)
    again = trained_networks.load(tmp_path / "ours.safetensors")
    assert again.name == "tiny" and training.tree_digest(again.params) == training.tree_digest(params)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file, "ours.safetensors"])


def test_rescaled_timesteps_reach_the_network():
    seen = []

    class Spy:
        def apply(self, variables, x, t):
            seen.append(np.asarray(t))

    model = PLAIN._replace(network=Spy(), schedule=diffusion.make_schedule(diffusion.cosine_betas(4000)))
    model({}, None, np.array([0, 3996], np.int32))
    model._replace(rescaled=True)({}, None, np.array([0, 3996], np.int32))
    np.testing.assert_array_equal(seen, [[0, 3996], [0, 999]])


def test_what_does_not_fit_is_listed(tmp_path):
    authors_file(tmp_path / "tiny.npz", **{"out.2.bias": np.zeros(3, np.float32), "time_embed.0.bias": None})
    with pytest.raises(diffusion.WeightsMismatchError, match=r"missing: time_embed.0.bias(?s:.*)out.2.bias is \(3,\)"):
        trained_networks.load(tmp_path / "tiny.npz")
    trained_networks.save(tmp_path / "toy.npz", CLASSIFIER.params)
    with pytest.raises(ValueError, match="toy.npz belongs to another model(?s:.*)Dense_0/kernel: float32"):
        trained_networks.load(tmp_path / "toy.npz")
    (tmp_path / "other.npz").write_bytes((tmp_path / "toy.npz").read_bytes())
    assert trained_networks.load(tmp_path / "other.npz").name == "toy_classifier"


def test_the_name_of_the_file_wins_then_the_name_given(tmp_path):
    trained_networks.save(tmp_path / "toy_dropout.npz", PLAIN.params)
    assert trained_networks.load(tmp_path / "toy_dropout.npz").name == "toy_dropout"
    assert trained_networks.load(tmp_path / "toy_dropout.npz", "toy.pt").name == "toy"
    # Dropout alone does not make two networks of equally many numbers.
    trained_networks.save(tmp_path / "mine.npz", PLAIN.params)
    assert trained_networks.load(tmp_path / "mine.npz").name == "toy"


def test_nothing_known_is_said_with_what_is(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", x=np.zeros(5))
    with pytest.raises(ValueError, match=r"holds 5 numbers, as no published network does(?s:.*)tiny: [\d,]+\n"):
        trained_networks.load(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="no network 'tinny'; the nearest is 'tiny'"):
        trained_networks.load(tmp_path / "mine.npz", "tinny")
    with pytest.raises(FileNotFoundError, match="expected weights of guided-diffusion"):
        trained_networks.load(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="expected .npz or .safetensors"):
        trained_networks.save(tmp_path / "x.pt", PLAIN.params)
    other = RELEASED["toy.pt"]._replace(schedule="cosine")
    monkeypatch.setattr(diffusion, "released", lambda: RELEASED | {"toy_cosine.pt": other})
    trained_networks.save(tmp_path / "mine.npz", PLAIN.params)
    with pytest.raises(ValueError, match="may be toy or toy_dropout or toy_cosine"):
        trained_networks.load(tmp_path / "mine.npz")


def test_every_published_name_and_number_is_told_apart(monkeypatch):
    monkeypatch.undo()
    models = trained_networks.known()
    assert {"64x64_diffusion", "cifar10_uncond_50M_500K", "ddpm_cifar10"} <= set(models)
    for name, model in models.items():
        found = trained_networks.chosen("", path := trained_networks.Path("x.pt"), model.num_parameters)
        assert trained_networks.chosen("", path.with_stem(name), 0) == name
        same = models[found]
        clone = lambda network: network.clone(dropout=0.0)
        assert (clone(same.network), same[3:]) == (clone(model.network), model[3:])


def test_tensorflow_averages_are_taken(tmp_path, monkeypatch):
    network = diffusion.UNet(channels=32, multipliers=(1,), num_blocks=1)
    shapes = diffusion.parameter_shapes(network, 8)
    params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)
    weights = diffusion.to_ddpm(network, params)
    weights = {name: 0 * array for name, array in weights.items()} | {
        f"{name}/ExponentialMovingAverage": array for name, array in weights.items()
    }
    known = {"ddpm_cifar10": diffusion.Released(network, 8, size_of(network, 8), "linear")}
    monkeypatch.setattr(trained_networks, "TENSORFLOW", known)
    nn.write_weights(tmp_path / "model.ckpt-790000.safetensors", weights | {"global_step": np.array(790_000)})
    model = trained_networks.load(tmp_path / "model.ckpt-790000.safetensors")
    assert (model.name, model.variance) == ("ddpm_cifar10", "fixed_large")
    assert all(np.all(np.asarray(x) == 0.5) for x in jax.tree.leaves(model.params))
