"""The reverse step's mean and variance, and what a network's output says of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen import diffusion
from tests.diffusion.gaussian_data import chain
from tests.programs import values


def test_the_learned_range_runs_between_its_ends():
    betas = diffusion.linear_betas(1000)
    s, t = diffusion.make_schedule(betas), np.array([0, 1, 500, 999])

    def program(x_t):
        run = lambda values, kind: diffusion.p_mean_variance(
            s, jnp.concatenate([x_t, values], -1), x_t, t, variance=kind
        )
        kinds = ("fixed_small", "fixed_large")
        fixed = [diffusion.p_mean_variance(s, x_t, x_t, t, variance=kind).log_variance[:, 0, 0] for kind in kinds]
        ranges = [run(factor * x_t, "learned_range").log_variance for factor in (-1.0, 1.0, 0.0, 3.0)]
        return fixed, ranges, run(3 * x_t, "learned").log_variance, run(x_t, "learned").variance

    (small, large), (lowest, highest, middle, beyond), three, variance = values(program, np.ones((4, 2, 3)))
    c = chain(betas)
    np.testing.assert_allclose(small, np.log([c.small[1], c.small[1], c.small[500], c.small[999]]), rtol=1e-6)
    np.testing.assert_allclose(large, np.log([c.small[1], betas[1], betas[500], betas[999]]), rtol=1e-6)
    # At t = 0 the range goes up to beta_0, which the fixed variance does not take there.
    top = np.log(betas[[0, 1, 500, 999]])
    np.testing.assert_allclose(lowest[:, 1, 2], small, rtol=1e-6)
    np.testing.assert_allclose(highest[:, 0, 0], top, rtol=1e-6)
    np.testing.assert_allclose(middle[:, 0, 0], (small + top) / 2, rtol=1e-6)
    # Not held within the range.
    np.testing.assert_allclose(beyond[:, 0, 0], top + (top - small), rtol=1e-5)
    np.testing.assert_allclose(three, 3 * np.ones((4, 2, 3)))
    np.testing.assert_allclose(variance, np.e, rtol=1e-6)


def test_clipping_and_editing_move_the_mean_by_way_of_x0():
    betas = diffusion.linear_betas(100)
    c = chain(betas)
    t = np.array([0, 30, 99])
    x_t, output = np.random.default_rng(0).normal(size=(2, 3, 5))
    predictions = ("noise", "x0", "mean", "v")

    def program(output, x_t, t):
        args = (diffusion.make_schedule(betas, jnp.float64), output, x_t, t)
        for prediction in predictions:
            run = partial(diffusion.p_mean_variance, *args, prediction=prediction)
            edited = run(edit_x0=lambda x0, t: 0.5 * x0 + t.astype(x0.dtype)[:, None])
            yield run(clip=False), run(), edited, diffusion.convert(*args, prediction, "x0")

    coefficients = (c.from_x0[t][:, None], c.from_xt[t][:, None])
    cases = values(lambda *args: list(program(*args)), output, x_t, t, x64=True)
    for prediction, (free, clipped, edited, raw) in zip(predictions, cases, strict=True):
        for found, x0 in ((free, raw), (clipped, np.clip(raw, -1, 1)), (edited, np.clip(raw / 2 + t[:, None], -1, 1))):
            np.testing.assert_allclose(found.x0, x0, rtol=1e-7, atol=1e-9, err_msg=prediction)
            mean = output if prediction == "mean" else coefficients[0] * x0 + coefficients[1] * x_t
            np.testing.assert_allclose(found.mean, mean, rtol=1e-6, atol=1e-9, err_msg=prediction)


def test_what_does_not_exist_is_named():
    s = diffusion.make_schedule(diffusion.linear_betas(100))
    x, wide = jnp.ones((2, 3)), jnp.ones((2, 6))
    p = diffusion.p_mean_variance
    for message, call in (
        ("'eps'; expected one of noise, x0, mean, v", lambda: p(s, x, x, 0, prediction="eps")),  # type: ignore[arg-type]
        (
            "'big'; expected one of fixed_small, fixed_large, learned, learned_range",
            lambda: p(s, x, x, 0, variance="big"),  # type: ignore[arg-type]
        ),
        ("has 3 channels; expected two of equal size", lambda: p(s, x, x, 0, variance="learned")),
        (r"shape \(2, 3\) for x_t of shape \(2, 6\)", lambda: p(s, wide, wide, 0, variance="learned_range")),
    ):
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(call)
