"""L_simple: the bound without its weights (chapter 4 of the notes, "training")."""

import jax
import jax.numpy as jnp

from jaxgen.diffusion.predictions import Prediction, check_prediction, mean_from_x0, v_from_noise_and_x0
from jaxgen.diffusion.process import add_noise
from jaxgen.diffusion.schedule import Schedule


def prediction_target(
    schedule: Schedule, x0: jax.Array, t: jax.Array | int, noise: jax.Array, prediction: Prediction = "noise"
) -> jax.Array:
    """What a network of this kind should have put out for add_noise(schedule, x0, t, noise).

    Args:
        schedule: the schedule.
        x0: [B, ...].
        t: integers [B], or a scalar.
        noise: eps, [B, ...].
        prediction: "noise", "x0", "mean" or "v".

    Returns:
        [B, ...].

    Raises:
        ValueError: an unknown prediction.
    """
    check_prediction(prediction)
    if prediction == "mean":
        return mean_from_x0(schedule, x0, add_noise(schedule, x0, t, noise), t)
    if prediction == "v":
        return v_from_noise_and_x0(schedule, noise, x0, t)
    return noise if prediction == "noise" else x0


def simple_loss(
    schedule: Schedule,
    model_output: jax.Array,
    x0: jax.Array,
    t: jax.Array | int,
    noise: jax.Array,
    *,
    prediction: Prediction = "noise",
) -> jax.Array:
    """|target - output|^2 / D: for noise the notes' L_t^simple, Ho et al. (2020), equation 14.

    The papers write the sum over dimensions; the authors' code takes the mean, and their learning rates go with it.

    Args:
        schedule: the schedule.
        model_output: the network's output for (add_noise(schedule, x0, t, noise), t), [B, ...]; where the variance is
            learned, the first part of `split_output`.
        x0: [B, ...].
        t: integers [B], or a scalar.
        noise: eps, [B, ...].
        prediction: "noise", "x0", "mean" or "v".

    Returns:
        [B].

    Raises:
        ValueError: an unknown prediction, or an output of another shape than x0.
    """
    if model_output.shape != x0.shape:
        raise ValueError(
            f"an output of shape {model_output.shape} for x0 of shape {x0.shape}; expected the same shape "
            "(split_output takes a learned variance off)"
        )
    error = model_output - prediction_target(schedule, x0, t, noise, prediction)
    return jnp.mean(jnp.square(error), axis=tuple(range(1, x0.ndim)))
