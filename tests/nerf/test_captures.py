"""Captures of the analytic scene: what is written is what the readers give back, in each format."""

import numpy as np
import pytest

from jaxgen import data, nerf
from tests.nerf import captures
from tests.programs import compiled

LENS = (-0.08, 0.02, 0.004, -0.003)


@pytest.fixture(scope="module")
def capture():
    return captures.take(captures.ring(9), captures.cameras(9))


def both_splits(reader, folder, **settings):
    """Rows of train and test in the order of names."""
    parts = [reader(folder, split, **settings) for split in ("train", "test")]
    whole = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    order = np.argsort(whole["name"])
    return {key: values[order] for key, values in whole.items()}


def test_a_photograph_through_a_lens_shows_each_point_where_it_belongs():
    """The pixel of an observed point lies on the ray of that pixel."""
    pose, camera = captures.ring(3), captures.cameras(3, 24, 18, 26.0)
    taken = captures.take(pose, camera, LENS)
    for i in range(3):
        number, pixel = taken.seen[i]
        assert len(number) > 10
        bent = (pixel - [camera[i].center_x, camera[i].center_y]) / camera[i].focal_x
        x, y = captures.undistort(bent, taken.distortion[i]).T
        at = taken.points[number] - pose[i, :3, 3]
        ideal = np.stack([x, -y, -np.ones_like(x)], axis=-1) @ pose[i, :3, :3].T
        np.testing.assert_allclose(np.cross(ideal, at), 0, atol=1e-8)
        across, down = np.floor(pixel[0]).astype(int)
        assert np.ptp(taken.image[i].astype(int), axis=(0, 1)).max() > 60, (across, down)


def test_pictures_are_the_analytic_scenes(capture):
    exact = nerf.analytic_scene.render_view(capture.camera[2], capture.pose[2].astype(np.float32))
    difference = np.abs(capture.image[2] / 255 - np.clip(exact.color, 0, 1))
    assert difference.max() < 0.02 and difference.mean() < 0.003


@pytest.mark.parametrize("written", ["transforms", "llff", "colmap text", "colmap binary"])
def test_the_readers_give_back_what_was_written(written, capture, tmp_path):
    name, _, kind = written.partition(" ")
    moved = captures.moved(capture, captures.similarity(1))
    if name == "colmap":
        captures.write_colmap(tmp_path, moved, binary=kind == "binary")
        found = both_splits(data.read_colmap, tmp_path)
    elif name == "llff":
        captures.write_llff(tmp_path, moved)
        found = both_splits(data.read_llff, tmp_path, bound_factor=None, recenter=False)
    else:
        captures.write_transforms(tmp_path, moved)
        found = both_splits(data.read_transforms, tmp_path)
    np.testing.assert_allclose(found["pose"], moved.pose, atol=1e-9)
    np.testing.assert_array_equal(found["image"], np.stack(moved.image))
    np.testing.assert_allclose(found["intrinsics"], [[20, 20, 8, 6]] * 9)
    if name == "colmap":
        near, far = np.percentile(captures.depths(moved, 4), [0.1, 99.9])
        np.testing.assert_allclose(found["bounds"][4], [near, far], rtol=1e-9)


def test_blender_folders_keep_alpha(tmp_path):
    taken = captures.take(captures.ring(4), captures.cameras(4), background=None)
    captures.write_blender(tmp_path, taken)
    test, train = (data.read_blender(tmp_path, split) for split in ("test", "train"))
    np.testing.assert_array_equal(test["image"][0], taken.image[0])
    np.testing.assert_allclose(train["pose"], taken.pose[1:])
    np.testing.assert_allclose(train["intrinsics"], [[20, 20, 8, 6]] * 3)


def test_distorted_photographs_are_read_with_their_lens(capture, tmp_path):
    """The library's rays through the lens are those that the photographs were taken along."""
    taken = capture._replace(distortion=np.broadcast_to(np.array(LENS), (9, 4)))
    captures.write_colmap(tmp_path, taken)
    found = both_splits(data.read_colmap, tmp_path)
    np.testing.assert_allclose(found["distortion"], [LENS] * 9)
    camera, pose = taken.camera[1], taken.pose[1].astype(np.float32)
    expected = captures.rays(taken.pose[1], camera, taken.distortion[1])

    def program(pose, lens):
        straight = nerf.camera_rays(camera, pose, camera.pixels().reshape(-1, 2))
        return nerf.undistort_rays(straight, pose, lens)

    bent = compiled(program)(pose, found["distortion"][1].astype(np.float32))
    np.testing.assert_allclose(bent.direction, expected.direction, atol=2e-5)


def test_a_room_is_seen_from_inside():
    poses = captures.inside(6)
    taken = captures.take(poses, captures.cameras(6, focal=10.0), bodies=captures.ROOM, num_points=100)
    assert all(len(number) > 10 for number, _ in taken.seen)
    # Walls between 1.5 and 5 away, and nothing of the white background.
    assert all(0.5 < captures.depths(taken, i).min() and captures.depths(taken, i).max() < 5 for i in range(6))
    assert np.mean([image.min(axis=-1) for image in taken.image]) < 200
