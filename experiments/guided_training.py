"""What a guided model is trained on: the losses of Nichol & Dhariwal (2021), with labels left out now and then."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from experiments import image_batches
from experiments.diffusion_chain import Chain
from experiments.guided_networks import Conditions, Denoiser
from jaxgen import diffusion, training


@dataclasses.dataclass(frozen=True)
class Process(Chain):
    """The chain, what the network says of it, and the loss."""

    variance: Literal["by_loss", "fixed_small", "fixed_large", "learned", "learned_range"] = "by_loss"
    """of p(x_{t-1} | x_t); "by_loss": "fixed_large" for the loss "simple", "learned_range" for the others"""
    loss: Literal["simple", "mse", "rescaled_mse", "kl", "rescaled_kl"] = "rescaled_mse"
    """"simple": L_simple; "rescaled_mse": L_hybrid; "rescaled_kl": L_vlb, the bound in bits/dim, best with
    --timesteps.sampler loss_second_moment; "mse" and "kl": with L_t unscaled, see `diffusion.training_loss`"""
    rescaled_timesteps: bool = False
    """the network sees 1000 t / T"""

    @property
    def p_variance(self) -> diffusion.Variance:
        """The variance of p."""
        if self.variance != "by_loss":
            return self.variance
        return "fixed_large" if self.loss == "simple" else "learned_range"

    @property
    def learned(self) -> bool:
        """Whether the network puts out a variance."""
        return self.p_variance in ("learned", "learned_range")

    @property
    def rescale(self) -> int:
        """Of `Denoiser`."""
        return self.steps if self.rescaled_timesteps else 0

    def check(self) -> None:
        """Raises ValueError where the loss does not train the variance."""
        if self.loss == "simple" and self.learned:
            raise ValueError(
                f"process.variance is {self.variance!r}, and process.loss 'simple' does not train it: set "
                "--process.loss rescaled_mse (the hybrid loss), or --process.variance fixed_large"
            )


@dataclasses.dataclass(frozen=True)
class Timesteps:
    """How the t of a training example is drawn."""

    sampler: Literal["uniform", "loss_second_moment"] = "uniform"
    """"loss_second_moment": where losses were large lately, with weights that make up for it"""
    history: int = 10
    """losses remembered of each t; t is uniform until all are there"""
    uniform: float = 0.001
    """share of the probability that does not depend on the losses"""

    def check(self) -> None:
        """Raises ValueError where nothing can be drawn so."""
        if self.history < 1 or not 0 < self.uniform <= 1:
            raise ValueError(
                f"timesteps.history is {self.history} and timesteps.uniform {self.uniform}; expected at least 1, and a "
                "share in (0, 1]"
            )

    def history_of(self, process: Process) -> diffusion.LossHistory | None:
        """What the state of a run remembers before its first step."""
        return diffusion.init_history(process.steps, self.history) if self.sampler != "uniform" else None


def objective(
    process: Process, timesteps: Timesteps, schedule: diffusion.Schedule, denoiser: Denoiser, conditions: Conditions
) -> training.Objective:
    """The loss of a config: a random t, noise, dropout and label for each example, from its own key.

    Metrics: the error of the prediction, on average over all t and of each quarter of them, and "bound", T L_t in
    bits/dim, which on average is the bound without L_T. With timesteps that are not uniform also "timestep" and
    "unweighted_loss", which `remember` reads.
    """
    kind = "mse" if process.loss == "simple" else process.loss
    uniform = timesteps.sampler == "uniform"

    def draw(keys, history):
        if not uniform:
            return diffusion.sample_timesteps(keys, diffusion.timestep_probabilities(history, timesteps.uniform))
        t = jax.vmap(lambda key: jax.random.randint(key, (), 0, schedule.num_steps))(keys)
        return t, jnp.ones(t.shape)

    def loss(params, batch, keys, context):
        x0 = batch["x"]
        four = jax.vmap(lambda key: jax.random.split(key, 4))(keys)
        t, weight = draw(four[:, 0], context.model_state)
        x_t, noise = diffusion.q_sample(four[:, 1], schedule, x0, t)
        told = conditions.given(x0, batch.get("label"))
        if conditions.null is not None:
            told["labels"] = diffusion.drop_labels(four[:, 3], told["labels"], conditions.dropout, conditions.null)
        if denoiser.network.dropout:
            told["keys"] = four[:, 2]
        output = denoiser.apply({"params": params}, x_t, schedule.timesteps[t], **told)
        found = diffusion.training_loss(
            schedule, output, x0, t, noise, kind=kind, prediction=process.prediction, variance=process.p_variance
        )
        error = weight * found.mse
        # Four times the error where t is in that quarter: on average, the quarter's mean.
        quarter = 4 * t // schedule.num_steps
        measured = {f"error_quarter_{i + 1}": jnp.where(quarter == i, 4 * error, 0) for i in range(4)}
        measured |= {"error": error, "bound": weight * schedule.num_steps * found.vlb}
        if not uniform:
            measured |= {"timestep": t, "unweighted_loss": found.loss}
        return weight * found.loss, measured

    return loss


def remember(history: Any, measured: dict[str, jax.Array]) -> Any:
    """The losses of a step, for the timesteps of the next: the `observe` of `training.update_from_objective`."""
    return diffusion.update_history(history, measured["timestep"], measured["unweighted_loss"])


def batches(
    images: image_batches.Images, batch_size: int, data: image_batches.Data, classes: int
) -> training.DeviceBatches | training.HostBatches:
    """`image_batches.batches`, where labels that come from disk are held to be below `classes` (0: any)."""
    made = image_batches.batches(images, batch_size, data.flip, data.workers)
    if not classes or isinstance(made, training.DeviceBatches):
        return made

    def read(key, step, positions):
        batch: Any = made.make(key, step, positions)
        check_labels(batch.get("label"), classes)
        return batch

    return dataclasses.replace(made, make=read)


def check_labels(labels: Any, classes: int) -> None:
    """Raises ValueError where labels [N] are missing, or are not from 0 to classes - 1."""
    if labels is None:
        raise ValueError(
            "the images have no labels: put them into one folder a class, or set --labels.no-conditional, "
            "--classifier.num-steps 0 and --guidance.kinds none"
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"labels go from {labels.min()} to {labels.max()}, outside the {classes} classes 0 to {classes - 1}: "
            "--labels.classes says how many there are"
        )


def fit(
    run: training.Run,
    settings: training.Settings,
    *,
    loss: training.Objective,
    optimizer: Any,
    params: Any,
    history: diffusion.LossHistory | None,
    ema_decay: float | Callable[[jax.Array], jax.Array],
    **more: Any,
) -> training.TrainState:
    """`training.fit` of a U-Net with the average of its parameters and, where it is given, the history of losses."""
    update = training.update_from_objective(
        loss, optimizer, ema_decay=ema_decay, observe=None if history is None else remember
    )
    state = training.create_state(params, optimizer, ema=True, model_state=history)
    return training.fit(run, settings, update=update, state=state, **more)
