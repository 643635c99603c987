"""The analytic scene photographed, and written in each format that is read: Blender, transforms.json, LLFF, COLMAP.

    capture = captures.take(captures.ring(9), captures.cameras(9))
    captures.write_colmap(folder, captures.moved(capture, captures.similarity(0)), binary=True)

Everything but the colors is NumPy in float64, independent of the library.
"""

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from PIL import Image

from jaxgen import nerf
from jaxgen.nerf import analytic_scene
from jaxgen.nerf.bodies import MARBLES, Body
from tests.nerf import numpy_cameras
from tests.programs import compiled

CHUNK = 1024


def _wall(center: tuple, radii: tuple, dark: tuple, axes: tuple[int, int]) -> Body:
    """A flat ellipsoid with checks along two axes."""
    square = lambda x: jnp.tanh(3 * jnp.sin(9 * x))
    checks = lambda q, u: square(q[axes[0]]) * square(q[axes[1]])
    return Body(center, radii, strength=60.0, colors=(dark, (0.98, 0.95, 0.9)), gloss=0.0, pattern=checks)


ROOM: tuple[Body, ...] = (
    _wall((-3.0, 0.0, 0.0), (0.4, 4.0, 2.2), (0.7, 0.1, 0.1), (1, 2)),
    _wall((3.0, 0.0, 0.0), (0.4, 4.0, 2.2), (0.1, 0.5, 0.2), (1, 2)),
    _wall((0.0, -3.0, 0.0), (4.0, 0.4, 2.2), (0.1, 0.2, 0.7), (0, 2)),
    _wall((0.0, 3.0, 0.0), (4.0, 0.4, 2.2), (0.5, 0.4, 0.1), (0, 2)),
    _wall((0.0, 0.0, -1.5), (4.0, 4.0, 0.3), (0.3, 0.2, 0.1), (0, 1)),
    _wall((0.0, 0.0, 1.5), (4.0, 4.0, 0.3), (0.4, 0.4, 0.4), (0, 1)),
    _wall((1.8, 1.2, -0.6), (0.4, 0.4, 0.6), (0.9, 0.3, 0.1), (1, 2)),
)
"""Four walls about 2.7 from the middle, a floor, a ceiling and a column, to be seen from inside."""


class Capture(NamedTuple):
    """N photographs of one world.

    Attributes:
        image: uint8 [H, W, 3 or 4], N of them, perhaps of different sizes.
        pose: float64 [N, 4, 4], camera to world, OpenGL axes.
        camera: N cameras.
        distortion: float64 [N, 4], OpenCV's k1, k2, p1, p2.
        points: float64 [P, 3] on the surfaces of the bodies.
        seen: for each view the numbers of the points that it shows, and their pixels [S, 2].
        world: float64 [4, 4], the similarity from the analytic scene's world to this one.
    """

    image: list[np.ndarray]
    pose: np.ndarray
    camera: list[nerf.Camera]
    distortion: np.ndarray
    points: np.ndarray
    seen: list[tuple[np.ndarray, np.ndarray]]
    world: np.ndarray


def cameras(number: int, width: int = 16, height: int = 12, focal: float = 20.0) -> list[nerf.Camera]:
    """Equal cameras with the principal point in the middle."""
    return [nerf.Camera(width, height, focal, focal, width / 2, height / 2)] * number


def ring(number: int, radius: float = 4.0, elevation: float = 29.0, target: Any = analytic_scene.TARGET) -> np.ndarray:
    """Poses on a circle around a target, up +z, at elevations that differ by some degrees: [N, 4, 4]."""
    azimuth, high = 2 * np.pi * np.arange(number) / number, np.radians(elevation + 5 * np.cos(2.4 * np.arange(number)))
    unit = np.stack([np.cos(high) * np.cos(azimuth), np.cos(high) * np.sin(azimuth), np.sin(high)], axis=-1)
    return np.stack([numpy_cameras.look_at(np.add(target, radius * u), target) for u in unit])


