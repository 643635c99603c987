import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion


def count(network, size):
    x, t = jax.ShapeDtypeStruct((1, size, size, network.in_channels), jnp.float32), jnp.zeros(1, jnp.int32)
    labels = (t,) if getattr(network, "num_classes", None) else ()
    tree = jax.eval_shape(network.init, jax.random.key(0), x, t, *labels)["params"]
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    "network", {(r.network, r.image_size, r.num_parameters) for r in diffusion.released().values()}
)
def test_released_networks_have_their_number_of_parameters(network):
    network, size, expected = network
    assert count(network, size) == expected


def test_released_networks_know_their_process():
    table = diffusion.released()
    assert len(table) == 23
    np.testing.assert_allclose(table["cifar10_uncond_50M_500K.pt"].betas(), diffusion.cosine_betas(4000))
    np.testing.assert_allclose(table["256x256_diffusion.pt"].betas()[[0, -1]], [1e-4, 0.02])
    np.testing.assert_allclose(table["upsample_cond_500K.pt"].betas()[[0, -1]], [2.5e-5, 0.005])
    for name, released in table.items():
        is_upsampler = "upsample" in name
        assert (released.low_resolution is not None) == is_upsampler == (released.network.in_channels == 6)
        assert isinstance(released.network, diffusion.EncoderUNet) == ("classifier" in name)


def test_unpublished_sizes_are_refused():
    for make in (diffusion.adm_unet, diffusion.adm_classifier, diffusion.iddpm_unet, diffusion.adm_upsampler):
        with pytest.raises(ValueError, match="not 48"):
            make(48)
