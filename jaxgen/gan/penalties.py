"""Penalties on the discriminator's gradient with respect to its input, one value an example.

All have the signature that the update calls, `penalty(keys, critic, real, fake) -> [B]`. A critic maps [B, ...] to
logits [B], each from its own example alone (no batch statistics): then one backward pass of the sum has the gradient
of every example. They differentiate through that gradient, so training takes second derivatives of the critic.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Key, Real, takes
from jaxgen.nn.random import given_or_drawn

Critic = Callable[[jax.Array], jax.Array]
Penalty = Callable[[jax.Array, Critic, jax.Array, jax.Array], jax.Array]


@takes(keys=Key("B"), real=Float("B ..."), fake=Float("B ..."), target=Real(), uniforms=Float())
def gradient_penalty(
    keys: jax.Array | None,
    critic: Critic,
    real: ArrayLike,
    fake: ArrayLike,
    target: float = 1.0,
    *,
    uniforms: ArrayLike | None = None,
) -> jax.Array:
    """(|grad f(x_hat)| - 1)^2 with x_hat = e x + (1 - e) G(z), e ~ U(0, 1) (Gulrajani et al. 2017, WGAN-GP).

    The norm is exact, without a constant under its root; where it is 0, its own gradient is taken as 0.

    Args:
        keys: one for each example, [B]; may be None where `uniforms` are given.
        critic: [B, ...] -> [B].
        real: x, [B, ...].
        fake: G(z), of the same shape.
        target: the norm that is not penalised. 0 gives a zero-centred penalty between the two.
        uniforms: e in [0, 1), [B], in place of the draw.

    Returns:
        [B]. The paper weighs it by 10.

    Raises:
        ValueError: `uniforms` have another shape, or there are neither keys nor uniforms.
    """
    real, fake = jnp.asarray(real), jnp.asarray(fake)
    ones = (1,) * (real.ndim - 1)
    draw = lambda keys, _, dtype: jax.vmap(lambda key: jax.random.uniform(key, ones, dtype))(keys)
    share = given_or_drawn("uniforms", uniforms, keys, draw, real.shape[:1], real.dtype).reshape(-1, *ones)
    squares = squared_gradient(critic, share * real + (1 - share) * fake)
    return jnp.square(_root(squares) - target)


@takes(keys=Key("B"), real=Float("B ..."), scale=Real(low=0), target=Real(), noise=Float())
def dragan_penalty(
    keys: jax.Array | None,
    critic: Critic,
    real: ArrayLike,
    fake: ArrayLike | None,
    scale: float = 0.5,
    target: float = 1.0,
    *,
    noise: ArrayLike | None = None,
) -> jax.Array:
    """(|grad f(x + s e)| - 1)^2 with e ~ N(0, I): the critic's slope around the data alone.

    Source: Kodali, Abernethy, Hays & Kira, "On Convergence and Stability of GANs" (2017), equation 1, DRAGAN. Their
    code takes half the standard deviation of the batch for s; here s is given, so that an example's penalty does not
    depend on the others.

    Args:
        keys: one for each example, [B]; may be None where `noise` is given.
        critic: [B, ...] -> [B].
        real: x, [B, ...].
        fake: not used.
        scale: s, in the units of x, best about half the data's standard deviation.
        target: the norm that is not penalised.
        noise: e, the shape of x, in place of the draw.

    Returns:
        [B]. The paper weighs it by 10.

    Raises:
        ValueError: `noise` has another shape, or there are neither keys nor noise.
    """
    del fake
    real = jnp.asarray(real)
    draw = lambda keys, shape, dtype: jax.vmap(lambda key: jax.random.normal(key, shape[1:], dtype))(keys)
    near = real + scale * given_or_drawn("noise", noise, keys, draw, real.shape, real.dtype)
    return jnp.square(_root(squared_gradient(critic, near)) - target)


def _root(squares: jax.Array) -> jax.Array:
    """The root, whose gradient at 0 is taken as 0."""
    positive = squares > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, squares, 1)), 0)


@takes(real=Float("B ..."))
def r1_penalty(keys: jax.Array | None, critic: Critic, real: ArrayLike, fake: ArrayLike) -> jax.Array:
    """|grad f(x)|^2 / 2 at real examples (Mescheder, Geiger & Nowozin 2018): its weight is their gamma.

    With the original loss it makes training converge locally where plain simultaneous gradients circle.

    Args:
        keys: not used.
        critic: [B, ...] -> [B].
        real: x, [B, ...].
        fake: not used.

    Returns:
        [B].
    """
    del keys, fake
    return squared_gradient(critic, real) / 2


@takes(x=Float("B ..."))
def squared_gradient(critic: Critic, x: ArrayLike) -> jax.Array:
    """|grad f(x)|^2 of each example, x [B, ...] -> [B]: of the penalty of Mescheder et al. (2018)."""
    x = jnp.asarray(x)

    def total(x):
        logits = critic(x)
        if logits.shape != x.shape[:1]:
            raise ValueError(f"the critic returns shape {logits.shape} for {len(x)} examples; expected ({len(x)},)")
        return jnp.sum(logits)

    gradient = jax.grad(total)(x)
    return jnp.sum(jnp.square(gradient), axis=tuple(range(1, x.ndim)))
