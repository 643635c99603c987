"""Normalised device coordinates: all of a forward-facing scene, to infinity, inside a cube (notes 5: rays)."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Float, Host, Real, takes
from jaxgen.nerf.cameras import RAYS, Camera, Rays
from jaxgen.nerf.checks import check_vectors, known


@takes(rays=RAYS, camera=Camera, near=Real())
def ndc_rays(rays: Rays, camera: Camera, near: float = 1.0) -> Rays:
    """Rays in the projective space of a camera at the origin that looks along -z; straight lines stay straight.

    The origin is moved to the plane z = -near, then o' and d' are such that t' in [0, 1] runs from that plane to
    infinity and equal steps of t' are equal steps of disparity: with t from the moved origin,
    o' + t' d' = project(o + t d) for t' = 1 - o_z / (o_z + t d_z). Then `near=0, far=1` are the bounds to sample in.
    Source: Mildenhall et al. (2020), appendix C.

    Args:
        rays: [..., 3], in a world where every d_z < 0 (after `recenter_poses`).
        camera: of it the focal lengths and the size. All rays of a scene need the same one (`reference_camera`),
            whichever camera they are of: otherwise a point of the world has several places.
        near: distance of the near plane, positive; nothing in front of it is seen. The authors scale scenes so that
            1 is right.

    Returns:
        rays [..., 3]; `view` is unchanged.

    Raises:
        ValueError: near is not positive, wrong shapes, or (outside of jit) a ray does not look along -z.
    """
    if not near > 0:
        raise ValueError(f"near is {near}; the near plane is at a positive distance")
    if known(rays.direction) and not (np.asarray(rays.direction)[..., 2] < 0).all():
        raise ValueError(
            "a ray does not run along -z: NDC is for forward-facing scenes, with poses recentred; "
            "for cameras all around, sample between near and far without NDC"
        )
    ox, oy, oz = jnp.moveaxis(rays.origin, -1, 0)
    dx, dy, dz = jnp.moveaxis(rays.direction, -1, 0)
    shift = -(near + oz) / dz
    ox, oy = ox + shift * dx, oy + shift * dy
    # On the plane z = -near by construction; so the third components are exactly -1 and 2.
    oz = jnp.full_like(oz, -near)
    number = lambda value: jnp.asarray(value, oz.dtype)
    scale_x, scale_y = (
        -2 * number(focal) / size for focal, size in ((camera.focal_x, camera.width), (camera.focal_y, camera.height))
    )
    origin = [scale_x * ox / oz, scale_y * oy / oz, jnp.full_like(oz, -1)]
    direction = [scale_x * (dx / dz - ox / oz), scale_y * (dy / dz - oy / oz), jnp.full_like(oz, 2)]
    return Rays(jnp.stack(origin, axis=-1), jnp.stack(direction, axis=-1), rays.view)


@takes(points=Float("... 3"), camera=Camera, near=Real(positive=True))
def ndc_project(points: ArrayLike, camera: Camera, near: float = 1.0) -> jax.Array:
    """Points in the same projective space: [..., 3] -> [..., 3], z = -near to -1 and z = -infinity to 1.

    (x, y, z) -> (-2 f_x / W x / z, -2 f_y / H y / z, 1 + 2 near / z).
    """
    check_vectors("points", points)
    x, y, z = jnp.moveaxis(points, -1, 0)
    number = lambda value: jnp.asarray(value, z.dtype)
    across = -2 * number(camera.focal_x) / camera.width * x / z
    down = -2 * number(camera.focal_y) / camera.height * y / z
    return jnp.stack([across, down, 1 + 2 * near / z], axis=-1)


@takes(intrinsics=Host("N 4"), size=Host("N 2", low=1), pixel_center=Real())
def reference_camera(intrinsics: np.ndarray, size: np.ndarray, pixel_center: float = 0.5) -> Camera:
    """The camera whose projective space all views of a scene share: the widest field of view along each axis.

    So all images, of whatever focal length and orientation, lie inside the cube. Where the views have one camera, it is
    that one.

    Args:
        intrinsics: [N, 4]: focal_x, focal_y, center_x, center_y in pixels.
        size: [N, 2], width and height of each view.
        pixel_center: as in `Camera`.

    Returns:
        a camera with the size of the first view.

    Raises:
        ValueError: no views, wrong shapes, or a size or focal length that is not positive.
    """
    if not len(size) or not (intrinsics[:, :2] > 0).all():
        raise ValueError(f"intrinsics of {len(size)} views; expected at least one, and positive focal lengths")
    width, height = (int(x) for x in size[0])
    views = [int(np.argmin(np.divide(intrinsics[:, i], size[:, i]))) for i in (0, 1)]
    focal_x, focal_y = (
        float(intrinsics[view, i]) * (own / int(size[view, i]))
        for i, (view, own) in enumerate(zip(views, (width, height), strict=True))
    )
    return Camera(width, height, focal_x, focal_y, width / 2, height / 2, pixel_center)
