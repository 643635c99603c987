import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan

SHAPES = [(6, 4), (4, 6), (3, 3, 2, 5)]


def compiled(f, *arguments):
    """The values of f as NumPy arrays, from one program; float64 stays float64."""
    with jax.enable_x64(True):
        return jax.device_get(jax.jit(f)(*arguments))


def matrix(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@functools.cache
def estimates():
    """For each shape the estimates of five iterations, and the vector and the estimate after 500 more."""

    def five(kernel, u):
        found = []
        for _ in range(5):
            u = gan.power_iteration(kernel, u)
            found.append(gan.spectral_norm(kernel, u))
        # 500 unrolled steps would be slow to compile.
        last = jax.lax.fori_loop(0, 125, lambda _, u: gan.power_iteration(kernel, u, 4), u)
        return found, last, gan.spectral_norm(kernel, last)

    kernels = {str(shape): matrix(shape) for shape in SHAPES}
    start = {str(shape): matrix(shape[-1:], 1) / np.linalg.norm(matrix(shape[-1:], 1)) for shape in SHAPES}
    return compiled(lambda kernels, start: {n: five(kernels[n], start[n]) for n in kernels}, kernels, start)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_converges_to_the_largest_singular_value_and_never_exceeds_it(shape):
    exact = np.linalg.svd(matrix(shape).reshape(-1, shape[-1]), compute_uv=False)[0]
    sigmas, u, sigma = estimates()[str(shape)]
    assert np.all(np.diff([0, *sigmas]) >= 0) and np.all(np.array(sigmas) <= exact * (1 + 1e-12))
    assert np.linalg.norm(u) == pytest.approx(1, abs=1e-12)
    assert float(sigma) == pytest.approx(exact, rel=1e-10)


def test_one_iteration_is_the_papers():
    w, u = matrix((6, 4)), matrix((4,), 1)
    u /= np.linalg.norm(u)
    v = w @ u / np.linalg.norm(w @ u)
    new = w.T @ v / np.linalg.norm(w.T @ v)
    np.testing.assert_allclose(compiled(gan.power_iteration, w, u), new, rtol=1e-12)


def test_the_gradient_of_a_converged_estimate_is_that_of_the_singular_value():
    kernel = matrix((3, 3, 2, 5))
    left, values, right = np.linalg.svd(kernel.reshape(-1, 5), full_matrices=False)
    # Through W / sigma too, against differences of the exact normalised matrix.
    probe = matrix(kernel.shape, 2)

    def f(kernel, u):
        u = jax.lax.fori_loop(0, 125, lambda _, u: gan.power_iteration(kernel, u, 4), u)
        loss = lambda w: jnp.sum(gan.spectrally_normalized({"kernel": w}, {"kernel": u})["kernel"] * probe)
        return jax.grad(gan.spectral_norm)(kernel, u), jax.grad(loss)(kernel)

    gradient, found = compiled(f, kernel, right[0] + 0.01)
    np.testing.assert_allclose(gradient, np.outer(left[:, 0], right[0]).reshape(kernel.shape), atol=1e-9)

    def exact(w):
        return np.sum(w / np.linalg.svd(w.reshape(-1, 5), compute_uv=False)[0] * probe)

    for index in ((0, 1, 0, 1), (2, 2, 1, 4)):
        step = np.zeros(kernel.shape)
        step[index] = 1e-6
        expected = (exact(kernel + step) - exact(kernel - step)) / 2e-6
        assert float(found[index]) == pytest.approx(expected, rel=1e-6)
    assert values[0] > values[1]


def test_kernels_and_embeddings_are_normalised_and_other_leaves_are_not():
    params = {
        "dense": {"kernel": matrix((6, 4)), "bias": matrix(4)},
        "label": {"embedding": 5 * matrix((3, 4), 1)},
        "norm": {"scale": matrix((4,), 2)},
        "zero": {"kernel": np.zeros((3, 2))},
    }

    def f(params):
        start = gan.init_spectral(jax.random.key(0), params)
        vectors = jax.lax.fori_loop(0, 75, lambda _, vectors: gan.advance_spectral(params, vectors, 4), start)
        return start, gan.spectrally_normalized(params, vectors)

    start, found = compiled(f, params)
    assert start["dense"]["bias"] is None and start["norm"]["scale"] is None
    assert len(jax.tree.leaves(start)) == 3
    for u in jax.tree.leaves(start):
        assert np.linalg.norm(u) == pytest.approx(1, abs=1e-12)
    for leaf in (found["dense"]["kernel"], found["label"]["embedding"]):
        assert np.linalg.svd(leaf, compute_uv=False)[0] == pytest.approx(1, rel=1e-10)
    np.testing.assert_array_equal(found["dense"]["bias"], params["dense"]["bias"])
    np.testing.assert_array_equal(found["norm"]["scale"], params["norm"]["scale"])
    np.testing.assert_array_equal(found["zero"]["kernel"], 0)


def test_a_zero_kernel_stays_zero():
    """In float32, after one step."""
    params = {"kernel": np.zeros((3, 2), np.float32)}
    step = lambda params: gan.advance_spectral(params, gan.init_spectral(jax.random.key(0), params))
    found = compiled(lambda params: gan.spectrally_normalized(params, step(params)), params)
    np.testing.assert_array_equal(found["kernel"], 0)
