"""Files of camera poses: what is written is read, and what is no pose is refused."""

import json

import numpy as np
import pytest

from jaxgen import data
from tests.nerf import numpy_cameras

POSES = np.stack([numpy_cameras.look_at(place) for place in ((3.0, 0.0, 1.0), (0.0, -4.0, 0.5))])


def test_poses_and_cameras_come_back(tmp_path):
    data.write_camera_path(
        tmp_path / "path.json", POSES, (20.0, 21.0, 8.0, 6.0), (16, 12), ["a.png", "b.png"], scale=2.5
    )
    np.testing.assert_array_equal(data.read_camera_path(tmp_path / "path.json"), POSES)
    written = json.loads((tmp_path / "path.json").read_text())
    camera = {"fl_x": 20.0, "fl_y": 21.0, "cx": 8.0, "cy": 6.0, "w": 16, "h": 12}
    assert written["scale"] == 2.5 and written["frames"][1] == {
        "file_path": "b.png",
        **camera,
        "transform_matrix": POSES[1].tolist(),
    }
    np.save(tmp_path / "path.npy", POSES[:, :3])
    (tmp_path / "list.json").write_text(json.dumps(POSES.tolist()))
    for name in ("path.npy", "list.json"):
        np.testing.assert_array_equal(data.read_camera_path(tmp_path / name), POSES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "not a whole JSON file"),
        ("3", "a JSON int"),
        ("[]", "there is no pose in it"),
        ('{"frames": []}', "there is no pose in it"),
        ('{"frames": [{"file_path": "a"}]}', "no list 'frames' with a 'transform_matrix' each"),
        ('{"camera_angle_x": 1}', "no list 'frames'"),
        ("[[1, 2, 3]]", "pose 0: a pose must be 3 x 4 or 4 x 4 finite numbers"),
        (json.dumps([(2 * POSES[0]).tolist()]), "pose 0: the pose is not a rotation"),
    ],
)
def test_what_is_no_pose_is_refused(text, message, tmp_path):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        data.read_camera_path(tmp_path / "x.json")
    assert "x.json" in str(error.value)


def test_damaged_arrays_are_refused(tmp_path):
    np.save(tmp_path / "flat.npy", POSES[0])
    with pytest.raises(ValueError, match=r"an array of float64 \(4, 4\); expected numbers"):
        data.read_camera_path(tmp_path / "flat.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "flat.npy").read_bytes()[:90])
    with pytest.raises(ValueError, match="not a whole .npy array"):
        data.read_camera_path(tmp_path / "cut.npy")
    np.save(tmp_path / "object.npy", np.array([{}]), allow_pickle=True)
    with pytest.raises(ValueError, match="not a whole .npy array"):
        data.read_camera_path(tmp_path / "object.npy")
    with pytest.raises(FileNotFoundError, match="no file .*none.json with camera poses"):
        data.read_camera_path(tmp_path / "none.json")


@pytest.mark.parametrize("name", ["path.json", "path.npy"])
def test_mutated_files_give_a_clear_error_or_poses(name, tmp_path):
    np.save(tmp_path / "path.npy", POSES)
    data.write_camera_path(tmp_path / "path.json", POSES, (20.0, 21.0, 8.0, 6.0), (16, 12))
    path, rng = tmp_path / name, np.random.default_rng(0)
    content, refused = path.read_bytes(), 0
    for _ in range(300):
        changed = bytearray(content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content)
        # The header of an array is in its first bytes.
        for at in rng.integers(0, min(len(changed), 130 if name == "path.npy" else len(content)), 3):
            changed[at] = rng.integers(0, 256)
        path.write_bytes(changed)
        try:
            found = data.read_camera_path(path)
            assert found.ndim == 3 and found.shape[1:] == (4, 4) and np.isfinite(found).all()
        except ValueError as error:
            assert name in str(error)
            refused += 1
    assert refused > 200
