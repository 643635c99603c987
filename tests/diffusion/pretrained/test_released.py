import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen import diffusion
from jaxgen.diffusion.unet import attention
from jaxgen.diffusion.unet import layers as unet_layers
from jaxgen.nn import normalization
from tests.programs import values


@pytest.fixture
def quickly_traced(monkeypatch):
    """Networks without the arithmetic that takes longest to trace and changes no shape."""
    monkeypatch.setattr(normalization, "group_norm", lambda x, *_, **__: x)
    monkeypatch.setattr(attention, "attend", lambda q, k, v: q)
    monkeypatch.setattr(unet_layers, "_uniform", lambda edge: nn.initializers.zeros)


def count(network, size):
    x = jax.ShapeDtypeStruct((1, size, size, network.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.int32)
    labels = (t,) if getattr(network, "num_classes", None) else ()
    tree = jax.eval_shape(network.init, jax.random.key(0), x, t, *labels)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "network", {(r.model.network, r.model.shape[0], r.num_parameters) for r in diffusion.released().values()}
)
def test_released_networks_have_their_number_of_parameters(network, quickly_traced):
    network, size, expected = network
    assert count(network, size) == expected


def test_released_networks_know_their_process():
    table = diffusion.released()
    assert len(table) == 25
    betas = {name: np.frombuffer(released.model.schedule.exact_betas) for name, released in table.items()}
    np.testing.assert_allclose(betas["cifar10_uncond_50M_500K.pt"], diffusion.cosine_betas(4000))
    for name in ("256x256_diffusion.pt", "ddpm_cifar10", "ddpm_256"):
        np.testing.assert_allclose(betas[name][[0, -1]], [1e-4, 0.02])
    np.testing.assert_allclose(betas["upsample_cond_500K.pt"][[0, -1]], [2.5e-5, 0.005])
    for name, released in table.items():
        model = released.model
        is_upsampler = "upsample" in name
        assert (model.low_resolution is not None) == is_upsampler == (model.network.in_channels == 6)
        is_classifier = isinstance(model.network, diffusion.EncoderUNet)
        assert is_classifier == model.is_classifier == ("classifier" in name)
        learned = not is_classifier and not name.startswith("ddpm")
        assert is_classifier or model.variance == ("learned_range" if learned else "fixed_large")


def test_unpublished_sizes_are_refused():
    for make in (diffusion.adm_unet, diffusion.adm_classifier, diffusion.iddpm_unet, diffusion.adm_upsampler):
        with pytest.raises(ValueError, match="not 48"):
            make(48)


def test_the_classifier_refuses_what_it_cannot_pool():
    x, t = np.zeros((1, 8, 8, 3), np.float32), np.zeros(1, np.int32)
    small = diffusion.EncoderUNet(channels=32, multipliers=(1,), num_blocks=1)
    for network, message in (
        (small, "needs head_channels"),
        (small.clone(pool="max"), "attention, adaptive, spatial, spatial_v2"),
        (small.clone(multipliers=(1, 1, 1, 1, 1), pool="adaptive"), "nearest size that can is 16 x 16"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(network.init, jax.random.key(0), x, t)


def test_an_upsampler_sees_the_small_image_enlarged():
    """Halving the pixels of a line: the new centres are a quarter of a pixel to each side, and the ends are held."""
    low = np.array([0.0, 4.0, 8.0])[None, :, None, None] + np.array([0.0, 0.4])[None, None, :, None]
    x = np.random.default_rng(0).normal(size=(1, 6, 4, 1)).astype(np.float32)
    found = values(diffusion.with_low_resolution, x, low)
    np.testing.assert_array_equal(found[..., :1], x)
    expected = np.array([0, 1, 3, 5, 7, 8])[:, None] + np.array([0.0, 0.1, 0.3, 0.4])
    np.testing.assert_allclose(found[0, :, :, 1], expected, rtol=1e-5, atol=1e-6)
    for shape in ((2, 3, 3, 1), (1, 3, 3, 3), (1, 8, 3, 1)):
        with pytest.raises(ValueError, match="h <= H"):
            diffusion.with_low_resolution(jnp.asarray(x), np.zeros(shape, np.float32))
