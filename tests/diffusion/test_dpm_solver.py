"""DPM-Solver++ against the published algorithm, and its order on an exact flow."""

import jax.numpy as jnp
import numpy as np

from jaxgen import diffusion
from tests.diffusion.gaussian_data import best_network, best_x0, chain
from tests.diffusion.sampler_oracles import KEPT, MEAN, VARIANCE, spaced
from tests.programs import values


def even_betas(num_steps):
    """Equal steps of half the log signal-to-noise ratio, from 4 to -4."""
    alpha_bar = 1 / (1 + np.exp(-2 * np.linspace(4, -4, num_steps)))
    return 1 - alpha_bar / np.append(1, alpha_bar[:-1])


def test_dpm_solver_is_the_published_algorithm():
    """x_t = sigma_t / sigma_s x_s - alpha_t (exp(-h) - 1) D, with D from two predictions; the last step is to x_0."""
    betas = diffusion.cosine_betas(200)
    alpha_bar = np.cumprod(1 - betas)[KEPT]
    x0_of = lambda x, i: np.tanh(x + 0.01 * KEPT[i])
    x, before, expected = np.array([[0.3, -1.2]]), None, []
    lam = np.log(alpha_bar / (1 - alpha_bar)) / 2
    for i in range(39, 0, -1):
        x0, h = x0_of(x, i), lam[i - 1] - lam[i]
        expected.append(x0)
        d = x0
        if before is not None:
            r = (lam[i] - lam[i + 1]) / h
            d = (1 + 1 / (2 * r)) * x0 - before / (2 * r)
        sigma = np.sqrt(1 - alpha_bar)
        x, before = sigma[i - 1] / sigma[i] * x - np.sqrt(alpha_bar[i - 1]) * (np.exp(-h) - 1) * d, x0
    expected.append(x0_of(x, 0))
    denoise = lambda x, t: jnp.tanh(x + 0.01 * t.astype(x.dtype)[:, None])
    options = diffusion.SamplerOptions(method="dpm_solver", prediction="x0", clip=False)
    run = lambda x, t: diffusion.denoise_from(None, denoise, x, spaced(betas, jnp.float64), t=t, options=options)
    # From the middle there is no step before.
    found, middle = values(lambda x: (run(x, None), run(x, 1)), np.array([[0.3, -1.2]]), x64=True)
    np.testing.assert_allclose(found, expected[-1], rtol=1e-9)
    first = np.sqrt(1 - alpha_bar[0]) / np.sqrt(1 - alpha_bar[1]) * np.array([[0.3, -1.2]])
    first = first - np.sqrt(alpha_bar[0]) * np.expm1(lam[1] - lam[0]) * x0_of(np.array([[0.3, -1.2]]), 1)
    np.testing.assert_allclose(middle, x0_of(first, 0), rtol=1e-9)


def test_dpm_solver_is_of_second_order():
    """The exact flow of Gaussian data keeps (x - E x_t) / sd(x_t); DDIM's error halves, this one's falls by four."""
    x = np.array([[-2.0, 1.0, 2.0]])
    cases = [(16, "dpm_solver"), (31, "dpm_solver"), (61, "dpm_solver"), (31, "ddim"), (61, "ddim")]

    def run(x, num_steps, method):
        betas = even_betas(num_steps)
        s, denoise = diffusion.make_schedule(betas, jnp.float64), best_network(betas, MEAN, VARIANCE)
        return diffusion.denoise_from(None, denoise, x, s, method=method, clip=False)

    def error(num_steps, found):
        # Up to the first noise level: the last step, to none at all, is the same for both.
        c = chain(even_betas(num_steps))
        spread = np.sqrt(c.alpha_bar * VARIANCE + 1 - c.alpha_bar)
        exact = np.sqrt(c.alpha_bar[0]) * MEAN + spread[0] / spread[-1] * (x - np.sqrt(c.alpha_bar[-1]) * MEAN)
        gain, offset = best_x0(c, MEAN, VARIANCE)
        return np.abs(found - gain[0] * exact - offset[0]).max()

    found = values(lambda x: [run(x, *case) for case in cases], x, x64=True)
    errors = [error(num_steps, value) for (num_steps, _), value in zip(cases, found, strict=True)]
    dpm, ddim = np.array(errors[:3]), errors[3:]
    assert np.all((3.4 < dpm[:-1] / dpm[1:]) & (dpm[:-1] / dpm[1:] < 4.8)), dpm
    assert 1.7 < ddim[0] / ddim[1] < 2.3
    assert dpm[1] < ddim[0] / 5


def test_dpm_solver_needs_few_steps_equal_in_log_snr():
    """Five times nearer to the flow's end than DDIM, on the chain that networks are trained with."""
    betas = diffusion.linear_betas(1000)
    alpha_bar = np.cumprod(1 - betas)[-1]
    x = np.array([[-2.0, 1.0, 2.0]])
    exact = MEAN + np.sqrt(VARIANCE / (alpha_bar * VARIANCE + 1 - alpha_bar)) * (x - np.sqrt(alpha_bar) * MEAN)
    denoise, counts = best_network(betas, MEAN, VARIANCE), ("logsnr10", "logsnr20")

    def run(x, steps, method):
        s = diffusion.respace(diffusion.make_schedule(betas), steps)
        return diffusion.denoise_from(None, denoise, x, s, method=method, clip=False)

    found = values(lambda x: [[run(x, steps, method) for method in ("dpm_solver", "ddim")] for steps in counts], x)
    for steps, of in zip(counts, found, strict=True):
        dpm, ddim = (np.abs(value - exact).max() for value in of)
        assert dpm < ddim / 5, steps
