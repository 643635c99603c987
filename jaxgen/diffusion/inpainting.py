"""Inpainting with an unconditional model: the rest of an image, given its known pixels.

Source: Lugmayr et al., "RePaint" (2022), algorithm 1 and the resampling schedule of its section 4.2 and appendix.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Key, takes
from jaxgen.compiler import check_once
from jaxgen.diffusion.arguments import IMAGES
from jaxgen.diffusion.bound import Denoise
from jaxgen.diffusion.process import add_noise, q_step
from jaxgen.diffusion.random import keys_per_example, normal_per_example
from jaxgen.diffusion.sampler_options import ANCESTRAL, SamplerOptions
from jaxgen.diffusion.sampling import SamplerState, init_sampler, take_step
from jaxgen.diffusion.schedule import Schedule


@dataclasses.dataclass(frozen=True)
class Resampling:
    """How often inpainting goes back to more noise, which makes the unknown pixels fit the known ones.

    Attributes:
        jump_length: j, steps of noise that are added at once; 1: those of the paper's algorithm 1.
        num_resamples: r, how often each stretch of j steps is taken; 1: no resampling.

    Raises:
        ValueError: one of them is below 1.
    """

    jump_length: int = 10
    num_resamples: int = 10

    def __post_init__(self):
        if self.jump_length < 1 or self.num_resamples < 1:
            raise ValueError(
                f"jump_length is {self.jump_length} and num_resamples {self.num_resamples}; expected at least 1"
            )


def resampling_indices(num_steps: int, resampling: Resampling) -> np.ndarray:
    """The 0-based index of x after each step: from T - 1 down to -1, the data, with the jumps back up.

    Args:
        num_steps: T.
        resampling: jump length and number of resamplings.

    Returns:
        Integers [1 + number of steps]; neighbours differ by 1.
    """
    jump, repeats = resampling.jump_length, resampling.num_resamples - 1
    left = dict.fromkeys(range(0, num_steps - jump, jump), repeats)
    index, indices = num_steps - 1, [num_steps - 1]
    while index >= 0:
        index -= 1
        indices.append(index)
        if left.get(index, 0):
            left[index] -= 1
            indices += range(index + 1, index + jump + 1)
            index += jump
    return np.array(indices, np.int32)


@takes(key=Key("|B"), image=IMAGES, schedule=Schedule, x_last=IMAGES)
def inpaint(
    key: jax.Array,
    denoise: Denoise,
    image: ArrayLike,
    mask: ArrayLike,
    schedule: Schedule,
    *,
    resampling: Resampling = Resampling(),
    options: SamplerOptions = ANCESTRAL,
    x_last: ArrayLike | None = None,
    **changes: Any,
) -> jax.Array:
    """Samples whose known pixels are those of the image, by a model that was trained for whole images.

    After each step down, the known pixels are drawn from q(x_{t-1} | x_0). Between steps, x is brought back to more
    noise by q(x_t | x_{t-1}) and the steps are taken again, so that unknown pixels come to fit the known ones. With
    few resamplings the samples only approximate p(unknown | known). Sample i depends on (key, i) alone.

    Args:
        key: scalar key, or keys [B].
        denoise: (x [B, ...], original timesteps [B]) -> the network's output.
        image: x_0, in [-1, 1], [B, ...]; values at unknown pixels are not used.
        mask: bool, True where the image is known; of the image's shape, with 1 for axes that it does not depend on.
        schedule: the schedule, respaced or not; the paper takes 250 steps.
        resampling: jump length and number of resamplings.
        options: method, prediction, variance, guidance and the like; the method is "ancestral" or "ddim".
        x_last: x_T, [B, ...], in place of the draw.
        **changes: fields of `SamplerOptions` in place of those of `options`.

    Returns:
        [B, ...]: the image where the mask is True, samples elsewhere.

    Raises:
        ValueError: a mask of another dtype or shape, the method "dpm_solver", or the errors of `sample`.
    """
    check_once()
    options = dataclasses.replace(options, **changes)
    if options.method == "dpm_solver":
        raise ValueError(
            "the method is 'dpm_solver', which uses the step before; inpainting takes 'ancestral' or 'ddim'"
        )
    image = jnp.asarray(image)
    mask = mask if isinstance(mask, jax.Array) else np.asarray(mask)
    fits = mask.ndim == image.ndim and all(m in (1, n) for m, n in zip(mask.shape, image.shape, strict=False))
    if mask.dtype != bool or not fits:
        raise ValueError(
            f"the mask is {mask.dtype} {mask.shape}; expected bool, True where the image is known, of shape "
            f"{image.shape} or with 1 in place of some axes"
        )
    mask = jnp.asarray(mask)
    keys, x = init_sampler(key, image.shape, image.dtype, x_last)
    assert keys is not None
    indices = resampling_indices(schedule.num_steps, resampling)
    keys = keys_per_example(keys, len(image))

    def down(x: jax.Array, t: jax.Array, keys: jax.Array) -> jax.Array:
        pairs = jax.vmap(jax.random.split)(keys)
        state = SamplerState(x, jnp.zeros_like(x))
        unknown = take_step(options, schedule, denoise, state, t, pairs[:, 0], None, jnp.asarray(False)).x
        noised = add_noise(schedule, image, jnp.maximum(t - 1, 0), normal_per_example(pairs[:, 1], image))
        return jnp.where(mask, jnp.where(t == 0, image, noised), unknown).astype(x.dtype)

    def up(x: jax.Array, t: jax.Array, keys: jax.Array) -> jax.Array:
        return q_step(keys, schedule, x, t + 1).astype(x.dtype)

    def body(x: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]):
        number, t, is_up = step
        return jax.lax.cond(is_up, up, down, x, t, jax.vmap(jax.random.fold_in, (0, None))(keys, number)), None

    is_up = indices[1:] > indices[:-1]
    return jax.lax.scan(body, x, (jnp.arange(len(is_up)), jnp.asarray(indices[:-1]), jnp.asarray(is_up)))[0]
