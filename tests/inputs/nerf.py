"""Calls of `jaxgen.nerf`."""

import numpy as np

from jaxgen import nerf
from tests.inputs import call, key, unit

_SETTINGS = "makes a loss, a field, a schedule or a renderer from settings"
EXEMPT = {
    **dict.fromkeys(("decayed_rate", "nerf_loss", "network_field", "init_params"), _SETTINGS),
    **dict.fromkeys(("pixel_sampler", "ray_renderer", "view_renderer"), _SETTINGS),
    **dict.fromkeys(("rays_at_once", "free_memory"), "takes numbers"),
    "render_image": "takes a function of rays; tests/nerf/test_rendering.py",
    "warning": "reads a dictionary of metrics",
}


def calls():
    camera = nerf.Camera.from_angle(6, 4, 0.8)
    up, centre = np.array([[0, 1, 0.0]], np.float32), np.array([[0, 0, 4]], np.float32)
    poses = np.asarray(nerf.look_at(unit(3, 3) + centre, 0 * up, up))
    one = poses[0]
    t = np.sort(unit(5, 4))
    # Along -z, as normalised device coordinates need it.
    rays = tuple(sign * unit(5, 3) for sign in (1, np.array([1, 1, -1], np.float32), 1))
    field = lambda points, view: (0 * points + 0.5, 0 * points[..., 0] + 0.5)
    lens = np.array([0.01, 0.0, 0.0, 0.0])
    around = np.asarray(nerf.orbit_poses(40.0 * np.arange(9), 20.0), np.float32)
    points = {"target": unit(3), "up": np.array([0.0, 0, 1])}
    views = nerf.Views(np.zeros((1, 4, 6, 3), np.uint8), poses[:1], np.array([[6, 6, 3, 2.0]]), np.array(["a"]))
    return {
        "average_pose": call("poses", poses=poses),
        "camera_frame": call(poses=around),
        "camera_rays": call("pose", "pixels", camera=camera, pose=one, pixels=unit(5, 2)),
        "check_lens": call("distortion", camera=camera, distortion=lens),
        "check_poses": call("poses", poses=poses),
        "colmap_to_opengl": call("quaternion", "translation", quaternion=unit(5, 4), translation=unit(5, 3)),
        "composite": call(rgb=unit(5, 4, 3), density=unit(5, 4), t=t, direction=unit(5, 3)),
        "describe_poses": call("poses", poses=poses),
        "disparity": call(depth=unit(5), opacity=unit(5)),
        "distort": call("points", points=unit(5, 2), distortion=(0.01, 0.0, 0.0, 0.0)),
        "film_path": call("poses:1", poses=around, near=1.0, far=4.0, num_frames=2, up=points["up"]),
        "hemisphere": call("elevations:1", num_views=2, elevations=np.array([0, 90.0]), **points),
        "importance_samples": call(key=key(), bins=t, weights=unit(5, 3), num_samples=2),
        "invert_pose": call("pose", pose=one),
        "look_at": call("position", "target", "up", position=unit(5, 3), target=-unit(5, 3), up=unit(5, 3)),
        "midpoints": call("t", t=t),
        "move_poses": call("poses:1", poses=poses, similarity=np.diag([2, 2, 2, 1.0])),
        "ndc_project": call("points", points=unit(5, 3), camera=camera),
        "ndc_rays": call(rays=rays, camera=camera),
        "opencv_to_opengl": call("pose", pose=one),
        "opengl_to_colmap": call("pose", pose=one),
        "opengl_to_opencv": call("pose", pose=one),
        "orbit_poses": call("azimuth:1", "elevation:1", azimuth=unit(5), elevation=unit(5), **points),
        "over_background": call("image", image=unit(4, 4, 4), background=1.0),
        "panorama": call(num_frames=2, center=unit(3), up=points["up"]),
        "photometric_loss": call(coarse=unit(5, 3), fine=unit(5, 3), target=unit(5, 3)),
        "place_cameras": call("poses", poses=poses, nearest=1.0),
        "place_scene": call("poses:1", poses=around, bounds=np.array([1, 4.0])),
        "positional_encoding": call("x", x=unit(5, 3), num_frequencies=2),
        "quaternion_to_rotation": call("quaternion", quaternion=unit(5, 4)),
        "recenter_poses": call("poses", poses=poses),
        "reference_camera": call(intrinsics=1 + unit(3, 4), size=np.full((3, 2), 4)),
        "render_rays": call(key=key(), rays=rays, near=unit(5), far=1 + unit(5), coarse=field, num_coarse=3),
        "rotation_to_quaternion": call("rotation", rotation=poses[:, :3, :3]),
        "run_along_minus_z": call(views=views),
        "shifted_softplus": call("x", x=unit(5)),
        "similarity_parts": call(similarity=np.diag([2, 2, 2, 1.0])),
        "spherify_poses": call(poses=around),
        "spiral": call("poses", poses=poses, near=1.0, far=4.0, num_frames=2, up=np.array([0, 1.0, 0])),
        "stratified_samples": call("near", "far", key=key(), near=unit(5), far=1 + unit(5), num_samples=3),
        "turntable": call(num_frames=2, **points),
        "undistort": call("points", points=unit(5, 2), distortion=(0.01, 0.0, 0.0, 0.0)),
        "undistort_rays": call("pose", rays=rays, pose=one, distortion=tuple(lens)),
    }
