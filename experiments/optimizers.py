"""Optimizers as configs."""

import dataclasses
from typing import Literal

import optax


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """What moves the parameters."""

    name: Literal["adam", "adamw", "sgd", "nesterov", "adagrad"] = "adam"
    """the optax optimizer; "sgd" is heavy-ball momentum, "nesterov" its other form"""
    learning_rate: float = 1e-3
    """peak"""
    schedule: Literal["constant", "cosine", "rounds"] = "constant"
    """"cosine" falls to zero at the last step; "rounds" is that of Burda et al. (2015)"""
    rounds: int = 8
    """of the schedule "rounds": round i has 3^i times the steps of round 0, at the rate learning_rate * 10^(-i / 7)"""
    warmup_steps: int = 0
    """steps in which the rate rises linearly from zero"""
    weight_decay: float = 0.0
    """decoupled for "adamw", L2 for the others; on kernels, not on biases"""
    momentum: float = 0.9
    """of sgd and nesterov"""
    beta1: float = 0.9
    """adam and adamw: decay of the first moment"""
    epsilon: float = 1e-8
    """adam and adamw: added to the root of the second moment"""
    start_second_moment: float = 0.0
    """adam: the second moment before the first step"""
    scale: float = 1.0
    """the gradient is multiplied by this (Adam's epsilon and second moment are not free of scale)"""
    clip: float = 0.0
    """largest gradient norm; 0: any"""


def build(config: Optimizer, num_steps: int) -> optax.GradientTransformation:
    """The optimizer for a training of `num_steps` updates.

    Raises:
        ValueError: a rate that is not positive, a decay outside [0, 1), a negative number, or a warm-up longer than the
            training.
    """
    if config.learning_rate <= 0:
        raise ValueError(f"learning_rate is {config.learning_rate}; it must be positive")
    if min(config.weight_decay, config.clip, config.epsilon, config.start_second_moment) < 0:
        raise ValueError("weight_decay, clip, epsilon and start_second_moment must not be negative")
    for name, decay in (("momentum", config.momentum), ("beta1", config.beta1)):
        if not 0 <= decay < 1:
            raise ValueError(f"{name} is {decay}; it must be in [0, 1)")
    if not 0 <= config.warmup_steps <= num_steps:
        raise ValueError(f"warmup_steps is {config.warmup_steps}; it must be from 0 to num_steps = {num_steps}")
    rate = optax.constant_schedule(config.learning_rate)
    if config.schedule == "rounds":
        rate = _rounds(config, num_steps)
    if config.schedule == "cosine":
        rate = optax.cosine_decay_schedule(config.learning_rate, max(num_steps - config.warmup_steps, 1))
    if config.warmup_steps:
        rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
        rate = optax.join_schedules([rise, rate], [config.warmup_steps])
    parts = [optax.scale(config.scale)] if config.scale != 1 else []
    parts += [optax.clip_by_global_norm(config.clip)] if config.clip else []
    adam: dict = {"b1": config.beta1, "eps": config.epsilon}
    if config.name == "adamw":
        parts.append(optax.adamw(rate, weight_decay=config.weight_decay, mask=_kernels, **adam))
        return optax.chain(*parts)
    if config.weight_decay:
        parts.append(optax.add_decayed_weights(config.weight_decay, _kernels))
    if config.name == "adam":
        parts.append(_starting_at(optax.scale_by_adam(**adam), config.start_second_moment))
        parts.append(optax.scale_by_learning_rate(rate))
    elif config.name == "adagrad":
        parts.append(optax.adagrad(rate, initial_accumulator_value=0.0, eps=1e-8))
    else:
        parts.append(optax.sgd(rate, momentum=config.momentum, nesterov=config.name == "nesterov"))
    return optax.chain(*parts)


def _rounds(config: Optimizer, num_steps: int) -> optax.Schedule:
    """1, 3, 9, ... shares of the training at ever lower rates."""
    if config.rounds < 1:
        raise ValueError(f"rounds is {config.rounds}; it must be at least 1")
    total = (3**config.rounds - 1) // 2
    ends = [num_steps * ((3**i - 1) // 2) // total for i in range(1, config.rounds)]
    rates = [optax.constant_schedule(config.learning_rate * 10 ** (-i / 7)) for i in range(config.rounds)]
    return optax.join_schedules(rates, ends)


def _starting_at(adam: optax.GradientTransformation, second_moment: float) -> optax.GradientTransformation:
    """Adam whose second moment starts at this value instead of 0."""
    if not second_moment:
        return adam

    def init(params):
        state: optax.ScaleByAdamState = adam.init(params)  # type: ignore[assignment]
        return state._replace(nu=optax.tree.full_like(state.nu, second_moment))

    return optax.GradientTransformation(init, adam.update)


def _kernels(params):
    import jax

    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)
