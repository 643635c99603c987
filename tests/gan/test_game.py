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
Z = np.linspace(-12, 12, 4001)
REAL_AND_FAKE = np.random.default_rng(0).normal(size=(2, 3, 4)) * 3


def compiled(f, *arguments):
    """The values of f as NumPy arrays, from one program; float64 stays float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(f)(*arguments))


@functools.cache
def js_by_quadrature(real, generated):

    def integrand(x):
        log_p, log_q = stats.norm.logpdf(x, *real), stats.norm.logpdf(x, *generated)
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


@functools.cache
def of_pairs():
    """For each pair: the value of D* at (m_r + s_r z, m_g + s_g z), [P, N] for z in Z, and JS by quadrature, [P].

    The average of the former over z ~ N(0, 1) is V(D*, G).
    """
    places = [[mean + std * Z for mean, std in pair] for pair in PAIRS]
    log_densities = [
        [[stats.norm.logpdf(x, *of) for of in pair] for x in own] for pair, own in zip(PAIRS, places, strict=True)
    ]
    grids = np.stack([grid(*pair) for pair in PAIRS])
    densities = [[stats.norm.pdf(x, *of) for of in pair] for pair, x in zip(PAIRS, grids, strict=True)]
    weights = np.broadcast_to(grids[:, 1:2] - grids[:, :1], grids.shape)

    def f(log_densities, densities, weights):
        real, fake = (gan.optimal_logits(log_densities[:, i, 0], log_densities[:, i, 1]) for i in (0, 1))
        return gan.value(real, fake), jax.vmap(gan.jensen_shannon)(densities[:, 0], densities[:, 1], weights)

    return compiled(f, np.array(log_densities), np.array(densities), weights)


@pytest.mark.parametrize("number", range(len(PAIRS)), ids=map(str, PAIRS))
def test_the_value_at_the_best_discriminator_is_2_js_minus_2_log_2(number):
    found = np.sum(stats.norm.pdf(Z) * of_pairs()[0][number]) * (Z[1] - Z[0])
    expected = 2 * js_by_quadrature(*PAIRS[number]) - 2 * math.log(2)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("number", range(len(PAIRS)), ids=map(str, PAIRS))
def test_jensen_shannon_of_densities_meets_quadrature(number):
    assert float(of_pairs()[1][number]) == pytest.approx(js_by_quadrature(*PAIRS[number]), abs=1e-6)


def test_a_known_number():
    assert js_by_quadrature((0, 1), (2, 1)) == pytest.approx(0.33683082, abs=1e-8)


def test_jensen_shannon_of_probabilities():
    p = np.array([[0.5, 0.5, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]], np.float32)
    q = np.array([[0.0, 0.0, 0.3, 0.7], [0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0.0, 0.0]], np.float32)
    third = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    # For the gradient: half the log ratio, and finite at zeros.
    r, s = np.array([0.2, 0.3, 0.5, 0.0], np.float32), np.array([0.4, 0.0, 0.5, 0.1], np.float32)
    found, swapped, slope = compiled(
        lambda p, q, r, s: (gan.jensen_shannon(p, q), gan.jensen_shannon(q, p), jax.grad(gan.jensen_shannon)(r, s)),
        *(p, q, r, s),
    )
    np.testing.assert_allclose(found, [math.log(2), 0, third], atol=1e-7)
    np.testing.assert_allclose(swapped, [math.log(2), 0, third], atol=1e-7)
    np.testing.assert_allclose(slope[:3], np.log(r[:3] / ((r[:3] + s[:3]) / 2)) / 2, atol=1e-6)
    assert np.isfinite(slope).all()


def every_pair(dtype):
    """All pairs of numbers over the whole range of a dtype, with zero and a subnormal number: p, q, [N, 1] each."""
    tiny, largest = np.finfo(dtype).tiny, np.finfo(dtype).max
    near_tiny = [tiny / 8, tiny, 1.5 * tiny, 3 * tiny, 1000 * tiny]
    near_each_other = [0.3 * (1 + x) for x in (0, 1e-6, 1e-3, 0.3, 2, 3, 60)]
    numbers = np.array([0, *near_tiny, 1e-30, 1e-20, *near_each_other, 1e6, 1e20, largest / 2, largest], dtype)
    return (a.reshape(-1, 1) for a in np.meshgrid(numbers, numbers))


@functools.cache
def over_the_whole_range():
    """{dtype: (JS, JS with swapped arguments, gradients of JS, D*, gradients of D*)} at `every_pair`."""

    def f(p, q):
        slopes = lambda g: jax.grad(lambda p, q: jnp.sum(g(p, q)), (0, 1))(p, q)
        js = gan.jensen_shannon(p, q), gan.jensen_shannon(q, p), slopes(gan.jensen_shannon)
        return *js, gan.optimal_discriminator(p, q), slopes(gan.optimal_discriminator)

    pairs = {dtype: tuple(every_pair(dtype)) for dtype in ("float32", "float64")}
    return compiled(lambda pairs: {dtype: f(*pair) for dtype, pair in pairs.items()}, pairs)


def shares(p, q):
    """p / (p + q) and q / (p + q) of [N, 1] in long double, NaN where both are 0: [N] each."""
    p, q = (a[:, 0].astype(np.longdouble) for a in (p, q))
    with np.errstate(invalid="ignore"):
        return p / (p + q), q / (p + q)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jensen_shannon_over_the_whole_range_of_a_dtype(dtype):
    p, q = every_pair(dtype)
    tiny, rtol = np.finfo(dtype).tiny, {"float32": 2e-6, "float64": 1e-9}[dtype]
    found, swapped, slopes = over_the_whole_range()[dtype][:3]
    slopes = [slope[:, 0] for slope in slopes]
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
    others = ((1, 1), (0, 1), (0, 2), (6, 0.5))
    p, q = np.float32(stats.norm.pdf(x)), np.array([stats.norm.pdf(x, *pair) for pair in others], np.float32)
    f = jax.vmap(jax.value_and_grad(gan.jensen_shannon, (0, 1)), (None, 0, None))
    found, slopes = compiled(f, p, q, weights)
    for other, js in zip(others, found, strict=True):
        assert float(js) == pytest.approx(js_by_quadrature((0, 1), other), rel=1e-5, abs=1e-6), other
    assert all(np.all(np.isfinite(a)) for a in slopes)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_optimal_discriminator_over_the_whole_range_of_a_dtype(dtype):
    p, q = every_pair(dtype)
    tiny, rtol = np.finfo(dtype).tiny, 4 * np.finfo(dtype).eps
    found, slopes = over_the_whole_range()[dtype][3:]
    found, slopes = found[:, 0], [slope[:, 0] for slope in slopes]
    (share, other), p, q = shares(p, q), p[:, 0], q[:, 0]
    is_normal = ((p == 0) | (p >= tiny)) & ((q == 0) | (q >= tiny)) & (p + q.astype(np.longdouble) > 0)
    assert np.all((found >= 0) & (found <= 1)) and np.all(found[(p == 0) & (q == 0)] == 0.5)
    np.testing.assert_allclose(found[is_normal], share[is_normal], rtol=rtol, atol=tiny)
    sums = p + q.astype(np.longdouble)
    for slope, sign, numerator in zip(slopes, (1, -1), (other, share), strict=True):
        assert np.all(np.isfinite(slope)) and np.all(slope[(p == 0) & (q == 0)] == 0)
        expected = sign * numerator[is_normal] / sums[is_normal]
        np.testing.assert_allclose(slope[is_normal], expected, rtol=rtol, atol=2 * tiny)


@functools.cache
def few_values():
    """What the next tests compare, from one program."""
    outside, inside = np.array([[-np.inf, -np.inf, 0.5], [-np.inf, 0.0, -np.inf]], np.float32)
    equal = stats.norm.pdf(np.linspace(-40, 40, 101), 1, 2)
    p, q = np.array([[0.3, 1.2, 0.0, 0.7, 0.0], [0.1, 1.2, 0.4, 0.0, 0.0]], np.float32)
    logits = np.array([-1e4, -100, 0, 100, 1e4])
    logits = {"float32": np.float32(logits), "float64": logits}

    def at_extremes(logits):
        both = jax.grad(lambda r, f: jnp.sum(gan.value(r, f)), argnums=(0, 1))(logits, logits)
        return gan.value(logits, 0 * logits), gan.value(0 * logits, logits), *both

    def f(outside, inside, equal, p, q, real, fake, logits):
        half, best = gan.optimal_discriminator(equal, equal), gan.optimal_discriminator(p, q)
        half_logits, best_logits = (jnp.log(d) - jnp.log1p(-d) for d in (half, best[:2]))
        of_best = lambda a: jnp.sum(-p[:2] * jax.nn.softplus(-a) - q[:2] * jax.nn.softplus(a))
        return {
            "outside": (gan.optimal_logits(outside, inside), jax.nn.sigmoid(gan.optimal_logits(outside, inside))),
            "equal": (half, gan.value(half_logits, half_logits)),
            "best": (
                best,
                best_logits,
                gan.optimal_logits(jnp.log(p[:2]), jnp.log(q[:2])),
                jax.grad(of_best)(best_logits),
            ),
            "pairs": gan.value(real, fake),
            "extreme": jax.tree.map(at_extremes, logits),
        }

    return compiled(f, outside, inside, equal, p, q, *REAL_AND_FAKE, logits)


def test_optimal_logits_outside_both_supports():
    logits, discriminator = few_values()["outside"]
    np.testing.assert_array_equal(logits, [0, -np.inf, np.inf])
    np.testing.assert_array_equal(discriminator, [0.5, 0, 1])


def test_equal_densities_give_one_half_and_minus_2_log_2():
    half, value = few_values()["equal"]
    np.testing.assert_array_equal(half, 0.5)
    np.testing.assert_allclose(value, -2 * math.log(2), rtol=1e-14)
    assert gan.VALUE_AT_EQUILIBRIUM == -2 * math.log(2)


def test_the_optimal_discriminator_maximizes_the_pointwise_value():
    best, logits, by_log_densities, slope = few_values()["best"]
    np.testing.assert_allclose(best, [0.75, 0.5, 0, 1, 0.5], rtol=1e-6)
    np.testing.assert_allclose(by_log_densities, logits, atol=1e-6)
    # d/dlogit [p log D + q log(1 - D)] vanishes at D*.
    np.testing.assert_allclose(slope, 0, atol=1e-6)


def test_the_value_is_the_definition_for_each_pair():
    real, fake = REAL_AND_FAKE
    sigmoid = lambda a: 1 / (1 + np.exp(-a))
    expected = np.log(sigmoid(real)) + np.log(1 - sigmoid(fake))
    np.testing.assert_allclose(few_values()["pairs"], expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_and_gradients_at_extreme_logits(dtype):
    of_real, of_fake, by_real, by_fake = few_values()["extreme"][dtype]
    assert of_real.dtype == by_real.dtype == dtype
    of_real_expected, of_fake_expected = [-1e4, -100, -math.log(2), 0, 0], [0, 0, -math.log(2), -100, -1e4]
    np.testing.assert_allclose(of_real, of_real_expected - np.log(2), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(of_fake, of_fake_expected - np.log(2), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(by_real, [1, 1, 0.5, 0, 0], atol=1e-30)
    np.testing.assert_allclose(by_fake, [0, 0, -0.5, -1, -1], atol=1e-30)


@pytest.mark.parametrize("f", [gan.value, gan.jensen_shannon, gan.discriminator_loss, gan.hinge_discriminator_loss])
def test_shapes_that_would_broadcast_are_refused(f):
    with pytest.raises(ValueError, match=r"\(1, 4\), and .* \(4, 1\)"):
        f(np.zeros((4, 1)), np.zeros((1, 4)))


GENERATORS = [(0, 1), (-0.5, 1), (0.5, 1), (2.0, 1), (6.0, 1)]


@functools.cache
def gradients_through_the_generator():
    """{(saturating, mean, std): d/d(m, s) of E_z[generator loss] at D* held fixed}.

    p_r = N(0, 1) and G(z) = m + s z, z by quadrature.
    """
    z = np.linspace(-10, 10, 2001)
    weights = stats.norm.pdf(z) * (z[1] - z[0])
    logits = {g: stats.norm.logpdf(g[0] + g[1] * z) - stats.norm.logpdf(g[0] + g[1] * z, *g) for g in GENERATORS}
    slopes = lambda a: [
        jax.grad(lambda a, s=saturating: jnp.sum(gan.generator_loss(a, s) * weights))(a) for saturating in (True, False)
    ]
    by_logits = compiled(lambda logits: [slopes(a) for a in logits], list(logits.values()))
    result = {}
    for (mean, std), both in zip(logits, by_logits, strict=True):
        x = mean + std * z
        slope = -x + (x - mean) / std**2  # of the optimal logit
        for saturating, by_logit in zip((True, False), both, strict=True):
            by_x = by_logit * slope
            result[saturating, mean, std] = np.array([np.sum(by_x), np.sum(by_x * z)])
    return result


def test_both_generator_losses_rest_where_the_densities_agree_and_push_the_same_way_elsewhere():
    for saturating in (True, False):
        np.testing.assert_allclose(gradients_through_the_generator()[saturating, 0, 1], 0, atol=1e-12)
    for mean in (-0.5, 0.5, 2.0):
        pushes = [gradients_through_the_generator()[saturating, mean, 1][0] for saturating in (True, False)]
        assert all(push * mean > 0.01 for push in pushes)
    # Where the discriminator wins, the min-max gradient all but vanishes and the other does not.
    weak, strong = (gradients_through_the_generator()[saturating, 6.0, 1][0] for saturating in (True, False))
    assert strong > 5.9 and weak < 0.05 * strong
