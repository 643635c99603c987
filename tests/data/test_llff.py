"""LLFF scenes: axes, scale, recentring and hold-out against the authors' code, written here in NumPy."""

import jax
import numpy as np
import pytest
from PIL import Image

from jaxgen.data import read_llff
from jaxgen.data.llff import average
from jaxgen.nerf import check_poses, recenter_poses

H, W, N = 12, 16, 9


def poses_in_opengl():
    """Cameras on a slightly uneven plane, looking roughly along -z, in an arbitrary world."""
    rng = np.random.default_rng(0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    poses = []
    for _ in range(N):
        small, _ = np.linalg.qr(np.eye(3) + 0.05 * rng.normal(size=(3, 3)))
        small = small * np.sign(np.diag(small))
        centre = turn @ rng.normal(size=3)
        poses.append(np.concatenate([turn @ small, centre[:, None]], axis=1))
    return np.stack(poses)


@pytest.fixture
def folder(tmp_path):
    poses = poses_in_opengl()
    right, up, back, centre = (poses[:, :, i] for i in range(4))
    hwf = np.broadcast_to([H, W, 20.0], (N, 3))
    columns = np.stack([-up, right, back, centre, hwf], axis=-1)
    bounds = np.stack([np.linspace(2, 3, N), np.linspace(20, 30, N)], axis=1)
    np.save(tmp_path / "poses_bounds.npy", np.concatenate([columns.reshape(N, 15), bounds], axis=1))
    (tmp_path / "images").mkdir()
    for i in range(N):
        pixels = np.random.default_rng(i).integers(0, 256, (H, W, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/IMG_{i:02}.png")
    return tmp_path


def test_axes_and_scale(folder):
    scene = read_llff(folder, recenter=False, hold_out_every=0)
    check_poses(scene["pose"])
    expected = poses_in_opengl()
    np.testing.assert_allclose(scene["pose"][:, :3, :3], expected[:, :, :3], atol=1e-12)
    np.testing.assert_allclose(scene["pose"][:, :3, 3], expected[:, :, 3] / 1.5, atol=1e-12)
    np.testing.assert_allclose(scene["bounds"][0], [2 / 1.5, 20 / 1.5])
    np.testing.assert_allclose(scene["bounds"].min(), 1 / 0.75)
    np.testing.assert_allclose(scene["intrinsics"], [[20, 20, 8, 6]] * N)


def test_recentring_is_before_the_split_and_as_in_the_mathematics(folder):
    everything = read_llff(folder, hold_out_every=0)
    plain = read_llff(folder, hold_out_every=0, recenter=False)
    recentred = jax.jit(recenter_poses)(plain["pose"].astype(np.float32))
    np.testing.assert_allclose(everything["pose"], recentred, atol=2e-6)
    assert (everything["pose"][:, 2, 2] > 0.9).all()
    train, test = read_llff(folder), read_llff(folder, "test")
    np.testing.assert_array_equal(test["pose"], everything["pose"][::8])
    assert test["name"].tolist() == ["images/IMG_00.png", "images/IMG_08.png"] and len(train["name"]) == 7


def test_small_images_are_read_where_they_are_there(folder):
    shrunk = read_llff(folder, factor=4)
    assert shrunk["image"].shape == (7, 3, 4, 3)
    np.testing.assert_allclose(shrunk["intrinsics"][0], [5, 5, 2, 1.5])
    (folder / "images_4").mkdir()
    for i in range(N):
        Image.fromarray(np.full((3, 4, 3), i, np.uint8)).save(folder / f"images_4/{i}.png")
    scene = read_llff(folder, factor=4)
    assert scene["image"][:, 0, 0, 0].tolist() == list(range(1, 8))
    np.testing.assert_allclose(scene["intrinsics"][0], [5, 5, 2, 1.5])


def test_what_does_not_fit_is_refused(folder):
    rows = np.load(folder / "poses_bounds.npy")

    def refused(changed, message, **settings):
        np.save(folder / "poses_bounds.npy", changed)
        with pytest.raises(ValueError, match=message):
            read_llff(folder, **settings)
        np.save(folder / "poses_bounds.npy", rows)

    refused(rows[:, :16], r"shape \(9, 16\); expected \[N, 17\]")
    refused(rows[:8], "has 8 poses and .*images 9 images")
    changed = rows.copy()
    changed[3, 15:] = 5, 4
    refused(changed, r"view 3 has bounds \[5.0, 4.0\]; expected 0 < near < far")
    changed = rows.copy()
    changed[2, :15] *= 2
    refused(changed, "view 2 .IMG_02.png.: the pose is not a rotation")
    changed = rows.copy()
    changed[:, [4, 9]] *= 2
    refused(changed, "images of 32 x 24 pixels, and the files have 16 x 12")
    refused(rows, "hold_out is 1", hold_out_every=1)
    (folder / "poses_bounds.npy").write_bytes(b"x")
    with pytest.raises(ValueError, match="poses_bounds.npy: not a whole .npy array"):
        read_llff(folder)


def test_strips_flown_to_and_fro_and_a_ring_have_an_average(folder):
    """The mean up or the mean axis is exactly zero; the average is then that of cameras turned upright."""
    poses = np.tile(np.eye(4), (4, 1, 1))
    poses[:, 0, 3] = np.arange(4)
    poses[1::2, :3, :2] *= -1
    np.testing.assert_allclose(average(poses)[:, :3], np.eye(4)[:, :3], atol=1e-12)
    np.testing.assert_allclose(average(poses)[:3, 3], [1.5, 0, 0])
    turns = [np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]]) for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1))]
    poses[:, :3, :3] = np.stack(turns)
    check_poses(average(poses))
    np.testing.assert_allclose(average(poses)[:3, :3], np.eye(3), atol=1e-12)


def test_rows_that_are_no_array_of_numbers_are_named(folder):
    path = folder / "poses_bounds.npy"
    with open(path, "wb") as file:
        np.savez(file, rows=np.zeros((N, 17)))
    with pytest.raises(ValueError, match=r"poses_bounds\.npy.*zip archive"):
        read_llff(folder)
    np.save(path, np.zeros((N, 17), complex))
    with pytest.raises(ValueError, match=r"poses_bounds\.npy.*complex128.*\[N, 17\]"):
        read_llff(folder)
