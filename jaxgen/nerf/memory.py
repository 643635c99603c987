"""How many rays to render at once.

Ours: the authors' code leaves the size of a chunk to the user.
"""

import os
from typing import Any

import jax

_LIVE = 4
"""Live activations per field evaluation, encodings included."""


def rays_at_once(num_samples: int, width: int, device: Any = None, *, share: float = 0.25, most: int = 16_384) -> int:
    """The size of a chunk that keeps to a share of the memory that is free on the device.

    Args:
        num_samples: points on each ray that the larger pass asks for (N_c + N_f).
        width: of the network's layers.
        device: from jax.devices(); None: the first.
        share: of the free memory.
        most: more is not faster.

    Returns:
        a power of two, at least 64.

    Raises:
        ValueError: a number that is not positive.
    """
    if num_samples < 1 or width < 1 or not 0 < share <= 1 or most < 1:
        raise ValueError(
            f"num_samples {num_samples}, width {width} and most {most} must be at least 1, share {share} in (0, 1]"
        )
    bytes_a_ray = _LIVE * 4 * num_samples * width
    rays = int(min(share * free_memory(device) / bytes_a_ray, most))
    return max(64, 1 << (max(rays, 1).bit_length() - 1))


def free_memory(device: Any = None) -> int:
    """Bytes free on a device; on CPU, what the operating system has to give."""
    device = jax.devices()[0] if device is None else device
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
