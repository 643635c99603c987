"""Pictures and animations in files: PNG, GIF, mp4."""

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from jaxgen import files

Picture = np.ndarray


def read_png(path: str | os.PathLike) -> Picture:
    """A picture from a file, uint8 [H, W, 3].

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no PNG or JPEG, or damaged.
    """
    return np.array(files.read_image(files.as_path(path)).convert("RGB"))


def save_png(path: str | os.PathLike, image: ArrayLike) -> None:
    """Writes uint8 [H, W] or [H, W, 3] as a PNG file, completely or not at all."""
    _save(path, pillow_image(image), "PNG")


def save_gif(path: str | os.PathLike, frames: Sequence[ArrayLike] | np.ndarray, seconds_per_frame: float = 0.1) -> None:
    """Writes uint8 frames [T, H, W] or [T, H, W, 3] as a GIF that repeats forever, completely or not at all.

    GIF counts time in hundredths of a second and keeps at most 256 colours a frame; frames of
    more are approximated.

    Raises:
        ValueError: no frames, frames of different shapes, or less than 0.02 seconds a frame, which
            viewers replace by a slow default.
    """
    if not len(frames) or len({np.shape(frame) for frame in frames}) > 1:
        shapes = sorted({np.shape(frame) for frame in frames})
        raise ValueError(f"{len(frames)} frames of shapes {shapes}; need at least one, all alike")
    if not seconds_per_frame >= 0.02:
        raise ValueError(f"seconds_per_frame is {seconds_per_frame}; it must be at least 0.02")
    first, *others = (pillow_image(frame) for frame in frames)
    milliseconds = 10 * round(100 * seconds_per_frame)
    _save(path, first, "GIF", save_all=True, append_images=others, duration=milliseconds, loop=0)


def save_film(path: Path, frames: Sequence[np.ndarray], frames_per_second: int = 10) -> list[Path]:
    """Writes a GIF, and an mp4 where imageio can write one (pip install imageio-ffmpeg).

    Args:
        path: of the files, whose suffixes are replaced.
        frames: uint8 [T, H, W, 3].
        frames_per_second: speed.

    Returns:
        The files that were written.
    """
    written = [path.with_suffix(".gif")]
    save_gif(written[0], frames, 1 / frames_per_second)
    if importlib.util.find_spec("imageio_ffmpeg") is not None:
        import imageio.v3

        written.append(path.with_suffix(".mp4"))
        # H.264 wants even sizes.
        height, width = (size - size % 2 for size in frames[0].shape[:2])
        even = np.stack([frame[:height, :width] for frame in frames])
        settings = {"fps": frames_per_second, "codec": "libx264", "macro_block_size": 2}
        imageio.v3.imwrite(written[1], even, plugin="FFMPEG", **settings)
    return written


def pillow_image(image: ArrayLike) -> Any:
    """The image [H, W] or [H, W, 3], uint8, as a Pillow image."""
    from PIL import Image

    image = np.asarray(image)
    if image.dtype != np.uint8 or not (image.ndim == 2 or image.ndim == 3 and image.shape[2] == 3):
        raise ValueError(
            f"a picture has type {image.dtype} and shape {image.shape}; need uint8 [H, W] or "
            "[H, W, 3] (grid makes one from floating point)"
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _save(path: str | os.PathLike, image: Any, file_format: str, **options: Any) -> None:
    path = Path(path)
    # In the same folder, because a rename between file systems is not atomic.
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        image.save(part, file_format, **options)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
