"""Lenses that bend: OpenCV's radial and tangential distortion, perspective or fisheye, as COLMAP has them.

A lens is a vector of coefficients:

| length | coefficients | COLMAP's models |
|---|---|---|
| 4 | k1, k2, p1, p2 | SIMPLE_RADIAL, RADIAL, OPENCV |
| 5 | and k3 | |
| 8 | and k4, k5, k6 | FULL_OPENCV |
| 9 | and 1 for a fisheye, whose k1 to k4 bend the angle, or 0 | OPENCV_FISHEYE, (SIMPLE_)RADIAL_FISHEYE |

Source: OpenCV's documentation, "Camera Calibration and 3D Reconstruction" and "Fisheye camera model".
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, takes
from jaxgen.arguments.values import array
from jaxgen.nerf.cameras import RAYS, Camera, Rays
from jaxgen.nerf.checks import check_vectors
from jaxgen.nerf.poses import normalize

LENGTHS = (4, 5, 8, 9)
"""Numbers of coefficients that a lens may have."""
TOLERANCE = 0.01
"""Pixels by which a ray, distorted again, may miss its pixel."""


class _Lens(NamedTuple):
    """Radial polynomials (lowest power first) of r^2: numerator and denominator without their 1; p1, p2."""

    above: tuple[Any, ...]
    below: tuple[Any, ...]
    p1: Any
    p2: Any
    fisheye: Any


def _lens(coefficients: Any) -> _Lens:
    """The parts of [..., 4, 5, 8 or 9] coefficients."""
    number = coefficients.shape[-1] if coefficients.ndim else 0
    if number not in LENGTHS:
        raise ValueError(
            f"distortion has shape {coefficients.shape}; expected [..., 4] (k1, k2, p1, p2), [..., 5] (and k3), "
            "[..., 8] (and k4, k5, k6) or [..., 9] (and 1 for a fisheye)"
        )
    k1, k2, p1, p2, *rest = (coefficients[..., i] for i in range(number))
    k3 = rest[:1] or [0.0]
    k456 = tuple(rest[1:4])
    if number < 9:
        return _Lens((k1, k2, *k3), k456, p1, p2, 0.0)
    fisheye = rest[4]
    # The fourth coefficient of a fisheye is of theta^8; that of a perspective lens divides.
    return _Lens((k1, k2, *k3, fisheye * k456[0]), tuple((1 - fisheye) * k for k in k456), p1, p2, fisheye)


def _polynomial(coefficients: tuple[Any, ...], squared: Any) -> tuple[Any, Any]:
    """1 + c_1 s + c_2 s^2 + ..., and its derivative."""
    value, slope = 0.0, 0.0
    for c in reversed(coefficients):
        slope = slope * squared + value
        value = value * squared + c
    return 1 + value * squared, value + slope * squared


def _bend(x: Any, y: Any, lens: _Lens) -> tuple[Any, Any, Any, Any, Any]:
    """The distorted point, and the entries xx, xy, yy of the map's symmetric Jacobian. JAX and NumPy alike."""
    squared = x * x + y * y
    radial, slope = _polynomial(lens.above, squared)
    if lens.below:
        below, below_slope = _polynomial(lens.below, squared)
        radial, slope = radial / below, (slope - radial / below * below_slope) / below
    p1, p2 = lens.p1, lens.p2
    bent_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    bent_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
    across = radial + 2 * x * x * slope + 2 * p1 * y + 6 * p2 * x
    mixed = 2 * x * y * slope + 2 * p1 * x + 2 * p2 * y
    down = radial + 2 * y * y * slope + 6 * p1 * y + 2 * p2 * x
    return bent_x, bent_y, across, mixed, down


def _newton(x: Any, y: Any, goal: tuple[Any, Any], lens: _Lens) -> tuple[Any, Any, Any]:
    """A step of Newton's method towards the point whose image is `goal`, and the determinant where it began."""
    bent_x, bent_y, across, mixed, down = _bend(x, y, lens)
    away_x, away_y = goal[0] - bent_x, goal[1] - bent_y
    determinant = across * down - mixed * mixed
    # Where a lens folds there is no step; `check_lens` refuses such pixels.
    where = np.where if isinstance(determinant, np.ndarray) else jnp.where
    safe = where(abs(determinant) < 1e-9, 1e-9, determinant)
    return x + (down * away_x - mixed * away_y) / safe, y + (across * away_y - mixed * away_x) / safe, determinant


