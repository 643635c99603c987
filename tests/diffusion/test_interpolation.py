"""Mixtures of images, by shared noise and along a great circle."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import affine_chain, best_network, chain
from tests.diffusion.sampler_oracles import BETAS, KEPT, MEAN, VARIANCE, noise_of_steps, spaced
from tests.programs import values


def test_mixtures_of_given_noise():
    """All mixtures share the noise of the steps, entry by entry as `denoise_from` takes it."""
    s = diffusion.make_schedule(diffusion.cosine_betas(6))
    denoise = lambda x, t: jnp.sin(2 * x)
    ends = np.random.default_rng(0).uniform(-1, 1, size=(2, 2, 3))

    def program(key, first, second):
        keys = jax.vmap(lambda key: jax.random.split(key, 3))(diffusion.keys_per_example(jax.random.clone(key), 2))
        eps = [diffusion.normal_per_example(jax.random.clone(keys)[:, i], first) for i in range(2)]
        noise = (eps[0], eps[1], noise_of_steps(keys[:, 2], first, 2))
        x_t = diffusion.add_noise(s, second, 2, noise[1])
        return (
            diffusion.interpolate(jax.random.clone(key), denoise, s, first, second, 3, 2),
            diffusion.interpolate(None, denoise, s, first, second, 3, 2, noise=noise),
            diffusion.denoise_from(None, denoise, x_t, s, t=2, noise=noise[2]),
        )

    by_key, given, alone = values(program, jax.random.key(0), *ends)
    np.testing.assert_allclose(given, by_key, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(given[2], alone, rtol=1e-5, atol=1e-6)
    noise = (*ends, np.zeros((3, 2, 3)))
    interpolate = lambda t, **options: jax.eval_shape(
        lambda first, second: diffusion.interpolate(None, denoise, s, first, second, 3, t, **options),
        *np.asarray(ends, np.float32),
    )
    with pytest.raises(ValueError, match=r"noise\[2\] has shape \(3, 2, 3\); expected \(4, 2, 3\)"):
        interpolate(3, noise=noise)
    with pytest.raises(ValueError, match="no key and no noise"):
        interpolate(2)


def test_mixtures_share_their_noise():
    """With an affine network and the same noise, what comes out is affine in the mixture."""
    denoise = best_network(BETAS, MEAN, VARIANCE)
    a, b = np.array([[0.9, -0.2], [0.1, 0.4]]), np.array([[-0.5, 0.3], [0.6, -0.8]])

    def program(key, a, b):
        run = lambda num, t: diffusion.interpolate(jax.random.clone(key), denoise, spaced(), a, b, num, t, clip=False)
        return run(5, 20), run(2, 0)

    found, near = values(program, jax.random.key(0), a, b)
    assert found.shape == (5, 2, 2)
    share = np.linspace(0, 1, 5)[:, None, None]
    np.testing.assert_allclose(found, (1 - share) * found[0] + share * found[-1], atol=1e-5)
    assert np.abs(found[0] - found[-1]).max() > 0.1
    # Pairs and ends have noise of their own, and little of it changes little.
    noise_level = np.sqrt(1 - np.cumprod(1 - BETAS)[0])
    moved = np.abs(near - np.stack([a, b]))
    assert 0 < moved.min() and moved.max() < 4 * noise_level
    assert len(np.unique(np.round(moved, 7))) == 8


def test_encoded_images_are_mixed_along_a_great_circle():
    c = chain(BETAS, KEPT)
    constant, _, factor = affine_chain(c, MEAN, VARIANCE, None, 0.0)
    denoise = best_network(BETAS, MEAN, VARIANCE)
    generator = np.random.default_rng(0)
    a, b = generator.uniform(-1, 1, size=(2, 1, 6))
    run = lambda a, b: diffusion.ddim_interpolate(denoise, spaced(dtype=jnp.float64), a, b, 5, num_refinements=40)
    found, same = values(lambda a, b: (run(a, b), run(a, a)), a, b, x64=True)
    np.testing.assert_allclose(found[[0, -1], 0], [a[0], b[0]], atol=1e-6)
    np.testing.assert_allclose(same[:, 0], np.repeat(a, 5, 0), atol=1e-6)
    start, end = (a[0] - constant) / factor, (b[0] - constant) / factor
    middle = found[2, 0]
    angle = np.arccos(start @ end / np.linalg.norm(start) / np.linalg.norm(end))
    latent = (start + end) * np.sin(angle / 2) / np.sin(angle)
    np.testing.assert_allclose(middle, constant + factor * latent, atol=1e-6)
    quarter = (np.sin(0.75 * angle) * start + np.sin(0.25 * angle) * end) / np.sin(angle)
    np.testing.assert_allclose(found[1, 0], constant + factor * quarter, atol=1e-6)
