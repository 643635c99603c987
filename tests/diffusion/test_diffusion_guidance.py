"""Guidance where everything is known: affine chains, Gaussian classes, and two models that differ by a constant."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gaussian_data import best_network, best_x0, chain, sampling_variance

from jaxgen import diffusion

MEAN, VARIANCE = 0.3, 0.4
BETAS = diffusion.linear_betas(200)
KEPT = np.arange(0, 200, 5)
SLOPE = np.linspace(0.4, 0.1, 200)
"""log p(y | x_t) = SLOPE[t] x_t + constant"""


def guided_shift(c, scale, sigma2=None, eta=None):
    """How far guidance moves x_0, from the definitions: the chain is affine, so this is all that it does."""
    gain, offset = best_x0(c, MEAN, VARIANCE)
    del offset
    shift = 0.0
    for t in reversed(range(len(c.beta))):
        gradient = scale * SLOPE[KEPT[t]]
        if eta is None:
            shift = (c.from_x0[t] * gain[t] + c.from_xt[t]) * shift + sigma2[t] * gradient
        else:
            scale_t, sigma_t = np.sqrt(c.alpha_bar[t]), np.sqrt(1 - c.alpha_bar[t])
            eps = (1 - scale_t * gain[t]) / sigma_t * shift - sigma_t * gradient
            x0 = (shift - sigma_t * eps) / scale_t
            shift = np.sqrt(c.before[t]) * x0 + np.sqrt(1 - c.before[t] - eta**2 * c.small[t]) * eps
    return shift


@pytest.mark.parametrize(
    "settings", [{}, {"variance": "fixed_small"}, {"method": "ddim", "eta": 0.0}, {"method": "ddim", "eta": 0.6}]
)
def test_the_guided_chain_is_the_affine_recursion(settings):
    c = chain(BETAS, KEPT)
    sigma2 = c.small if "variance" in settings else sampling_variance(c, "fixed_large")
    with jax.enable_x64(True):
        schedule = diffusion.respace(diffusion.make_schedule(BETAS, jnp.float64), "ddim40")
        network = best_network(BETAS, MEAN, VARIANCE)

        @jax.jit
        def draw(key, scale):
            gradient = jax.grad(lambda x, t: jnp.sum(scale * jnp.asarray(SLOPE)[t][:, None] * x))
            return diffusion.sample(
                key, network, (3, 4), schedule, clip=False, guidance=gradient, dtype=jnp.float64, **settings
            )

        key = jax.random.key(0)
        plain = jax.jit(
            lambda key: diffusion.sample(key, network, (3, 4), schedule, clip=False, dtype=jnp.float64, **settings)
        )(key)
        for scale in (0.0, 1.0, 3.0):
            # The same noise: every sample moves by the same amount, so the variance stays.
            moved = np.asarray(draw(key, scale) - plain)
            expected = guided_shift(c, scale, sigma2, settings.get("eta"))
            np.testing.assert_allclose(moved, expected, rtol=1e-9, atol=1e-12)
    assert guided_shift(c, 3.0, sigma2, settings.get("eta")) > 0.1


@pytest.mark.parametrize("steps, kept", [(200, np.arange(200)), ("ddim40", KEPT), (2, [0, 199]), (1, [0])])
def test_a_guided_step_moves_by_the_variance(steps, kept):
    """At t = 0 this is 0 for "fixed_small" and beta-tilde_1 (beta_0 where T = 1) for "fixed_large"."""
    c = chain(BETAS, kept)
    t = np.arange(len(kept))
    width = c.small[1] if len(kept) > 1 else c.beta[0]
    variances = {"fixed_small": np.append(0, c.small[1:]), "fixed_large": np.append(width, c.beta[1:])}
    generator = np.random.default_rng(0)
    output, x_t, gradient = generator.normal(size=(3, len(kept), 2))
    with jax.enable_x64(True):
        schedule = diffusion.respace(diffusion.make_schedule(BETAS, jnp.float64), steps)
        arrays = (schedule, jnp.asarray(output), jnp.asarray(x_t), jnp.asarray(t))
        for kind, variance in variances.items():
            p = diffusion.p_mean_variance(*arrays, variance=kind)
            np.testing.assert_allclose(p.variance[:, 0], variance, rtol=1e-9, atol=0)
            # The logarithm, which the decoder and the KL divergences use, is finite at t = 0.
            np.testing.assert_allclose(np.exp(p.log_variance[:, 0]), np.append(width, variance[1:]), rtol=1e-9)
            run = lambda gradient, kind=kind: np.asarray(
                diffusion.ancestral_step(jax.random.key(0), *arrays, variance=kind, gradient=gradient).x
            )
            moved = run(jnp.asarray(gradient)) - run(None)
            np.testing.assert_allclose(moved, variance[:, None] * gradient, rtol=1e-7, atol=1e-14)


def gaussian_classes(x, t, spread=0.3):
    """Logits of two classes, N(-0.5, spread^2) and N(0.5, spread^2), exact at every noise level."""
    alpha_bar = jnp.asarray(np.cumprod(1 - BETAS), x.dtype)[t]
    variance = alpha_bar * spread**2 + 1 - alpha_bar
    means = jnp.asarray([-0.5, 0.5], x.dtype)[None] * jnp.sqrt(alpha_bar)[:, None]
    return -jnp.square(x - means) / (2 * variance[:, None])


def both_classes(x, t, spread=0.3):
    """The best network for the two classes mixed equally."""
    weight = jax.nn.softmax(gaussian_classes(x, t, spread), axis=1)
    parts = [best_network(BETAS, mean, spread**2)(x, t) for mean in (-0.5, 0.5)]
    return weight[:, :1] * parts[0] + weight[:, 1:] * parts[1]


@pytest.mark.parametrize("method", ["ancestral", "ddim"])
def test_scale_1_with_an_exact_classifier_gives_the_class(method):
    labels = jnp.arange(3000) % 2
    guidance = diffusion.classifier_guidance(gaussian_classes, labels, 1.0)
    draw = partial(
        diffusion.sample,
        denoise=both_classes,
        shape=(3000, 1),
        schedule=diffusion.make_schedule(BETAS),
        method=method,
        variance="fixed_small",
        clip=False,
    )
    found = np.asarray(jax.jit(partial(draw, guidance=guidance))(jax.random.key(0)))[:, 0]
    for label, mean in ((0, -0.5), (1, 0.5)):
        of_class = found[np.asarray(labels) == label]
        # What is left beyond Monte-Carlo error is that of 200 steps.
        assert abs(of_class.mean() - mean) < 4 * 0.3 / np.sqrt(1500) + 0.01
        assert abs(of_class.std() / 0.3 - 1) < 4 / np.sqrt(2 * 1500) + 0.02
    plain = np.asarray(jax.jit(draw)(jax.random.key(0)))[:, 0]
    assert abs(plain[np.asarray(labels) == 1].mean()) < 0.1


def test_classifier_guidance_is_the_gradient_of_the_log_probability():
    x, t = jnp.asarray([[0.2], [-0.7]]), jnp.asarray([3, 150])
    labels, scale = jnp.asarray([1, 0]), jnp.asarray([2.0, 0.5])
    found = diffusion.classifier_guidance(gaussian_classes, labels, scale)(x, t)
    alpha_bar = np.cumprod(1 - BETAS)[np.asarray(t)]
    variance = alpha_bar * 0.09 + 1 - alpha_bar
    # log p(1 | x) = log sigmoid(k x) with k = sqrt(alpha-bar) / variance, and log p(0 | x) = log sigmoid(-k x).
    k = np.array([1, -1]) * np.sqrt(alpha_bar) / variance
    expected = np.asarray(scale) * k / (1 + np.exp(k * np.asarray(x)[:, 0]))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


def test_labels_that_are_no_classes_are_refused():
    x, t = jnp.zeros((2, 1)), jnp.zeros(2, jnp.int32)
    for labels, message in (([0, 2], "from 0 to 2; expected 0 to 1"), ([-1, 0], "from -1 to 0; expected 0 to 1")):
        with pytest.raises(ValueError, match=message):
            diffusion.classifier_guidance(gaussian_classes, jnp.asarray(labels), 1.0)(x, t)
    with pytest.raises(ValueError, match="integers"):
        diffusion.classifier_guidance(gaussian_classes, jnp.zeros(2), 1.0)(x, t)
    with pytest.raises(ValueError, match=r"expected \[B\] and \[B, K\]"):
        diffusion.classifier_guidance(gaussian_classes, jnp.asarray([0]), 1.0)(x, t)


def two_models(x, t, labels):
    """Label k gives k + x, and 10 k for the variance; the null label is 9."""
    prediction = x + labels.astype(x.dtype)[:, None]
    return jnp.concatenate([prediction, jnp.broadcast_to(10 * labels.astype(x.dtype)[:, None], x.shape)], axis=1)


def test_classifier_free_guidance_extrapolates_from_none_to_the_label():
    x, t, labels = jnp.asarray([[0.5], [1.5]]), jnp.asarray([7, 7]), jnp.asarray([1, 2])
    for scale, expected in ((0.0, [9.5, 10.5]), (1.0, [1.5, 3.5]), (3.0, [1.5 - 16, 3.5 - 14])):
        denoise = diffusion.classifier_free_guidance(two_models, labels, 9, scale, variance="learned_range")
        found = jax.jit(denoise)(x, t)
        np.testing.assert_allclose(found, np.stack([expected, [10, 20]], axis=1), rtol=1e-6)
    fixed = lambda x, t, labels: two_models(x, t, labels)[:, :1]
    found = diffusion.classifier_free_guidance(fixed, labels, 9, 3.0)(x, t)
    np.testing.assert_allclose(found, [[1.5 - 16], [3.5 - 14]], rtol=1e-6)


def test_classifier_free_guidance_stops_at_the_ends_of_its_interval():
    x, labels = jnp.asarray([[0.5]]), jnp.asarray([1])
    fixed = lambda x, t, labels: two_models(x, t, labels)[:, :1]
    denoise = jax.jit(diffusion.classifier_free_guidance(fixed, labels, 9, 3.0, interval=(5, 7)))
    for t, expected in ((4, 1.5), (5, -14.5), (7, -14.5), (8, 1.5)):
        np.testing.assert_allclose(denoise(x, jnp.asarray([t])), [[expected]])
    with pytest.raises(ValueError, match="first <= last"):
        diffusion.classifier_free_guidance(fixed, labels, 9, 3.0, interval=(7, 5))
    with pytest.raises(ValueError, match="one for each example"):
        denoise(jnp.zeros((3, 1)), jnp.zeros(3, jnp.int32))


def test_samples_with_classifier_free_guidance_at_scale_1_are_the_conditional_models():
    """Label k is the Gaussian of mean k / 2 - 0.5, and label 2 the null label, both together."""

    def network(x, t, labels):
        outputs = [best_network(BETAS, mean, 0.09)(x, t) for mean in (-0.5, 0.5)] + [both_classes(x, t)]
        return jnp.take_along_axis(jnp.stack(outputs), labels[None, :, None], axis=0)[0]

    labels = jnp.asarray([0, 1, 1])
    run = lambda denoise: jax.jit(
        lambda key: diffusion.sample(key, denoise, (3, 1), diffusion.make_schedule(BETAS), clip=False)
    )(jax.random.key(0))
    guided = run(diffusion.classifier_free_guidance(network, labels, 2, 1.0))
    np.testing.assert_allclose(guided, run(lambda x, t: network(x, t, labels)), rtol=1e-4, atol=1e-4)


def test_labels_are_dropped_at_their_rate_by_each_examples_key():
    labels = jnp.arange(4000) % 10
    keys = lambda: jax.random.split(jax.random.key(0), 4000)
    found = np.asarray(diffusion.drop_labels(keys(), labels, 0.2, 10))
    dropped = found == 10
    assert abs(dropped.mean() - 0.2) < 4 * np.sqrt(0.16 / 4000)
    np.testing.assert_array_equal(found[~dropped], np.asarray(labels)[~dropped])
    np.testing.assert_array_equal(diffusion.drop_labels(keys()[5:9], labels[5:9], 0.2, 10), found[5:9])
    np.testing.assert_array_equal(diffusion.drop_labels(keys(), labels, 0.0, 10), labels)
    with pytest.raises(ValueError, match="a probability"):
        diffusion.drop_labels(keys(), labels, 1.5, 10)


def test_given_uniforms_choose_the_dropped_labels():
    labels, keys = jnp.arange(9), lambda: jax.random.split(jax.random.key(0), 9)
    uniforms = np.linspace(0, 0.9, 9)
    found = diffusion.drop_labels(None, labels, 0.4, 10, uniforms=uniforms)
    np.testing.assert_array_equal(found, np.where(uniforms < 0.4, 10, np.arange(9)))
    drawn = jax.vmap(jax.random.uniform)(keys())
    given = diffusion.drop_labels(None, labels, 0.4, 10, uniforms=drawn)
    np.testing.assert_array_equal(given, diffusion.drop_labels(keys(), labels, 0.4, 10))
    with pytest.raises(ValueError, match=r"uniforms has shape \(3,\); expected \(9,\)"):
        diffusion.drop_labels(None, labels, 0.4, 10, uniforms=uniforms[:3])