def _straighten(points: jax.Array, lens: _Lens, steps: int) -> jax.Array:
    """The inverse of `_bend`, [..., 2] -> [..., 2].

    Newton's method along the straight line from the middle of the image to the point, so that it stays on the branch
    of the lens that holds the middle; the second half of the steps is at the point itself.
    """
    x, y = points[..., 0], points[..., 1]

    def step(i, found):
        share = jnp.minimum(1, (i + 1) / max(steps // 2, 1)).astype(points.dtype)
        return _newton(found[0], found[1], (share * x, share * y), lens)[:2]

    return jnp.stack(jax.lax.fori_loop(0, steps, step, (jnp.zeros_like(x), jnp.zeros_like(y))), axis=-1)


def _coefficients(distortion: Any, points: jax.Array) -> jax.Array:
    distortion = jnp.asarray(distortion, points.dtype)
    return jnp.broadcast_to(distortion, (*points.shape[:-1], distortion.shape[-1] if distortion.ndim else 0))


def _length(points: jax.Array) -> jax.Array:
    """[..., 2] -> [...]; at the origin a tiny positive number, with a finite gradient."""
    squared = jnp.sum(jnp.square(points), axis=-1)
    return jnp.sqrt(jnp.where(squared > 1e-20, squared, 1e-20))


@takes(points=Float("... 2"))
def distort(points: ArrayLike, distortion: Any) -> jax.Array:
    """Where a lens puts a point of the ideal image, both (x / z, y / z) with y down: [..., 2] -> [..., 2].

    x' = x R + 2 p1 x y + p2 (r^2 + 2 x^2), y' likewise with p1 and p2 exchanged, and
    R = (1 + k1 r^2 + k2 r^4 + k3 r^6) / (1 + k4 r^2 + k5 r^4 + k6 r^6). In a fisheye, (x, y) is first brought to the
    length theta = atan(r), and R = 1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8.

    Args:
        points: [..., 2].
        distortion: coefficients, [..., 4, 5, 8 or 9] (`jaxgen.nerf.distortion`).

    Raises:
        ValueError: wrong shapes.
    """
    points = jnp.asarray(points)
    check_vectors("points", points, 2)
    lens = _lens(_coefficients(distortion, points))
    if not isinstance(lens.fisheye, float):
        radius = _length(points)
        points = points * jnp.where(lens.fisheye > 0.5, jnp.arctan(radius) / radius, 1)[..., None]
    return jnp.stack(_bend(points[..., 0], points[..., 1], lens)[:2], axis=-1)


@takes(points=Float("... 2"), steps=Count(0))
def undistort(points: ArrayLike, distortion: Any, steps: int = 24) -> jax.Array:
    """The inverse of `distort`: [..., 2] -> [..., 2], for points that a lens shows at less than 90 degrees.

    Newton's method, on the branch that holds the middle of the image. For a point beyond the radius at which a lens
    folds there is no inverse: `check_lens` finds such points.

    Args:
        points: distorted, [..., 2].
        distortion: coefficients, [..., 4, 5, 8 or 9].
        steps: of Newton's method, half of them on the way to the point.

    Raises:
        ValueError: wrong shapes.
    """
    points = jnp.asarray(points)
    check_vectors("points", points, 2)
    lens = _lens(_coefficients(distortion, points))
    straight = _straighten(points, lens, steps)
    if isinstance(lens.fisheye, float):
        return straight
    angle = _length(straight)
    return straight * jnp.where(lens.fisheye > 0.5, jnp.tan(angle) / angle, 1)[..., None]


@takes(rays=RAYS, pose=Float())
def undistort_rays(rays: Rays, pose: ArrayLike, distortion: Any) -> Rays:
    """The rays that a lens let through, from those that a pinhole would have: [..., 3] -> [..., 3].

    A perspective lens gives directions of length 1 along the axis of view, as `camera_rays` does, and a fisheye, which
    may see more than a half space, unit vectors: there t is the distance from the camera.

    Args:
        rays: of `camera_rays`, whose pixels are those of a photograph through the lens.
        pose: of the camera, [..., 4, 4], OpenGL axes; leading axes as those of the rays, or none.
        distortion: coefficients, [..., 4, 5, 8 or 9], likewise.

    Raises:
        ValueError: wrong shapes.
    """
    pose = jnp.asarray(pose)
    rotation = jnp.broadcast_to(pose[..., :3, :3], (*rays.direction.shape[:-1], 3, 3))
    # In the camera: (x, -y, -1) of OpenCV's (x, y, 1).
    seen = jnp.sum(rotation * rays.direction[..., :, None], axis=-2)
    signs = jnp.array([1, -1], seen.dtype).reshape(*(1,) * (seen.ndim - 1), 2)
    lens = _lens(_coefficients(distortion, seen))
    ideal = _straighten(seen[..., :2] * signs, lens, 24)
    ahead = jnp.ones_like(ideal[..., 0])
    if not isinstance(lens.fisheye, float):
        angle = _length(ideal)
        fisheye = lens.fisheye > 0.5
        ideal = ideal * jnp.where(fisheye, jnp.sin(angle) / angle, 1)[..., None]
        ahead = jnp.where(fisheye, jnp.cos(angle), ahead)
    straight = jnp.stack([ideal[..., 0], -ideal[..., 1], -ahead], axis=-1)
    direction = jnp.sum(rotation * straight[..., None, :], axis=-1)
    return Rays(rays.origin, direction, normalize(direction))


@takes(camera=Camera, distortion=Host(finite=False))
def check_lens(camera: Camera, distortion: Any, name: str = "the lens", mask: np.ndarray | None = None) -> None:
    """Raises ValueError unless every pixel of an image has one ray through the lens.

    The border and a grid of pixels are straightened in float64 and distorted again.

    Args:
        camera: intrinsics as numbers.
        distortion: coefficients, [4, 5, 8 or 9].
        name: the image, for the message.
        mask: bool [height, width]; pixels that are False do not matter. None: all matter.

    Raises:
        ValueError: coefficients that are not finite, or a lens that folds inside the image; the message gives the
            radius; or a mask of another shape than the image.
    """
    if mask is not None:
        mask = np.asarray(array("mask", mask), bool)
        if mask.shape != (camera.height, camera.width):
            raise ValueError(f"{name}: mask has shape {mask.shape}; expected {(camera.height, camera.width)}")
    lens = _lens(distortion)
    if not np.isfinite(distortion).all():
        raise ValueError(f"{name}: the distortion {distortion.tolist()} is not finite")
    if not distortion[:8].any() and not lens.fisheye:
        return
    x, y = _probes(camera.width, camera.height, mask).T + camera.pixel_center
    x, y = (x - camera.center_x) / camera.focal_x, (y - camera.center_y) / camera.focal_y
    at_x, at_y, single = np.zeros_like(x), np.zeros_like(y), np.ones(x.shape, bool)
    with np.errstate(all="ignore"):
        for share in np.concatenate([np.linspace(0, 1, 65)[1:], np.ones(16)]):
            at_x, at_y, determinant = _newton(at_x, at_y, (share * x, share * y), lens)
            single &= determinant > 0
        bent_x, bent_y, *_ = _bend(at_x, at_y, lens)
        miss = np.hypot((bent_x - x) * camera.focal_x, (bent_y - y) * camera.focal_y)
        wrong = ~(single & (miss < TOLERANCE)) | (lens.fisheye * np.hypot(at_x, at_y) >= np.pi)
    if wrong.any():
        focal = (camera.focal_x + camera.focal_y) / 2
        corner = np.hypot(x, y).max() * focal
        radius = min(_fold(lens), np.hypot(x, y)[wrong].min()) * focal
        kind = "fisheye " if lens.fisheye else ""
        raise ValueError(
            f"{name}: the {kind}lens with distortion {distortion.tolist()} folds {radius:.1f} pixels from the "
            f"principal point, and the image reaches {corner:.1f}: pixels beyond have no single ray. "
            "Undistort the images (e.g. COLMAP's image_undistorter), crop or mask them, or calibrate again"
        )


def _probes(width: int, height: int, mask: np.ndarray | None) -> np.ndarray:
    """(column, row) of the border and a grid, [P, 2]."""
    columns, rows = np.unique(np.linspace(0, width - 1, 25).round()), np.unique(np.linspace(0, height - 1, 25).round())
    parts = [(columns, np.arange(height)), (np.arange(width), rows)]
    pixels = np.concatenate([np.stack(np.meshgrid(*part), axis=-1).reshape(-1, 2) for part in parts]).astype(int)
    return pixels if mask is None else pixels[mask[pixels[:, 1], pixels[:, 0]]]


def _fold(lens: _Lens) -> float:
    """The distorted radius at which the radial part of a lens turns back, or infinity."""
    radius = np.linspace(0, np.pi if lens.fisheye else 20, 200_001)
    bent, _, across, _, _ = _bend(radius, np.zeros_like(radius), lens._replace(p1=0.0, p2=0.0))
    back = np.flatnonzero(~(across > 0))
    return float(bent[back[0]]) if len(back) else (float(bent[-1]) if lens.fisheye else np.inf)
