"""The configuration of a scene."""

import dataclasses
import math
import sys
from typing import Any, Literal

from experiments.command import checks
from jaxgen import training

BOUNDED = ("llff", "colmap")


@dataclasses.dataclass(frozen=True)
class Data:
    """The scene."""

    name: Literal["marbles", "blender", "transforms", "llff", "colmap"] = "marbles"
    """"marbles" is embedded and has exact ground truth; the others are read from a folder"""
    dir: str = training.untracked("")
    """folder of the scene"""
    width: int = 0
    """columns to which images are shrunk by area averages; 0: as they are, or by `factor`"""
    factor: int = 1
    """factor by which images are shrunk instead of to a width"""
    every: int = 1
    """blender: N for every N-th training frame"""
    test_every: int = 8
    """blender: N for every N-th test frame; photographs: every N-th view is held out"""
    skip_missing: bool = False
    """blender: frames without an image are left out instead of refused"""
    train_views: int = 40
    """marbles: number of views to train on"""
    test_views: int = 4
    """marbles: number of held-out views"""
    near: float | None = None
    """where rays begin, in units of the scene along the axis of view; None: what llff and colmap say, or as
    `default_bounds`"""
    far: float | None = None
    """where rays end, likewise"""
    default_bounds: tuple[float, float] = (2.0, 6.0)
    """near and far of the other formats, whose files do not say them"""
    ndc: bool = True
    """llff, and colmap where the cameras face one way: normalised device coordinates"""
    background: Literal["white", "black", "none"] = "white"
    """behind images with alpha; "none": images are opaque, and an empty ray is black"""
    pixel_center: float = 0.5
    """where in a pixel its ray passes: 0.5 is the middle, 0.0 is as in the authors' code"""

    images: str = training.untracked("")
    """folder that holds the images, where they are not in the scene's folder"""
    scale: float = 0.0
    """factor from the world of the files to the scene; 0: 1, and for llff and colmap by the scene"""
    up: Literal["", "cameras", "+x", "-x", "+y", "-y", "+z", "-z"] = ""
    """direction in the world of the files that becomes +z; "cameras": their mean; "": nothing is turned"""
    place: Literal["", "auto", "none"] = ""
    """whether cameras are brought around the origin (a room: inside of it); "": colmap alone"""
    alpha: Literal["background", "mask"] = "background"
    """use of alpha: the images stand over `background`, or pixels with an alpha below one half are not trained on"""

    @property
    def bounded(self) -> bool:
        """Whether the files say where things are."""
        return self.name in BOUNDED

    def interval(self) -> tuple[float, float]:
        """near and far where the files say nothing."""
        near, far = self.default_bounds
        return near if self.near is None else self.near, far if self.far is None else self.far

    def upgrade(self, fields: dict[str, Any]) -> dict[str, Any]:
        """A record of 0.1.0, which had numbers for near and far; llff and colmap ignored them."""
        if "place" in fields:
            return fields
        before = fields.pop("near", 2.0), fields.pop("far", 6.0)
        if fields.get("name") in BOUNDED:
            before = None, None
        elif before == self.interval():
            before = self.near, self.far
        fields |= {"near": before[0], "far": before[1], "default_bounds": list(self.default_bounds)}
        return fields

    def check(self) -> list[str]:
        """The problems of these settings."""
        problems = [] if self.name != "marbles" else checks.bounds(self, "data.", width=1, train_views=1, test_views=1)
        near, far = self.interval()
        if self.bounded:
            near, far = near if self.near is not None else 0.0, far if self.far is not None else sys.float_info.max
        if not 0 <= near < far < math.inf:
            problems.append(f"data.near is {near} and data.far {far}; need 0 <= near < far, both finite")
        if not 0 <= self.scale < math.inf:
            problems.append(f"data.scale is {self.scale}; it must be positive, or 0")
        if self.name == "marbles" and (self.scale, self.up, self.place) != (0, "", ""):
            problems.append("data.scale, data.up and data.place are for scenes from files, not for marbles")
        return problems
