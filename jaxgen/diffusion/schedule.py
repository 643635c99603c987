"""The tables of a noise schedule, and the lookup of their entries.

`t` is 0-based everywhere in this chapter: t = 0 is the papers' t = 1, the step between the data x_0 and the first noisy
x_1. So "x_t" of a function at index t is the papers' x_{t+1}, "x_prev" is one step nearer to the data, and at t = 0
x_prev is the data itself. Valid t are 0, ..., T - 1. Any other t is an error; under jit, where it is not
known, the entry is NaN.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import concrete
from jaxgen.arguments.values import array
from jaxgen.diffusion.betas import check_betas

_TABLES = (
    "betas",
    "log_betas",
    "alphas",
    "alphas_bar",
    "alphas_bar_prev",
    "one_minus_alphas_bar",
    "one_minus_alphas_bar_prev",
    "log_snr",
    "posterior_variance",
    "posterior_log_variance",
    "posterior_x0_coefficient",
    "posterior_xt_coefficient",
)


@partial(
    jax.tree_util.register_dataclass,
    data_fields=[*_TABLES, "timesteps"],
    meta_fields=["exact_betas", "exact_timesteps", "num_original_steps"],
)
@dataclass(frozen=True, eq=False)
class Schedule:
    """The noise schedule, as tables for the equations. Made by `make_schedule` or `respace`.

    A pytree, so it may be an argument of a compiled function. All tables were computed in float64 and then rounded.
    Schedules are equal where their betas, their original steps and the dtype of their tables are.

    Attributes:
        betas: beta_t, [T].
        log_betas: log beta_t, [T].
        alphas: alpha_t = 1 - beta_t, [T].
        alphas_bar: the product of alpha up to and with t, [T].
        alphas_bar_prev: the same one step earlier, 1 at t = 0, [T].
        one_minus_alphas_bar: the variance of q(x_t | x_0), [T].
        one_minus_alphas_bar_prev: the same one step earlier, 0 at t = 0, [T].
        log_snr: log of alphas_bar / one_minus_alphas_bar, [T].
        posterior_variance: beta-tilde_t, the variance of q(x_{t-1} | x_t, x_0), 0 at t = 0, [T].
        posterior_log_variance: its logarithm; at t = 0 that of beta-tilde_1 (of beta_0 where T = 1), as the authors'
            code has it, because the decoder of the data needs a width there. [T].
        posterior_x0_coefficient: of x_0 in the mean of q(x_{t-1} | x_t, x_0), [T].
        posterior_xt_coefficient: of x_t in it, [T].
        timesteps: the step of the original chain that each t stands for, [T], int32: t itself, unless respaced. This
            is the network's input.
        exact_betas: the bytes of beta in float64, from which `respace` starts.
        exact_timesteps: the bytes of `timesteps` in int64.
        num_original_steps: T of the original chain.
    """

    betas: jax.Array
    log_betas: jax.Array
    alphas: jax.Array
    alphas_bar: jax.Array
    alphas_bar_prev: jax.Array
    one_minus_alphas_bar: jax.Array
    one_minus_alphas_bar_prev: jax.Array
    log_snr: jax.Array
    posterior_variance: jax.Array
    posterior_log_variance: jax.Array
    posterior_x0_coefficient: jax.Array
    posterior_xt_coefficient: jax.Array
    timesteps: jax.Array
    # Bytes, because what is not an array must have a hash and an equality, and bytes keep theirs.
    exact_betas: bytes
    exact_timesteps: bytes
    num_original_steps: int

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.exact_betas) // 8

    def _identity(self) -> tuple:
        """All that the tables are computed from."""
        return self.exact_betas, self.exact_timesteps, self.num_original_steps, self.betas.dtype

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schedule) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())


def make_schedule(betas: np.ndarray, dtype: jax.typing.DTypeLike = jnp.float32) -> Schedule:
    """The tables of a chain with these betas [T].

    Args:
        betas: beta_t inside (0, 1), [T], best in float64 (`linear_betas`, `cosine_betas`, ...).
        dtype: of the tables. The equations round them once more, to the dtype of the images they meet.

    Raises:
        ValueError: T is 0, or a beta is outside (0, 1).
    """
    betas = check_betas(betas)
    return _tables(betas, np.arange(len(betas)), len(betas), dtype)


def exact_betas(schedule: Schedule) -> np.ndarray:
    """beta_t [T] in float64, also under jit."""
    return np.frombuffer(schedule.exact_betas, np.float64)


def exact_timesteps(schedule: Schedule) -> np.ndarray:
    """The original steps [T] in int64, also under jit."""
    return np.frombuffer(schedule.exact_timesteps, np.int64)


def exact_log_alphas_bar(schedule: Schedule) -> np.ndarray:
    """log alpha-bar_t [T] in float64, also under jit."""
    return np.cumsum(np.log1p(-exact_betas(schedule)))


def skip_steps(schedule: Schedule, kept: np.ndarray) -> Schedule:
    """The chain over the indices `kept` [T'] alone, rising and distinct, with the same alpha-bar at each of them.

    beta'_i = 1 - alpha-bar_i / alpha-bar of the step kept before.
    """
    log_alphas_bar = exact_log_alphas_bar(schedule)[kept]
    betas = -np.expm1(np.diff(log_alphas_bar, prepend=0.0))
    timesteps = exact_timesteps(schedule)[kept]
    return _tables(check_betas(betas), timesteps, schedule.num_original_steps, schedule.betas.dtype)


def _tables(betas: np.ndarray, timesteps: np.ndarray, num_original_steps: int, dtype) -> Schedule:
    # Through logarithms, so that neither alpha-bar near 0 nor 1 - alpha-bar near 0 loses digits.
    log_alphas_bar = np.cumsum(np.log1p(-betas))
    log_before = np.concatenate([[0.0], log_alphas_bar[:-1]])
    noise, noise_before = -np.expm1(log_alphas_bar), -np.expm1(log_before)
    variance = betas * noise_before / noise
    with_width = np.concatenate([variance[1:2] if len(betas) > 1 else betas, variance[1:]])
    tables = {
        "betas": betas,
        "log_betas": np.log(betas),
        "alphas": 1 - betas,
        "alphas_bar": np.exp(log_alphas_bar),
        "alphas_bar_prev": np.exp(log_before),
        "one_minus_alphas_bar": noise,
        "one_minus_alphas_bar_prev": noise_before,
        "log_snr": log_alphas_bar - np.log(noise),
        "posterior_variance": variance,
        "posterior_log_variance": np.log(with_width),
        "posterior_x0_coefficient": betas * np.exp(log_before / 2) / noise,
        "posterior_xt_coefficient": noise_before * np.sqrt(1 - betas) / noise,
    }
    return Schedule(
        **{name: jax.device_put(np.asarray(table, dtype)) for name, table in tables.items()},
        timesteps=jax.device_put(np.asarray(timesteps, np.int32)),
        exact_betas=betas.astype(np.float64).tobytes(),
        exact_timesteps=timesteps.astype(np.int64).tobytes(),
        num_original_steps=num_original_steps,
    )


def expand_dims_like(values: jax.Array, x: jax.Array) -> jax.Array:
    """values [...], one for each leading index of x [..., *features], with axes of size 1 so that the two broadcast."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


def gather(table: jax.Array, t: ArrayLike, x: jax.Array) -> jax.Array:
    """table[t] in the dtype of x, shaped to broadcast with x; where t is not an index of the table, NaN under jit.

    Args:
        table: [T].
        t: scalar, or integers [B] (any leading axes of x).
        x: [B, ...], floating point.

    Raises:
        ValueError: t is not made of integers, is (outside of jit) no index of the table, or is no match for x's leading
            axes; x is not floating point.
    """
    index: Any = array("t", t)
    if not jnp.issubdtype(index.dtype, jnp.integer):
        raise ValueError(f"t has dtype {index.dtype}; expected integers, the 0-based index into the schedule")
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x has dtype {x.dtype}; expected floating point, images scaled to [-1, 1]")
    if index.shape != x.shape[: index.ndim]:
        raise ValueError(f"t has shape {index.shape} and x {x.shape}; expected one t for each example, or a scalar")
    if concrete(index) and index.size and not (np.min(index) >= 0 and np.max(index) < len(table)):
        raise ValueError(
            f"t runs from {np.min(index)} to {np.max(index)}, and the schedule has 0 to {len(table) - 1}: "
            "t is 0-based, one less than in the papers"
        )
    values = table.at[jnp.asarray(index)].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    return expand_dims_like(values, x).astype(x.dtype)
