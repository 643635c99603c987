"""Optimizers as configs."""

import dataclasses
import math
from typing import Literal

import jax.numpy as jnp
import optax


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer with its learning-rate schedule."""

    name: Literal["adam", "adamw", "sgd", "nesterov", "adagrad"] = "adam"
    """the optax optimizer; "sgd" is heavy-ball momentum, "nesterov" its other form"""
    learning_rate: float = 1e-3
    """largest learning rate of the schedule"""
    schedule: Literal["constant", "cosine", "linear", "rounds", "goodfellow"] = "constant"
    """"cosine" and "linear" fall to zero at the last step; "rounds" is that of Burda et al. (2015); "goodfellow", for
    sgd, that of Goodfellow et al. (2014): the rate is divided by 1.000004 at each step, down to 1e-6, and from epoch 1
    to 250 the momentum rises linearly to 0.7"""
    rounds: int = 8
    """schedule "rounds": number of rounds; round i has 3^i times the steps of round 0, at learning_rate 10^(-i / 7)"""
    epoch_steps: int = 500
    """schedule "goodfellow": steps of an epoch"""
    warmup_steps: int = 0
    """steps over which the learning rate rises linearly from zero"""
    weight_decay: float = 0.0
    """decoupled for "adamw", L2 for the others; on kernels, not on biases"""
    momentum: float = 0.9
    """momentum of sgd and nesterov"""
    beta1: float = 0.9
    """adam and adamw: decay of the first moment"""
    epsilon: float = 1e-8
    """adam and adamw: added to the root of the second moment"""
    start_second_moment: float = 0.0
    """adam: the second moment before the first step"""
    scale: float = 1.0
    """factor of the gradient (Adam's epsilon and initial second moment depend on the gradient's scale)"""
    clip: float = 0.0
    """largest gradient norm; 0: no clipping"""

    def check(self, num_steps: int) -> list[str]:
        """What is wrong with these settings for a training of `num_steps` updates, one sentence each."""
        problems = []
        if self.learning_rate <= 0:
            problems.append(f"learning_rate is {self.learning_rate}; it must be positive")
        if min(self.weight_decay, self.clip, self.epsilon, self.start_second_moment) < 0:
            problems.append("weight_decay, clip, epsilon and start_second_moment must not be negative")
        for name, decay in (("momentum", self.momentum), ("beta1", self.beta1)):
            if not 0 <= decay < 1:
                problems.append(f"{name} is {decay}; it must be in [0, 1)")
        if not 0 <= self.warmup_steps <= num_steps:
            problems.append(
                f"warmup_steps is {self.warmup_steps}; it must be from 0 to num_steps = {num_steps}: where the "
                "training is shortened, shorten the warm-up too (--optimizer.warmup-steps)"
            )
        if self.schedule == "rounds" and self.rounds < 1:
            problems.append(f"rounds is {self.rounds}; it must be at least 1")
        if self.schedule == "goodfellow":
            defaults = Optimizer(self.name, self.learning_rate, self.schedule, momentum=self.momentum)
            if self.name != "sgd" or dataclasses.replace(self, epoch_steps=defaults.epoch_steps) != defaults:
                problems.append(
                    "schedule 'goodfellow' is for sgd with learning_rate, momentum and epoch_steps, "
                    "and nothing else set"
                )
            if self.epoch_steps < 1:
                problems.append(f"epoch_steps is {self.epoch_steps}; it must be at least 1")
        return problems


def build_optimizer(config: Optimizer, num_steps: int) -> optax.GradientTransformation:
    """The optimizer for a training of `num_steps` updates.

    Raises:
        ValueError: a rate that is not positive, a decay outside [0, 1), a negative number, or a warm-up longer than the
            training.
    """
    if problems := config.check(num_steps):
        raise ValueError("\n".join(problems))
    if config.schedule == "goodfellow":
        return _goodfellow(config)
    rate = optax.constant_schedule(config.learning_rate)
    if config.schedule == "rounds":
        rate = _rounds(config, num_steps)
    if config.schedule == "linear":
        rate = optax.linear_schedule(config.learning_rate, 0.0, max(num_steps - config.warmup_steps, 1))
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
    total = (3**config.rounds - 1) // 2
    ends = [num_steps * ((3**i - 1) // 2) // total for i in range(1, config.rounds)]
    rates = [optax.constant_schedule(config.learning_rate * 10 ** (-i / 7)) for i in range(config.rounds)]
    return optax.join_schedules(rates, ends)


def _goodfellow(config: Optimizer) -> optax.GradientTransformation:
    """delta <- m delta - lr g, W <- W + delta, m changing between epochs."""

    def momentum(step):
        epoch = (step // config.epoch_steps).astype(jnp.float32)
        return config.momentum + (0.7 - config.momentum) * jnp.clip((epoch - 1) / 249, 0, 1)

    def rate(step):
        # Not a power of 1 / 1.000004, of which float32 keeps two digits of what it differs from 1.
        decayed = config.learning_rate * jnp.exp(-math.log(1.000004) * step.astype(jnp.float32))
        return jnp.maximum(decayed, 1e-6)

    return optax.chain(optax.scale_by_learning_rate(rate), optax.inject_hyperparams(optax.trace)(decay=momentum))


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
