"""Calls of `jaxgen.autoencoder`."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen import autoencoder
from tests.inputs import call, key, unit
from tests.parameters import random_parameters

_ENGINE = "makes an update or an optimizer from settings"
EXEMPT = {
    "build_sparse": "makes a network and a loss from settings",
    "classification_loss": "makes a loss; tests/autoencoder/test_objectives.py",
    "classifier_params": "joins trees of parameters",
    "conjugate_gradient_update": _ENGINE,
    "contractive_loss": "makes a loss; tests/inputs/test_losses.py",
    "contrastive_divergence_update": _ENGINE,
    "k_sparse_loss": "makes a loss; tests/inputs/test_losses.py",
    "kl_sparsity_loss": "makes a loss; tests/inputs/test_losses.py",
    "kl_sparsity_statistics": "makes statistics; tests/inputs/test_losses.py",
    "l1_sparsity_loss": "makes a loss; tests/inputs/test_losses.py",
    "momentum_sgd": _ENGINE,
    "pretrain": "trains; tests/autoencoder/test_pretraining.py",
    "reconstruction_loss": "makes a loss; tests/inputs/test_losses.py",
    "two_stage_momentum": _ENGINE,
    "unroll": "joins trees of parameters",
}


def calls():
    network = autoencoder.Autoencoder(3, (), 4, code_activation=nn.sigmoid)
    params = random_parameters(network, np.zeros((1, 3), np.float32))
    weights = unit(3, 4)
    encode = lambda x: jnp.tanh(x @ weights)
    rbm = {"kernel": weights, "visible_bias": unit(3), "hidden_bias": unit(4)}
    x, many, labels = unit(5, 3), unit(12, 3), np.arange(12) % 3
    components = np.eye(3, dtype=np.float32)[:2]
    logistic = {"kernel": unit(2, 3), "bias": unit(3)}
    return {
        "annealed_k": call("step", step=np.int32(3), k=2, start=4, num_steps=10),
        "auxk_error": call(
            x=x,
            reconstruction=unit(5, 3),
            pre_activation=unit(5, 4),
            dead=np.array([0, 1, 1, 0]),
            k=1,
            decode=lambda code: code @ weights.T,
        ),
        "classification_error": call("x", classify=lambda x: x @ weights, x=many, labels=labels),
        "contraction_ratio": call("x:1", key=key(), encode=encode, x=x, radius=0.1),
        "contractive_penalty": call(encode=encode, x=x),
        "contrastive_divergence": call("v:1", key=key(), params=rbm, v=x),
        "cross_entropy": call("x", "logits", x=x, logits=unit(5, 3)),
        "dead_units": call("codes", codes=x),
        "free_energy": call("v", params=rbm, v=x),
        "gaussian_noise": call("x", key=key(), x=x, sigma=0.1),
        "hidden_given_visible": call("v", params=rbm, v=x),
        "higher_order_contractive_penalty": call("x:1", key=key(), encode=encode, x=x, sigma=0.1),
        "hutchinson_contractive_penalty": call("x:1", key=key(), encode=encode, x=x),
        "identity": call("x", x=x),
        "init_params": call(key=key(), network=network),
        "jacobian_spectrum": call(encode=encode, x=x),
        "k_sparse_encode": call("x", network=network, params=params, x=x, k=2),
        "kl_sparsity": call("mean_activation", mean_activation=unit(4), rho=0.1),
        "l1_sparsity": call("code", code=x),
        "linear_probe_error": call(
            train_codes=many, train_labels=labels, test_codes=many, test_labels=labels, num_iterations=3
        ),
        "linearized_kl_sparsity": call("code:1", code=unit(5, 4), mean_activation=unit(4), rho=0.1),
        "logistic_pca": call(x=many, num_components=1, num_iterations=1),
        "logistic_pca_codes": call(x=many, params=logistic, num_iterations=2),
        "logistic_pca_reconstruct": call(codes=unit(5, 2), params=logistic),
        "map_in_chunks": call("x", function=lambda x: 2 * x, x=x, chunk=2),
        "masking_noise": call("x", key=key(), x=x, fraction=0.5),
        "neighbour_error": call(train_codes=many, train_labels=labels, test_codes=many, test_labels=labels),
        "pca": call(x=many, num_components=2),
        "pca_reconstruct": call("x:1", "components:1", x=x, mean=unit(3), components=components),
        "probed_contractive_penalty": call(encode=encode, x=x, probes=unit(5, 2, 3)),
        "rbm_params": call(key=key(), visible_size=3, hidden_size=4),
        "reconstruction_error": call(reconstruct=lambda x: 0.5 * x, x=x),
        "saturation": call("hidden", hidden=x),
        "sigmoid_contractive_penalty": call("hidden", "kernel:1", hidden=unit(5, 4), kernel=weights),
        "squared_error": call(x=x, reconstruction=unit(5, 3)),
        "top_k": call("pre_activation", pre_activation=x, k=2),
        "visible_given_hidden": call("h", params=rbm, h=unit(5, 4)),
    }
