"""Scenes described by transforms.json: a Blender folder written by the analytic scene, and files that are wrong."""

import json
import os

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.data import read_blender, read_transforms, write_blender
from jaxgen.data.photos import shrink
from jaxgen.nerf import Camera, analytic_scene, camera_rays, hemisphere

SIZE = 16


@jax.jit
def opacity(camera, pose):
    """The exact opacity of the analytic scene at every pixel."""
    return analytic_scene.opacity(camera_rays(camera, pose, camera.pixels()))


@pytest.fixture(scope="module")
def exact():
    """(camera, poses, RGBA images) of four views: alpha is that of the analytic scene, colors are random."""
    camera = Camera.from_angle(SIZE, SIZE, analytic_scene.CAMERA_ANGLE_X)
    poses = np.asarray(jax.jit(lambda: hemisphere(4, target=analytic_scene.TARGET))())
    alpha = np.stack([np.rint(255 * np.asarray(opacity(camera, pose))) for pose in poses])
    colors = np.random.default_rng(0).integers(0, 256, (*alpha.shape, 3))
    return camera, poses, np.concatenate([colors, alpha[..., None]], axis=-1).astype(np.uint8)


@pytest.fixture
def folder(exact, tmp_path):
    _, poses, images = exact
    write_blender(tmp_path, "train", images, poses, analytic_scene.CAMERA_ANGLE_X)
    return tmp_path


def edit(path, change):
    described = json.loads(path.read_text())
    change(described)
    path.write_text(json.dumps(described))


def test_the_analytic_scene_comes_back_as_it_was_written(exact, folder):
    camera, poses, images = exact
    scene = read_blender(folder)
    np.testing.assert_array_equal(scene["image"], images)
    np.testing.assert_array_equal(scene["pose"], poses.astype(np.float64))
    expected = [camera.focal_x, camera.focal_y, camera.center_x, camera.center_y]
    np.testing.assert_allclose(scene["intrinsics"], [expected] * 4, rtol=1e-12)
    assert scene["name"].tolist() == [f"train/r_{i}.png" for i in range(4)]


def test_what_was_read_is_the_scene_along_its_own_rays(folder):
    """Pose, intrinsics and pixels fit together: each pixel is opaque as the scene is along its ray."""
    scene = read_blender(folder)
    camera = Camera(SIZE, SIZE, *scene["intrinsics"][2])
    alpha = scene["image"][2, ..., 3] / 255
    assert np.abs(alpha - opacity(camera, scene["pose"][2].astype(np.float32))).max() < 0.6 / 255
    assert 0.2 < alpha.mean() < 0.8


def test_half_resolution_is_the_mean_of_what_is_seen(folder, exact):
    _, _, images = exact
    half, small = read_blender(folder, factor=2), read_blender(folder, width=SIZE // 2)
    np.testing.assert_array_equal(half["image"], small["image"])
    np.testing.assert_allclose(half["intrinsics"] * 2, read_blender(folder)["intrinsics"], rtol=1e-12)
    unit = images / 255
    over_black = np.concatenate([unit[..., :3] * unit[..., 3:], unit[..., 3:]], axis=-1)
    expected = over_black.reshape(4, SIZE // 2, 2, SIZE // 2, 2, 4).mean(axis=(2, 4))
    found = half["image"] / 255
    found[..., :3] *= found[..., 3:]
    assert np.abs(found - expected).max() < 1.1 / 255


def test_shrinking_ignores_colours_that_cannot_be_seen():
    image = np.array([[[200, 100, 50, 255], [0, 255, 255, 0]]], np.uint8)
    np.testing.assert_array_equal(shrink(image, 1, 1), [[[200, 100, 50, 128]]])
    with pytest.raises(ValueError, match="cannot shrink to 4 x 1"):
        shrink(image, 4, 1)
    uneven = np.arange(5 * 3, dtype=np.uint8).reshape(1, 5, 3) * 9
    weights = np.array([[1, 1, 0.5, 0, 0], [0, 0, 0.5, 1, 1]]) / 2.5
    np.testing.assert_allclose(shrink(uneven, 2, 1)[0], weights @ uneven[0], atol=0.51)


def test_every_nth_frame_and_missing_frames(folder):
    np.testing.assert_array_equal(read_blender(folder, every=3)["image"], read_blender(folder)["image"][::3])
    (folder / "train/r_1.png").unlink()
    (folder / "train/r_3.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"2 of its 4 images are missing: train/r_1.png, .*every=2 reads them"):
        read_blender(folder)
    assert len(read_blender(folder, every=2)["image"]) == 2
    with pytest.warns(UserWarning, match=r"missing: train/r_1.png, train/r_3.png; these frames are left out"):
        assert len(read_blender(folder, skip_missing=True)["image"]) == 2
    for i in (0, 2):
        (folder / f"train/r_{i}.png").unlink()
    with pytest.raises(FileNotFoundError, match="4 of its 4 images"):
        read_blender(folder, skip_missing=True)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda d: d["frames"][1].update(transform_matrix=(2 * np.eye(4)).tolist()), "r_1: the pose is not a rotation"),
        (lambda d: d["frames"][2].update(transform_matrix=np.diag([1, -1, 1, 1]).tolist()), "r_2: .* reflection"),
        (lambda d: d["frames"][0].update(transform_matrix=[[1, 2], [3, 4]]), "r_0: a pose must be 3 x 4 or 4 x 4"),
        (lambda d: d["frames"][0].pop("transform_matrix"), "r_0: a pose must be"),
        (lambda d: d["frames"][0].pop("file_path"), "every frame needs a 'file_path'"),
        (lambda d: d.pop("camera_angle_x"), "no usable intrinsics"),
        (lambda d: d.update(camera_angle_x=40.0), "not inside .0, pi. radians"),
        (lambda d: d.update(frames=[]), "a list 'frames' of at least one view"),
        (lambda d: d["frames"][0].update(file_path="../x"), "outside of the scene's folder"),
    ],
)
def test_what_is_wrong_in_the_file_is_said(folder, change, message):
    edit(folder / "transforms_train.json", change)
    with pytest.raises(ValueError, match=message):
        read_blender(folder)


