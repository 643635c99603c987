"""What a training step changes, and all that a checkpoint holds."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxgen.compiler import check_once


class TrainState(struct.PyTreeNode):
    """The state of a run between two steps. It has no device axis, no key and no position in the data.

    Attributes:
        step: int32 scalar, the number of updates made.
        params: the trained parameters, a tree of arrays.
        opt_state: the optimizer's state.
        ema: exponential moving average of `params`, or None.
        model_state: what the model carries besides parameters (running statistics, histories), or None.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    ema: Any = None
    model_state: Any = None


def create_state(
    params: Any,
    optimizer: optax.GradientTransformation,
    *,
    ema: bool = False,
    model_state: Any = None,
) -> TrainState:
    """The state before the first step; with `ema`, the average starts at the parameters."""
    check_once()
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        # A copy: the parameters' own buffers are given away (donated) at the first step.
        ema=jax.tree.map(jnp.copy, params) if ema else None,
        model_state=model_state,
    )
