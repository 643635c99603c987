"""From rays to colors: coarse and fine together, and whole images in chunks (Mildenhall et al. 2020)."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, Real, takes
from jaxgen.compiler import check_once
from jaxgen.nerf.cameras import RAYS, Camera, Rays, camera_rays
from jaxgen.nerf.checks import check_interval
from jaxgen.nerf.poses import check_poses
from jaxgen.nerf.quadrature import Composite, composite
from jaxgen.nerf.ray_sampling import importance_samples, midpoints, stratified_samples
from jaxgen.nn.random import given_or_drawn

Field = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
"""points [..., S, 3], unit directions of view [..., 3] -> rgb [..., S, 3], density [..., S]."""


class Rendering(NamedTuple):
    """Both images of some rays.

    Attributes:
        coarse: of the coarse field, at `coarse_t`.
        fine: of the fine field, at `fine_t`; None without one. The paper's images and numbers are of this one.
        coarse_t: [..., N_c].
        fine_t: [..., N_c + N_f], rising: both sets of samples.
    """

    coarse: Composite
    fine: Composite | None
    coarse_t: jax.Array
    fine_t: jax.Array | None

    @property
    def best(self) -> Composite:
        """The fine one, or the coarse one where there is no other."""
        return self.coarse if self.fine is None else self.fine


@takes(key=Key(""), noise_std=Real(low=0))
def network_field(
    network: nn.Module,
    params: Any,
    key: jax.Array | None = None,
    noise_std: float = 0.0,
    *,
    noise: ArrayLike | None = None,
) -> Field:
    """A network at given parameters, as a field.

    Args:
        network: e.g. `NeRF`.
        params: its parameters, a tree.
        key: scalar key of the noise, used up by one call of the field; None without `noise`: no noise.
        noise_std: standard deviation of the density's noise; the paper: 1 in training on real scenes, else 0.
        noise: standard normal, [..., S] as the points of the one call, in place of the draw; multiplied by
            `noise_std`.

    Raises:
        ValueError: when called, noise of another shape than the points.
    """

    def field(points, view):
        added = None
        if noise_std > 0 and not (key is None and noise is None):
            shape, draw = points.shape[:-1], jax.random.normal
            added = noise_std * given_or_drawn("noise", noise, key, draw, shape, points.dtype)
        output: Any = network.apply({"params": params}, points, view, added)
        return output

    return field


@takes(
    key=Key(""), rays=RAYS, near=Float("|...", numpy=True), far=Float("|...", numpy=True), num_coarse=Count(),
    num_fine=Count(0),
)  # fmt: skip
def render_rays(
    key: jax.Array | None,
    rays: Rays,
    near: Any,
    far: Any,
    coarse: Field,
    fine: Field | None = None,
    *,
    num_coarse: int = 64,
    num_fine: int = 128,
    background: Any = None,
    in_disparity: bool = False,
    half_end_bins: bool = False,
    infinite_last_interval: bool = True,
    uniforms: tuple[jax.Array | None, jax.Array | None] | None = None,
) -> Rendering:
    """N_c stratified samples through the coarse field; the fine field at these and N_f more where they saw something.

    Mildenhall et al. (2020), section 5.2. As in the authors' code the bins of the second draw are the midpoints
    between the coarse samples, with the weights of the inner ones.

    Args:
        key: scalar key; None without `uniforms`: all samples deterministic, as in evaluation.
        rays: [..., 3].
        near: where samples begin, a number or [...], in units of the rays' directions.
        far: where they end, likewise.
        coarse: the coarse field.
        fine: the fine field; None: coarse alone.
        num_coarse: N_c, at least 3.
        num_fine: N_f, at least 1 (with a fine field).
        background: as in `composite`: 1.0 for white; None for black.
        in_disparity: as in `stratified_samples`.
        half_end_bins: as in `stratified_samples`.
        infinite_last_interval: whether the last interval has no end (the paper), or ends at `far`.
        uniforms: of `stratified_samples` [..., N_c] and of `importance_samples` [..., N_f], in place of their draws. A
            part that is None is drawn from the key, or deterministic without one.

    Raises:
        ValueError: wrong shapes or numbers of samples, or (outside of jit) near >= far.
    """
    if fine is not None and num_coarse < 3:
        raise ValueError(f"num_coarse is {num_coarse}; the fine samples need bins between at least 3 coarse ones")
    check_interval(near, far, in_disparity)
    lead, dtype = rays.origin.shape[:-1], rays.origin.dtype
    near, far = (jnp.broadcast_to(jnp.asarray(bound, dtype), lead) for bound in (near, far))
    coarse_key, fine_key = (None, None) if key is None else jax.random.split(key)
    coarse_uniforms, fine_uniforms = (None, None) if uniforms is None else uniforms

    def see(field: Field, t: jax.Array) -> Composite:
        points = rays.origin[..., None, :] + t[..., None] * rays.direction[..., None, :]
        rgb, density = field(jnp.asarray(points), jnp.asarray(rays.view))
        return composite(rgb, density, t, rays.direction, background, far=None if infinite_last_interval else far)

    t = stratified_samples(
        coarse_key, near, far, num_coarse, in_disparity=in_disparity, half_end_bins=half_end_bins,
        uniforms=coarse_uniforms,
    )  # fmt: skip
    first = see(coarse, t)
    if fine is None:
        return Rendering(first, None, t, None)
    more = importance_samples(fine_key, midpoints(t), first.weights[..., 1:-1], num_fine, uniforms=fine_uniforms)
    both = jnp.sort(jnp.concatenate([t, more], axis=-1), axis=-1)
    return Rendering(first, see(fine, both), t, both)


Render = Callable[[Any, Rays], Any]
"""(params, rays [N, 3]) -> a tree of arrays [N, ...]."""


def render_image(
    render: Render, params: Any, camera: Camera, pose: Any, chunk: int = 4096, *, fill: bool = False
) -> Any:
    """A whole image, a chunk of rays at a time: memory is that of one chunk, and the results go to the host.

    Compiled once for each `render` and number of rays at a time: pass the same function object again, not a new
    lambda, and what changes (weights) as `params`.

    Args:
        render: (params, rays [N, 3]) -> a tree of arrays [N, ...], each ray by itself, e.g.
            `lambda params, rays: render_rays(None, rays, 2.0, 6.0, ...).best.color`.
        params: a tree of arrays.
        camera: the camera.
        pose: [4, 4] or [3, 4], OpenGL axes.
        chunk: rays at a time. The last chunk is filled up with copies of the last ray.
        fill: fills up also the only chunk of an image that has fewer pixels, so that images of all sizes share one
            program.

    Returns:
        the tree of `render`, as NumPy arrays [height, width, ...].

    Raises:
        ValueError: chunk is below 1, wrong shapes, or a pose that is not a rotation.
    """
    check_once()
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; expected at least 1 ray")
    if np.ndim(pose) != 2:
        raise ValueError(f"pose has shape {np.shape(pose)}; an image has one pose, [4, 4] or [3, 4]")
    check_poses(pose)
    pixels = camera.pixels().reshape(-1, 2)
    chunk = chunk if fill else min(chunk, len(pixels))
    # The size is static, and no ray depends on it.
    camera, shape = dataclasses.replace(camera, width=1, height=1), (camera.height, camera.width)
    parts = []
    for start in range(0, len(pixels), chunk):
        these = pixels[np.minimum(np.arange(start, start + chunk), len(pixels) - 1)]
        parts.append(jax.device_get(_render_pixels(render, params, camera, pose, these)))

    def whole(*arrays):
        rows = np.concatenate(arrays)[: len(pixels)]
        return rows.reshape(*shape, *rows.shape[1:])

    return jax.tree.map(whole, *parts)


@functools.partial(jax.jit, static_argnums=0)
def _render_pixels(render: Render, params: Any, camera: Camera, pose: Any, pixels: jax.Array) -> Any:
    return render(params, camera_rays(camera, jnp.asarray(pose), pixels))
