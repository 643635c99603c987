"""Training losses: L_simple (Ho et al. 2020), and those of a learned variance (Nichol & Dhariwal 2021)."""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Int, Key, Real, takes
from jaxgen.diffusion.arguments import IMAGES, OUTPUT
from jaxgen.diffusion.bound import vlb_term
from jaxgen.diffusion.decoder import Cdf
from jaxgen.diffusion.guidance import drop_labels
from jaxgen.diffusion.model import DiffusionModel
from jaxgen.diffusion.predictions import Prediction, check_prediction, mean_from_x0, v_from_noise_and_x0
from jaxgen.diffusion.process import add_noise, q_sample
from jaxgen.diffusion.resampling import sample_timesteps, timestep_probabilities
from jaxgen.diffusion.reverse import Variance, split_output
from jaxgen.diffusion.schedule import Schedule

LossKind = Literal["mse", "rescaled_mse", "kl", "rescaled_kl"]
LOSS_KINDS = ("mse", "rescaled_mse", "kl", "rescaled_kl")


class TrainingLoss(NamedTuple):
    """The result of `training_loss`, [B] each.

    Attributes:
        loss: what is minimized.
        mse: `simple_loss`.
        vlb: the term of the bound of index t, bits for each dimension; its gradient does not reach the mean where the
            kind is "mse" or "rescaled_mse".
    """

    loss: jax.Array
    mse: jax.Array
    vlb: jax.Array


@takes(schedule=Schedule, x0=IMAGES, noise=IMAGES)
def prediction_target(
    schedule: Schedule, x0: ArrayLike, t: ArrayLike, noise: ArrayLike, prediction: Prediction = "noise"
) -> jax.Array:
    """The target of a network with this kind of prediction at add_noise(schedule, x0, t, noise).

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
    x0, noise = jnp.asarray(x0), jnp.asarray(noise)
    check_prediction(prediction)
    if prediction == "mean":
        return mean_from_x0(schedule, x0, add_noise(schedule, x0, t, noise), t)
    if prediction == "v":
        return v_from_noise_and_x0(schedule, noise, x0, t)
    return noise if prediction == "noise" else x0


@takes(schedule=Schedule, model_output=OUTPUT, x0=IMAGES, noise=IMAGES)
def simple_loss(
    schedule: Schedule,
    model_output: ArrayLike,
    x0: ArrayLike,
    t: ArrayLike,
    noise: ArrayLike,
    *,
    prediction: Prediction = "noise",
) -> jax.Array:
    """|target - output|^2 / D: for noise L_simple of Ho et al. (2020), equation 14, at one t.

    The papers write the sum over dimensions; the authors' code takes the mean, for which their learning rates are.

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
    model_output, x0, noise = jnp.asarray(model_output), jnp.asarray(x0), jnp.asarray(noise)
    if model_output.shape != x0.shape:
        raise ValueError(
            f"an output of shape {model_output.shape} for x0 of shape {x0.shape}; expected the same shape "
            "(split_output takes a learned variance off)"
        )
    error = model_output - prediction_target(schedule, x0, t, noise, prediction)
    return jnp.mean(jnp.square(error), axis=tuple(range(1, x0.ndim)))


@takes(schedule=Schedule, model_output=OUTPUT, x0=IMAGES, noise=IMAGES, bound_weight=Real())
def training_loss(
    schedule: Schedule,
    model_output: ArrayLike,
    x0: ArrayLike,
    t: ArrayLike,
    noise: ArrayLike,
    *,
    kind: LossKind = "rescaled_mse",
    prediction: Prediction = "noise",
    variance: Variance = "learned_range",
    cdf: Cdf = "tanh",
    bound_weight: float = 0.001,
) -> TrainingLoss:
    """The losses of Nichol & Dhariwal (2021) and Dhariwal & Nichol (2021), in their code's units.

    With L_t the term of the bound (`vlb_term`, not clipped) in bits for each dimension:

    "mse": L_simple, and where the variance is learned + L_t of the output whose prediction is held fixed.
    "rescaled_mse": likewise with lambda T L_t: the hybrid loss, L_simple + lambda L_vlb (Nichol & Dhariwal 2021,
    equation 16; L_vlb is T L_t on average over t).
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
        bound_weight: lambda of "rescaled_mse".

    Raises:
        ValueError: an unknown kind, prediction, variance or cdf, or an output of another shape.
    """
    model_output, x0, noise = jnp.asarray(model_output), jnp.asarray(x0), jnp.asarray(noise)
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
    return TrainingLoss(mse + (vlb if kind == "mse" else vlb * (schedule.num_steps * bound_weight)), mse, vlb)


