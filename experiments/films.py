"""Films: a GIF always, and an mp4 where imageio can write one (pip install imageio-ffmpeg)."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgen import pictures


def save(path: Path, frames: Sequence[np.ndarray], frames_per_second: int = 10) -> list[Path]:
    """Writes uint8 frames [T, H, W, 3] beside `path` with the endings .gif and .mp4, and returns what was written."""
    written = [path.with_suffix(".gif")]
    pictures.save_gif(written[0], frames, 1 / frames_per_second)
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        import imageio.v3

        written.append(path.with_suffix(".mp4"))
        # H.264 wants even sizes.
        height, width = (size - size % 2 for size in frames[0].shape[:2])
        even = np.stack([frame[:height, :width] for frame in frames])
        settings = {"fps": frames_per_second, "codec": "libx264", "macro_block_size": 2}
        imageio.v3.imwrite(written[1], even, plugin="FFMPEG", **settings)
    return written
