"""Which network a file holds, and what of it does not fit."""

import dataclasses
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgen import diffusion, weights
from jaxgen.diffusion.pretrained import files
from tests.diffusion.pretrained.toys import CLASSIFIER, CONDITIONAL, PLAIN, SCHEDULE, changed, described

TINY = diffusion.UNet(
    out_channels=6, channels=32, multipliers=(1,), num_blocks=1, dropout=0.0, embedding="cos_sin", norm_epsilon=1e-5,
    scale_shift=True,
)  # fmt: skip


def size_of(network, size):
    return sum(x.size for x in jax.tree.leaves(diffusion.parameter_shapes(network, size)))


def released(model):
    return diffusion.Released(model, size_of(model.network, model.shape[0]))


COSINE_400 = diffusion.make_schedule(diffusion.cosine_betas(400))
TINY_MODEL = diffusion.DiffusionModel(TINY, COSINE_400, "noise", "learned_range", (8, 8, 3), rescaled_timesteps=True)
RELEASED = {
    "tiny.pt": released(TINY_MODEL),
    "toy.pt": released(PLAIN.model),
    "toy_dropout.pt": released(dataclasses.replace(PLAIN.model, network=PLAIN.model.network.clone(dropout=0.5))),
    "toy_classes.pt": released(CONDITIONAL.model),
    "toy_classifier.pt": released(CLASSIFIER.model),
}


@pytest.fixture(autouse=True)
def published(monkeypatch):
    monkeypatch.setattr(files, "released", lambda: RELEASED)


def authors_file(path, **changes):
    """A file of random weights under the authors' names."""
    shapes = diffusion.parameter_shapes(TINY, 8)
    generator = np.random.default_rng(0)
    params = jax.tree.map(lambda s: generator.normal(size=s.shape).astype(np.float32), shapes)
    arrays = diffusion.to_guided_diffusion(TINY, params) | changes
    weights.write_weights(path, {name: array for name, array in arrays.items() if array is not None})
    return params


@pytest.mark.parametrize("file", ["tiny.npz", "model500000.safetensors"])
def test_the_authors_weights_by_name_and_by_size(file, tmp_path):
    params = authors_file(tmp_path / file)
    found = diffusion.load_pretrained(tmp_path / file)
    assert (found.name, described(found.model)) == ("tiny", described(TINY_MODEL))
    assert weights.tree_digest(found.params) == weights.tree_digest(params)
    diffusion.save_parameters(tmp_path / "ours.safetensors", found.params)
    again = diffusion.load_pretrained(tmp_path / "ours.safetensors")
    assert again.name == "tiny" and weights.tree_digest(again.params) == weights.tree_digest(params)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([file, "ours.safetensors"])


def test_rescaled_timesteps_reach_the_network():
    seen = []

    class Spy:
        def apply(self, variables, x, t):
            seen.append(np.asarray(t))

    spied = changed(PLAIN, network=Spy(), schedule=diffusion.make_schedule(diffusion.cosine_betas(4000)))
    for model in (spied.model, changed(spied, rescaled_timesteps=True).model):
        model.apply({}, jax.numpy.zeros((2, 1)), jax.numpy.array([0, 3996]))
    np.testing.assert_array_equal(seen, [[0, 3996], [0, 999]])


def test_what_does_not_fit_is_listed(tmp_path):
    authors_file(tmp_path / "tiny.npz", **{"out.2.bias": np.zeros(3, np.float32), "time_embed.0.bias": None})
    with pytest.raises(diffusion.WeightsMismatchError, match=r"missing: time_embed.0.bias(?s:.*)out.2.bias is \(3,\)"):
        diffusion.load_pretrained(tmp_path / "tiny.npz")
    diffusion.save_parameters(tmp_path / "toy.npz", CLASSIFIER.params)
    with pytest.raises(ValueError, match="toy.npz belongs to another model(?s:.*)Dense_0/kernel: float32"):
        diffusion.load_pretrained(tmp_path / "toy.npz")
    (tmp_path / "other.npz").write_bytes((tmp_path / "toy.npz").read_bytes())
    assert diffusion.load_pretrained(tmp_path / "other.npz").name == "toy_classifier"


