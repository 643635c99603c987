"""Settings of what is measured and drawn of a trained field; none decides anything in the training."""

import dataclasses
import importlib.util
from typing import Literal

from experiments.command import checks
from jaxgen import training


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Measures, films and meshes. A finished run draws again what other settings ask for."""

    views: int = training.untracked(0)
    """number of held-out views to measure; 0: all"""
    preview_every: int = training.untracked(0)
    """steps between measures of the first held-out view while training; 0: never"""
    chunk: int = training.untracked(0)
    """rays rendered at once; 0: as many as fit in a quarter of the device's free memory"""
    film_frames: int = training.untracked(40)
    """number of frames of the film; 0: no film"""
    film_path: Literal["auto", "turntable", "spiral", "sphere", "panorama"] = training.untracked("auto")
    """"auto": a turntable, a spiral or a panorama, as cameras stand around a point, face one way or look outward"""
    film_up: Literal["auto", "+x", "-x", "+y", "-y", "+z", "-z"] = training.untracked("auto")
    """axis of the files' world that is up; "auto": as the cameras are held"""
    film_elevation: float | None = training.untracked(None)
    """degrees above the level of a turntable, or by which a panorama looks up; None: as the cameras"""
    film_distance: float = training.untracked(1.0)
    """radius of a turntable or panorama, relative to the cameras'"""
    film_width: int = training.untracked(0)
    """columns of the film; 0: those of the images"""
    film_poses: str = training.untracked("")
    """file of poses in the files' world, as camera_path.json, a frame each instead of a path; also saved one by one"""
    mesh_level: float = training.untracked(0.0)
    """density of the surface that is written to mesh.ply, 10 to 50; needs scikit-image; 0: no mesh"""
    mesh_resolution: int = training.untracked(128)
    """grid points along each edge of the mesh's box"""
    mesh_size: float = training.untracked(1.0)
    """edge of the box relative to half the cameras' distance, or inside of a room to all that they see"""
    watch_step: int = 500
    """step at which a field that is empty everywhere stops the run; 0: never"""

    def check(self) -> list[str]:
        """The problems of these settings."""
        least = dict.fromkeys(("views", "preview_every", "film_frames", "chunk", "watch_step", "film_width"), 0)
        problems = checks.bounds(self, "evaluation.", **least, mesh_resolution=2)
        if not (0 < self.film_distance < float("inf") and 0 < self.mesh_size < float("inf")):
            problems.append("evaluation.film_distance and evaluation.mesh_size must be positive numbers")
        if self.film_elevation is not None and not -90 < self.film_elevation < 90:
            problems.append(f"evaluation.film_elevation is {self.film_elevation}; it must be inside (-90, 90) degrees")
        if self.film_poses and (self.film_path, self.film_up, self.film_elevation, self.film_distance) != (
            *("auto", "auto", None, 1.0),
        ):
            problems.append("evaluation.film_poses gives each frame; leave film_path, up, elevation and distance out")
        if not 0 <= self.mesh_level < float("inf"):
            problems.append(f"evaluation.mesh_level is {self.mesh_level}; it must be 0 (no mesh) or more")
        elif self.mesh_level and importlib.util.find_spec("skimage") is None:
            problems.append("evaluation.mesh_level needs scikit-image: pip install scikit-image, or set it to 0")
        return problems
