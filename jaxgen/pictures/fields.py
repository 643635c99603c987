"""A probability over the plane, with points and rings on it."""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from jaxgen.pictures.files import Picture
from jaxgen.pictures.grids import upscale

_ONE, _ZERO, _INK = np.array([0x3F, 0x90, 0xDA]), np.array([0xE7, 0x63, 0x00]), np.array([30, 30, 30])


def probability_field(
    probability: Callable[[np.ndarray], ArrayLike],
    half: float,
    points: ArrayLike = (),
    rings: ArrayLike = (),
    *,
    resolution: int = 120,
    factor: int = 4,
) -> Picture:
    """A probability over the square [-half, half]^2: blue for 1, white for 1/2, orange for 0; y points up.

    Args:
        probability: float32 points [N, 2] -> [N], in [0, 1].
        half: half the side of the square.
        points: drawn as dots in dark orange, [P, 2]; those outside are left out.
        rings: drawn as circles, [R, 2].
        resolution: points along each side at which the probability is computed.
        factor: pixels along each side of one such point.

    Returns:
        uint8 [H, H, 3], H = resolution * factor.
    """
    points, rings = (np.asarray(places).reshape(-1, 2) for places in (points, rings))
    centre = (np.arange(resolution) + 0.5) / resolution * 2 - 1
    x, y = np.meshgrid(half * centre, -half * centre)
    at = np.stack([x, y], axis=-1).reshape(-1, 2).astype(np.float32)
    field = np.asarray(probability(at)).reshape(resolution, resolution, 1)
    # In steps, so that a GIF's 256 colours suffice.
    strength = np.round(np.abs(2 * field - 1) * 12) / 12 * 0.55
    picture = 255 + strength * (np.where(field > 0.5, _ONE, _ZERO) - 255.0)
    picture = upscale(np.rint(picture).astype(np.uint8), factor)

    size = resolution * factor
    rows, columns = np.mgrid[:size, :size]
    pixels = lambda places: ((places[:, ::-1] * [-1, 1]) / half + 1) / 2 * size  # [N, 2] -> rows, columns
    for row, column in pixels(rings):
        distance = np.hypot(rows + 0.5 - row, columns + 0.5 - column)
        picture[np.abs(distance - 9) < 1] = _INK
    offsets = np.stack(np.meshgrid([-1, 0, 1], [-1, 0, 1]), axis=-1).reshape(-1, 2)
    dots = (np.floor(pixels(points)).astype(int)[:, None] + offsets[None]).reshape(-1, 2)
    inside = np.all((dots >= 0) & (dots < size), axis=1)
    picture[tuple(dots[inside].T)] = _ZERO * 0.75
    return picture
