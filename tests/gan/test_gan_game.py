import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from jaxgen import gan

PAIRS = [  # (mean, std) of the data and of the generator
    ((0, 1), (0, 1)),
    ((0, 1), (2, 1)),
    ((0, 1), (0, 2)),
    ((-1, 0.5), (1, 0.5)),
    ((0, 1), (5, 0.3)),
    ((1, 2), (-3, 1)),
    ((0, 0.1), (0, 3)),
]


def js_by_quadrature(real, generated):
    p, q = stats.norm(*real), stats.norm(*generated)

    def integrand(x):
        log_p, log_q = p.logpdf(x), q.logpdf(x)
        log_m = np.logaddexp(log_p, log_q) - math.log(2)
        return (np.exp(log_p) * (log_p - log_m) + np.exp(log_q) * (log_q - log_m)) / 2

    ends = [m + s * t for m, s in (real, generated) for t in (-12, -3, -1, 0, 1, 3, 12)]
    points = sorted(set(ends))
    pieces = (integrate.quad(integrand, a, b, epsabs=1e-12) for a, b in zip(points[:-1], points[1:], strict=True))
    return sum(value for value, _ in pieces)


def grid(real, generated, num=20001):
    low = min(m - 12 * s for m, s in (real, generated))
    high = max(m + 12 * s for m, s in (real, generated))
    return np.linspace(low, high, num)


@pytest.mark.parametrize("real, generated", PAIRS)
def test_the_value_at_the_best_discriminator_is_2_js_minus_2_log_2(real, generated):
    """E_z[...] over z ~ N(0, 1) of a pair (x, G(z)) = (m_r + s_r z, m_g + s_g z), by the trapezoid rule."""
    with jax.enable_x64(True):
        z = np.linspace(-12, 12, 4001)
        logits = lambda x: gan.optimal_logits(
            jnp.asarray(stats.norm(*real).logpdf(x)), jnp.asarray(stats.norm(*generated).logpdf(x))
        )
        pairs = gan.value(*(logits(mean + std * z) for mean, std in (real, generated)))
        found = np.sum(stats.norm.pdf(z) * np.asarray(pairs)) * (z[1] - z[0])
    expected = 2 * js_by_quadrature(real, generated) - 2 * math.log(2)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("real, generated", PAIRS)
def test_jensen_shannon_of_densities_meets_quadrature(real, generated):
    with jax.enable_x64(True):
        x = grid(real, generated)
        weights = jnp.full(len(x), x[1] - x[0])
        densities = (jnp.asarray(stats.norm(*g).pdf(x)) for g in (real, generated))
        found = float(gan.jensen_shannon(*densities, weights=weights))
    assert found == pytest.approx(js_by_quadrature(real, generated), abs=1e-6)


def test_a_known_number():
    assert js_by_quadrature((0, 1), (2, 1)) == pytest.approx(0.33683082, abs=1e-8)


def test_jensen_shannon_of_probabilities():
    p = jnp.array([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]])
    q = jnp.array([[0.0, 0.0, 0.3, 0.7], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]])
    third = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    np.testing.assert_allclose(gan.jensen_shannon(p, q), [math.log(2), 0, third], atol=1e-7)
    np.testing.assert_allclose(gan.jensen_shannon(q, p), [math.log(2), 0, third], atol=1e-7)


def test_jensen_shannon_gradient_is_half_the_log_ratio_and_finite_at_zeros():
    p, q = jnp.array([0.2, 0.3, 0.5, 0.0]), jnp.array([0.4, 0.0, 0.5, 0.1])
    found = jax.grad(gan.jensen_shannon)(p, q)
    expected = np.log(p[:3] / ((p[:3] + q[:3]) / 2)) / 2
    np.testing.assert_allclose(found[:3], expected, atol=1e-6)
    assert np.isfinite(found).all()


def every_pair(dtype):
    """All pairs of numbers over the whole range of a dtype, with zero and a subnormal number: p, q, [N, 1] each."""
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    near_tiny = [tiny / 8, tiny, 1.5 * tiny, 3 * tiny, 1000 * tiny]
    near_each_other = [0.3 * (1 + x) for x in (0, 1e-6, 1e-3, 0.3, 2, 3, 60)]
    numbers = np.array([0, *near_tiny, 1e-30, 1e-20, *near_each_other, 1e6, 1e20, largest / 2, largest], dtype)
    return (a.reshape(-1, 1) for a in np.meshgrid(numbers, numbers))


