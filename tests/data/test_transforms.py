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
        (lambda d: d["frames"][0].update(file_path=""), "every frame needs a 'file_path'"),
        (lambda d: d["frames"][0].update(file_path="a\0b"), "not a file's name"),
        (lambda d: d["frames"][1]["transform_matrix"][3].__setitem__(0, 1.0), "r_1: .*its last row is .1.0, 0.0"),
        (lambda d: d["frames"][1]["transform_matrix"][0].__setitem__(3, 1e30), "r_1: the camera stands at"),
        (lambda d: d["frames"][1].update(transform_matrix=np.diag([1.5, 1.5, 1.5, 1]).tolist()), "lengths 1.5, 1.5, 1"),
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
        ({"fl_x": 0, "fl_y": None}, "focal lengths are positive"),
        ({"camera_model": "EQUIRECTANGULAR"}, "camera model EQUIRECTANGULAR; read are OPENCV"),
        ({"camera_model": 3}, "camera model 3"),
        ({"is_fisheye": True}, "p2: a fisheye lens with p2; read are k1, k2, k3, k4"),
        ({"is_fisheye": True, "p2": 0, "camera_model": "PINHOLE"}, "is_fisheye is True, and camera_model is PINHOLE"),
        ({"k4": 0.5}, "k4: a perspective lens with k4.*FULL_OPENCV"),
        ({"k1": "0.1"}, "k1 is '0.1'; expected a number"),
        ({"fl_x": True}, "fl_x is True; expected a number"),
        ({"latlong": True}, "latlong: a panorama is not supported"),
        ({"sk_x": 0.5}, "sk_x: skewed pixels"),
        ({"fx": 20.0, "fy": 20.0}, "fx: a camera in another form than fl_x"),
        ({"K": [[20, 0, 8], [0, 20, 6], [0, 0, 1]]}, "K: a camera in another form than fl_x"),
        ({"distortion_coefficients": [0.1, 0, 0, 0]}, "distortion_coefficients: a lens in another form"),
        ({"camera_convention": "OpenCV"}, "camera_convention is 'OpenCV'; expected poses with OpenGL axes"),
        ({"coordinate_system": "colmap"}, "coordinate_system is 'colmap'; expected poses with OpenGL axes"),
        ({"rolling_shutter": [0, 0, 0.01]}, "rolling_shutter: a rolling shutter is not"),
        ({"ftheta_p0": 1.0}, "ftheta_p0: an f-theta lens is not"),
        ({"test_filenames": "0.jpg"}, "test_filenames must be a list"),
        ({"test_filenames": ["0.jpg", "9.jpg"]}, "test_filenames names 1 files that no frame has: 9.jpg"),
        ({"test_filenames": ["0.jpg"], "train_filenames": ["./0.jpg"]}, "0.jpg is in train_filenames and in test_file"),
    ],
)
def test_cameras_that_do_not_fit_are_refused(photos, change, message):
    edit(photos / "transforms.json", lambda described: described.update(change))
    with pytest.raises(ValueError, match=message):
        read_transforms(photos, "test")


NULLS = ("camera_angle_x", "k3", "is_fisheye", "camera_model", "train_filenames", "mask_path", "rolling_shutter")


def test_null_counts_as_absent_and_other_keys_are_listed(photos):
    def change(described):
        described.update({name: None for name in NULLS}, aabb_scale=16, offset=[0, 0, 1], rolling_shutter=[0, 0])
        described["frames"][0].update(fl_x=None, sharpness=3.0)

    before = read_transforms(photos)
    edit(photos / "transforms.json", change)
    scene = read_transforms(photos)
    for name, values in before.items():
        np.testing.assert_array_equal(scene[name], values)
    assert "keys without effect here: aabb_scale, offset, sharpness" in scene.report


