"""Neural radiance fields (Mildenhall et al. 2020)."""

from jaxgen.nerf import analytic_scene, convert, mesh
from jaxgen.nerf.cameras import Camera, Rays, camera_rays
from jaxgen.nerf.diagnostics import Collapsed, warning
from jaxgen.nerf.distortion import check_lens, distort, undistort, undistort_rays
from jaxgen.nerf.encoding import positional_encoding
from jaxgen.nerf.films import CameraFrame, camera_frame, film_path, move_poses, similarity_parts, spherify_poses
from jaxgen.nerf.learning_rate import decayed_rate
from jaxgen.nerf.memory import free_memory, rays_at_once
from jaxgen.nerf.ndc import ndc_project, ndc_rays, reference_camera
from jaxgen.nerf.networks import JoinedDense, NeRF, init_params, shifted_softplus
from jaxgen.nerf.objectives import Loss, nerf_loss, photometric_loss
from jaxgen.nerf.paths import hemisphere, orbit_poses, panorama, spiral, turntable
from jaxgen.nerf.placement import Placement, place_cameras, place_scene
from jaxgen.nerf.pose_report import PoseReport, describe_poses
from jaxgen.nerf.poses import (
    average_pose,
    check_poses,
    colmap_to_opengl,
    invert_pose,
    look_at,
    opencv_to_opengl,
    opengl_to_colmap,
    opengl_to_opencv,
    quaternion_to_rotation,
    recenter_poses,
    rotation_to_quaternion,
)
from jaxgen.nerf.quadrature import Composite, composite, disparity
from jaxgen.nerf.ray_sampling import importance_samples, midpoints, stratified_samples
from jaxgen.nerf.rendering import Field, Rendering, network_field, render_image, render_rays
from jaxgen.nerf.scene import BACKGROUNDS, Scene, Views, over_background, run_along_minus_z
from jaxgen.nerf.views import RenderOutput, RenderRays, RenderView, pixel_sampler, ray_renderer, view_renderer

__all__ = [
    "panorama",
    "orbit_poses",
    "spherify_poses",
    "similarity_parts",
    "move_poses",
    "film_path",
    "camera_frame",
    "CameraFrame",
    "BACKGROUNDS",
    "Camera",
    "Collapsed",
    "Composite",
    "Field",
    "JoinedDense",
    "Loss",
    "NeRF",
    "Placement",
    "PoseReport",
    "Rays",
    "RenderOutput",
    "RenderRays",
    "RenderView",
    "Rendering",
    "Scene",
    "Views",
    "analytic_scene",
    "average_pose",
    "camera_rays",
    "check_lens",
    "check_poses",
    "colmap_to_opengl",
    "composite",
    "convert",
    "decayed_rate",
    "describe_poses",
    "disparity",
    "distort",
    "free_memory",
    "hemisphere",
    "importance_samples",
    "init_params",
    "invert_pose",
    "look_at",
    "mesh",
    "midpoints",
    "ndc_project",
    "ndc_rays",
    "nerf_loss",
    "network_field",
    "opencv_to_opengl",
    "opengl_to_colmap",
    "opengl_to_opencv",
    "over_background",
    "photometric_loss",
    "pixel_sampler",
    "place_cameras",
    "place_scene",
    "positional_encoding",
    "quaternion_to_rotation",
    "ray_renderer",
    "rays_at_once",
    "recenter_poses",
    "reference_camera",
    "render_image",
    "render_rays",
    "rotation_to_quaternion",
    "run_along_minus_z",
    "shifted_softplus",
    "spiral",
    "stratified_samples",
    "turntable",
    "undistort",
    "undistort_rays",
    "view_renderer",
    "warning",
]