def denoising_objective(
    model: DiffusionModel,
    kind: LossKind = "mse",
    *,
    bound_weight: float = 0.001,
    label_dropout: float = 0.0,
    uniform_share: float | None = None,
) -> Callable[[Any, dict[str, jax.Array], jax.Array, Any], tuple[jax.Array, dict[str, jax.Array]]]:
    """The loss of a network's parameters on a batch of clean images, for `training.train`.

    Each example has a random t, noise, dropout and label drop of its own, from its own key.

    Args:
        model: the network, and what its output means.
        kind: the loss, see `training_loss`.
        bound_weight: of "rescaled_mse", see `training_loss`.
        label_dropout: share of the labels that are replaced by the model's null label.
        uniform_share: None: t is uniform. A number: t is drawn by `timestep_probabilities(history, uniform_share)`,
            with weights that keep the loss unbiased; the history is `context.model_state`.

    Returns:
        `loss(params, batch, keys, context) -> (losses [B], metrics)` for a batch {"x": [B, H, W, C], "label": [B]}.
        Metrics, [B] each: "error", the mean squared error, and "error_quarter_1" to "error_quarter_4", which on average
        are its means over quarters of the timesteps; where the bound is part of the loss also "bound", T L_t in bits
        for each dimension; where t is not uniform also "timestep" and "unweighted_loss", for `observe_losses`.
    """
    schedule, dropout = model.schedule, getattr(model.network, "dropout", 0.0)
    has_bound = kind != "mse" or model.variance in ("learned", "learned_range")

    def draw_timesteps(keys: jax.Array, history: Any) -> tuple[jax.Array, jax.Array | None]:
        if uniform_share is not None:
            return sample_timesteps(keys, timestep_probabilities(history, uniform_share))
        return jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(keys), None

    @takes(batch={"x": IMAGES, "label": Int("B")}, keys=Key("B"))
    def loss(params: Any, batch: dict[str, jax.Array], keys: jax.Array, context: Any):
        x0 = batch["x"]
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        t_keys, noise_keys, dropout_keys, label_keys = (four[:, i] for i in range(4))
        t, weight = draw_timesteps(t_keys, context.model_state)
        weighted = lambda values: values if weight is None else weight * values
        x_t, noise = q_sample(noise_keys, schedule, x0, t)
        cond = model.conditioning(x0, batch.get("label"))
        if label_dropout and model.null_label is not None:
            cond["labels"] = drop_labels(label_keys, cond["labels"], label_dropout, model.null_label)
        output = model.apply(params, x_t, schedule.timesteps[t], **cond, keys=dropout_keys if dropout else None)
        found = training_loss(
            schedule, output, x0, t, noise, kind=kind, prediction=model.prediction, variance=model.variance,
            bound_weight=bound_weight,
        )  # fmt: skip
        error = weighted(found.mse)
        metrics = {"error": error, **by_quarter("error", error, t, schedule.num_steps)}
        if has_bound:
            metrics["bound"] = weighted(schedule.num_steps * found.vlb)
        if weight is not None:
            metrics |= {"timestep": t, "unweighted_loss": found.loss}
        return weighted(found.loss), metrics

    return loss


def by_quarter(name: str, values: jax.Array, t: jax.Array, num_steps: int) -> dict[str, jax.Array]:
    """{"NAME_quarter_1": ..., "NAME_quarter_4": ...}: four times the values [B] where t [B] is in that quarter, else 0.

    For uniform t these are on average the means over each quarter of the timesteps.
    """
    quarter = 4 * t // num_steps
    return {f"{name}_quarter_{i + 1}": jnp.where(quarter == i, 4 * values, 0) for i in range(4)}