@pytest.mark.parametrize(
    "shared, own, expected",
    [
        ({}, {"camera_angle_x": 0.8}, [SIZE / 2 / np.tan(0.4), SIZE / 2 / np.tan(0.4) * 31 / 30]),
        ({}, {"x_fov": 60.0, "y_fov": 50.0}, [SIZE / 2 / np.tan(np.pi / 6), 6 / np.tan(np.radians(25))]),
        ({}, {"fl_x": 40.0}, [40, 31]),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 0.9}, {"fl_x": 40.0}, [40, 40]),
        ({"fl_x": None, "fl_y": None, "camera_angle_x": 0.9}, {}, [SIZE / 2 / np.tan(0.45)] * 2),
        ({"fl_x": None, "fl_y": None, "camera_angle_y": 0.9}, {}, [6 / np.tan(0.45)] * 2),
        ({"fl_x": None}, {}, [31, 31]),
        ({"sk_x": 0.0, "camera_convention": "opengl", "coordinate_system": "right_handed"}, {}, [30, 31]),
    ],
)
def test_a_frames_own_key_wins(photos, shared, own, expected):
    edit(photos / "transforms.json", lambda d: (d.update(shared), [frame.update(own) for frame in d["frames"][:2]]))
    scene = read_transforms(photos, hold_out_every=0)
    np.testing.assert_allclose(scene["intrinsics"][2:, :2], [expected] * 2)


def test_every_lens_of_the_keys(photos):
    at = lambda **keys: (
        edit(photos / "transforms.json", lambda d: d.update({"k1": None, "p2": None, **keys})),
        read_transforms(photos)["distortion"][0].tolist(),
    )[1]
    assert at(k3=0.2, p1=0.1) == [0, 0, 0.1, 0, 0.2, 0, 0, 0, 0]
    assert at(k3=0.0, p1=0.0) == [0, 0, 0, 0]
    assert at(is_fisheye=True, k1=0.1, k4=0.4) == [0.1, 0, 0, 0, 0, 0.4, 0, 0, 1]
    assert at(is_fisheye=False, k4=None, camera_model="opencv") == [0, 0, 0, 0]
    full = at(camera_model="FULL_OPENCV", k1=1.0, k2=2.0, p1=3.0, p2=4.0, k3=5.0, k4=6.0, k5=7.0, k6=8.0)
    assert full == [1, 2, 3, 4, 5, 6, 7, 8, 0]


def test_a_blender_file_may_have_a_lens_and_other_sizes(folder):
    path = folder / "transforms_train.json"
    edit(path, lambda d: d.update(fl_x=20.0, cx=7.0, k1=0.2, p1=0.01))
    scene = read_blender(folder)
    np.testing.assert_allclose(scene["intrinsics"], [[20, 20, 7, 8]] * 4)
    np.testing.assert_allclose(scene["distortion"], [[0.2, 0, 0.01, 0]] * 4)
    edit(path, lambda d: d.update(w=800, h=800))
    with pytest.raises(ValueError, match="r_0.png: 16 x 16 pixels, and transforms_train.json gives .* 800 x 800"):
        read_blender(folder)
    # An angle holds at any size.
    edit(path, lambda d: [d.pop(name) for name in ("fl_x", "cx", "k1", "p1")])
    np.testing.assert_allclose(read_blender(folder)["intrinsics"][0, 2:], [8, 8])
    edit(path, lambda d: d.update(w=800, h=600))
    with pytest.raises(ValueError, match="gives its intrinsics for 800 x 600"):
        read_blender(folder)


@pytest.mark.parametrize(
    "lists, train, test",
    [
        ({"train": "01", "val": "2"}, "01", "2"),
        ({"train": "01", "val": "2", "test": "3"}, "01", "3"),
        ({"train": "01"}, "01", "23"),
        ({"test": "3"}, "012", "3"),
        ({"val": "1", "test": "3"}, "02", "3"),
        ({"train": "12", "val": "", "test": ""}, "12", "03"),
    ],
)
def test_lists_never_put_a_frame_into_both_splits(photos, lists, train, test):
    written = {f"{name}_filenames": [f".\\{i}.jpg" for i in names] for name, names in lists.items()}
    edit(photos / "transforms.json", lambda d: d.update(written))
    for split, names in (("train", train), ("test", test)):
        assert read_transforms(photos, split)["name"].tolist() == [f"{i}.jpg" for i in names]


def test_lists_name_the_files_or_the_frames_as_they_are_written(photos):
    def change(described):
        described.update(test_filenames=["1.jpg", "2"], train_filenames=["./0.jpg"], w=SIZE + 1e-9)
        names = {"1.jpg": str(photos / "1.jpg"), "2.jpg": "2", "0.jpg": "0"}
        for frame in described["frames"]:
            frame["file_path"] = names.get(frame["file_path"], "3.jpg")

    edit(photos / "transforms.json", change)
    assert read_transforms(photos, "test")["name"].tolist() == ["1.jpg", "2.jpg"]
    assert read_transforms(photos)["name"].tolist() == ["0.jpg"]


