"""Sample i depends on (key, i): alone, among 64, on 2 devices; the same bits with fixed_batch_size."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion, gan, training, vae

pytestmark = pytest.mark.optimized
NUMBERS = np.arange(64)
FEW = [3, 60, 17]


def made_up(init):
    """Parameters of the shapes that `init` would give, without compiling it."""
    rng = np.random.default_rng(0)
    draw = lambda x: (rng.normal(size=x.shape) / max(1, np.prod(x.shape[:-1])) ** 0.5).astype(x.dtype)
    return jax.tree.map(draw, jax.eval_shape(init))


def of_vae():
    network = vae.mlp_vae(12, (3,), ((24,),))
    params = made_up(lambda: vae.init_params(jax.random.key(1), network))
    return params, lambda params, keys, numbers: vae.sample(keys, network, params, vae.bernoulli(), len(numbers))


def of_gan():
    """With a label that belongs to the sample's number."""
    generator, discriminator = gan.DCGANGenerator(8, 1, 8, 4, 5), gan.DCGANDiscriminator(8, 8, num_classes=5)
    players = gan.Players(generator, discriminator, gan.normal_noise(6), "label")
    data = {"x": np.zeros((1, 8, 8, 1), np.float32), "label": np.zeros(1, np.int32)}
    params = made_up(lambda: players.init(jax.random.key(1), data))["generator"]
    function = lambda params, keys, numbers: players.generate(params, keys, (numbers % 5).astype(jnp.int32))
    return params, function


def of_diffusion(method):
    """Ten steps with two convolutions for a network."""
    rng = np.random.default_rng(0)
    params = [(0.3 * rng.normal(size=(3, 3, *c))).astype(np.float32) for c in ((2, 16), (16, 2))]
    convolve = lambda x, kernel: jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    schedule = diffusion.make_schedule(diffusion.cosine_betas(10))

    def function(params, keys, numbers):
        denoise = lambda x, t: convolve(jnp.tanh(convolve(x, params[0])), params[1])
        return diffusion.sample(keys, denoise, (len(numbers), 6, 6, 2), schedule, method=method)

    return params, function


FAMILIES = {
    "vae": of_vae,
    "gan": of_gan,
    "ddpm": functools.partial(of_diffusion, "ancestral"),
    "ddim": functools.partial(of_diffusion, "ddim"),
    "dpm_solver": functools.partial(of_diffusion, "dpm_solver"),
}


def of_several(*names):
    made = {name: FAMILIES[name]() for name in names}

    def function(params, keys, numbers):
        return {name: made[name][1](params[name], jax.random.clone(keys), numbers) for name in names}

    return {name: params for name, (params, _) in made.items()}, function


def assert_distinct(samples):
    """Nobody has another's noise."""
    rows = [np.unique(x.reshape(64, -1), axis=0) for x in jax.tree.leaves(samples)]
    assert max(map(len, rows)) == 64


def drawn(function, params, numbers, devices=1, **options):
    draw = training.ParallelSampler(function, devices=jax.devices()[:devices], **options)
    return draw(params, jax.random.key(7), numbers)


def assert_exact(function, params, devices):
    """Returns all samples and a few, drawn with fixed_batch_size."""
    digest = training.tree_digest
    draw = training.ParallelSampler(function, devices=jax.devices()[:1], fixed_batch_size=8)
    exact = draw(params, jax.random.key(7), NUMBERS)
    assert digest(drawn(function, params, NUMBERS, devices, fixed_batch_size=8)) == digest(exact)
    few = jax.tree.map(lambda x: x[FEW], exact)
    assert digest(draw(params, jax.random.key(7), FEW)) == digest(few)
    return exact, few


def test_samples_are_their_own_bit_for_bit():
    params, function = of_several("vae", "gan", "ddpm")
    exact, _ = assert_exact(function, params, devices=2)
    for samples in exact.values():
        assert_distinct(samples)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_a_sample_is_its_own(name):
    params, function = FAMILIES[name]()
    exact, few = assert_exact(function, params, devices=8)
    assert_distinct(exact)
    # Without exact shards, to rounding.
    for numbers, devices, expected in ((FEW, 1, few), (NUMBERS, 8, exact)):
        others = drawn(function, params, numbers, devices)
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), others, expected)


def test_which_number_is_which():
    """Against the keys themselves, for numbers in any order, given twice, and beyond 2^31."""
    numbers = np.array([5, 2**32 - 1, 0, 5])
    function = lambda params, keys, numbers: {"u": jax.vmap(jax.random.uniform)(keys) * params, "n": numbers}
    of_number = jax.jit(lambda n: jax.random.uniform(jax.random.fold_in(jax.random.key(7), n)))
    expected = [float(of_number(np.uint32(n))) for n in numbers]
    fixed = {"fixed_batch_size": 3}, {"devices": 2, "fixed_batch_size": 2}
    for options in ({}, *fixed, {"devices": 4}, {"batch_size": 2}):
        got = drawn(function, np.float32(2), numbers, **options)
        np.testing.assert_array_equal(got["u"], 2 * np.array(expected, np.float32), err_msg=str(options))
        np.testing.assert_array_equal(got["n"], numbers, err_msg=str(options))


@pytest.mark.parametrize(
    "numbers, options, message",
    [
        ([], {}, "n at least 1"),
        ([0.5], {}, "expected integers"),
        ([-1, 3], {}, "from -1 to 3; expected 0"),
        ([0], {"batch_size": 0}, "batch_size is 0"),
        ([0], {"exact_shard": -1}, "fixed_batch_size -1"),
    ],
)
def test_bad_requests(numbers, options, message):
    with pytest.raises(ValueError, match=message):
        drawn(lambda params, keys, numbers: numbers, None, numbers, **options)


def test_a_vae_takes_a_key_for_each_sample():
    network = vae.mlp_vae(12, (3,), ((24,),))
    with pytest.raises(ValueError, match="5.* for 4 samples"):
        vae.sample(jax.random.split(jax.random.key(4), 5), network, {}, vae.bernoulli(), 4)
