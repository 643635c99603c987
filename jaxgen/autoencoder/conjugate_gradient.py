"""Fine-tuning by conjugate gradients on large mini-batches, as Hinton & Salakhutdinov (2006) do it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxgen.arguments import Count, takes
from jaxgen.autoencoder.objectives import Loss


class _Context(NamedTuple):
    step: jax.Array
    model_state: Any
    statistics: Any = None


@takes(num_line_searches=Count(), max_evaluations=Count())
def conjugate_gradient_update(
    loss: Loss, num_line_searches: int = 3, max_evaluations: int = 20
) -> Callable[..., tuple[Any, dict[str, jax.Array]]]:
    """A few Polak-Ribiere steps on the mean loss of each batch, every step ended by a line search.

    d_0 = -g_0, d_k = -g_k + max(0, <g_k, g_k - g_{k-1}> / <g_{k-1}, g_{k-1}>) d_{k-1}; the step
    along d_k meets the strong Wolfe conditions with curvature 0.1. The paper's setting is 3 line
    searches on batches of 1,000. The noise of the loss (its keys) is the same in all evaluations.

    With the engine's exact shards the bits are the same on 2 and 4 devices; on one device XLA
    rounds the line search differently (seen: 3e-5 in a weight after four updates).

    Args:
        loss: loss(params, batch, keys, context) -> (losses [B], {name: [B]}).
        num_line_searches: steps a batch.
        max_evaluations: losses and gradients a line search may compute.

    Returns:
        update(state, batch, keys, mean) -> (state, metrics): "loss" and the loss's own metrics
        before the update, "loss_after", "gradient_norm". The optimizer of the state is not used.

    Raises:
        ValueError: a number below 1.
    """
    if min(num_line_searches, max_evaluations) < 1:
        raise ValueError(
            f"num_line_searches is {num_line_searches} and max_evaluations {max_evaluations}; both must be at least 1"
        )
    search = optax.scale_by_zoom_linesearch(
        max_evaluations, curv_rtol=0.1, increase_factor=3.0, initial_guess_strategy="one"
    )

    def update(state, batch, keys, mean):
        context = _Context(state.step, state.model_state)

        def evaluate(params):
            def f(batch, keys):
                def mean_loss(params):
                    losses, metrics = loss(params, batch, keys, context)
                    return jnp.mean(losses), jax.tree.map(jnp.mean, metrics)

                (value, metrics), gradient = jax.value_and_grad(mean_loss, has_aux=True)(params)
                return gradient, value, metrics

            return mean(f, batch, jax.random.clone(keys))

        # The line search differentiates `value`; what it must get is the averaged gradient.
        @jax.custom_vjp
        def value(params):
            return evaluate(params)[1]

        def forward(params):
            gradient, loss_value, _ = evaluate(params)
            return loss_value, gradient

        def backward(gradient, cotangent):
            return (jax.tree.map(lambda g: cotangent * g, gradient),)

        value.defvjp(forward, backward)

        def step(_, carry):
            params, loss_value, gradient, direction = carry
            slope = optax.tree.vdot(gradient, direction)
            # A first trial of about unit decrease, whatever the scale of the loss (Rasmussen).
            trial = jax.tree.map(lambda d: d / (1 - slope), direction)
            with jax.numpy_dtype_promotion("standard"):
                moves, search_state = search.update(
                    trial, search.init(params), params,
                    value=loss_value, grad=gradient, value_fn=value,
                )  # fmt: skip
            found: Any = search_state
            params, new = optax.apply_updates(params, moves), found.grad
            change = optax.tree.vdot(new, jax.tree.map(jnp.subtract, new, gradient))
            beta = jnp.maximum(0, change / optax.tree.vdot(gradient, gradient))
            conjugate = jax.tree.map(lambda g, d: -g + beta * d, new, direction)
            descends = jnp.less(optax.tree.vdot(new, conjugate), 0)
            direction = jax.tree.map(lambda c, g: jnp.where(descends, c, -g), conjugate, new)
            return params, found.value, new, direction

        gradient, before, metrics = evaluate(state.params)
        start = (state.params, before, gradient, jax.tree.map(jnp.negative, gradient))
        params, after, _, _ = jax.lax.fori_loop(0, num_line_searches, step, start)
        metrics |= {
            "loss": before,
            "loss_after": after,
            "gradient_norm": optax.tree.norm(gradient),
        }
        return state.replace(step=state.step + 1, params=params), metrics

    return update
