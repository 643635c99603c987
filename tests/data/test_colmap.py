"""COLMAP's models: text and binary give the same scene, and the points project to where the images saw them."""

import functools
import struct

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.data import read_colmap
from jaxgen.data.colmap import is_stray
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
    for path in [*place.glob("points3D.*"), folder / "images/view 0.png"]:
        path.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match="no points3D.bin or points3D.txt"):
        read_colmap(folder)


def test_other_cameras_are_refused(tmp_path):
    write_binary(tmp_path / "sparse", model=77)
    with pytest.raises(ValueError, match="camera model number 77; read are SIMPLE_PINHOLE.*image_undistorter"):
        read_colmap(tmp_path)
    write_text(tmp_path / "text/sparse/0")
    cameras = tmp_path / "text/sparse/0/cameras.txt"
    cameras.write_text(f"7 PINHOLE {W} {H} 1 2 3\n")
    with pytest.raises(ValueError, match="PINHOLE has 3 parameters; expected fx, fy, cx, cy"):
        read_colmap(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match="no sparse/0"):
        read_colmap(tmp_path / "text/sparse")


def write_images(folder):
    (folder / "images").mkdir(exist_ok=True)
    for i in range(N):
        Image.fromarray(np.full((H, W, 3), i, np.uint8)).save(folder / f"images/view {i}.png")


@pytest.fixture
def text(tmp_path):
    """A folder with a model as text: (folder, edit), which replaces text in one of the files."""
    write_text(tmp_path / "sparse/0")
    write_images(tmp_path)

    def edit(name, before, after):
        path = tmp_path / f"sparse/0/{name}.txt"
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after, 1))

    return tmp_path, edit


@pytest.mark.parametrize(
    "model, parameters, lens",
    [
        ("SIMPLE_PINHOLE 16 12", "20 8 6", [0] * 4),
        ("SIMPLE_RADIAL 16 12", "20 8 6 0.1", [0.1, 0, 0, 0]),
        ("FULL_OPENCV 16 12", "20 21 8 6 1 2 3 4 5 6 7 8", [1, 2, 3, 4, 5, 6, 7, 8, 0]),
        ("FULL_OPENCV 16 12", "20 21 8 6 0 0 0 0 0 0 0 0", [0] * 4),
        ("OPENCV_FISHEYE 16 12", "20 21 8 6 1 2 3 4", [1, 2, 0, 0, 3, 4, 0, 0, 1]),
        ("SIMPLE_RADIAL_FISHEYE 16 12", "20 8 6 0", [0] * 8 + [1]),
        ("RADIAL_FISHEYE 16 12", "20 8 6 0.1 0.2", [0.1, 0.2, 0, 0, 0, 0, 0, 0, 1]),
        ("THIN_PRISM_FISHEYE 16 12", "20 21 8 6 1 2 3 4 5 6 0 0", [1, 2, 3, 4, 5, 6, 0, 0, 1]),
    ],
)
def test_every_camera_model(text, model, parameters, lens):
    folder, edit = text
    edit("cameras", f"OPENCV {W} {H} " + " ".join(map(repr, PARAMETERS)), f"{model} {parameters}")
    scene = read_colmap(folder, hold_out_every=0)
    np.testing.assert_array_equal(scene["distortion"], [lens] * N)
    f = float(parameters.split()[0])
    np.testing.assert_array_equal(scene["intrinsics"], [[f, 21 if " 21 " in parameters else f, 8, 6]] * N)
    distances = np.linalg.norm(POINTS[None, :20] - scene["pose"][:, None, :3, 3], axis=2)
    if model.split()[0].endswith("FISHEYE"):
        np.testing.assert_allclose(scene["bounds"], np.percentile(distances, [0.1, 99.9], axis=1).T, rtol=1e-6)


def test_a_camera_matters_only_where_an_image_uses_it(text):
    folder, edit = text
    edit("cameras", "7 OPENCV", "8 DIVISION 16 12 1 2\n9 FOV 16 12 20 20 8 6 0.9\n7 OPENCV")
    expected = read_colmap(folder, hold_out_every=0)
    assert len(expected["image"]) == N
    edit("images", "7 view 2.png", "9 view 2.png")
    with pytest.raises(ValueError, match="image view 2.png has camera model FOV with omega; read are SIMPLE_PINHOLE"):
        read_colmap(folder)
    edit("images", "9 view 2.png", "8 view 2.png")
    with pytest.raises(ValueError, match="image view 2.png has camera model DIVISION; read are"):
        read_colmap(folder)
    edit("images", "8 view 2.png", "5 view 2.png")
    with pytest.raises(ValueError, match="sparse/0: image view 2.png has camera 5, and cameras holds 7, 8, 9"):
        read_colmap(folder)


