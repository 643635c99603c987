"""p_theta(x_{t-1} | x_t): the network's output read as a Gaussian (Ho et al. 2020; Nichol & Dhariwal 2021)."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.diffusion.arguments import IMAGES, OUTPUT
from jaxgen.diffusion.predictions import Prediction, convert, mean_from_x0
from jaxgen.diffusion.schedule import Schedule, expand_dims_like, gather

Variance = Literal["fixed_small", "fixed_large", "learned", "learned_range"]
VARIANCES = ("fixed_small", "fixed_large", "learned", "learned_range")

EditX0 = Callable[[jax.Array, jax.Array], jax.Array]
"""edit(x0 [B, ...], t [B] or scalar, 0-based) -> x0 [B, ...], before clipping."""


class PMeanVariance(NamedTuple):
    """p_theta(x_{t-1} | x_t).

    Attributes:
        mean: [B, ...].
        variance: sigma_t^2, shaped to broadcast with the mean: [B, 1, ...] where fixed, [B, ...] where learned; 0 at
            t = 0 where it is "fixed_small".
        log_variance: its logarithm, of the same shape, finite at t = 0, see `log_variance`.
        x0: the x_0 that the network predicts, edited and clipped, [B, ...].
    """

    mean: jax.Array
    variance: jax.Array
    log_variance: jax.Array
    x0: jax.Array


@takes(model_output=Float("... _"))
def split_output(model_output: ArrayLike, variance: Variance) -> tuple[jax.Array, jax.Array | None]:
    """The prediction and, where it is learned, the network's values for the variance.

    Args:
        model_output: [..., C], or [..., 2 C] where the variance is learned: first all channels of the prediction.
        variance: its kind.

    Returns:
        [..., C], and [..., C] or None.

    Raises:
        ValueError: an unknown variance, or an odd number of channels to be halved.
    """
    model_output = jnp.asarray(model_output)
    if variance not in VARIANCES:
        raise ValueError(f"variance is {variance!r}; expected one of {', '.join(VARIANCES)}")
    if variance in ("fixed_small", "fixed_large"):
        return model_output, None
    if model_output.shape[-1] % 2:
        raise ValueError(
            f"variance is {variance!r}, but the output has {model_output.shape[-1]} channels; expected two of "
            "equal size: the prediction, then the variance"
        )
    prediction, values = jnp.split(model_output, 2, axis=-1)
    return prediction, values


def log_variance(
    schedule: Schedule, values: jax.Array | None, x_t: jax.Array, t: ArrayLike, variance: Variance
) -> jax.Array:
    """log sigma_t^2 of p_theta(x_{t-1} | x_t).

    "fixed_small": beta-tilde_t, right for data that is a single point. "fixed_large": beta_t, right for data that is
    N(0, I) (Ho et al. 2020, section 3.2). Both take beta-tilde_1 at t = 0. "learned": the network's value itself.
    "learned_range": the network's value v, in [-1, 1] in a trained network but not clipped, goes from log beta-tilde_t
    to log beta_t (Nichol & Dhariwal 2021, equation 15, with (v + 1) / 2 for v as in their code).

    Args:
        schedule: the schedule.
        values: the network's, [B, ..., C], where the variance is learned.
        x_t: [B, ..., C].
        t: integers [B], or a scalar.
        variance: one of the four.

    Returns:
        [B, 1, ...] where fixed, [B, ..., C] where learned.

    Raises:
        ValueError: values that are missing or of another shape than x_t.
    """
    smallest = gather(schedule.posterior_log_variance, t, x_t)
    if variance == "fixed_small":
        return smallest
    largest = gather(schedule.log_betas, t, x_t)
    if variance == "fixed_large":
        return jnp.where(expand_dims_like(jnp.asarray(t), x_t) == 0, smallest, largest)
    if values is None or values.shape != x_t.shape:
        found = "no values" if values is None else f"values of shape {values.shape}"
        raise ValueError(f"variance is {variance!r} with {found} for x_t of shape {x_t.shape}; expected that shape")
    if variance == "learned":
        return values
    share = (values + 1) / 2
    return share * largest + (1 - share) * smallest


@takes(schedule=Schedule, model_output=OUTPUT, x_t=IMAGES)
def p_mean_variance(
    schedule: Schedule,
    model_output: ArrayLike,
    x_t: ArrayLike,
    t: ArrayLike,
    *,
    prediction: Prediction = "noise",
    variance: Variance = "fixed_large",
    clip: bool = True,
    edit_x0: EditX0 | None = None,
) -> PMeanVariance:
    """Mean and variance of p_theta(x_{t-1} | x_t) from what a network put out for (x_t, t).

    The mean is the posterior mean of the predicted x_0, so editing or clipping that moves the mean. With
    prediction="mean" the output is the mean as it stands, and only the x_0 beside it is edited and clipped, as in the
    authors' code. Source: Ho et al. (2020), section 3.2, and equation 11 where nothing is clipped.

    Args:
        schedule: the schedule.
        model_output: [B, ..., C], or [B, ..., 2 C] where the variance is learned.
        x_t: [B, ..., C].
        t: integers [B], or a scalar.
        prediction: what the output is: "noise", "x0", "mean" or "v".
        variance: "fixed_small", "fixed_large", "learned" or "learned_range", see `log_variance`.
        clip: holds the predicted x_0 in [-1, 1]: for sampling and evaluation; training leaves it.
        edit_x0: changes the predicted x_0 before it is clipped.

    Raises:
        ValueError: an unknown prediction or variance, or an output that does not fit x_t.
    """
    x_t = jnp.asarray(x_t)
    predicted, values = split_output(model_output, variance)
    x0 = convert(schedule, predicted, x_t, t, prediction, "x0")
    if edit_x0 is not None:
        x0 = edit_x0(x0, jnp.asarray(t))
    if clip:
        x0 = jnp.clip(x0, -1, 1)
    mean = predicted if prediction == "mean" else mean_from_x0(schedule, x0, x_t, t)
    log_sigma2 = log_variance(schedule, values, x_t, t, variance)
    # At t = 0 beta-tilde is 0. Only the logarithm takes beta-tilde_1 there.
    sigma2 = gather(schedule.posterior_variance, t, x_t) if variance == "fixed_small" else jnp.exp(log_sigma2)
    return PMeanVariance(mean, sigma2, log_sigma2, x0)
