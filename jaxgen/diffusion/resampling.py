"""Timesteps drawn where the loss is large: importance sampling of t by the second moment of its recent losses.

Source: Nichol & Dhariwal (2021), section 3.3 and equation 18. The history is part of the training state, so a resumed
run goes on as if it had not stopped.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Int, Key, Real, takes
from jaxgen.nn.random import given_or_drawn, per_example


class LossHistory(NamedTuple):
    """The last losses of every timestep.

    Attributes:
        losses: [T, H]; entry (t, n mod H) is the n-th loss at t.
        counts: how many losses there were at each t, int32 [T].
    """

    losses: jax.Array | np.ndarray
    counts: jax.Array | np.ndarray


@takes(num_steps=Count(), length=Count())
def init_history(num_steps: int, length: int = 10) -> LossHistory:
    """An empty history of `length` losses for each of `num_steps` timesteps.

    Raises:
        ValueError: a number below 1.
    """
    if num_steps < 1 or length < 1:
        raise ValueError(f"{num_steps} timesteps with {length} losses each; expected at least 1 of both")
    return LossHistory(jnp.zeros((num_steps, length), jnp.float32), jnp.zeros(num_steps, jnp.int32))


@takes(history=LossHistory, uniform=Real(low=0, high=1))
def timestep_probabilities(history: LossHistory, uniform: float = 0.001) -> jax.Array:
    """p_t = (1 - uniform) sqrt(E[L_t^2]) / sum + uniform / T: [T]. Equal until every history is full.

    Args:
        history: of [T, H].
        uniform: share that does not depend on the losses, so that every t is drawn now and then.
    """
    num_steps, length = history.losses.shape
    moments = jnp.sqrt(jnp.mean(jnp.square(history.losses), axis=1))
    total = jnp.sum(moments)
    p = (1 - uniform) * moments / jnp.where(total > 0, total, 1) + uniform / num_steps
    ready = jnp.all(history.counts >= length) & (total > 0)
    return jnp.where(ready, p, 1 / num_steps)


@takes(keys=Key("B"), probabilities=Float("_", low=0), uniforms=Float())
def sample_timesteps(
    keys: jax.Array | None, probabilities: ArrayLike, *, uniforms: ArrayLike | None = None
) -> tuple[jax.Array, jax.Array]:
    """t ~ p and its weight 1 / (T p_t), with which mean(weight loss) estimates the mean of the loss over all t.

    Args:
        keys: [B]; example i depends on its own key alone. May be None where `uniforms` are given.
        probabilities: p, [T].
        uniforms: u in [0, 1), [B], in place of the draw: t is the first with p_0 + ... + p_t > u.

    Returns:
        t int32 [B], weights [B].

    Raises:
        ValueError: uniforms that are not [B], or neither keys nor uniforms.
    """
    probabilities = jnp.asarray(probabilities)
    if keys is not None:
        shape = keys.shape
    elif uniforms is not None:
        shape = np.shape(uniforms)[:1]
    else:
        raise ValueError("there are no keys and no uniforms; expected keys [B], or uniforms [B]")
    u = given_or_drawn("uniforms", uniforms, keys, per_example(jax.random.uniform), shape, probabilities.dtype)
    cumulative = jnp.cumsum(probabilities)
    t = jnp.searchsorted(cumulative, u * cumulative[-1], side="right").astype(jnp.int32)
    t = jnp.minimum(t, len(probabilities) - 1)
    return t, 1 / (len(probabilities) * probabilities[t])


@takes(history=LossHistory, t=Int("B"), losses=Float("B"))
def update_history(history: LossHistory, t: ArrayLike, losses: ArrayLike) -> LossHistory:
    """The history after the losses [B] at t [B], in their order: of a timestep, the last H are kept.

    Args:
        history: of [T, H].
        t: integers [B] of the whole batch, on however many devices.
        losses: before any weight, [B].
    """
    t, losses = jnp.asarray(t), jnp.asarray(losses)
    length = history.losses.shape[1]
    same = t[:, None] == t[None, :]
    before = jnp.sum(jnp.tril(same, -1), axis=1, dtype=jnp.int32)
    after = jnp.sum(jnp.triu(same, 1), axis=1, dtype=jnp.int32)
    # Where a timestep has more than H losses in one batch, the first are already forgotten.
    row = jnp.where(after < length, t, history.losses.shape[0])
    slot = (history.counts[t] + before) % length
    values = jax.lax.stop_gradient(losses).astype(history.losses.dtype)
    all_losses, counts = jnp.asarray(history.losses), jnp.asarray(history.counts)
    return LossHistory(all_losses.at[row, slot].set(values, mode="drop"), counts.at[t].add(1))


def observe_losses(history: Any, metrics: dict[str, jax.Array]) -> Any:
    """The history after a step, from its "timestep" and "unweighted_loss" [B]: for `training.update_from_objective`.

    Args:
        history: of [T, H].
        metrics: those of `denoising_objective` for the whole batch.
    """
    return update_history(history, metrics["timestep"], metrics["unweighted_loss"])