@pytest.mark.parametrize("write", [write_text, write_binary], ids=["text", "binary"])
def test_the_largest_model_is_taken_and_the_others_are_named(text, write):
    folder, _ = text
    write(folder / "sparse/10")
    images = folder / "sparse/0/images.txt"
    images.write_text("\n".join(images.read_text().splitlines()[:3]) + "\n")
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(folder / "images/unregistered.png")
    scene = read_colmap(folder)
    assert scene.report[0] == (
        "COLMAP: 4 of 5 images registered, without unregistered.png, model sparse/10 (others: sparse/0 with 1); every "
        "8th view is held out"
    )
    assert scene.report[1] == "cameras: 4 OPENCV 16 x 12, focal length 20" and len(scene["image"]) == N - 1


def test_stray_points_do_not_count_in_any_view(text):
    folder, edit = text
    expected = read_colmap(folder, hold_out_every=0)["bounds"]
    # Just in front of the first camera, and far behind the others; both are seen by all.
    pose = world_to_camera()[2][0]
    near = pose[:3, 3] - 0.1 * pose[:3, 2]
    edit(
        "points3D",
        "# 3D point list",
        f"100 {near[0]} {near[1]} {near[2]} 1 2 3 0.5 10 0\n101 -90 -90 -90 1 2 3 0.5 10 0",
    )
    images = folder / "sparse/0/images.txt"
    images.write_text(images.read_text().replace(" 1.5 2.5 -1", " 1.5 2.5 100 1.5 2.5 101"))
    np.testing.assert_allclose(read_colmap(folder, hold_out_every=0)["bounds"], expected)


def test_views_without_points_have_the_bounds_of_the_others(text):
    folder, _ = text
    expected = read_colmap(folder, hold_out_every=0)["bounds"]
    images = folder / "sparse/0/images.txt"
    lines = images.read_text().split("\n")
    images.write_text("\n".join([*lines[:2], "", lines[3], "1.5 2.5 0 1.5 2.5 1", *lines[5:]]))
    found = read_colmap(folder, hold_out_every=0)["bounds"]
    np.testing.assert_allclose(found[2:], expected[2:])
    np.testing.assert_allclose(found[:2], [[expected[2:, 0].min(), expected[2:, 1].max()]] * 2)
    images.write_text("\n".join(line if i % 2 else "" for i, line in enumerate(lines[:9])).lstrip() + "\n")
    with pytest.raises(ValueError, match="no view sees two points .*--data.near"):
        read_colmap(folder)
    assert "bounds" not in read_colmap(folder, without_points=True)
    (folder / "sparse/0/points3D.txt").unlink()
    assert len(read_colmap(folder, without_points=True)["image"]) == N - 1


def test_a_point_is_stray_only_beyond_a_gap():
    depths = np.concatenate([[0.1], np.linspace(3, 5, 40), [11.0]])
    assert np.flatnonzero(is_stray(depths)).tolist() == [0, 41]
    assert np.flatnonzero(is_stray(depths[::-1])).tolist() == [0, 41]
    # A group is not astray, nor what lies close, nor anything of a few.
    assert not is_stray(np.concatenate([[0.1, 0.1, 0.1], np.linspace(3, 5, 40), [9.0]])).any()
    assert not is_stray(np.array([0.1, 4.0, 4.0, 4.0])).any()
    assert not is_stray(np.geomspace(0.01, 100, 40)).any()


def test_sizes_and_names_in_one_scene(text):
    """Undistorted images differ by a pixel, and a name is written on another system."""
    folder, edit = text
    edit("cameras", "7 OPENCV", "9 PINHOLE 17 12 20 20 8 6\n7 OPENCV")
    edit("images", "7 view 1.png", "9 view 1.png")
    edit("images", "view 2.png", "sub\\view 2.png")
    Image.fromarray(np.full((H, W + 1, 3), 1, np.uint8)).save(folder / "images/view 1.png")
    (folder / "images/sub").mkdir()
    (folder / "images/view 2.png").rename(folder / "images/sub/view 2.png")
    scene = read_colmap(folder, hold_out_every=0)
    assert scene["name"].tolist() == ["images/sub/view 2.png", *(f"images/view {i}.png" for i in (0, 1, 3))]
    assert scene["size"].tolist() == [[W, H], [W, H], [W + 1, H], [W, H]]
    assert (scene["image"][2] == 1).all() and not scene["image"][0, :, W:].any()
    (folder / "images").rename(folder / "elsewhere")
    np.testing.assert_array_equal(
        read_colmap(folder, hold_out_every=0, images=folder / "elsewhere")["image"], scene["image"]
    )
    edit("images", "view 0.png", "../view 0.png")
    with pytest.raises(ValueError, match="sparse/0: ../view 0.png is outside"):
        read_colmap(folder, images=folder / "elsewhere")


