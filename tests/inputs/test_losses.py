"""Losses and likelihoods, made by functions, with natural inputs: the batch of lists and bytes, and legacy keys."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen import autoencoder, vae
from tests.inputs import unit
from tests.parameters import apply, random_parameters

pytestmark = pytest.mark.inputs
KEYS = jax.random.split(jax.random.key(0), 4)


class Context:
    step, model_state = 0, None
    statistics = None


def losses():
    network = autoencoder.Autoencoder(3, (), 4, code_activation=nn.sigmoid)
    params = random_parameters(network, np.zeros((1, 3), np.float32))
    model = vae.mlp_vae(3, (2,), ((4,),))
    vae_params = random_parameters(model, np.zeros((1, 3), np.float32), (np.zeros((1, 2), np.float32),))
    grey = vae.bernoulli(grey=True)
    return {
        "reconstruction": (autoencoder.reconstruction_loss(network), params),
        "contractive": (autoencoder.contractive_loss(network, 0.1, "hutchinson"), params),
        "k sparse": (autoencoder.k_sparse_loss(network, 2), params),
        "l1": (autoencoder.l1_sparsity_loss(network, 0.1), params),
        "vae": (vae.vae_loss(model, grey), vae_params),
        "iwae": (vae.iwae_loss(model, grey, num_samples=2), vae_params),
    }


@pytest.mark.parametrize("name", ["reconstruction", "contractive", "k sparse", "l1", "vae", "iwae"])
def test_a_batch_may_be_of_any_numbers_and_keys_of_the_old_kind(name):
    loss, params = losses()[name]
    x = np.array([[0, 1, 1], [1, 0, 0], [1, 1, 1], [0, 0, 1]])
    keys = lambda: jax.random.clone(KEYS)
    right = loss(params, {"x": x.astype(np.float32)}, keys(), Context)[0]
    natural: Any
    for natural in (x.tolist(), x.astype(np.uint8), x.astype(bool)):
        np.testing.assert_allclose(loss(params, {"x": natural}, keys(), Context)[0], right, rtol=1e-6)
    np.testing.assert_allclose(loss(params, {"x": x}, jax.random.key_data(KEYS), Context)[0], right, rtol=1e-6)
    batch: Any
    for batch, message in (({"image": x}, '"x"'), ({"x": x.reshape(4, 3, 1)}, "x.*has shape"), (x, "dictionary")):
        with pytest.raises(ValueError, match=message):
            loss(params, batch, keys(), Context)


def test_a_decoder_of_another_width_than_the_likelihood_takes_is_refused():
    model = vae.mlp_vae(2, (2,), ((5,),))
    params = random_parameters(model, np.zeros((1, 2), np.float32), (np.zeros((1, 2), np.float32),))
    x, gaussian = np.ones((4, 2), np.float32), vae.gaussian()
    message = "puts out 2 numbers for an x of 2 dimensions.*takes 4.*outputs=2"
    with pytest.raises(ValueError, match=message):
        vae.vae_loss(model, gaussian)(params, {"x": x}, jax.random.clone(KEYS), Context)
    with pytest.raises(ValueError, match=message):
        vae.iwae_loss(model, gaussian, num_samples=2)(params, {"x": x}, jax.random.clone(KEYS), Context)
    with pytest.raises(ValueError, match=message):
        vae.sample(jax.random.key(0), model, params, gaussian, 3)
    with pytest.raises(ValueError, match=message):
        vae.reconstruct(model, params, gaussian, x)


def test_data_outside_of_the_likelihoods_range_is_refused():
    x = np.array([[0.0, 255.0]])
    for likelihood, outputs in ((vae.bernoulli(), 2), (vae.bernoulli(grey=True), 2), (vae.discretized_logistic(), 4)):
        with pytest.raises(ValueError, match=r"x runs from 0 to 255; expected values in \[0, 1\]"):
            likelihood.log_prob(x, jnp.zeros((1, outputs)))


def test_the_kl_loss_refuses_a_code_outside_of_probabilities():
    network = autoencoder.Autoencoder(3, (), 4, code_activation=nn.relu)
    with pytest.raises(ValueError, match="activation reaches 0 to 100"):
        autoencoder.kl_sparsity_loss(network, 0.1, 1.0)
    with pytest.raises(ValueError, match="mean_activation runs from 0.5 to 1.5"):
        autoencoder.kl_sparsity(np.array([0.5, 1.5]), 0.1)


def test_feature_maps_of_an_encoder_are_refused():
    with pytest.raises(ValueError, match=r"encode returns \(3, 1\).*flatten"):
        autoencoder.contractive_penalty(lambda x: x[:, None], unit(2, 3))


def test_log_variances_and_log_scales_stay_inside_their_bounds():
    x, wide = np.full((1, 2), 0.5, np.float32), jnp.array([[0.5, 0.5, -60.0, 60.0]])
    bounded = vae.gaussian(log_variance_bounds=(-3, 2)).log_prob(x, wide)
    expected = vae.gaussian_log_likelihood(x, x, np.array([[-3.0, 2.0]]))
    np.testing.assert_allclose(bounded, expected, rtol=1e-6)
    bounded = vae.discretized_logistic(log_scale_bounds=(-3, 2)).log_prob(x, wide)
    np.testing.assert_allclose(
        bounded, vae.discretized_logistic_log_likelihood(x, x, np.array([[-3.0, 2.0]])), rtol=1e-6
    )
    model = vae.mlp_vae(3, (2,), ((4,),), log_variance_bounds=(-0.01, 0.01))
    params = random_parameters(model, np.zeros((1, 3), np.float32), (np.zeros((1, 2), np.float32),))
    _, log_variance = apply(model, params, 100 * unit(4, 3), method="encode")
    np.testing.assert_allclose(np.abs(log_variance), 0.01, rtol=1e-6)
    with pytest.raises(ValueError, match=r"log_variance_bounds is \(2, 1\)"):
        vae.gaussian(log_variance_bounds=(2, 1))


def test_great_circles_of_parallel_vectors_and_of_the_origin_have_finite_gradients():
    f = lambda a, b: vae.interpolate(a, b, 3, spherical=True).sum()
    for b in ([2.0, 0.0], [-1.0, 0.0], [0.0, 0.0], [0.0, 1.0]):
        gradients = jax.grad(f, (0, 1))(np.array([1, 0], np.float32), np.array(b, np.float32))
        assert all(np.isfinite(g).all() for g in gradients)


def test_interpolation_of_whole_numbers_and_a_beta_beside_them():
    whole: Any = [0], [10]
    np.testing.assert_array_equal(vae.interpolate(whole[0], whole[1], 3), [[0], [5], [10]])
    assert float(vae.elbo(-90.0, 12)) == -102 and float(vae.elbo(-90, 12, 0.5)) == -96
    with pytest.raises(ValueError, match="kl has shape"):
        vae.elbo(np.zeros((4, 1)), np.zeros(4))
