"""From an objective, a loss and a key for each example, to an update of the state."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from .mean import Mean
from .state import TrainState

Tree = Any


class Context(NamedTuple):
    """What an objective may read besides parameters, batch and keys. It cannot change it.

    Attributes:
        step: int32 scalar, updates made so far.
        model_state: the state's `model_state`.
        statistics: averages over the global batch of what the objective's companion returned, or None.
    """

    step: jax.Array | np.ndarray | np.integer
    model_state: Any = None
    statistics: Any = None


Objective = Callable[[Tree, Tree, jax.Array, Context], tuple[jax.Array, dict[str, jax.Array]]]
Update = Callable[[TrainState, Tree, jax.Array, Mean], tuple[TrainState, dict[str, jax.Array]]]


def update_from_objective(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    statistics: Callable[[Tree, Tree, jax.Array, Context], Tree] | None = None,
    ema_decay: float | Callable[[jax.Array], jax.Array] | None = None,
    observe: Callable[[Tree, dict[str, jax.Array]], Tree] | None = None,
) -> Update:
    """Gradient descent on the mean of `objective` over the global batch.

    Args:
        objective: `loss(params, batch, keys, context) -> (losses [B], {name: [B]})`, one key and one value an example.
        optimizer: an optax transformation; its learning-rate schedule counts updates.
        statistics: for a loss of a batch statistic, `statistics(params, batch, keys, context) -> {name: [B, ...]}`.
            Its average over the global batch is taken first and handed to the objective as `context.statistics`; the
            objective then returns the exact linearisation for each example, so that any split of the batch gives the
            same gradient.
        ema_decay: decay of the moving average of the parameters, or a function of the step (`warm_up_decay`).
            The state must have been created with `ema=True`.
        observe: `observe(model_state, {name: [B]}) -> model_state`, for a state that follows what happened to examples,
            such as a history of losses: it is given the objective's metrics of every example of the global batch, in
            global order, after the step.

    Returns:
        `update(state, batch, keys, mean) -> (state, metrics)`; metrics: "loss", "gradient_norm" and the objective's.
    """

    def update(state: TrainState, batch: Tree, keys: jax.Array, mean: Mean):
        context = Context(state.step, state.model_state)
        if statistics is not None:

            def average(batch, keys, statistics=statistics, context=context):
                return jax.tree.map(lambda x: jnp.mean(x, axis=0), statistics(state.params, batch, keys, context))

            # The two passes draw the same noise on purpose.
            context = context._replace(statistics=mean(average, batch, jax.random.clone(keys)))

        def loss_and_gradient(batch, keys):
            def mean_loss(params):
                losses, metrics = objective(params, batch, keys, context)
                return jnp.mean(losses), (jax.tree.map(jnp.mean, metrics), metrics)

            (loss, (metrics, per_example)), gradient = jax.value_and_grad(mean_loss, has_aux=True)(state.params)
            averages = gradient, {"loss": loss, **metrics}
            return (averages, per_example) if observe is not None else averages

        model_state = state.model_state
        if observe is None:
            gradient, metrics = mean(loss_and_gradient, batch, keys)
        else:
            (gradient, metrics), per_example = mean(loss_and_gradient, batch, keys, has_aux=True)
            model_state = observe(model_state, mean.gather(per_example))
        with jax.numpy_dtype_promotion("standard"):  # optax mixes integer counts and floats
            changes, opt_state = optimizer.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, changes)
        ema = state.ema
        if ema_decay is not None:
            if ema is None:
                raise ValueError("ema_decay is set but the state has no ema: create_state(..., ema=True)")
            ema = average_parameters(ema, params, ema_decay, state.step)
        metrics["gradient_norm"] = optax.tree.norm(gradient)
        state = state.replace(step=state.step + 1, params=params, opt_state=opt_state, ema=ema, model_state=model_state)
        return state, metrics

    return update


def average_parameters(
    ema: Tree, params: Tree, decay: float | Callable[[jax.Array], jax.Array], step: ArrayLike
) -> Tree:
    """ema <- decay ema + (1 - decay) params, for trees of arrays; decay a number or a function of the step."""
    step = jnp.asarray(step)
    d = decay(step) if callable(decay) else decay
    return jax.tree.map(lambda e, p: e + (1.0 - jnp.asarray(d, e.dtype)) * (p - e), ema, params)


def warm_up_decay(decay: float) -> Callable[[jax.Array], jax.Array]:
    """min(decay, (1 + step) / (10 + step)): the average forgets the random start quickly."""

    def at(step):
        step = step.astype(jnp.float32)
        return jnp.minimum(decay, (1.0 + step) / (10.0 + step))

    return at
