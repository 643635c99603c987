"""Sampling of a class: classifier guidance and classifier-free guidance."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Int, Key, Real, takes
from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.reverse import Variance, split_output
from jaxgen.nn.random import given_or_drawn, per_example

Guidance = Callable[[jax.Array, jax.Array], jax.Array]
"""guidance(x_t [B, ...], original timesteps [B]) -> the gradient of a log probability with respect to x_t, [B, ...]."""


@takes(labels=Int("B"))
def classifier_guidance(
    classifier: Callable[[jax.Array, jax.Array], jax.Array],
    labels: ArrayLike,
    scale: ArrayLike,
    *,
    interval: tuple[float, float] | None = None,
) -> Guidance:
    """s grad_x log p(y | x_t), the `guidance` of `sample` and of the steps.

    An ancestral step adds variance x gradient to its mean (Dhariwal & Nichol 2021, algorithm 1); DDIM and DPM-Solver++
    shift eps by -sqrt(1 - alpha-bar) gradient (algorithm 2). Scale 0 is no guidance, 1 that of the model's own
    p(x | y), more sharpens the classifier.

    Args:
        classifier: (x_t [B, ...], original timesteps [B]) -> logits [B, K] of noisy images; trained on the same noise
            schedule as the network.
        labels: y, integers below K, [B].
        scale: s, a number or [B].
        interval: original timesteps (first, last), both included, at which there is guidance; None: everywhere. All
            timesteps of a call must be the same, as those of a sampler's step are.

    Raises:
        ValueError: the labels do not fit the logits, or an interval that is empty.
    """
    _check_interval(interval)

    def log_probability(x, t):
        logits = classifier(x, t)
        if logits.ndim != 2 or jnp.shape(labels) != logits.shape[:1]:
            raise ValueError(f"labels {jnp.shape(labels)} for logits {logits.shape}; expected [B] and [B, K]")
        chosen = check_labels(labels, logits.shape[1])
        log_p = jax.nn.log_softmax(logits, axis=-1)
        return jnp.take_along_axis(log_p, chosen[:, None], axis=1, mode="fill", fill_value=jnp.nan)[:, 0]

    def guidance(x, t):
        gradient = jax.grad(lambda x: jnp.sum(log_probability(x, t)))(x)
        s = jnp.asarray(scale, gradient.dtype)
        return (s.reshape(-1, *(1,) * (x.ndim - 1)) if s.ndim else s) * gradient

    if interval is None:
        return guidance
    return lambda x, t: jax.lax.cond(_inside(interval, t), guidance, lambda x, t: jnp.zeros_like(x), x, t)


@takes(labels=Int("B"), null_label=Count(0))
def classifier_free_guidance(
    network: Callable[[jax.Array, jax.Array, jax.Array], jax.Array],
    labels: ArrayLike,
    null_label: int,
    scale: float,
    *,
    interval: tuple[float, float] | None = None,
    variance: Variance = "fixed_large",
) -> Denoise:
    """unconditional + s (conditional - unconditional), as the `denoise` of a sampler.

    Scale 0 is the unconditional model, 1 the conditional one, more goes beyond; s = 1 + w in the paper's notation. Both
    are computed in one batch of 2 B. Any kind of prediction may be combined, because noise, x0, mean and v are affine
    in each other; a learned variance is the conditional model's.

    Sources: Ho & Salimans, "Classifier-Free Diffusion Guidance" (2022), equation 6; the interval: Kynkaanniemi et al.,
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models" (2024).

    Args:
        network: (x_t [N, ...], original timesteps [N], labels [N]) -> output [N, ...].
        labels: y, integers [B].
        null_label: the label that stands for none, see `drop_labels`.
        scale: s.
        interval: original timesteps (first, last), both included, at which there is guidance; elsewhere the conditional
            model is evaluated alone. None: everywhere.
        variance: as in `p_mean_variance`.

    Raises:
        ValueError: an interval that is empty.
    """
    labels = jnp.asarray(labels)
    _check_interval(interval)

    def guided(x, t):
        nothing = jnp.full_like(labels, null_label)
        both = network(jnp.concatenate([x, x]), jnp.concatenate([t, t]), jnp.concatenate([labels, nothing]))
        conditional, unconditional = jnp.split(both, 2)
        with_label, values = split_output(conditional, variance)
        without, _ = split_output(unconditional, variance)
        combined = without + jnp.asarray(scale, without.dtype) * (with_label - without)
        return combined if values is None else jnp.concatenate([combined, values], axis=-1)

    def denoise(x, t):
        if labels.shape != x.shape[:1]:
            raise ValueError(f"labels {labels.shape} for x {x.shape}; expected one for each example")
        if interval is None:
            return guided(x, t)
        return jax.lax.cond(_inside(interval, t), guided, lambda x, t: network(x, t, labels), x, t)

    return denoise


def _check_interval(interval: tuple[float, float] | None) -> None:
    if interval is not None and not interval[0] <= interval[1]:
        raise ValueError(f"the interval is {interval}; expected (first, last) with first <= last")


def _inside(interval: tuple[float, float], t: jax.Array) -> jax.Array:
    # All timesteps of a sampler's step are the same.
    return jnp.any((t >= interval[0]) & (t <= interval[1]))


@takes(keys=Key("B"), labels=Int("B"), rate=Real(), null_label=Count(0), uniforms=Float())
def drop_labels(
    keys: jax.Array | None, labels: ArrayLike, rate: float, null_label: int, *, uniforms: ArrayLike | None = None
) -> jax.Array:
    """Each label, or with probability `rate` the null label, so that one network learns both models.

    Source: Ho & Salimans (2022), algorithm 1. The network needs a class more than the data has: the null label, which
    is best the number of the data's classes.

    Args:
        keys: [B]; may be None where `uniforms` are given.
        labels: integers [B].
        rate: in [0, 1].
        null_label: the label that stands for none.
        uniforms: u in [0, 1), [B], in place of the draw: the null label where u < rate.

    Raises:
        ValueError: the rate is not a probability, uniforms that are not [B], or neither keys nor uniforms.
    """
    labels = jnp.asarray(labels)
    if not 0 <= rate <= 1:
        raise ValueError(f"the rate of dropping labels is {rate}; expected a probability")
    draw, dtype = per_example(jax.random.uniform), jnp.result_type(rate, float)
    u = given_or_drawn("uniforms", uniforms, keys, draw, labels.shape, dtype)
    return jnp.where(u < rate, jnp.full_like(labels, null_label), labels)


def check_labels(labels: ArrayLike, num_classes: int) -> jax.Array:
    """The labels [B], if they are integers from 0 to num_classes - 1; under jit only their dtype is seen.

    Raises:
        ValueError: they are not.
    """
    dtype = jnp.result_type(labels)
    if not jnp.issubdtype(dtype, jnp.integer):
        raise ValueError(f"labels have dtype {dtype}; expected integers")
    if not isinstance(labels, Tracer) and (values := np.asarray(labels)).size:
        lowest, highest = values.min(), values.max()
        if lowest < 0 or highest >= num_classes:
            raise ValueError(f"labels go from {lowest} to {highest}; expected 0 to {num_classes - 1}")
    return jnp.asarray(labels)
