"""Samples of `ddpm`, and what is measured."""

import jax.numpy as jnp
import numpy as np
import pytest

from experiments.ddpm import figures
from experiments.ddpm.evaluate import bound_metrics
from jaxgen import data, diffusion
from jaxgen.compiler import compile_per_shape
from jaxgen.diffusion import Sampler
from tests.experiments.ddpm.toys import TINY, Constant, changed, keys_of, model_of


def compiled_sampler(model, sampler):
    """(params, keys [n]) -> samples [n, H, W, C]."""
    draw = compile_per_shape(diffusion.make_sampler(model, diffusion.SamplingVariant(sampler)))
    return lambda params, keys: draw({"denoiser": params}, keys, {})


class Counted(Constant):
    """Counts how often it is traced."""

    def __init__(self):
        self.traces = 0

    def apply(self, variables, x, t, keys=None):
        self.traces += 1
        return variables["params"] * x


def test_sampling_a_thousand_steps_is_one_compiled_program():
    network = Counted()
    model = model_of(changed(process__steps=1000), network)
    draw = compiled_sampler(model, Sampler())
    draw(jnp.float32(0.5), keys_of(2))
    once = network.traces
    draw(jnp.float32(0.7), keys_of(2, 5))
    assert network.traces == once <= 2


def test_a_sample_depends_on_its_own_key_and_not_on_its_batch():
    draw = compiled_sampler(model_of(TINY, Counted()), Sampler(steps="8"))
    scale = jnp.float32(0.5)
    together = draw(scale, keys_of(5))
    np.testing.assert_allclose(draw(scale, keys_of(5)[3:4])[0], together[3], atol=1e-6)
    assert np.abs(together[3] - together[2]).max() > 0.1


def test_a_learned_variance_can_be_left_out_when_drawing():
    model = model_of(changed(process__variance="learned_range"), Counted(), (2, 2, 2))
    fixed = model_of(changed(process__variance="fixed_small"), Counted(), (2, 2, 2))
    doubled = jnp.float32(0.3)
    two = lambda x: jnp.concatenate([x, jnp.full_like(x, 7.0)], axis=-1)
    model.network.apply = lambda variables, x, t: two(variables["params"] * x)  # type: ignore[method-assign]
    found = compiled_sampler(model, Sampler(steps="5", variance="fixed_small"))(doubled, keys_of(3))
    expected = compiled_sampler(fixed, Sampler(steps="5"))(doubled, keys_of(3))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_bound_s_parts_and_its_standard_error():
    found = {
        "prior": np.array([0.1, 0.3]),
        "terms": np.array([[2.0, 0.5, 0.25], [1.0, 0.5, 0.75]]),
        "noise_mse": np.array([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]),
    }
    expected = {
        "bits_per_dim": 2.7, "bits_per_dim_standard_error": 0.15, "rate": 1.2, "distortion": 1.5, "prior_kl": 0.2,
        "noise_error": 1 / 3, "bound_images": 2,
    }  # fmt: skip
    assert bound_metrics(found) == pytest.approx(expected)


def test_a_training_image_is_its_own_nearest_neighbour():
    image = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 1), dtype=np.uint8)
    picture = figures.neighbours(image[[7, 3]], data.Images(image, None, "none"), num=1)
    upper, lower = picture[6:54, -108:], picture[60:108, -108:]
    np.testing.assert_array_equal(upper, lower)
