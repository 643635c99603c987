"""Inpainting on Gaussian data, where the samples' moments and the conditional distribution are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from jaxgen.diffusion.inpainting import resampling_indices
from tests.diffusion.gaussian_data import chain
from tests.programs import values

T, KNOWN = 30, np.array([True, False, False])
MEAN = np.array([0.3, -0.2, 0.1])
COVARIANCE = np.array([[0.25, 0.2, -0.1], [0.2, 0.3, -0.05], [-0.1, -0.05, 0.1]])
IMAGE = np.array([0.9, 5.0, -5.0])
BETAS = diffusion.linear_betas(T)
CHAIN = chain(BETAS)


def best_x0(c=CHAIN):
    """(gain [T, 3, 3], offset [T, 3]) of E[x_0 | x_t], by Bayes."""
    bar = c.alpha_bar[:, None, None]
    gain = np.sqrt(bar) * COVARIANCE @ np.linalg.inv(bar * COVARIANCE + (1 - bar) * np.eye(3))
    return gain, MEAN - np.sqrt(c.alpha_bar)[:, None] * (gain @ MEAN)


def moments_by_hand(jump_length: int, num_resamples: int, betas=BETAS):
    """Mean and covariance of algorithm 1's result: every step of it is affine."""
    c, num_steps = chain(betas), len(betas)
    gain, offset = best_x0(c)
    mean, covariance, t = np.zeros(3), np.eye(3), num_steps - 1
    resamples: dict[int, int] = dict.fromkeys(range(0, num_steps - jump_length, jump_length), num_resamples - 1)
    while t >= 0:
        step = c.from_x0[t] * gain[t] + c.from_xt[t] * np.eye(3)
        mean = step @ mean + c.from_x0[t] * offset[t]
        covariance = step @ covariance @ step.T + c.small[t] * (t > 0) * np.eye(3)
        mean = np.where(KNOWN, np.sqrt(c.before[t]) * IMAGE, mean)
        covariance = np.where(KNOWN[:, None] | KNOWN, np.diag(np.full(3, 1 - c.before[t])), covariance)
        t -= 1
        if resamples.get(t, 0) > 0:
            resamples[t] -= 1
            for _ in range(jump_length):
                t += 1
                mean = np.sqrt(1 - betas[t]) * mean
                covariance = (1 - betas[t]) * covariance + betas[t] * np.eye(3)
    return mean, covariance


def conditional():
    """Mean and covariance of p(unknown | known)."""
    gain = COVARIANCE[1:, :1] / COVARIANCE[0, 0]
    return MEAN[1:] + gain[:, 0] * (IMAGE[0] - MEAN[0]), COVARIANCE[1:, 1:] - gain @ COVARIANCE[:1, 1:]


def denoise(x, t):
    gain, offset = (jnp.asarray(table, x.dtype)[t] for table in best_x0())
    return jnp.einsum("bij,bj->bi", gain, x) + offset


OPTIONS = diffusion.SamplerOptions(prediction="x0", variance="fixed_small", clip=False)


def draw(num, jump_length, num_resamples, **changes):
    def program(image):
        return diffusion.inpaint(
            jax.random.key(0),
            denoise,
            jnp.broadcast_to(image, (num, 3)),
            KNOWN[None],
            diffusion.make_schedule(BETAS),
            resampling=diffusion.Resampling(jump_length, num_resamples),
            options=OPTIONS,
            **changes,
        )

    return values(program, IMAGE)


@pytest.mark.parametrize("jump_length, num_resamples", [(1, 3), (4, 2)])
def test_samples_have_the_moments_of_the_algorithm(jump_length, num_resamples):
    num = 20_000
    found = draw(num, jump_length, num_resamples).astype(np.float64)
    mean, covariance = moments_by_hand(jump_length, num_resamples)
    np.testing.assert_array_equal(found[:, 0], np.float32(0.9))
    sd = np.sqrt(np.diag(covariance))
    # Four standard errors.
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=1e-6 + 4 * sd.max() / np.sqrt(num))
    spread = 4 * np.sqrt((np.outer(sd, sd) ** 2 + covariance**2) / num)
    assert np.all(np.abs(np.cov(found, rowvar=False) - covariance) <= spread + 1e-6)


def test_resampling_leads_to_the_conditional_distribution():
    mean, covariance = conditional()
    errors = []
    for num_resamples in (1, 8, 40):
        found, spread = moments_by_hand(5, num_resamples, diffusion.linear_betas(300))
        errors.append(np.abs(found[1:] - mean).max())
    assert errors[0] > 0.2 and errors[1] < 0.05 and errors[2] < 0.02
    np.testing.assert_allclose(spread[1:, 1:], covariance, atol=0.03)


def test_a_sample_does_not_depend_on_the_others_or_on_unknown_pixels():
    schedule = diffusion.make_schedule(BETAS)
    keys = lambda: jax.random.split(jax.random.key(1), 4)
    resampling = diffusion.Resampling(5, 2)

    def program(image):
        of = lambda keys, image: diffusion.inpaint(
            keys, denoise, image, KNOWN[None], schedule, resampling=resampling, options=OPTIONS, method="ddim"
        )
        return of(keys(), image), of(keys()[2:], image.at[:, 1:].set(7.0)[2:])

    whole, part = values(program, np.tile(IMAGE, (4, 1)) + np.arange(4)[:, None] / 10)
    np.testing.assert_allclose(whole[2:], part, rtol=1e-5)
    assert np.ptp(whole[:, 1]) > 0.01


def test_the_indices_are_those_of_the_paper():
    by_hand = [3, 2, 3, 2, 1, 2, 1, 0, 1, 0, -1]
    np.testing.assert_array_equal(resampling_indices(4, diffusion.Resampling(1, 2)), by_hand)
    # The paper's T = 250, j = 10 and r = 10 take 4570 steps, those back to more noise included.
    steps = np.diff(resampling_indices(250, diffusion.Resampling()))
    assert set(steps) == {-1, 1} and len(steps) == 4570
    np.testing.assert_array_equal(resampling_indices(3, diffusion.Resampling(10, 10)), [2, 1, 0, -1])


def test_what_cannot_be_inpainted_is_refused():
    schedule = diffusion.make_schedule(BETAS)
    call = lambda mask, **changes: diffusion.inpaint(
        jax.random.key(0), denoise, jnp.zeros((2, 3)), mask, schedule, **changes
    )
    with pytest.raises(ValueError, match="the mask is float64|the mask is float32"):
        call(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"the mask is bool \(3,\); expected bool"):
        call(KNOWN)
    with pytest.raises(ValueError, match=r"the mask is bool \(2, 2\)"):
        call(np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="inpainting takes 'ancestral' or 'ddim'"):
        call(KNOWN[None], method="dpm_solver")
    with pytest.raises(ValueError, match="jump_length is 0"):
        diffusion.Resampling(0, 1)