def shares(p, q):
    """p / (p + q) and q / (p + q) of [N, 1] in long double, NaN where both are 0: [N] each."""
    p, q = (a[:, 0].astype(np.longdouble) for a in (p, q))
    with np.errstate(invalid="ignore"):
        return p / (p + q), q / (p + q)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jensen_shannon_over_the_whole_range_of_a_dtype(dtype):
    p, q = every_pair(dtype)
    tiny, rtol = np.finfo(dtype).tiny, {"float32": 2e-6, "float64": 1e-9}[dtype]
    with jax.enable_x64(True):
        found, swapped = (np.asarray(gan.jensen_shannon(jnp.asarray(a), jnp.asarray(b))) for a, b in ((p, q), (q, p)))
        total = lambda p, q: jnp.sum(gan.jensen_shannon(p, q) / 1)
        slopes = [np.asarray(a)[:, 0] for a in jax.grad(total, (0, 1))(jnp.asarray(p), jnp.asarray(q))]
    assert found.dtype == slopes[0].dtype == dtype
    np.testing.assert_array_equal(found, swapped)
    both, p, q = shares(p, q), p[:, 0], q[:, 0]
    middle = (p.astype(np.longdouble) + q) / 2
    # log(p / m) = log(2 p / (p + q)), by way of the difference where the two are near each other.
    difference = np.where(middle > 0, (p.astype(np.longdouble) - q) / np.where(middle > 0, 2 * middle, 1), 0)
    with np.errstate(divide="ignore"):
        logs = [
            np.where(np.abs(d) < 0.5, np.log1p(d), np.log(2 * np.maximum(share, np.finfo(np.longdouble).tiny)))
            for d, share in zip((difference, -difference), both, strict=True)
        ]
    terms = [np.where(share > 0, middle * share * log, 0) for share, log in zip(both, logs, strict=True)]
    np.testing.assert_allclose(found, np.sum(terms, axis=0), rtol=rtol, atol=tiny)
    assert np.all(found >= 0) and np.all(found <= middle * np.log(2) * (1 + rtol))
    for slope, log, own, other in zip(slopes, logs, (p, q), (q, p), strict=True):
        assert np.all(np.isfinite(slope))
        is_normal = (own >= tiny) & ((other == 0) | (other >= tiny))
        np.testing.assert_allclose(slope[is_normal], log[is_normal] / 2, rtol=10 * rtol, atol=rtol)
        np.testing.assert_array_equal(slope[(own == 0) & (other == 0)], 0)
        # The true slope is -inf.
        for number in other[(own == 0) & (other > tiny)]:
            at_zero, at_tiny = (slope[(own == a) & (other == number)] for a in (0, tiny))
            np.testing.assert_array_equal(at_zero, at_tiny)