@pytest.mark.parametrize(
    "name, before, after, message",
    [
        ("cameras", " 16 12 ", " 16 ", "cameras.txt: line 2: .* expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS"),
        ("cameras", "7 OPENCV", "x OPENCV", "cameras.txt: line 2: 'x OPENCV"),
        ("cameras", " 20.0 ", " nan ", "sparse/0: camera 7 has parameters that are not finite"),
        ("cameras", "7 OPENCV", "7 PINHOLE 16 12 20 20 8 6\n7 OPENCV", "two entries have the number 7"),
        ("images", "10 ", "10 nan ", "images.txt: line 2"),
        ("images", " 7 view 0.png", " 7", "images.txt: line 2: .* expected IMAGE_ID QW"),
        ("images", "1.5 2.5 0 ", "1.5 2.5 ", "images.txt: line 3: .* expected POINTS2D"),
        ("images", " 7 view 1.png", "\n 7 view 1.png", "images.txt: line 4"),
        ("points3D", "0 ", f"{2**64 - 1} ", "points3D.txt: an entry has the number 18446744073709551615"),
        ("points3D", "0 ", "0 x ", "points3D.txt: line 2: .* expected POINT3D_ID X Y Z"),
        ("images", "\n9 ", "\n\n\n9 ", "images.txt: line 4 is empty"),
    ],
)
def test_text_of_another_kind_is_named_with_its_line(text, name, before, after, message):
    folder, edit = text
    edit(name, before, after)
    with pytest.raises(ValueError, match=message):
        read_colmap(folder)


def test_quaternions_that_are_none(text):
    folder, _ = text
    images = folder / "sparse/0/images.txt"
    lines = images.read_text().split("\n")
    for wrong in ("0 0 0 0", "inf 0 0 0"):
        fields = lines[1].split()
        images.write_text("\n".join([lines[0], " ".join([fields[0], wrong, *fields[5:]]), *lines[2:]]))
        with pytest.raises(ValueError, match="image view 0.png has quaternion"):
            read_colmap(folder)


def test_files_with_a_byte_order_mark_and_other_line_ends(text):
    folder, _ = text
    expected = read_colmap(folder)
    for path in (folder / "sparse/0").iterdir():
        path.write_bytes("\ufeff".encode() + path.read_bytes().replace(b"\n", b"\r\n"))
    found = read_colmap(folder)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize("here, there", [("sparse/0", "."), ("sparse", "colmap/sparse"), ("sparse/0", "sparse/dense")])
def test_where_a_model_may_be(text, here, there):
    folder, _ = text
    (folder / there).parent.mkdir(exist_ok=True)
    if there == ".":
        for path in (folder / here).iterdir():
            path.rename(folder / path.name)
    else:
        (folder / here).rename(folder / there)
    assert len(read_colmap(folder, hold_out_every=0)["image"]) == N


def test_a_model_one_folder_deeper_is_named(text):
    folder, _ = text
    (folder / "dense").mkdir()
    (folder / "sparse").rename(folder / "dense/sparse")
    with pytest.raises(
        FileNotFoundError, match="no sparse/0 in .*, which holds dense, images; .* sparse/ in dense: give"
    ):
        read_colmap(folder)


@pytest.mark.parametrize("prefix", ["images/", "/disk/me/scene/images/", "C:\\me\\images\\", "../images/"])
def test_names_relative_to_another_folder(text, prefix):
    folder, edit = text
    for i in range(N):
        edit("images", f" view {i}.png", f" {prefix}view {i}.png")
    names = [f"images/view {i}.png" for i in range(N)]
    assert read_colmap(folder, hold_out_every=0)["name"].tolist() == names
    (folder / "images").rename(folder / "photos")
    with pytest.raises((ValueError, FileNotFoundError), match="--data.images"):
        read_colmap(folder)
    if ".." not in prefix:
        names = [name.replace("images", "photos") for name in names]
        assert read_colmap(folder, hold_out_every=0, images=folder / "photos")["name"].tolist() == names
