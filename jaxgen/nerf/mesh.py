"""A surface of a density: marching cubes on a grid, colors from the field, and a PLY file."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.nerf.films import similarity_parts
from jaxgen.nerf.rendering import Field

Density = Callable[[jax.Array], jax.Array]
"""points [N, 3] -> density [N]."""


class Mesh(NamedTuple):
    """Triangles in world coordinates.

    Attributes:
        vertices: float32 [V, 3].
        faces: int32 [F, 3], numbers of vertices, counter-clockwise seen from outside.
        normals: float32 [V, 3], unit vectors outward, down the density's slope.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray


def density_grid(
    density: Density, low: Any = (-1.0, -1.0, -1.0), high: Any = (1.0, 1.0, 1.0), resolution: int = 128
) -> np.ndarray:
    """The density at resolution^3 points of a box, corners included: float32 [X, Y, Z], a plane at a time.

    Args:
        density: points [N, 3] -> [N].
        low: the corner with the smallest coordinates, [3].
        high: the opposite one.
        resolution: points along each edge, at least 2.

    Raises:
        ValueError: a resolution below 2, or corners that do not rise.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    if resolution < 2 or low.shape != (3,) or high.shape != (3,) or not (low < high).all():
        raise ValueError(f"resolution {resolution} from {low} to {high}; need at least 2, and low < high in x, y and z")
    x, y, z = (np.linspace(low[axis], high[axis], resolution, dtype=np.float32) for axis in range(3))
    plane = np.stack(np.meshgrid(y, z, indexing="ij"), axis=-1).reshape(-1, 2)
    ask = jax.jit(lambda x, plane: density(jnp.concatenate([jnp.full_like(plane[:, :1], x), plane], axis=1)))
    return np.stack([np.asarray(ask(at, plane)).reshape(resolution, resolution) for at in x])


def marching_cubes(grid: np.ndarray, level: float, low: Any = (-1.0, -1.0, -1.0), high: Any = (1.0, 1.0, 1.0)) -> Mesh:
    """The surface where the density crosses a level, by scikit-image's marching cubes (Lewiner et al., 2003).

    A radiance field's density has no one right level: 10 to 50 is usual for scenes of size 1, where a layer of 0.1
    then hides 63 % to 99 % of what is behind.

    Args:
        grid: [X, Y, Z] of `density_grid`.
        level: density of the surface, per unit of length.
        low: the grid's first corner, [3].
        high: its last.

    Raises:
        ImportError: scikit-image is not there.
        ValueError: the density does not cross the level.
    """
    try:
        from skimage import measure  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError("a mesh needs scikit-image: pip install scikit-image") from error
    if grid.ndim != 3 or not grid.min() < level < grid.max():
        raise ValueError(
            f"the density runs from {grid.min():.3g} to {grid.max():.3g} on a grid of shape {grid.shape}; a level of "
            f"{level} has no surface in it"
        )
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    spacing = (high - low) / (np.array(grid.shape) - 1)
    vertices, faces, normals, _ = measure.marching_cubes(
        grid, level, spacing=tuple(spacing), gradient_direction="descent"
    )
    # The library's normals are slopes along the grid's axes, whatever their spacing, and its triangles wind the other
    # way round.
    normals = normals / spacing
    normals = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return Mesh((vertices + low).astype(np.float32), faces[:, ::-1].astype(np.int32), normals.astype(np.float32))


def vertex_colors(field: Field, mesh: Mesh, chunk: int = 65_536) -> np.ndarray:
    """The field's color at each vertex, viewed from outside along the normal: uint8 [V, 3]."""
    ask = jax.jit(lambda points, view: field(points[:, None], view)[0][:, 0])
    number, parts = len(mesh.vertices), []
    chunk = min(chunk, number)
    for start in range(0, number, chunk):
        # The last chunk is filled up, so that one program serves all.
        these = np.minimum(np.arange(start, start + chunk), number - 1)
        parts.append(np.asarray(ask(mesh.vertices[these], -mesh.normals[these])))
    return np.rint(255 * np.clip(np.concatenate(parts)[:number], 0, 1)).astype(np.uint8)


def move(mesh: Mesh, similarity: Any) -> Mesh:
    """The same surface in a world that a similarity takes points to.

    Args:
        mesh: V vertices.
        similarity: [4, 4], e.g. `Scene.world_from_scene`.

    Raises:
        ValueError: `similarity` is not a rotation times a positive scale, and a translation.
    """
    rotation, scale, shift = similarity_parts(similarity)
    vertices = scale * mesh.vertices.astype(np.float64) @ rotation.T + shift
    return Mesh(vertices.astype(np.float32), mesh.faces, (mesh.normals @ rotation.T).astype(np.float32))


def write_ply(path: str | os.PathLike, mesh: Mesh, colors: np.ndarray | None = None) -> None:
    """Writes a binary PLY file with normals, and colors where they are given.

    Args:
        path: the file.
        mesh: V vertices.
        colors: uint8 [V, 3].

    Raises:
        ValueError: another number of colors than of vertices.
    """
    number = len(mesh.vertices)
    kinds = [(name, "<f4") for name in ("x", "y", "z", "nx", "ny", "nz")]
    columns = [*mesh.vertices.T, *mesh.normals.T]
    if colors is not None:
        if colors.shape != (number, 3) or colors.dtype != np.uint8:
            raise ValueError(f"colors are {colors.dtype} {colors.shape}; expected uint8 ({number}, 3)")
        kinds += [(name, "u1") for name in ("red", "green", "blue")]
        columns += [*colors.T]
    vertices = np.empty(number, kinds)
    for (name, _), column in zip(kinds, columns, strict=True):
        vertices[name] = column
    faces = np.empty(len(mesh.faces), [("number", "u1"), ("vertices", "<i4", 3)])
    faces["number"], faces["vertices"] = 3, mesh.faces
    types = {"<f4": "float", "u1": "uchar"}
    header = [
        "ply", "format binary_little_endian 1.0", f"element vertex {number}",
        *(f"property {types[kind]} {name}" for name, kind in kinds),
        f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header",
    ]  # fmt: skip
    Path(path).write_bytes(("\n".join(header) + "\n").encode() + vertices.tobytes() + faces.tobytes())