def test_jensen_shannon_of_densities_that_underflow():
    """Grids on which float32 densities fall from normal to subnormal numbers and to 0."""
    x = np.linspace(-14, 14, 2001)
    weights = np.full(2001, x[1] - x[0], np.float32)
    for other in ((1, 1), (0, 1), (0, 2), (6, 0.5)):
        p, q = (np.float32(stats.norm(*pair).pdf(x)) for pair in ((0, 1), other))
        found, slopes = jax.value_and_grad(gan.jensen_shannon, (0, 1))(p, q, weights)
        assert float(found) == pytest.approx(js_by_quadrature((0, 1), other), rel=1e-5, abs=1e-6)
        assert all(np.all(np.isfinite(a)) for a in slopes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimal_discriminator_over_the_whole_range_of_a_dtype(dtype):
    p, q = every_pair(dtype)
    tiny, rtol = np.finfo(dtype).tiny, 4 * np.finfo(dtype).eps
    with jax.enable_x64(True):
        found = np.asarray(gan.optimal_discriminator(jnp.asarray(p), jnp.asarray(q)))[:, 0]
        total = lambda p, q: jnp.sum(gan.optimal_discriminator(p, q))
        slopes = [np.asarray(a)[:, 0] for a in jax.grad(total, (0, 1))(jnp.asarray(p), jnp.asarray(q))]
    (share, other), p, q = shares(p, q), p[:, 0], q[:, 0]
    is_normal = ((p == 0) | (p >= tiny)) & ((q == 0) | (q >= tiny)) & (p + q.astype(np.longdouble) > 0)
    assert np.all((found >= 0) & (found <= 1)) and np.all(found[(p == 0) & (q == 0)] == 0.5)
    np.testing.assert_allclose(found[is_normal], share[is_normal], rtol=rtol, atol=tiny)
    sums = p + q.astype(np.longdouble)
    for slope, sign, numerator in zip(slopes, (1, -1), (other, share), strict=True):
        assert np.all(np.isfinite(slope)) and np.all(slope[(p == 0) & (q == 0)] == 0)
        expected = sign * numerator[is_normal] / sums[is_normal]
        np.testing.assert_allclose(slope[is_normal], expected, rtol=rtol, atol=2 * tiny)


def test_optimal_logits_outside_both_supports():
    outside = jnp.array([-jnp.inf, -jnp.inf, 0.5])
    inside = jnp.array([-jnp.inf, 0.0, -jnp.inf])
    np.testing.assert_array_equal(gan.optimal_logits(outside, inside), [0, -np.inf, np.inf])
    np.testing.assert_array_equal(jax.nn.sigmoid(gan.optimal_logits(outside, inside)), [0.5, 0, 1])


def test_equal_densities_give_one_half_and_minus_2_log_2():
    with jax.enable_x64(True):
        p = jnp.asarray(stats.norm(1, 2).pdf(np.linspace(-40, 40, 101)))
        half = gan.optimal_discriminator(p, p)
        np.testing.assert_array_equal(half, 0.5)
        logits = jnp.log(half) - jnp.log1p(-half)
        np.testing.assert_allclose(gan.value(logits, logits), -2 * math.log(2), rtol=1e-14)
    assert gan.VALUE_AT_EQUILIBRIUM == -2 * math.log(2)


def test_the_optimal_discriminator_maximizes_the_pointwise_value():
    p, q = jnp.array([0.3, 1.2, 0.0, 0.7, 0.0]), jnp.array([0.1, 1.2, 0.4, 0.0, 0.0])
    best = gan.optimal_discriminator(p, q)
    np.testing.assert_allclose(best, [0.75, 0.5, 0, 1, 0.5], rtol=1e-6)
    logits = jnp.log(best[:2]) - jnp.log1p(-best[:2])
    np.testing.assert_allclose(gan.optimal_logits(jnp.log(p[:2]), jnp.log(q[:2])), logits, atol=1e-6)
    # d/dlogit [p log D + q log(1 - D)] vanishes at D*.
    slope = jax.grad(lambda a: jnp.sum(-p[:2] * jax.nn.softplus(-a) - q[:2] * jax.nn.softplus(a)))(logits)
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_the_value_is_the_definition_for_each_pair():
    generator = np.random.default_rng(0)
    real, fake = generator.normal(size=(2, 3, 4)) * 3
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    with jax.enable_x64(True):
        found = jax.jit(gan.value)(jnp.asarray(real), jnp.asarray(fake))
    np.testing.assert_allclose(found, np.log(sigmoid(real)) + np.log(1 - sigmoid(fake)), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_at_extreme_logits(dtype):
    with jax.enable_x64(True):
        logits = jnp.asarray([-1e4, -100, 0, 100, 1e4], dtype)
        zero = jnp.zeros(5, dtype)
        with np.errstate(all="raise"):
            np.testing.assert_allclose(
                gan.value(logits, zero), [-1e4, -100, -math.log(2), 0, 0] - np.log(2), rtol=1e-6, atol=1e-30
            )
            np.testing.assert_allclose(
                gan.value(zero, logits), [0, 0, -math.log(2), -100, -1e4] - np.log(2), rtol=1e-6, atol=1e-30
            )
        both = jax.grad(lambda r, f: jnp.sum(gan.value(r, f)), argnums=(0, 1))(logits, logits)
        np.testing.assert_allclose(both[0], [1, 1, 0.5, 0, 0], atol=1e-30)
        np.testing.assert_allclose(both[1], [0, 0, -0.5, -1, -1], atol=1e-30)


@pytest.mark.parametrize("f", [gan.value, gan.jensen_shannon, gan.discriminator_loss, gan.hinge_discriminator_loss])
def test_shapes_that_would_broadcast_are_refused(f):
    with pytest.raises(ValueError, match=r"\(4, 1\) and \(1, 4\)"):
        f(jnp.zeros((4, 1)), jnp.zeros((1, 4)))


@functools.cache
def gradient_through_the_generator(saturating, mean, std):
    """d/d(m, s) of E_z[generator loss] at D* held fixed, for p_r = N(0, 1) and G(z) = m + s z, z by quadrature."""
    z = np.linspace(-10, 10, 2001)
    weights = stats.norm.pdf(z) * (z[1] - z[0])
    held = stats.norm(mean, std)

    def slope(x):  # of the optimal logit
        return -x + (x - mean) / std**2

    x = mean + std * z
    logits = stats.norm.logpdf(x) - held.logpdf(x)
    with jax.enable_x64(True):
        loss = lambda a: jnp.sum(gan.generator_loss(a, saturating) * weights)
        by_logit = np.asarray(jax.grad(loss)(jnp.asarray(logits)))
    return np.array([np.sum(by_logit * slope(x)), np.sum(by_logit * slope(x) * z)])


def test_both_generator_losses_rest_where_the_densities_agree_and_push_the_same_way_elsewhere():
    for saturating in (True, False):
        np.testing.assert_allclose(gradient_through_the_generator(saturating, 0, 1), 0, atol=1e-12)
    for mean in (-0.5, 0.5, 2.0):
        pushes = [gradient_through_the_generator(saturating, mean, 1)[0] for saturating in (True, False)]
        assert all(push * mean > 0.01 for push in pushes)
    # Where the discriminator wins, the min-max gradient all but vanishes and the other does not.
    weak, strong = (gradient_through_the_generator(saturating, 6.0, 1)[0] for saturating in (True, False))
    assert strong > 5.9 and weak < 0.05 * strong
