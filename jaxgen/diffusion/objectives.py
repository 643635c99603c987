"""L_simple, the bound without its weights (chapter 4 of the notes), and the losses of a learned variance."""

import math
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from jaxgen.diffusion.bound import vlb_term
from jaxgen.diffusion.decoder import Cdf
from jaxgen.diffusion.predictions import Prediction, check_prediction, mean_from_x0, v_from_noise_and_x0
from jaxgen.diffusion.process import add_noise
from jaxgen.diffusion.reverse import Variance, split_output
from jaxgen.diffusion.schedule import Schedule

LossKind = Literal["mse", "rescaled_mse", "kl", "rescaled_kl"]
LOSS_KINDS = ("mse", "rescaled_mse", "kl", "rescaled_kl")


class TrainingLoss(NamedTuple):
    """What `training_loss` found, [B] each.

    Attributes:
        loss: what is minimized.
        mse: `simple_loss`.
        vlb: the term of the bound of index t, bits for each dimension; its gradient does not reach the mean where the
            kind is "mse" or "rescaled_mse".
    """

    loss: jax.Array
    mse: jax.Array
    vlb: jax.Array


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


def training_loss(
    schedule: Schedule,
    model_output: jax.Array,
    x0: jax.Array,
    t: jax.Array | int,
    noise: jax.Array,
    *,
    kind: LossKind = "rescaled_mse",
    prediction: Prediction = "noise",
    variance: Variance = "learned_range",
    cdf: Cdf = "tanh",
) -> TrainingLoss:
    """The losses of Nichol & Dhariwal (2021) and Dhariwal & Nichol (2021), in their code's units.

    With L_t the term of the bound (`vlb_term`, not clipped) in bits for each dimension:

    "mse": L_simple, and where the variance is learned + L_t of the output whose prediction is held fixed.
    "rescaled_mse": likewise with T / 1000 L_t: the hybrid loss, L_simple + lambda L_vlb with lambda = 0.001 (Nichol &
    Dhariwal 2021, equation 16; L_vlb is T L_t on average over t).
    "kl": L_t. "rescaled_kl": T L_t, an estimate of the whole bound from one t: L_vlb, best with t from
    `sample_timesteps`.

    So only L_simple moves the mean under the first two. T is the schedule's own number of steps.

    Args:
        schedule: the schedule.
        model_output: the network's output for (add_noise(schedule, x0, t, noise), t), [B, ..., C], or [B, ..., 2 C]
            where the variance is learned.
        x0: images of 256 levels from -1 to 1, [B, ..., C].
        t: integers [B], or a scalar.
        noise: eps, [B, ..., C].
        kind: which loss.
        prediction: as in `p_mean_variance`.
        variance: as in `p_mean_variance`.
        cdf: of the decoder, "tanh" (the authors' approximation) or "exact".

    Raises:
        ValueError: an unknown kind, prediction, variance or cdf, or an output of another shape.
    """
    if kind not in LOSS_KINDS:
        raise ValueError(f"the kind of loss is {kind!r}; expected one of {', '.join(LOSS_KINDS)}")
    predicted, values = split_output(model_output, variance)
    mse = simple_loss(schedule, predicted, x0, t, noise, prediction=prediction)
    is_simple = kind in ("mse", "rescaled_mse")
    if is_simple and values is not None:
        model_output = jnp.concatenate([jax.lax.stop_gradient(predicted), values], axis=-1)
    x_t = add_noise(schedule, x0, t, noise)
    nats = vlb_term(schedule, model_output, x0, x_t, t, prediction=prediction, variance=variance, clip=False, cdf=cdf)
    vlb = nats / (math.prod(x0.shape[1:]) * math.log(2))
    if kind == "kl":
        return TrainingLoss(vlb, mse, vlb)
    if kind == "rescaled_kl":
        return TrainingLoss(schedule.num_steps * vlb, mse, vlb)
    if values is None:
        return TrainingLoss(mse, mse, jax.lax.stop_gradient(vlb))
    return TrainingLoss(mse + (vlb if kind == "mse" else vlb * (schedule.num_steps / 1000)), mse, vlb)
