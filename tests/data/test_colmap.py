"""COLMAP's models: text and binary give the same scene, and the points project to where the images saw them."""

import functools
import struct

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.data import read_colmap
from jaxgen.nerf import colmap_to_opengl, hemisphere, opengl_to_colmap

W, H, N = 16, 12, 4
POINTS = np.random.default_rng(0).uniform(-0.5, 0.5, (30, 3))
PARAMETERS = [20.0, 21.0, 8.5, 6.5, 0.1, -0.02, 0.003, 0.004]


@functools.cache
def world_to_camera():
    """(quaternions, translations, poses that these stand for) of N views."""

    @jax.jit
    def views():
        quaternions, translations = opengl_to_colmap(hemisphere(N))
        return quaternions, translations, colmap_to_opengl(quaternions, translations)

    return [np.asarray(part, np.float64) for part in views()]


def write_text(folder):
    folder.mkdir(parents=True)
    numbers = lambda values: " ".join(repr(float(v)) for v in values)
    (folder / "cameras.txt").write_text(f"# Camera list\n7 OPENCV {W} {H} {numbers(PARAMETERS)}\n")
    lines = ["# Image list"]
    for i, (q, t) in enumerate(zip(*world_to_camera()[:2], strict=True)):
        # COLMAP's order is that of registration, not of names.
        lines.append(f"{10 - i} {numbers(q)} {numbers(t)} 7 view {i}.png")
        lines.append(" ".join(f"1.5 2.5 {p}" for p in (*range(20), -1)))
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    points = [f"{i} {numbers(p)} 1 2 3 0.5 10 {i} 9 {i}" for i, p in enumerate(POINTS)]
    (folder / "points3D.txt").write_text("# 3D point list\n" + "\n".join(points) + "\n")


def write_binary(folder, model=4):
    folder.mkdir(parents=True)
    (folder / "cameras.bin").write_bytes(struct.pack("<QiiQQ8d", 1, 7, model, W, H, *PARAMETERS))
    parts = [struct.pack("<Q", N)]
    for i, (q, t) in enumerate(zip(*world_to_camera()[:2], strict=True)):
        parts.append(struct.pack("<I7dI", 10 - i, *q, *t, 7) + f"view {i}.png".encode() + b"\0")
        parts.append(struct.pack("<Q", 21) + b"".join(struct.pack("<ddq", 1.5, 2.5, p) for p in (*range(20), -1)))
    (folder / "images.bin").write_bytes(b"".join(parts))
    points = [struct.pack("<Q3d3BdQ4I", i, *p, 1, 2, 3, 0.5, 2, 10, i, 9, i) for i, p in enumerate(POINTS)]
    (folder / "points3D.bin").write_bytes(struct.pack("<Q", len(points)) + b"".join(points))


@pytest.fixture(params=[write_text, write_binary], ids=["text", "binary"])
def folder(request, tmp_path):
    request.param(tmp_path / "sparse/0")
    (tmp_path / "images").mkdir()
    for i in range(N):
        Image.fromarray(np.full((H, W, 3), i, np.uint8)).save(tmp_path / f"images/view {i}.png")
    return tmp_path


def test_the_scene_of_a_model(folder):
    scene = read_colmap(folder, hold_out_every=0)
    assert scene["name"].tolist() == [f"images/view {i}.png" for i in range(N)]
    assert scene["image"][:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(scene["pose"], world_to_camera()[2], atol=2e-6)
    np.testing.assert_allclose(scene["intrinsics"], [PARAMETERS[:4]] * N)
    np.testing.assert_allclose(scene["distortion"], [PARAMETERS[4:]] * N)
    # Depths along the axes of view of the twenty points that the views saw.
    offsets = POINTS[None, :20] - scene["pose"][:, None, :3, 3]
    depths = np.einsum("npi,ni->np", offsets, -scene["pose"][:, :3, 2])
    np.testing.assert_allclose(scene["bounds"], np.percentile(depths, [0.1, 99.9], axis=1).T, rtol=1e-6)
    half = read_colmap(folder, "test", factor=2, hold_out_every=3)
    np.testing.assert_allclose(half["intrinsics"], [np.array(PARAMETERS[:4]) / 2] * 2)


def test_what_does_not_fit_is_refused(folder):
    Image.fromarray(np.zeros((H, W + 2, 3), np.uint8)).save(folder / "images/view 0.png")
    with pytest.raises(ValueError, match="view 0.png: 18 x 12 pixels, and its camera was calibrated at 16 x 12"):
        read_colmap(folder, "test")
    (folder / "images/view 0.png").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 1 images are missing: view 0.png"):
        read_colmap(folder, "test")
    place = folder / "sparse/0"
    for name in ("images.bin", "points3D.bin"):
        if (place / name).exists():
            whole = (place / name).read_bytes()
            (place / name).write_bytes(whole[:-9])
            with pytest.raises(ValueError, match=f"{name}: damaged"):
                read_colmap(folder)
            (place / name).write_bytes(whole)
    for path in place.glob("points3D.*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match="no points3D.bin or points3D.txt"):
        read_colmap(folder)


def test_other_cameras_are_refused(tmp_path):
    write_binary(tmp_path / "sparse", model=5)
    with pytest.raises(ValueError, match="camera model number 5; read are SIMPLE_PINHOLE.*image_undistorter"):
        read_colmap(tmp_path)
    write_text(tmp_path / "text/sparse/0")
    cameras = tmp_path / "text/sparse/0/cameras.txt"
    cameras.write_text(f"7 PINHOLE {W} {H} 1 2 3\n")
    with pytest.raises(ValueError, match="PINHOLE has 3 parameters; expected fx, fy, cx, cy"):
        read_colmap(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="no sparse/0"):
        read_colmap(tmp_path / "text/sparse")
