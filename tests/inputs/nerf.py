"""Calls of `jaxgen.nerf`."""

import numpy as np

from jaxgen import nerf
from tests.inputs import call, key, unit

_SETTINGS = "makes a loss, a field, a schedule or a renderer from settings"
EXEMPT = {
    **dict.fromkeys(("decayed_rate", "nerf_loss", "network_field", "init_params"), _SETTINGS),
    **dict.fromkeys(("pixel_sampler", "ray_renderer", "view_renderer"), _SETTINGS),
    **dict.fromkeys(("hemisphere", "turntable", "rays_at_once", "free_memory"), "takes numbers"),
    **dict.fromkeys(("render_image", "render_rays"), "takes rays and fields; tests/nerf/test_rendering.py"),
    **dict.fromkeys(("ndc_rays", "undistort_rays"), "takes rays; tests/nerf/test_ndc.py, test_distortion.py"),
    "warning": "reads a dictionary of metrics",
}


def calls():
    camera = nerf.Camera.from_angle(6, 4, 0.8)
    up, centre = np.array([[0, 1, 0.0]], np.float32), np.array([[0, 0, 4]], np.float32)
    poses = np.asarray(nerf.look_at(unit(3, 3) + centre, 0 * up, up))
    one = poses[0]
    t = np.sort(unit(5, 4))
    return {
        "average_pose": call("poses", poses=poses),
        "camera_rays": call("pose", "pixels", camera=camera, pose=one, pixels=unit(5, 2)),
        "check_poses": call("poses", poses=poses),
        "colmap_to_opengl": call("quaternion", "translation", quaternion=unit(5, 4), translation=unit(5, 3)),
        "composite": call(rgb=unit(5, 4, 3), density=unit(5, 4), t=t, direction=unit(5, 3)),
        "describe_poses": call("poses", poses=poses),
        "disparity": call(depth=unit(5), opacity=unit(5)),
        "distort": call("points", points=unit(5, 2), distortion=(0.01, 0.0, 0.0, 0.0)),
        "importance_samples": call(key=key(), bins=t, weights=unit(5, 3), num_samples=2),
        "invert_pose": call("pose", pose=one),
        "look_at": call("position", "target", "up", position=unit(5, 3), target=-unit(5, 3), up=unit(5, 3)),
        "midpoints": call("t", t=t),
        "ndc_project": call("points", points=unit(5, 3), camera=camera),
        "opencv_to_opengl": call("pose", pose=one),
        "opengl_to_colmap": call("pose", pose=one),
        "opengl_to_opencv": call("pose", pose=one),
        "over_background": call("image", image=unit(4, 4, 4), background=1.0),
        "photometric_loss": call(coarse=unit(5, 3), fine=unit(5, 3), target=unit(5, 3)),
        "place_cameras": call("poses", poses=poses, nearest=1.0),
        "positional_encoding": call("x", x=unit(5, 3), num_frequencies=2),
        "quaternion_to_rotation": call("quaternion", quaternion=unit(5, 4)),
        "recenter_poses": call("poses", poses=poses),
        "rotation_to_quaternion": call("rotation", rotation=poses[:, :3, :3]),
        "shifted_softplus": call("x", x=unit(5)),
        "spiral": call("poses", poses=poses, near=1.0, far=4.0, num_frames=2),
        "stratified_samples": call("near", "far", key=key(), near=unit(5), far=1 + unit(5), num_samples=3),
        "undistort": call("points", points=unit(5, 2), distortion=(0.01, 0.0, 0.0, 0.0)),
    }