def test_lists_that_leave_nothing_and_a_frame_that_is_there_twice(photos):
    edit(photos / "transforms.json", lambda d: d.update(train_filenames=[f"{i}.jpg" for i in range(4)]))
    with pytest.raises(ValueError, match="train_filenames leave no frame for the split 'test'"):
        read_transforms(photos, "test")
    edit(photos / "transforms.json", lambda d: d["frames"].append({**d["frames"][0], "file_path": "x/../3"}))
    with pytest.raises(ValueError, match="3.jpg and x/../3 are two frames with one image, .*3.jpg"):
        read_transforms(photos)


def test_frames_that_mean_one_image_are_refused(folder):
    edit(
        folder / "transforms_train.json",
        lambda d: [f.update(file_path=f"/{i}/train/r_0") for i, f in enumerate(d["frames"])],
    )
    with pytest.raises(ValueError, match="/0/train/r_0 and /1/train/r_0 are two frames with one image, .*r_0.png"):
        read_blender(folder)


def test_a_principal_point_far_from_the_middle_is_reported(photos):
    assert "principal" not in " ".join(read_transforms(photos).report)
    edit(photos / "transforms.json", lambda d: d.update(w=None, h=None, cx=4.25, cy=3.25))
    assert "3 principal points are far from the middle: cropped, or intr" in " ".join(read_transforms(photos).report)


def test_the_other_kind_of_scene_is_named(folder, photos):
    with pytest.raises(FileNotFoundError, match="no transforms.json .* --data.name blender"):
        (photos / "transforms.json").rename(photos / "other.json")
        read_transforms(folder)
    with pytest.raises(FileNotFoundError, match="no transforms_val.json .* --data.name transforms"):
        read_blender(folder, "val")


def test_images_beside_the_scene_and_without_a_suffix(photos, tmp_path_factory):
    scene = tmp_path_factory.mktemp("scene")
    (scene / "transforms.json").write_bytes("\ufeff".encode() + (photos / "transforms.json").read_bytes())
    edit_bom = json.loads((scene / "transforms.json").read_text(encoding="utf-8-sig"))
    for frame in edit_bom["frames"]:
        frame["file_path"] = f"../{photos.name}/{frame['file_path'][:-4]}"
    (scene / "transforms.json").write_text(json.dumps(edit_bom), encoding="utf-8-sig")
    with pytest.raises(ValueError, match="outside of the scene's folder .*--data.images"):
        read_transforms(scene)
    found, expected = read_transforms(scene, images=photos), read_transforms(photos)
    np.testing.assert_array_equal(found["image"], expected["image"])
    assert any("3 images have another suffix" in line for line in found.report)
    with pytest.raises(FileNotFoundError, match="images= .--data.images. must be"):
        read_transforms(scene, images=photos / "nowhere")


def test_masks_sizes_and_orientations_in_one_scene(photos):
    """Image 2 is a portrait, image 1 has a mask."""
    portrait = np.random.default_rng(0).integers(0, 256, (SIZE, 12, 3), dtype=np.uint8)
    Image.fromarray(portrait).save(photos / "2.png")
    Image.fromarray(np.eye(12, SIZE, dtype=np.uint8) * 255).save(photos / "mask.png")

    def change(described):
        frames = {frame["file_path"]: frame for frame in described["frames"]}
        frames["2.jpg"].update(file_path="2.png", w=12, h=SIZE, cx=6.0, cy=8.0, fl_x=32.0)
        frames["1.jpg"].update(mask_path="mask.png")

    edit(photos / "transforms.json", change)
    scene = read_transforms(photos, hold_out_every=3)
    assert scene["size"].tolist() == [[SIZE, 12], [12, SIZE]] and scene["image"].shape == (2, SIZE, SIZE, 3)
    np.testing.assert_array_equal(scene["image"][1, :, :12], portrait)
    np.testing.assert_allclose(scene["intrinsics"], [[30, 31, 8.5, 6.5], [32, 31, 6, 8]])
    assert scene["mask"][0].sum() == 12 and scene["mask"][1].sum() == SIZE * 12
    assert "masks: 1 images have one" in scene.report
    half = read_transforms(photos, width=8, hold_out_every=3)
    assert half["size"].tolist() == [[8, 6], [6, 8]]
    np.testing.assert_allclose(half["intrinsics"][1], [16, 15.5, 3, 4])
    (photos / "mask.png").unlink()
    with pytest.raises(FileNotFoundError, match="no mask .*mask.png"):
        read_transforms(photos, hold_out_every=3)


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
