"""The networks against NumPy, weight tying, and the classifier's encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.autoencoder import Autoencoder, Classifier, classifier_params

RANDOM = {"kernel_init": nn.initializers.normal(0.5), "bias_init": nn.initializers.normal(0.5)}


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _params(network, width, dtype=None):
    params = network.init(jax.random.key(0), jnp.zeros((1, width)))["params"]
    return params if dtype is None else jax.tree.map(lambda a: a.astype(dtype), params)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_equals_numpy(tied, output):
    network = Autoencoder(6, (5, 4), 2, output=output, tied=tied, **RANDOM)
    params = _params(network, 6)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda a: a.astype(jnp.float64), params)
        x = jax.random.uniform(jax.random.key(1), (3, 2, 6), jnp.float64)
        apply = lambda method, value: network.apply({"params": params}, value, method=method)
        pre_code, code = apply("pre_code", x), apply("encode", x)
        logits, decoded, whole = apply("logits", code), apply("decode", code), apply("__call__", x)

    encoder, decoder = (jax.tree.map(np.asarray, params[name]) for name in ("encoder", "decoder"))
    layers = [encoder[f"layers_{i}"] for i in range(3)]
    h = np.asarray(x)
    for i, layer in enumerate(layers):
        h = h @ layer["kernel"] + layer["bias"]
        h = _sigmoid(h) if i < 2 else h
    np.testing.assert_allclose(pre_code, h, rtol=1e-12)
    np.testing.assert_allclose(code, h, rtol=1e-12)
    for i in range(3):
        kernel = layers[2 - i]["kernel"].T if tied else decoder[f"layers_{i}"]["kernel"]
        h = h @ kernel + decoder[f"layers_{i}"]["bias"]
        h = _sigmoid(h) if i < 2 else h
    np.testing.assert_allclose(logits, h, rtol=1e-12)
    expected = _sigmoid(h) if output == "sigmoid" else h
    np.testing.assert_allclose(decoded, expected, rtol=1e-12)
    np.testing.assert_allclose(whole, expected, rtol=1e-12)


def test_code_activation_acts_on_the_code_alone():
    network = Autoencoder(4, (3,), 2, code_activation=nn.relu, **RANDOM)
    params = _params(network, 4)
    x = jax.random.normal(jax.random.key(1), (20, 4))
    pre_code = network.apply({"params": params}, x, method="pre_code")
    assert pre_code.min() < 0
    code = network.apply({"params": params}, x, method="encode")
    np.testing.assert_array_equal(code, np.maximum(pre_code, 0))


def test_tied_decoder_has_biases_only_and_its_gradient_reaches_the_encoders_kernels():
    network = Autoencoder(4, (3,), 2, tied=True, output="linear", activation=nn.tanh, **RANDOM)
    params = _params(network, 4)
    shapes = jax.tree.map(jnp.shape, params["decoder"])
    assert shapes == {"layers_0": {"bias": (3,)}, "layers_1": {"bias": (4,)}}

    code = jax.random.normal(jax.random.key(2), (5, 2))
    weight = jax.random.normal(jax.random.key(3), (5, 4))
    with jax.enable_x64(True):
        params, code, weight = jax.tree.map(
            lambda a: jnp.asarray(a, jnp.float64), (params, code, weight)
        )
        decode = lambda p: jnp.sum(weight * network.apply({"params": p}, code, method="decode"))
        gradient = jax.grad(decode)(params)
    params, code, weight = jax.tree.map(np.asarray, (params, code, weight))
    # d/dV of <weight, tanh(code U^T + b) V^T + c>, where V = layers_0's and U = layers_1's kernel.
    u, v = (params["encoder"][f"layers_{i}"]["kernel"] for i in (1, 0))
    h = np.tanh(code @ u.T + params["decoder"]["layers_0"]["bias"])
    back = weight @ v * (1 - h**2)
    encoder = gradient["encoder"]
    np.testing.assert_allclose(encoder["layers_0"]["kernel"], weight.T @ h, rtol=1e-12)
    np.testing.assert_allclose(encoder["layers_1"]["kernel"], back.T @ code, rtol=1e-12)
    assert not np.any(encoder["layers_0"]["bias"])
    np.testing.assert_allclose(gradient["decoder"]["layers_0"]["bias"], back.sum(0), rtol=1e-12)


def test_one_layer_network():
    network = Autoencoder(4, (), 7, code_activation=nn.sigmoid, tied=True, **RANDOM)
    params = _params(network, 4)
    x = jax.random.uniform(jax.random.key(1), (4,))
    kernel, bias = params["encoder"]["layers_0"]["kernel"], params["encoder"]["layers_0"]["bias"]
    h = _sigmoid(np.asarray(x @ kernel + bias))
    expected = _sigmoid(h @ np.asarray(kernel).T + np.asarray(params["decoder"]["layers_0"]["bias"]))
    np.testing.assert_allclose(network.apply({"params": params}, x), expected, rtol=1e-5)


def test_classifier_takes_the_autoencoders_encoder():
    fields = {"activation": nn.gelu, "code_activation": nn.tanh}
    network = Autoencoder(6, (5,), 3, **fields, **RANDOM)
    classifier = Classifier(6, (5,), 3, 4, **fields, head_init=nn.initializers.normal(1.0))
    trained, fresh = _params(network, 6), _params(classifier, 6)
    params = classifier_params(trained, fresh["head"])
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    x = jax.random.normal(jax.random.key(1), (7, 6))
    code = network.apply({"params": trained}, x, method="encode")
    np.testing.assert_array_equal(
        classifier.apply({"params": params}, x, method="encode"), code
    )
    logits = np.asarray(code) @ np.asarray(fresh["head"]["kernel"])
    np.testing.assert_allclose(classifier.apply({"params": params}, x), logits, rtol=1e-5, atol=1e-6)


def test_wrong_inputs():
    network = Autoencoder(784, (), 3)
    params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 784)))
    with pytest.raises(ValueError, match="width 64.*data_size=784"):
        jax.eval_shape(network.apply, params, jnp.zeros((2, 64)))
    with pytest.raises(ValueError, match="code has width 4.*code_size=3"):
        jax.eval_shape(lambda p: network.apply(p, jnp.zeros((2, 4)), method="decode"), params)
    with pytest.raises(ValueError, match="width 3.*data_size=4"):
        Classifier(4, (), 2, 10).init(jax.random.key(0), jnp.zeros((1, 3)))
    with pytest.raises(ValueError, match="'softmax'.*sigmoid, linear"):
        Autoencoder(4, (), 2, output="softmax").init(jax.random.key(0), jnp.zeros((1, 4)))
    with pytest.raises(ValueError, match="size 3.*takes 5"):
        trained = _params(Autoencoder(4, (), 3), 4)
        classifier_params(trained, {"kernel": jnp.zeros((5, 10)), "bias": jnp.zeros(10)})
