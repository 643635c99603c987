import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import gan

SHAPES = [(6, 4), (4, 6), (3, 3, 2, 5)]


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


def matrix(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_estimate_converges_to_the_largest_singular_value_and_never_exceeds_it(shape, x64):
    kernel = matrix(shape)
    exact = np.linalg.svd(kernel.reshape(-1, shape[-1]), compute_uv=False)[0]
    w, u, last = jnp.asarray(kernel), jnp.asarray(matrix(shape[-1:], 1)), 0
    u = u / jnp.linalg.norm(u)
    for _ in range(5):
        u = gan.power_iteration(w, u)
        sigma = float(gan.spectral_norm(w, u))
        assert last <= sigma <= exact * (1 + 1e-12)
        last = sigma
    u = gan.power_iteration(w, u, 500)
    assert float(jnp.linalg.norm(u)) == pytest.approx(1, abs=1e-12)
    assert float(gan.spectral_norm(w, u)) == pytest.approx(exact, rel=1e-10)


def test_one_iteration_is_the_papers(x64):
    w, u = matrix((6, 4)), matrix((4,), 1)
    u /= np.linalg.norm(u)
    v = w @ u / np.linalg.norm(w @ u)
    new = w.T @ v / np.linalg.norm(w.T @ v)
    np.testing.assert_allclose(gan.power_iteration(jnp.asarray(w), jnp.asarray(u)), new, rtol=1e-12)


def test_the_gradient_of_a_converged_estimate_is_that_of_the_singular_value(x64):
    kernel = matrix((3, 3, 2, 5))
    left, values, right = np.linalg.svd(kernel.reshape(-1, 5), full_matrices=False)
    u = gan.power_iteration(jnp.asarray(kernel), jnp.asarray(right[0] + 0.01), 500)
    gradient = jax.grad(gan.spectral_norm)(jnp.asarray(kernel), u)
    np.testing.assert_allclose(gradient, np.outer(left[:, 0], right[0]).reshape(kernel.shape), atol=1e-9)
    # Through W / sigma too, against differences of the exact normalised matrix.
    probe = matrix(kernel.shape, 2)
    loss = lambda w: jnp.sum(gan.spectrally_normalized({"kernel": w}, {"kernel": u})["kernel"] * probe)

    def exact(w):
        return np.sum(w / np.linalg.svd(w.reshape(-1, 5), compute_uv=False)[0] * probe)

    found = jax.grad(loss)(jnp.asarray(kernel))
    for index in ((0, 1, 0, 1), (2, 2, 1, 4)):
        step = np.zeros(kernel.shape)
        step[index] = 1e-6
        expected = (exact(kernel + step) - exact(kernel - step)) / 2e-6
        assert float(found[index]) == pytest.approx(expected, rel=1e-6)
    assert values[0] > values[1]


def test_kernels_and_embeddings_are_normalised_and_other_leaves_are_not(x64):
    params = {
        "dense": {"kernel": jnp.asarray(matrix((6, 4))), "bias": jnp.asarray(matrix(4))},
        "label": {"embedding": jnp.asarray(5 * matrix((3, 4), 1))},
        "norm": {"scale": jnp.asarray(matrix((4,), 2))},
    }
    vectors = gan.init_spectral(jax.random.key(0), params)
    assert vectors["dense"]["bias"] is None and vectors["norm"]["scale"] is None
    for u in jax.tree.leaves(vectors):
        assert float(jnp.linalg.norm(u)) == pytest.approx(1, abs=1e-12)
    vectors = gan.advance_spectral(params, vectors, 300)
    found = gan.spectrally_normalized(params, vectors)
    for leaf in (found["dense"]["kernel"], found["label"]["embedding"]):
        assert np.linalg.svd(leaf, compute_uv=False)[0] == pytest.approx(1, rel=1e-10)
    np.testing.assert_array_equal(found["dense"]["bias"], params["dense"]["bias"])
    np.testing.assert_array_equal(found["norm"]["scale"], params["norm"]["scale"])


def test_a_zero_kernel_stays_zero():
    params = {"kernel": jnp.zeros((3, 2))}
    vectors = gan.advance_spectral(params, gan.init_spectral(jax.random.key(0), params))
    np.testing.assert_array_equal(gan.spectrally_normalized(params, vectors)["kernel"], 0)
