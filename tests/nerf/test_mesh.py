"""Surfaces of a density: a level set that is known, its colors, and the file."""

import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest

from jaxgen.nerf import analytic_scene, mesh
from tests.nerf import captures

BALL = (analytic_scene.MARBLES[1],)
LEVEL = 20.0


def ball_density(points):
    return analytic_scene.density(points, BALL)


def test_the_grid_is_the_density_at_its_points():
    grid = mesh.density_grid(ball_density, (-0.5, -0.4, -0.6), (0.5, 0.6, 0.4), 5)
    point = np.array([-0.5 + 1 * 0.25, -0.4 + 2 * 0.25, -0.6 + 3 * 0.25], np.float32)
    offset = (point - BALL[0].center) / BALL[0].radii
    np.testing.assert_allclose(grid[1, 2, 3], BALL[0].strength * (1 - offset @ offset), rtol=1e-6)
    assert grid[1, 2, 3] > 0 and grid[0, 0, 0] == 0
    with pytest.raises(ValueError, match="need at least 2"):
        mesh.density_grid(ball_density, resolution=1)


def test_marching_cubes_finds_the_ellipsoid():
    """One body's level set is the ellipsoid of radii r sqrt(1 - level / s)."""
    pytest.importorskip("skimage")
    low, high = (-0.5, -0.5, -0.6), (0.5, 1.5, 0.4)
    found = mesh.marching_cubes(mesh.density_grid(ball_density, low, high, 33), LEVEL, low, high)
    body = BALL[0]
    offset = found.vertices - np.array(body.center)
    radius = body.radii[0] * np.sqrt(1 - LEVEL / body.strength)
    np.testing.assert_allclose(np.linalg.norm(offset, axis=1), radius, atol=2e-3)
    outward = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    assert (np.sum(found.normals * outward, axis=1) > 0.97).all()
    corners = found.vertices[found.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    # Counter-clockwise seen from outside, and closed: the volume of the ball.
    volume = np.sum(corners[:, 0] * across) / 6
    assert volume == pytest.approx(4 / 3 * np.pi * radius**3, rel=0.03)


@pytest.mark.parametrize("level", [-1, 0, 2, 99])
def test_a_level_that_the_density_does_not_cross_is_refused(monkeypatch, level):
    monkeypatch.setitem(sys.modules, "skimage", types.SimpleNamespace(measure=None))
    with pytest.raises(ValueError, match=f"from 0 to 2 on a grid .* a level of {level} has no surface"):
        mesh.marching_cubes(np.zeros((3, 3, 3)) + np.arange(3), level)


def test_without_scikit_image_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(ImportError, match="pip install scikit-image"):
        mesh.marching_cubes(np.arange(8.0).reshape(2, 2, 2), 3)


def test_a_mesh_in_another_world_keeps_its_shape_and_its_outside():
    world, before = captures.similarity(3), triangle()
    after = mesh.move(before, world)
    scale = np.cbrt(np.linalg.det(world[:3, :3]))
    expected = before.vertices @ world[:3, :3].T + world[:3, 3]
    np.testing.assert_allclose(after.vertices, expected, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(after.normals, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(after.normals, before.normals @ world[:3, :3].T / scale, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(after.faces, before.faces)
    with pytest.raises(ValueError, match="not a similarity"):
        mesh.move(before, np.diag([1.0, 2, 1, 1]))


def triangle():
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0.5]], np.float32)
    return mesh.Mesh(vertices, np.array([[0, 1, 2]], np.int32), np.array([[0, 0, 1.0]] * 3, np.float32))


def test_a_vertex_has_the_color_that_is_seen_from_outside():
    def field(points, view):
        blue = -0.25 * view[..., None, 2]
        return jnp.stack([jnp.full_like(blue, 0.5), 0 * blue, blue], axis=-1), points[..., 0]

    colors = mesh.vertex_colors(field, triangle(), chunk=2)
    np.testing.assert_array_equal(colors, [[128, 0, 64]] * 3)


def test_the_file_holds_the_mesh(tmp_path):
    colors = np.arange(9, dtype=np.uint8).reshape(3, 3)
    mesh.write_ply(tmp_path / "x.ply", triangle(), colors)
    header, body = (tmp_path / "x.ply").read_bytes().split(b"end_header\n")
    lines = header.decode().splitlines()
    assert lines[:3] == ["ply", "format binary_little_endian 1.0", "element vertex 3"]
    assert lines[3:] == [
        *(f"property float {name}" for name in ("x", "y", "z", "nx", "ny", "nz")),
        *(f"property uchar {name}" for name in ("red", "green", "blue")),
        "element face 1", "property list uchar int vertex_indices",
    ]  # fmt: skip
    assert len(body) == 3 * 27 + 13
    rows = np.frombuffer(body[:81], [("point", "<f4", 3), ("normal", "<f4", 3), ("color", "u1", 3)])
    np.testing.assert_array_equal(rows["point"], triangle().vertices)
    np.testing.assert_array_equal(rows["color"], colors)
    assert body[81] == 3 and np.frombuffer(body[82:], "<i4").tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match="expected uint8"):
        mesh.write_ply(tmp_path / "x.ply", triangle(), colors[:2])
