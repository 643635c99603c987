"""Curves-like strokes: images of six degrees of freedom, made offline.

Hinton & Salakhutdinov (2006) train on curves "generated from three randomly chosen points in two
dimensions" and publish no generator. This recipe is calibrated on one of their numbers, the test
error of PCA with 18 components (5.90), so its results are 'curves-like', not theirs.
"""

import functools

import jax
import jax.numpy as jnp

SIDE = 28  # pixels
LOW, HIGH = 4.5, 22.5  # range of a control point's coordinates; pixel centres are at 0, 1, ..., 27
SAMPLES = 64  # points of the pen's path
PEN = 0.7  # standard deviation of the pen, pixels
BATCH = 1000  # images drawn at a time


def curves(key: jax.Array, num: int, dtype: jax.typing.DTypeLike = jnp.float32) -> jax.Array:
    """Strokes: I(x) = max_t exp(-|x - B(t)|^2 / (2 PEN^2)), with B a quadratic Bezier curve.

    B(t) = (1-t)^2 p_0 + 2 t (1-t) p_1 + t^2 p_2, with p_0, p_1, p_2 uniform on [LOW, HIGH]^2 and
    t = 0, 1/63, ..., 1. Image i is a function of (key, i).

    Args:
        key: scalar typed key.
        num: number of images.
        dtype: floating type of the images.

    Returns:
        [num, 28, 28] in [0, 1]; rows are y, columns are x.
    """
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(num, dtype=jnp.uint32))

    def draw(key: jax.Array) -> jax.Array:
        return stroke(jax.random.uniform(key, (3, 2), dtype, LOW, HIGH))

    return jax.lax.map(draw, keys, batch_size=BATCH)


def stroke(points: jax.Array) -> jax.Array:
    """The image of one curve: control points [3, 2] as (x, y) in pixels -> [28, 28] in [0, 1]."""
    t = jnp.linspace(0, 1, SAMPLES, dtype=points.dtype)
    basis = jnp.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2])  # [3, SAMPLES]
    # A sum, not a matrix product: its bits do not depend on the number of threads.
    x, y = jnp.sum(basis[:, None, :] * points[:, :, None], axis=0)
    pixel = jnp.arange(SIDE).astype(points.dtype)
    dx2 = (pixel[None, :] - x[:, None]) ** 2  # [SAMPLES, column]
    dy2 = (pixel[None, :] - y[:, None]) ** 2  # [SAMPLES, row]
    # max exp(-d^2 / 2 PEN^2) = exp(-min d^2 / 2 PEN^2): one exponential a pixel instead of 64.
    nearest = jnp.min(dy2[:, :, None] + dx2[:, None, :], axis=0)
    return jnp.exp(-nearest / (2 * PEN**2))