def test_images_that_cannot_be_used_are_named(folder):
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / "train/r_2.png")
    with pytest.raises(ValueError, match="r_2.png: 16 x 16 pixels without alpha, and r_0.png has 16 x 16 pixels with"):
        read_blender(folder)
    (folder / "train/r_2.png").write_bytes(b"not an image")
    with pytest.raises(ValueError, match="r_2.png: cannot be decoded"):
        read_blender(folder)
    Image.fromarray(np.zeros((SIZE, SIZE), np.uint16)).save(folder / "train/r_2.png")
    with pytest.raises(ValueError, match="r_2.png: mode I;16, more than 8 bits"):
        read_blender(folder)


def test_wrong_requests_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="nearest: 'test'"):
        read_blender(folder, "tst")
    with pytest.raises(FileNotFoundError, match="no transforms_val.json"):
        read_blender(folder, "val")
    with pytest.raises(ValueError, match="every is 0"):
        read_blender(folder, every=0)
    with pytest.raises(ValueError, match="factor is 2 and width 8"):
        read_blender(folder, factor=2, width=8)
    (folder / "transforms_train.json").write_text("{")
    with pytest.raises(ValueError, match="not a whole JSON file"):
        read_blender(folder)


@pytest.fixture
def photos(exact, tmp_path):
    """A folder with a transforms.json as phones and COLMAP converters write it."""
    camera, poses, images = exact
    frames = []
    for i in reversed(range(4)):
        Image.fromarray(images[i, :12, :, :3]).save(tmp_path / f"{i}.jpg", quality=95)
        frames.append({"file_path": f"{i}.jpg", "transform_matrix": poses[i].tolist()})
    described = {
        "fl_x": 30.0, "fl_y": 31.0, "cx": 8.5, "cy": 6.5, "w": SIZE, "h": 12, "k1": 0.1, "p2": -0.01, "frames": frames,
    }  # fmt: skip
    (tmp_path / "transforms.json").write_text(json.dumps(described))
    return tmp_path


def test_photographs_with_intrinsics(photos):
    train, test = (read_transforms(photos, split, hold_out_every=3) for split in ("train", "test"))
    again = read_transforms(photos / ".." / photos.name, "test", hold_out_every=3)
    assert again["name"].tolist() == test["name"].tolist()
    assert test["name"].tolist() == ["0.jpg", "3.jpg"] and train["name"].tolist() == ["1.jpg", "2.jpg"]
    np.testing.assert_allclose(train["intrinsics"], [[30, 31, 8.5, 6.5]] * 2)
    np.testing.assert_allclose(train["distortion"], [[0.1, 0, 0, -0.01]] * 2)
    half = read_transforms(photos, factor=2, hold_out_every=0)
    np.testing.assert_allclose(half["intrinsics"], [[15, 15.5, 4.25, 3.25]] * 4)
    assert half["image"].shape == (4, 6, 8, 3)


def test_a_list_of_files_makes_the_split_and_a_frame_its_own_intrinsics(photos):
    def change(described):
        described.update(train_filenames=["2.jpg", "0.jpg"], test_filenames=["1.jpg"])
        described["frames"][0 if described["frames"][0]["file_path"] == "2.jpg" else 1].update(fl_x=40.0)

    edit(photos / "transforms.json", change)
    scene = read_transforms(photos)
    assert scene["name"].tolist() == ["0.jpg", "2.jpg"]
    np.testing.assert_allclose(scene["intrinsics"][:, 0], [30, 40])


@pytest.mark.parametrize(
    "change, message",
    [
        ({"w": 4032}, "0.jpg: 16 x 12 pixels, and transforms.json gives its intrinsics for 4032 x 12"),
        ({"cx": 80.0}, "principal point .80.0, 6.5. for an image of 16 x 12"),
        ({"fl_x": -1.0}, "focal lengths are positive"),
        ({"camera_model": "OPENCV_FISHEYE"}, "camera model OPENCV_FISHEYE"),
        ({"k3": 0.5}, "with k3; only pinhole"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(photos, change, message):
    edit(photos / "transforms.json", lambda described: described.update(change))
    with pytest.raises(ValueError, match=message):
        read_transforms(photos, "test")


@pytest.mark.real_data
@pytest.mark.skipif(not os.environ.get("JAXGEN_DATA"), reason="JAXGEN_DATA is not set")
def test_the_lego_scene():
    folder = f"{os.environ['JAXGEN_DATA']}/lego"
    with pytest.raises(FileNotFoundError, match="175 of its 200 images are missing: .*every=8 reads them"):
        read_blender(folder, "test")
    scene = read_blender(folder, "test", every=8, width=100)
    assert scene["image"].shape == (25, 100, 100, 4)
    np.testing.assert_allclose(scene["intrinsics"][0], [138.88888, 138.88888, 50, 50], rtol=1e-6)
    # All cameras look at the origin from a distance of 4.03.
    np.testing.assert_allclose(np.linalg.norm(scene["pose"][:, :3, 3], axis=1), 4.031, atol=1e-3)
    ahead = scene["pose"][:, :3, 3] - 4.031 * scene["pose"][:, :3, 2]
    assert np.abs(ahead).max() < 0.01
