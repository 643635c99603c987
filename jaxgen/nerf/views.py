"""Whole views of a trained field: color, depth and opacity of every pixel, without randomness.

Mildenhall et al. (2020), section 5.2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nerf.cameras import Camera, Rays, camera_rays
from jaxgen.nerf.memory import rays_at_once
from jaxgen.nerf.networks import NeRF
from jaxgen.nerf.rendering import network_field, render_image, render_rays
from jaxgen.nerf.scene import Scene


class RenderOutput(NamedTuple):
    """Rendered rays or pixels, arrays [N, ...] or [H, W, ...].

    Attributes:
        color: of the fine network, or of the coarse one if there is no other, [..., 3].
        coarse_color: of the coarse network, [..., 3].
        depth: sum of w t, along the axis of view, not divided by the opacity, [...].
        opacity: sum of w, [...].
    """

    color: Any
    coarse_color: Any
    depth: Any
    opacity: Any


RenderRays = Callable[[Any, Rays], RenderOutput]
"""((params, pose [4, 4], distortion [4, 5, 8 or 9]), rays [N, 3]) -> arrays [N, ...]."""

RenderView = Callable[..., RenderOutput]
"""(params, camera, pose [4, 4], distortion [4, 5, 8 or 9] of the lens or None) -> NumPy arrays [H, W, ...]."""


def ray_renderer(network: NeRF, scene: Scene, settings: dict[str, Any]) -> RenderRays:
    """A function that renders rays of a camera in a scene, all samples deterministic.

    Args:
        network: of both fields; parameters {"coarse": tree, "fine": tree}, or "coarse" alone.
        scene: its bounds, lenses and NDC.
        settings: keyword arguments of `render_rays`.
    """
    distorted = scene.test.distortion is not None or scene.train.distortion is not None

    def render(view: Any, rays: Rays) -> RenderOutput:
        params, pose, distortion = view
        rays = scene.field_rays(rays, pose, distortion if distorted else None)
        fields = [network_field(network, params[name]) for name in ("coarse", "fine") if name in params]
        found = render_rays(None, rays, scene.near, scene.far, *fields, **settings)
        return RenderOutput(found.best.color, found.coarse.color, found.best.depth, found.best.opacity)

    return render


def view_renderer(network: NeRF, scene: Scene, settings: dict[str, Any], chunk: int = 0) -> RenderView:
    """A function that renders whole images of any size with one compilation.

    Args:
        network: as in `ray_renderer`.
        scene: likewise.
        settings: keyword arguments of `render_rays`.
        chunk: rays at once, at most the pixels of the scene's largest view; 0: by the device's free memory. A pixel's
            bits depend on it, to rounding.
    """
    of_rays = ray_renderer(network, scene, settings)
    samples = settings["num_coarse"] + settings.get("num_fine", 0)
    views = scene.train, scene.test
    largest = max(int(v.sizes.prod(axis=1, dtype=np.int64).max()) for v in views)
    at_once = min(chunk or rays_at_once(samples, network.width), largest)
    straight = np.zeros(max(v.lens(0).shape[-1] for v in views), np.float32)

    def render(params: Any, camera: Camera, pose: Any, distortion: Any = None) -> RenderOutput:
        lens = straight.copy()
        if distortion is not None:
            lens[: len(distortion)] = distortion
        return render_image(of_rays, (params, pose, lens), camera, pose, at_once, fill=True)

    return render


def pixel_sampler(render: RenderRays, scene: Scene, i: int) -> Callable[[Any, jax.Array, jax.Array], RenderOutput]:
    """(params, keys [n], numbers [n]) -> pixels of a held-out view, each by its number; keys are not used.

    Pixels are counted along the rows, from the left end of the middle row on; after the last comes the first.

    Args:
        render: of `ray_renderer`.
        scene: the views.
        i: number of the held-out view.
    """
    camera, pose, lens = scene.test.camera(i, scene.pixel_center), scene.test.pose[i], scene.test.lens(i)

    def draw(params: Any, keys: jax.Array, numbers: jax.Array) -> RenderOutput:
        first, total = camera.height // 2 * camera.width, camera.height * camera.width
        pixel = (numbers.astype(jnp.int32) % total + first) % total
        chosen = jnp.stack([pixel % camera.width, pixel // camera.width], axis=-1)
        rays = camera_rays(camera, jnp.asarray(pose), chosen)
        return render((params, pose, lens), rays)

    return draw