def facing(number: int, spread: float = 0.3, distance: float = 4.0) -> np.ndarray:
    """Poses on a square in front of the scene that all look along +y, up +z: [N, 4, 4]."""
    side = int(np.ceil(np.sqrt(number)))
    places = [(spread * (i % side - (side - 1) / 2), spread * (i // side - (side - 1) / 2)) for i in range(number)]
    return np.stack(
        [numpy_cameras.look_at((x, -distance - 0.01 * i, z), (x, 0.0, z)) for i, (x, z) in enumerate(places)]
    )


def inside(number: int, radius: float = 0.5) -> np.ndarray:
    """Poses around the middle of `ROOM` that look outward: [N, 4, 4]."""
    azimuth = 2 * np.pi * np.arange(number) / number
    flat = np.stack([np.cos(azimuth), np.sin(azimuth), np.zeros(number)], axis=-1)
    tilt = np.stack([np.zeros(number), np.zeros(number), 0.4 * np.cos(2.4 * np.arange(number))], axis=-1)
    return np.stack([numpy_cameras.look_at(radius * a + b / 2, 3 * a + b) for a, b in zip(flat, tilt, strict=True)])


def take(
    pose: np.ndarray,
    camera: Sequence[nerf.Camera],
    distortion: Any = (0.0, 0.0, 0.0, 0.0),
    bodies: tuple[Body, ...] = MARBLES,
    background: float | None = 1.0,
    num_points: int = 40,
    draw: bool = True,
) -> Capture:
    """Photographs through lenses.

    Args:
        pose: [N, 4, 4].
        camera: N cameras.
        distortion: [4] or [N, 4].
        bodies: the scene.
        background: gray level; None: images with alpha.
        num_points: on the surface of each body.
        draw: False: all images are noise.
    """
    lenses = np.broadcast_to(np.asarray(distortion, np.float64), (len(pose), 4))
    rng = np.random.default_rng(0)
    if draw:
        image = _photographs(pose, camera, lenses, bodies, background)
    else:
        image = [rng.integers(0, 256, (c.height, c.width, 3), dtype=np.uint8) for c in camera]
    points, normals = _surface(bodies, num_points)
    seen = [_visible(points, normals, *view) for view in zip(pose, camera, lenses, strict=True)]
    return Capture(image, np.asarray(pose, np.float64), list(camera), lenses, points, seen, np.eye(4))


def similarity(seed: int, scale: float | None = None) -> np.ndarray:
    """A random rotation, a scale in [0.2, 5] unless given, and a translation of a few units: [4, 4]."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * (np.exp(rng.uniform(-1.6, 1.6)) if scale is None else scale)
    matrix[:3, 3] = rng.uniform(-5, 5, 3)
    return matrix


def moved(capture: Capture, world: np.ndarray) -> Capture:
    """The same photographs in a world that a similarity [4, 4] has moved."""
    pose = world @ capture.pose
    pose[:, :3, :3] /= np.cbrt(np.linalg.det(world[:3, :3]))
    points = capture.points @ world[:3, :3].T + world[:3, 3]
    return capture._replace(pose=pose, points=points, world=world @ capture.world)


def distort(points: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """OpenCV's model, [..., 2] -> [..., 2]."""
    k1, k2, p1, p2 = lens
    x, y = points[..., 0], points[..., 1]
    r = x * x + y * y
    radial = 1 + k1 * r + k2 * r * r
    across = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
    return np.stack([across, y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y], axis=-1)


def undistort(points: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """Its inverse by Newton's method with differences, from the center of the image outward."""
    found = np.zeros_like(points)
    for share in np.linspace(0.1, 1, 10):
        for _ in range(8):
            step = 1e-6
            columns = [
                (distort(found + step * e, lens) - distort(found - step * e, lens)) / (2 * step) for e in np.eye(2)
            ]
            jacobian = np.stack(columns, axis=-1)
            found = found + np.linalg.solve(jacobian, (share * points - distort(found, lens))[..., None])[..., 0]
    return found


def rays(pose: np.ndarray, camera: nerf.Camera, lens: np.ndarray) -> nerf.Rays:
    """Through the middle of every pixel and the lens: float64 [H W, 3]."""
    across, down = camera.pixels().reshape(-1, 2).T + 0.5
    bent = np.stack([(across - camera.center_x) / camera.focal_x, (down - camera.center_y) / camera.focal_y], axis=-1)
    x, y = undistort(bent, lens).T
    direction = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ pose[:3, :3].T
    return nerf.Rays(np.broadcast_to(pose[:3, 3], direction.shape), direction, numpy_cameras.unit(direction))


def _photographs(pose, camera, lenses, bodies, background) -> list[np.ndarray]:
    parts = [rays(*view) for view in zip(pose, camera, lenses, strict=True)]
    sizes = [c.width * c.height for c in camera]
    whole = [np.concatenate(arrays).astype(np.float32) for arrays in zip(*parts, strict=True)]
    behind = 0.0 if background is None else background
    render = compiled(lambda rays: analytic_scene.render(rays, behind, bodies, num_nodes=12, num_segments=4))
    rendered = []
    for start in range(0, sum(sizes), CHUNK):
        chosen = np.minimum(np.arange(start, start + CHUNK), sum(sizes) - 1)
        view = render(nerf.Rays(*(array[chosen] for array in whole)))
        rendered.append(np.concatenate([view.color, view.opacity[:, None]], axis=-1))
    pixels = np.concatenate(rendered)[: sum(sizes)]
    if background is None:
        pixels[:, :3] /= np.maximum(pixels[:, 3:], 1e-6)
    else:
        pixels = pixels[:, :3]
    pixels = np.split(np.rint(255 * np.clip(pixels, 0, 1)).astype(np.uint8), np.cumsum(sizes)[:-1])
    return [p.reshape(c.height, c.width, -1) for p, c in zip(pixels, camera, strict=True)]


def _surface(bodies: Sequence[Body], number: int) -> tuple[np.ndarray, np.ndarray]:
    """Points where half of a body's strength is reached, outside of all others, and outward normals."""
    unit = numpy_cameras.unit(np.random.default_rng(0).normal(size=(number, 3)))
    points = np.concatenate([np.array(b.center) + np.sqrt(0.5) * np.array(b.radii) * unit for b in bodies])
    normals = np.concatenate([numpy_cameras.unit(unit / np.array(b.radii)) for b in bodies])
    inside_of = [np.sum(((points - b.center) / b.radii) ** 2, axis=-1) < 0.49 for b in bodies]
    outside = ~np.any(inside_of, axis=0)
    return points[outside], normals[outside]


def _visible(points, normals, pose, camera, lens) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and pixels of points that face a camera, in its image. Other bodies do not hide them."""
    x, y, z = ((points - pose[:3, 3]) @ pose[:3, :3]).T
    facing_it = np.sum(normals * (pose[:3, 3] - points), axis=-1) > 0
    ahead = np.where(z < 0, -z, 1)
    across, down = distort(np.stack([x / ahead, -y / ahead], axis=-1), lens).T
    pixel = np.stack([camera.focal_x * across + camera.center_x, camera.focal_y * down + camera.center_y], axis=-1)
    shown = (pixel > 0).all(axis=-1) & (pixel < (camera.width, camera.height)).all(axis=-1)
    number = np.flatnonzero(facing_it & (z < 0) & shown)
    return number, pixel[number]


def save_images(folder: Path, capture: Capture, names: Sequence[str]) -> None:
    """Writes the images as PNG files."""
    for name, pixels in zip(names, capture.image, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name)


def write_blender(folder: Path, capture: Capture, hold_out_every: int = 4) -> Path:
    """transforms_train.json and transforms_test.json; pinhole cameras of one size."""
    camera = capture.camera[0]
    for split in ("train", "test"):
        chosen = [i for i in range(len(capture.image)) if (i % hold_out_every == 0) == (split == "test")]
        names = [f"{split}/r_{k}" for k in range(len(chosen))]
        part = capture._replace(image=[capture.image[i] for i in chosen])
        save_images(folder, part, [f"{name}.png" for name in names])
        frames = [
            {"file_path": f"./{name}", "transform_matrix": capture.pose[i].tolist()}
            for name, i in zip(names, chosen, strict=True)
        ]
        angle = float(2 * np.arctan(0.5 * camera.width / camera.focal_x))
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": angle, "frames": frames}))
    return folder


def write_transforms(folder: Path, capture: Capture, **more: Any) -> Path:
    """transforms.json with intrinsics and lens of each frame; `more` are further keys of the file."""
    names = [f"images/{i:03}.png" for i in range(len(capture.image))]
    save_images(folder, capture, names)
    frames = []
    for name, pose, c, lens in zip(names, capture.pose, capture.camera, capture.distortion, strict=True):
        values = {"fl_x": c.focal_x, "fl_y": c.focal_y, "cx": c.center_x, "cy": c.center_y, "w": c.width, "h": c.height}
        bent = dict(zip(("k1", "k2", "p1", "p2"), lens.tolist(), strict=True))
        frames.append({"file_path": name, "transform_matrix": pose.tolist(), **values, **bent})
    (folder / "transforms.json").write_text(json.dumps({"camera_model": "OPENCV", "frames": frames, **more}))
    return folder


def depths(capture: Capture, i: int) -> np.ndarray:
    """Depths of the points that a view sees, along its axis, in the capture's world."""
    points = capture.points[capture.seen[i][0]]
    return (points - capture.pose[i, :3, 3]) @ -capture.pose[i, :3, 2]


def write_llff(folder: Path, capture: Capture) -> Path:
    """poses_bounds.npy and images/; pinhole cameras of one size with square pixels."""
    save_images(folder, capture, [f"images/{i:03}.png" for i in range(len(capture.image))])
    rows = []
    for i, (pose, camera) in enumerate(zip(capture.pose, capture.camera, strict=True)):
        right, up, back, center = pose[:3].T
        size = [camera.height, camera.width, camera.focal_x]
        near, far = depths(capture, i).min(), depths(capture, i).max()
        rows.append([*np.stack([-up, right, back, center, size], axis=1).ravel(), near, far])
    np.save(folder / "poses_bounds.npy", np.array(rows))
    return folder


def write_colmap(folder: Path, capture: Capture, *, binary: bool = False) -> Path:
    """images/ and sparse/0/, a camera for each different size, focal length, principal point or lens."""
    names = [f"{i:03}.png" for i in range(len(capture.image))]
    save_images(folder / "images", capture, names)
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    kinds: dict[tuple, int] = {}
    images = []
    for i, (pose, c, lens) in enumerate(zip(capture.pose, capture.camera, capture.distortion, strict=True)):
        values = (float(c.focal_x), float(c.focal_y), float(c.center_x), float(c.center_y))
        bent = tuple(lens.tolist()) if lens.any() else ()
        number = kinds.setdefault((c.width, c.height, *values, *bent), len(kinds) + 1)
        rotation = (pose[:3, :3] * [1, -1, -1]).T
        images.append((i + 1, _quaternion(rotation), -rotation @ pose[:3, 3], number, names[i], *capture.seen[i]))
    (_write_binary if binary else _write_text)(place, kinds, images, capture)
    return folder


def _quaternion(rotation: np.ndarray) -> np.ndarray:
    """(w, x, y, z): the eigenvector of the largest eigenvalue of Bar-Itzhack's matrix (2000)."""
    (a, b, c), (d, e, f), (g, h, i) = rotation
    matrix = np.array(
        [[a - e - i, d + b, g + c, h - f], [d + b, e - a - i, h + f, c - g], [g + c, h + f, i - a - e, d - b],
         [h - f, c - g, d - b, a + e + i]]
    )  # fmt: skip
    x, y, z, w = np.linalg.eigh(matrix)[1][:, -1]
    return np.array([w, x, y, z]) * (1 if w >= 0 else -1)


def _tracks(capture: Capture) -> list[list[tuple[int, int]]]:
    """For each point the (image, index in its list) of its observations."""
    tracks: list[list[tuple[int, int]]] = [[] for _ in capture.points]
    for i, (numbers, _) in enumerate(capture.seen):
        for k, number in enumerate(numbers):
            tracks[number].append((i + 1, k))
    return tracks


def _write_text(place: Path, kinds: dict, images: list, capture: Capture) -> None:
    line = lambda *values: " ".join(repr(float(v)) if isinstance(v, np.floating) else str(v) for v in values)
    model = lambda values: "OPENCV" if len(values) == 10 else "PINHOLE"
    rows = [line(number, model(values), *values) for values, number in kinds.items()]
    (place / "cameras.txt").write_text("\n".join(["# cameras", *rows]) + "\n")
    rows = ["# images"]
    for number, quaternion, translation, camera, name, points, pixels in images:
        rows.append(line(number, *quaternion, *translation, camera, name))
        rows.append(" ".join(line(*pixel, point + 1) for pixel, point in zip(pixels, points.tolist(), strict=True)))
    (place / "images.txt").write_text("\n".join(rows) + "\n")
    rows = ["# points"]
    for k, (point, track) in enumerate(zip(capture.points, _tracks(capture), strict=True)):
        if track:
            rows.append(line(k + 1, *point, 128, 128, 128, 0.5, *(n for pair in track for n in pair)))
    (place / "points3D.txt").write_text("\n".join(rows) + "\n")


def _write_binary(place: Path, kinds: dict, images: list, capture: Capture) -> None:
    pack = lambda layout, *values: struct.pack(f"<{layout}", *values)
    data = [pack("Q", len(kinds))]
    for (width, height, *values), number in kinds.items():
        data.append(pack(f"iiQQ{len(values)}d", number, 4 if len(values) == 8 else 1, width, height, *values))
    (place / "cameras.bin").write_bytes(b"".join(data))
    data = [pack("Q", len(images))]
    for number, quaternion, translation, camera, name, points, pixels in images:
        data.append(pack("I7dI", number, *quaternion, *translation, camera) + name.encode() + b"\0")
        data.append(pack("Q", len(points)))
        data += [pack("ddq", *pixel, int(point) + 1) for pixel, point in zip(pixels, points, strict=True)]
    (place / "images.bin").write_bytes(b"".join(data))
    shown = [(k, point, track) for k, (point, track) in enumerate(zip(capture.points, _tracks(capture), strict=True))]
    shown = [entry for entry in shown if entry[2]]
    data = [pack("Q", len(shown))]
    for k, point, track in shown:
        data.append(pack("Q3d3BdQ", k + 1, *point, 128, 128, 128, 0.5, len(track)))
        data += [pack("II", *pair) for pair in track]
    (place / "points3D.bin").write_bytes(b"".join(data))
