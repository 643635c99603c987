"""The camera of a frame of a transforms.json, by its own keys and those of the file."""

import re
from pathlib import Path
from typing import Any

import numpy as np

from jaxgen.data.image_paths import find_image

DISTORTION = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")
_FOCAL = (("fl_x", "x_fov", "camera_angle_x"), ("fl_y", "y_fov", "camera_angle_y"))
_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "FULL_OPENCV", "PERSPECTIVE")
_FISHEYE = ("OPENCV_FISHEYE", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE", "FISHEYE")
CAMERA_KEYS = {*_FOCAL[0], *_FOCAL[1], *DISTORTION, "cx", "cy", "w", "h", "is_fisheye", "camera_model", "mask_path"}
AXES_KEYS = {f"{of}_{what}" for of in ("camera", "coordinate", "pose") for what in ("convention", "system")}
REFUSED = {
    "rolling_shutter": "a rolling shutter",
    "transform_matrix_start": "a pose that moves during the exposure",
    "transform_matrix_end": "a pose that moves during the exposure",
    "latlong": "a panorama",
    "equirectangular": "a panorama",
    "is_equirectangular": "a panorama",
    "orthographic": "an orthographic camera",
    "from_mitsuba": "Mitsuba's axes",
    "shift_x": "a shifted lens",
    "shift_y": "a shifted lens",
    **{name: "skewed pixels" for name in ("skew", "sk_x", "sk_y")},
    **{
        name: "a camera in another form than fl_x, fl_y, cx, cy"
        for name in ("fx", "fy", "K", "intrinsics", "intrinsic_matrix", "camera_intrinsics", "camera_matrix")
    },
    "from_na": "another convention of axes",
    "omega": "the field-of-view model of a lens",
    **{
        name: "a lens in another form than k1, k2, p1, p2"
        for name in ("distortion_params", "distortion", "distortion_coefficients", "dist_coeffs")
    },
    **{name: "an f-theta lens" for name in ("ftheta_p0", "ftheta_p1", "ftheta_p2", "ftheta_p3", "ftheta_p4")},
    **{name: "a thin prism lens" for name in ("s1", "s2", "s3", "s4", "sx1", "sy1")},
}
"""Keys that change the geometry in a way that is not supported, unless their value is null, false or zero."""


def check_keys(path: Path, place: str, part: dict[str, Any]) -> None:
    """Raises ValueError where keys of a file or a frame change the geometry in a way that is not supported.

    Args:
        path: the file, for the message.
        place: of the keys in the file, likewise.
        part: keys without nulls.
    """
    for key in sorted(AXES_KEYS & part.keys()):
        if re.search("opencv|colmap|rdf", str(part[key]), re.IGNORECASE):
            raise ValueError(
                f"{path}: {place}{key} is {part[key]!r}; expected poses with OpenGL axes: turn the cameras' y and z "
                "axes (nerf.opencv_to_opengl), and remove the key"
            )
    for key, meaning in REFUSED.items():
        if np.any(np.array(part.get(key, 0), dtype=object) != 0):
            raise ValueError(f"{path}: {place}{key}: {meaning} is not supported; remove the key if it has no effect")


class TransformsCamera:
    """The camera of a frame: its own keys, and those that it shares with the others."""

    def __init__(self, path: Path, common: dict[str, Any], frame: dict[str, Any], size: tuple[int, int]):
        self._path, self._common, self._frame, self._size = path, common, frame, size
        self._values = {**common, **frame}

    def _where(self, key: str) -> str:
        return f"{self._path}: {self._frame['file_path'] + ': ' if key in self._frame else ''}{key}"

    def _number(self, key: str, default: float | None = None, values: dict[str, Any] | None = None) -> float:
        value = (self._values if values is None else values).get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{self._where(key)} is {value!r}; expected a number")
        return float(value)

    def stated_size(self) -> tuple[float, float]:
        """(width, height) that the intrinsics are for; angles are for any size of the same proportions."""
        width, height = self._number("w", self._size[0]), self._number("h", self._size[1])
        in_pixels = any(key in self._values for key in ("fl_x", "fl_y", "cx", "cy"))
        same_shape = abs(width * self._size[1] - height * self._size[0]) <= max(width, height)
        return self._size if same_shape and not in_pixels else (width, height)

    def intrinsics(self) -> list[float]:
        """focal_x, focal_y, center_x, center_y in pixels of the file."""
        (horizontal, own), (vertical, _) = self._focal(0), self._focal(1)
        given = [focal for focal in (horizontal, vertical) if focal is not None]
        if not given:
            raise ValueError(
                f"{self._path}: {self._frame['file_path']} has no usable intrinsics; expected 'camera_angle_x' in "
                "radians, 'x_fov' in degrees or 'fl_x' in pixels"
            )
        across, down = given[0], given[-1]
        if len(given) == 2 and own in ("x_fov", "camera_angle_x") and not any(key in self._frame for key in _FOCAL[1]):
            # The frame has another field of view than the file: the pixels keep their shape.
            shared = self._of_level(self._common, 0)[0]
            down = across * (down / shared if shared else 1)
        width, height = self._size
        return [across, down, self._number("cx", width / 2), self._number("cy", height / 2)]

    def _focal(self, axis: int) -> tuple[float | None, str | None]:
        """A focal length, and the frame's own key that gives it."""
        focal, key = self._of_level(self._frame, axis)
        return (focal, key) if focal is not None else (self._of_level(self._common, axis)[0], None)

    def _of_level(self, values: dict[str, Any], axis: int) -> tuple[float | None, str | None]:
        key = next((key for key in _FOCAL[axis] if key in values), None)
        if key is None:
            return None, None
        value = self._number(key, values=values)
        if key.startswith("fl"):
            return value, key
        angle = np.radians(value) if key.endswith("fov") else value
        if not 0 < angle < np.pi:
            raise ValueError(
                f"{self._where(key)}: a field of view of {value} is not inside "
                + ("(0, 180) degrees" if key.endswith("fov") else "(0, pi) radians")
            )
        return float(0.5 * self._size[axis] / np.tan(0.5 * angle)), key

    def distortion(self) -> tuple[list[float], str]:
        """k1, k2, p1, p2, k3, k4, k5, k6 and 1 for a fisheye, and the kind of camera in words."""
        model = self._values.get("camera_model", "OPENCV")
        model = model.upper() if isinstance(model, str) else repr(model)
        if model not in _PERSPECTIVE + _FISHEYE:
            raise ValueError(
                f"{self._where('camera_model')}: camera model {model}; read are {', '.join(_PERSPECTIVE + _FISHEYE)}: "
                "undistort the images first"
            )
        flag = self._values.get("is_fisheye", model in _FISHEYE)
        if flag not in (True, False):
            raise ValueError(f"{self._where('is_fisheye')} is {flag!r}; expected true or false")
        if "camera_model" in self._values and bool(flag) != (model in _FISHEYE) and not (flag and model == "OPENCV"):
            raise ValueError(f"{self._where('is_fisheye')} is {flag}, and camera_model is {model}: which is right?")
        lens = [self._number(name, 0.0) for name in DISTORTION]
        used = {"k1", "k2", "k3", "k4"} if flag else {"k1", "k2", "p1", "p2", "k3"}
        if model == "FULL_OPENCV":
            used = set(DISTORTION)
        beyond = [name for name, value in zip(DISTORTION, lens, strict=True) if value and name not in used]
        if beyond:
            raise ValueError(
                f"{self._where(beyond[0])}: a {'fisheye' if flag else 'perspective'} lens with {', '.join(beyond)}; "
                f"read are {', '.join(sorted(used))}"
                + (
                    ". Programs differ in what k4 means: say camera_model FULL_OPENCV if k4 to k6 divide as in OpenCV, "
                    "is_fisheye if the lens is one, or undistort the images"
                    if not flag
                    else ""
                )
            )
        return [*lens, float(flag)], "fisheye" if flag else "with distortion" if any(lens) else "pinhole"

    def mask(self, folder: Path, root: Path | None) -> Path | None:
        """The file of the mask, if there is one."""
        name = self._values.get("mask_path")
        if name is None:
            return None
        if not isinstance(name, str):
            raise ValueError(f"{self._where('mask_path')} is {name!r}; expected the name of an image")
        return find_image(folder, name, root, str(self._path))