def test_the_name_of_the_file_wins_then_the_name_given(tmp_path):
    diffusion.save_parameters(tmp_path / "toy_dropout.npz", PLAIN.params)
    assert diffusion.load_pretrained(tmp_path / "toy_dropout.npz").name == "toy_dropout"
    assert diffusion.load_pretrained(tmp_path / "toy_dropout.npz", "toy.pt").name == "toy"
    # Dropout alone does not make two networks of equally many numbers.
    diffusion.save_parameters(tmp_path / "mine.npz", PLAIN.params)
    assert diffusion.load_pretrained(tmp_path / "mine.npz").name == "toy"


def test_nothing_known_is_said_with_what_is(tmp_path, monkeypatch):
    np.savez(tmp_path / "mine.npz", x=np.zeros(5))
    with pytest.raises(ValueError, match=r"holds 5 numbers, as no published network does(?s:.*)tiny: [\d,]+\n"):
        diffusion.load_pretrained(tmp_path / "mine.npz")
    with pytest.raises(ValueError, match="no network 'tinny'; the nearest is 'tiny'"):
        diffusion.load_pretrained(tmp_path / "mine.npz", "tinny")
    with pytest.raises(FileNotFoundError, match="expected weights of guided-diffusion"):
        diffusion.load_pretrained(tmp_path / "none.pt")
    with pytest.raises(ValueError, match="expected .npz or .safetensors"):
        diffusion.save_parameters(tmp_path / "x.pt", PLAIN.params)
    other = released(changed(PLAIN, schedule=COSINE_400).model)
    monkeypatch.setattr(files, "released", lambda: RELEASED | {"toy_cosine.pt": other})
    diffusion.save_parameters(tmp_path / "mine.npz", PLAIN.params)
    with pytest.raises(ValueError, match="may be toy or toy_dropout or toy_cosine"):
        diffusion.load_pretrained(tmp_path / "mine.npz")


def test_every_published_name_and_number_is_told_apart(monkeypatch):
    monkeypatch.undo()
    models = files.known()
    assert {"64x64_diffusion", "cifar10_uncond_50M_500K", "ddpm_cifar10"} <= set(models)
    without_dropout = lambda model: described(dataclasses.replace(model, network=model.network.clone(dropout=0.0)))
    for name, entry in models.items():
        found = files.identify("", path := Path("x.pt"), entry.num_parameters)
        assert files.identify("", path.with_stem(name), 0) == name
        assert without_dropout(models[found].model) == without_dropout(entry.model)


def test_tensorflow_averages_are_taken(tmp_path, monkeypatch):
    network = diffusion.UNet(channels=32, multipliers=(1,), num_blocks=1)
    shapes = diffusion.parameter_shapes(network, 8)
    params = jax.tree.map(lambda s: np.full(s.shape, 0.5, np.float32), shapes)
    arrays = diffusion.to_ddpm(network, params)
    arrays = {name: 0 * array for name, array in arrays.items()} | {
        f"{name}/ExponentialMovingAverage": array for name, array in arrays.items()
    }
    model = diffusion.DiffusionModel(network, SCHEDULE, shape=(8, 8, 3))
    monkeypatch.setattr(files, "released", lambda: {"ddpm_cifar10": released(model)})
    weights.write_weights(tmp_path / "model.ckpt-790000.safetensors", arrays | {"global_step": np.array(790_000)})
    found = diffusion.load_pretrained(tmp_path / "model.ckpt-790000.safetensors")
    assert (found.name, found.model.variance) == ("ddpm_cifar10", "fixed_large")
    assert all(np.all(np.asarray(x) == 0.5) for x in jax.tree.leaves(found.params))
