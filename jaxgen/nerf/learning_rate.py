"""How the learning rate falls."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxgen.arguments import Count, Real, takes


@takes(first=Real(), last=Real(), num_steps=Count(-(2**31)), delay_factor=Real())
def decayed_rate(
    first: float,
    last: float,
    num_steps: int,
    delay_steps: int = 0,
    delay_factor: float = 1.0,
    *,
    cosine: bool = False,
) -> Callable[[Any], jax.Array]:
    """first (last / first)^(step / num_steps): exponential, as in the authors' code, with an optional slow start.

    In the first `delay_steps` it is multiplied by delay_factor + (1 - delay_factor) sin(pi/2 step / delay_steps), as in
    JaxNeRF, where it keeps thin scenes from going empty. After `num_steps` the exponential falls further.

    Args:
        first: at step 0, without the delay.
        last: at step `num_steps`.
        num_steps: steps from first to last, which may be more than are trained.
        delay_steps: 0: no delay.
        delay_factor: in (0, 1].
        cosine: falls along half a cosine instead, which stays high for longer and then stays at `last`.

    Returns:
        step (scalar) -> rate (scalar).

    Raises:
        ValueError: a rate or a number that is not positive, or a factor outside (0, 1].
    """
    if not (first > 0 and last > 0 and num_steps > 0 and delay_steps >= 0 and 0 < delay_factor <= 1):
        raise ValueError(
            f"rates {first} to {last} in {num_steps} steps, delayed by {delay_factor} for {delay_steps} steps: rates "
            "and num_steps must be positive, delay_steps 0 or more, delay_factor in (0, 1]"
        )

    def rate(step):
        step = jnp.asarray(step, jnp.float32)
        slow = 1.0
        if delay_steps:
            slow = delay_factor + (1 - delay_factor) * jnp.sin(0.5 * jnp.pi * jnp.clip(step / delay_steps, 0, 1))
        if cosine:
            return slow * (last + (first - last) * 0.5 * (1 + jnp.cos(jnp.pi * jnp.minimum(step / num_steps, 1))))
        return first * slow * jnp.exp(jnp.log(last / first) * step / num_steps)

    return rate
