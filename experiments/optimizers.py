"""Optimizers as configs."""

import dataclasses
from typing import Literal

import optax


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What moves the parameters."""

    name: Literal["adam", "adamw", "sgd", "nesterov"] = "adam"
    """the optax optimizer; "sgd" is heavy-ball momentum, "nesterov" its other form"""
    learning_rate: float = 1e-3
    """peak"""
    schedule: Literal["constant", "cosine"] = "constant"
    """"cosine" falls to zero at the last step"""
    warmup_steps: int = 0
    """steps in which the rate rises linearly from zero"""
    weight_decay: float = 0.0
    """decoupled for "adamw", L2 for the others; on kernels, not on biases"""
    momentum: float = 0.9
    """of sgd and nesterov"""
    clip: float = 0.0
    """largest gradient norm; 0: any"""


def build(config: Optimizer, num_steps: int) -> optax.GradientTransformation:
    """The optimizer for a training of `num_steps` updates.

    Raises:
        ValueError: a rate that is not positive, or a warm-up longer than the training.
    """
    if config.learning_rate <= 0:
        raise ValueError(f"learning_rate is {config.learning_rate}; it must be positive")
    if not 0 <= config.warmup_steps <= num_steps:
        raise ValueError(f"warmup_steps is {config.warmup_steps}; it must be from 0 to num_steps = {num_steps}")
    rate = optax.constant_schedule(config.learning_rate)
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(config.learning_rate, max(num_steps - config.warmup_steps, 1))
    if config.warmup_steps:
        rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
        rate = optax.join_schedules([rise, rate], [config.warmup_steps])
    parts = [optax.clip_by_global_norm(config.clip)] if config.clip else []
    if config.name == "adamw":
        parts.append(optax.adamw(rate, weight_decay=config.weight_decay, mask=_kernels))
        return optax.chain(*parts)
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, _kernels))
    if config.name == "adam":
        parts.append(optax.adam(rate))
    else:
        parts.append(optax.sgd(rate, momentum=config.momentum, nesterov=config.name == "nesterov"))
    return optax.chain(*parts)


def _kernels(params):
    import jax

    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
