"""The networks against NumPy, weight tying, and the classifier's encoder."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxgen.autoencoder import Autoencoder, Classifier, classifier_params
from tests.parameters import apply
from tests.programs import in_float32, in_float64


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


def _float64(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64), tree)


def test_equals_numpy(random_params):
    """In one program for both outputs, tied and not."""
    cases = [(tied, output) for tied in (False, True) for output in ("sigmoid", "linear")]
    networks = [Autoencoder(6, (5, 4), 2, output=output, tied=tied) for tied, output in cases]
    every = [_float64(random_params(network, 6)) for network in networks]
    x = np.random.default_rng(1).uniform(size=(3, 2, 6))

    def outputs(network, params, x):
        call = lambda method, value: apply(network, params, value, method=method)
        code = call("encode", x)
        decoded = call("logits", code), call("decode", code), call("__call__", x)
        return call("pre_code", x), code, *decoded

    found = in_float64(lambda every, x: [outputs(*a, x) for a in zip(networks, every, strict=True)], every, x)
    for case, params, (pre_code, code, logits, decoded, whole) in zip(cases, every, found, strict=True):
        tied, output = case
        encoder, decoder = params["encoder"], params["decoder"]
        layers = [encoder[f"layers_{i}"] for i in range(3)]
        close = partial(np.testing.assert_allclose, rtol=1e-12, err_msg=f"tied {tied}, {output}")
        h = x
        for i, layer in enumerate(layers):
            h = h @ layer["kernel"] + layer["bias"]
            h = _sigmoid(h) if i < 2 else h
        close(pre_code, h)
        close(code, h)
        for i in range(3):
            kernel = layers[2 - i]["kernel"].T if tied else decoder[f"layers_{i}"]["kernel"]
            h = h @ kernel + decoder[f"layers_{i}"]["bias"]
            h = _sigmoid(h) if i < 2 else h
        close(logits, h)
        expected = _sigmoid(h) if output == "sigmoid" else h
        close(decoded, expected)
        close(whole, expected)


def test_code_activation_acts_on_the_code_alone(random_params):
    network = Autoencoder(4, (3,), 2, code_activation=nn.relu)
    params = random_params(network, 4)
    x = np.random.default_rng(1).normal(size=(20, 4)).astype(np.float32)
    pre_code, code = in_float32(
        lambda params: [apply(network, params, x, method=name) for name in ("pre_code", "encode")], params
    )
    assert pre_code.min() < 0
    np.testing.assert_array_equal(code, np.maximum(pre_code, 0))


def test_tied_decoder_has_biases_only_and_its_gradient_reaches_the_encoders_kernels(
    random_params,
):
    network = Autoencoder(4, (3,), 2, tied=True, output="linear", activation=nn.tanh)
    params = _float64(random_params(network, 4))
    shapes = jax.tree.map(jnp.shape, params["decoder"])
    assert shapes == {"layers_0": {"bias": (3,)}, "layers_1": {"bias": (4,)}}

    generator = np.random.default_rng(1)
    code, weight = generator.normal(size=(5, 2)), generator.normal(size=(5, 4))
    decode = lambda p: jnp.sum(weight * apply(network, p, code, method="decode"))
    gradient = in_float64(jax.grad(decode), params)
    # d/dV of <weight, tanh(code U^T + b) V^T + c>, where V = layers_0's and U = layers_1's kernel.
    u, v = (params["encoder"][f"layers_{i}"]["kernel"] for i in (1, 0))
    h = np.tanh(code @ u.T + params["decoder"]["layers_0"]["bias"])
    back = weight @ v * (1 - h**2)
    encoder = gradient["encoder"]
    np.testing.assert_allclose(encoder["layers_0"]["kernel"], weight.T @ h, rtol=1e-12)
    np.testing.assert_allclose(encoder["layers_1"]["kernel"], back.T @ code, rtol=1e-12)
    assert not np.any(encoder["layers_0"]["bias"])
    np.testing.assert_allclose(gradient["decoder"]["layers_0"]["bias"], back.sum(0), rtol=1e-12)


def test_one_layer_network(random_params):
    network = Autoencoder(4, (), 7, code_activation=nn.sigmoid, tied=True)
    params = random_params(network, 4)
    x = np.random.default_rng(1).uniform(size=4).astype(np.float32)
    kernel, bias = params["encoder"]["layers_0"]["kernel"], params["encoder"]["layers_0"]["bias"]
    h = _sigmoid(x @ kernel + bias)
    expected = _sigmoid(h @ kernel.T + params["decoder"]["layers_0"]["bias"])
    found = in_float32(lambda params: apply(network, params, x), params)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_classifier_takes_the_autoencoders_encoder(random_params):
    fields = {"activation": nn.gelu, "code_activation": nn.tanh}
    network = Autoencoder(6, (5,), 3, **fields)
    classifier = Classifier(6, (5,), 3, 4, **fields)
    trained, fresh = random_params(network, 6), random_params(classifier, 6)
    params = classifier_params(trained, fresh["head"])
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, fresh)
    x = np.random.default_rng(1).normal(size=(7, 6)).astype(np.float32)
    code, same, found = in_float32(
        lambda trained, params: (
            apply(network, trained, x, method="encode"),
            classifier.apply({"params": params}, x, method="encode"),
            classifier.apply({"params": params}, x),
        ),
        *(trained, params),
    )
    np.testing.assert_array_equal(same, code)
    logits = code @ fresh["head"]["kernel"] + fresh["head"]["bias"]
    np.testing.assert_allclose(found, logits, rtol=1e-5, atol=1e-6)


def test_wrong_inputs(random_params):
    network = Autoencoder(784, (), 3)
    params = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, 784), np.float32))
    with pytest.raises(ValueError, match="width 64.*data_size=784"):
        jax.eval_shape(network.apply, params, np.zeros((2, 64), np.float32))
    with pytest.raises(ValueError, match="code has width 4.*code_size=3"):
        jax.eval_shape(lambda p: network.apply(p, jnp.zeros((2, 4)), method="decode"), params)
    with pytest.raises(ValueError, match="width 3.*data_size=4"):
        random_params(Classifier(4, (), 2, 10), 3)
    with pytest.raises(ValueError, match="'softmax'.*sigmoid, linear"):
        random_params(Autoencoder(4, (), 2, output="softmax"), 4)
    with pytest.raises(ValueError, match="size 3.*takes 5"):
        trained = random_params(Autoencoder(4, (), 3), 4)
        classifier_params(trained, {"kernel": np.zeros((5, 10)), "bias": np.zeros(10)})
