"""Guidance where everything is known: affine chains, Gaussian classes, and two models that differ by a constant."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import best_network, best_x0, chain, sampling_variance
from tests.programs import compiled, values

MEAN, VARIANCE = 0.3, 0.4
BETAS = diffusion.linear_betas(200)
KEPT = np.arange(0, 200, 5)
SLOPE = np.linspace(0.4, 0.1, 200)
"""log p(y | x_t) = SLOPE[t] x_t + constant"""


def guided_shift(c, scale, sigma2: Any = None, eta=None):
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


def test_the_guided_chain_is_the_affine_recursion():
    c, scales = chain(BETAS, KEPT), (0.0, 1.0, 3.0)
    cases = {
        "fixed_large": {},
        "fixed_small": {"variance": "fixed_small"},
        "ddim": {"method": "ddim", "eta": 0.0},
        "ddim with noise": {"method": "ddim", "eta": 0.6},
    }
    noise = np.random.default_rng(0).normal(size=(41, 3, 4))

    def program(scales, noise):
        schedule = diffusion.respace(diffusion.make_schedule(BETAS, jnp.float64), "ddim40")
        draw = partial(
            diffusion.sample, None, best_network(BETAS, MEAN, VARIANCE), (3, 4), schedule,
            clip=False, dtype=jnp.float64, x_last=noise[0], noise=noise[1:],
        )  # fmt: skip

        def guided(scale, settings):
            gradient = jax.grad(lambda x, t: jnp.sum(scale * jnp.asarray(SLOPE)[t][:, None] * x))
            return draw(guidance=gradient, **settings)

        for settings in cases.values():
            plain = draw(**settings)
            yield jax.vmap(lambda scale, settings=settings, plain=plain: guided(scale, settings) - plain)(scales)

    # The same noise: every sample moves by the same amount, so the variance stays.
    found = values(lambda *args: list(program(*args)), np.array(scales), noise, x64=True)
    for (name, settings), moved in zip(cases.items(), found, strict=True):
        sigma2 = c.small if name == "fixed_small" else sampling_variance(c, "fixed_large")
        shifts = [guided_shift(c, scale, sigma2, settings.get("eta")) for scale in scales]
        assert shifts[2] > 0.1
        for of_scale, shift in zip(moved, shifts, strict=True):
            np.testing.assert_allclose(of_scale, shift, rtol=1e-9, atol=1e-12, err_msg=name)


def test_a_guided_step_moves_by_the_variance():
    """At t = 0 this is 0 for "fixed_small" and beta-tilde_1 (beta_0 where T = 1) for "fixed_large"."""
    cases = {200: np.arange(200), "ddim40": KEPT, 2: np.array([0, 199]), 1: np.array([0])}
    kinds = ("fixed_small", "fixed_large")
    generator = np.random.default_rng(0)
    inputs = [generator.normal(size=(4, len(kept), 2)) for kept in cases.values()]

    def program(inputs):
        for steps, (output, x_t, gradient, noise) in zip(cases, inputs, strict=True):
            schedule = diffusion.respace(diffusion.make_schedule(BETAS, jnp.float64), steps)
            arrays = (schedule, output, x_t, jnp.arange(len(x_t)))
            for kind in kinds:
                step = partial(diffusion.ancestral_step, None, *arrays, variance=kind, noise=noise)
                p = diffusion.p_mean_variance(*arrays, variance=kind)
                yield p.variance, p.log_variance, step(gradient=gradient).x - step().x

    found = iter(values(lambda inputs: list(program(inputs)), inputs, x64=True))
    for (steps, kept), (_, _, gradient, _) in zip(cases.items(), inputs, strict=True):
        c = chain(BETAS, kept)
        width = c.small[1] if len(kept) > 1 else c.beta[0]
        for kind, first, rest in zip(kinds, (0, width), (c.small, c.beta), strict=True):
            sigma2, log_sigma2, moved = next(found)
            variance, case = np.append(first, rest[1:]), f"{steps}, {kind}"
            np.testing.assert_allclose(sigma2[:, 0], variance, rtol=1e-9, atol=0, err_msg=case)
            # The logarithm, which the decoder and the KL divergences use, is finite at t = 0.
            expected = np.append(width, variance[1:])
            np.testing.assert_allclose(np.exp(log_sigma2[:, 0]), expected, rtol=1e-9, err_msg=case)
            np.testing.assert_allclose(moved, variance[:, None] * gradient, rtol=1e-7, atol=1e-14, err_msg=case)


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
    labels = np.arange(3000) % 2
    schedule = diffusion.make_schedule(BETAS)

    def program(key, labels):
        draw = lambda guidance: diffusion.sample(
            jax.random.clone(key), both_classes, (3000, 1), schedule,
            method=method, variance="fixed_small", clip=False, guidance=guidance,
        )  # fmt: skip
        return draw(diffusion.classifier_guidance(gaussian_classes, labels, 1.0))[:, 0], draw(None)[:, 0]

    found, plain = values(program, jax.random.key(0), labels.astype(np.int32))
    for label, mean in ((0, -0.5), (1, 0.5)):
        of_class = found[labels == label]
        # What is left beyond Monte-Carlo error is that of 200 steps.
        assert abs(of_class.mean() - mean) < 4 * 0.3 / np.sqrt(1500) + 0.01
        assert abs(of_class.std() / 0.3 - 1) < 4 / np.sqrt(2 * 1500) + 0.02
    assert abs(plain[labels == 1].mean()) < 0.1


def test_classifier_guidance_is_the_gradient_of_the_log_probability():
    x, t = np.array([[0.2], [-0.7]]), np.array([3, 150])
    scale = np.array([2.0, 0.5])
    labels = jnp.asarray([1, 0])
    run = lambda x, t, scale: diffusion.classifier_guidance(gaussian_classes, labels, scale)(x, t)
    found = values(run, x, t, scale)
    alpha_bar = np.cumprod(1 - BETAS)[t]
    variance = alpha_bar * 0.09 + 1 - alpha_bar
    # log p(1 | x) = log sigmoid(k x) with k = sqrt(alpha-bar) / variance, and log p(0 | x) = log sigmoid(-k x).
    k = np.array([1, -1]) * np.sqrt(alpha_bar) / variance
    expected = scale * k / (1 + np.exp(k * x[:, 0]))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4)


def test_labels_that_are_no_classes_are_refused():
    x, t = jnp.zeros((2, 1)), jnp.zeros(2, jnp.int32)
    for labels, message in (
        (np.array([0, 2]), "from 0 to 2; expected 0 to 1"),
        (np.array([-1, 0]), "from -1 to 0; expected 0 to 1"),
        (np.zeros(2), "integers"),
        (np.array([0]), r"expected \[B\] and \[B, K\]"),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(diffusion.classifier_guidance(gaussian_classes, jnp.asarray(labels), 1.0), x, t)


def two_models(x, t, labels):
    """Label k gives k + x, and 10 k for the variance; the null label is 9."""
    prediction = x + labels.astype(x.dtype)[:, None]
    return jnp.concatenate([prediction, jnp.broadcast_to(10 * labels.astype(x.dtype)[:, None], x.shape)], axis=1)


def test_classifier_free_guidance_extrapolates_from_none_to_the_label():
    x, t, labels = np.array([[0.5], [1.5]]), np.array([7, 7]), np.array([1, 2], np.int32)
    fixed = lambda x, t, labels: two_models(x, t, labels)[:, :1]
    cases = ((0.0, [9.5, 10.5]), (1.0, [1.5, 3.5]), (3.0, [1.5 - 16, 3.5 - 14]))

    def program(x, t, labels):
        guide = diffusion.classifier_free_guidance
        learned = [guide(two_models, labels, 9, scale, variance="learned_range")(x, t) for scale, _ in cases]
        return learned, guide(fixed, labels, 9, 3.0)(x, t)

    learned, found = values(program, x, t, labels)
    for (scale, expected), value in zip(cases, learned, strict=True):
        expected = np.stack([expected, [10, 20]], axis=1)
        np.testing.assert_allclose(value, expected, rtol=1e-6, err_msg=f"scale {scale}")
    np.testing.assert_allclose(found, [[1.5 - 16], [3.5 - 14]], rtol=1e-6)


def test_classifier_free_guidance_stops_at_the_ends_of_its_interval():
    x, labels = np.array([[0.5]], np.float32), jnp.asarray([1])
    fixed = lambda x, t, labels: two_models(x, t, labels)[:, :1]
    denoise = compiled(diffusion.classifier_free_guidance(fixed, labels, 9, 3.0, interval=(5, 7)))
    for t, expected in ((4, 1.5), (5, -14.5), (7, -14.5), (8, 1.5)):
        np.testing.assert_allclose(denoise(x, np.array([t])), [[expected]])
    with pytest.raises(ValueError, match="first <= last"):
        diffusion.classifier_free_guidance(fixed, labels, 9, 3.0, interval=(7, 5))
    with pytest.raises(ValueError, match="one for each example"):
        denoise(np.zeros((3, 1)), np.zeros(3, np.int32))


def test_samples_with_classifier_free_guidance_at_scale_1_are_the_conditional_models():
    """Label k is the Gaussian of mean k / 2 - 0.5, and label 2 the null label, both together."""

    def network(x, t, labels):
        outputs = [best_network(BETAS, mean, 0.09)(x, t) for mean in (-0.5, 0.5)] + [both_classes(x, t)]
        return jnp.take_along_axis(jnp.stack(outputs), labels[None, :, None], axis=0)[0]

    labels, schedule = np.array([0, 1, 1], np.int32), diffusion.make_schedule(BETAS)

    def program(key, labels):
        run = lambda denoise: diffusion.sample(jax.random.clone(key), denoise, (3, 1), schedule, clip=False)
        guided = run(diffusion.classifier_free_guidance(network, labels, 2, 1.0))
        return guided, run(lambda x, t: network(x, t, labels))

    guided, conditional = values(program, jax.random.key(0), labels)
    np.testing.assert_allclose(guided, conditional, rtol=1e-4, atol=1e-4)


def test_labels_are_dropped_at_their_rate_by_each_examples_key():
    labels = np.arange(4000, dtype=np.int32) % 10

    def program(key, labels):
        keys = jax.random.split(key, 4000)
        drop = lambda keys, labels, rate: diffusion.drop_labels(jax.random.clone(keys), labels, rate, 10)
        return drop(keys, labels, 0.2), drop(keys[5:9], labels[5:9], 0.2), drop(keys, labels, 0.0)

    found, few, none = values(program, jax.random.key(0), labels)
    dropped = found == 10
    assert abs(dropped.mean() - 0.2) < 4 * np.sqrt(0.16 / 4000)
    np.testing.assert_array_equal(found[~dropped], labels[~dropped])
    np.testing.assert_array_equal(few, found[5:9])
    np.testing.assert_array_equal(none, labels)
    with pytest.raises(ValueError, match="a probability"):
        diffusion.drop_labels(None, labels, 1.5, 10)


def test_given_uniforms_choose_the_dropped_labels():
    labels, uniforms = np.arange(9, dtype=np.int32), np.linspace(0, 0.9, 9)

    def program(key, labels, uniforms):
        keys = jax.random.split(key, 9)
        drawn = jax.vmap(jax.random.uniform)(jax.random.clone(keys))
        drop = lambda keys, **options: diffusion.drop_labels(keys, labels, 0.4, 10, **options)
        return drop(None, uniforms=uniforms), drop(None, uniforms=drawn), drop(keys)

    found, given, by_key = values(program, jax.random.key(0), labels, uniforms)
    np.testing.assert_array_equal(found, np.where(uniforms < 0.4, 10, np.arange(9)))
    np.testing.assert_array_equal(given, by_key)
    with pytest.raises(ValueError, match=r"uniforms has shape \(3,\); expected \(9,\)"):
        diffusion.drop_labels(None, labels, 0.4, 10, uniforms=uniforms[:3])
