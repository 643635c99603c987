"""The memory of this machine and of its devices."""

import os
from pathlib import Path
from typing import Any

SHARE = 0.9
"""Share of the memory that a run may take; the system and Python need the rest."""
_CGROUP = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def host_bytes() -> int:
    """Bytes of memory that a run may take of those of the machine, or of the container."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP:
        try:
            total = min(total, int(path.read_text()))
        except (OSError, ValueError):  # no such limit
            continue
    return int(SHARE * total)


def device_bytes(device: Any) -> int:
    """Bytes of memory that JAX may take of a device; of one that does not say, those of the machine."""
    statistics = device.memory_stats() if device.platform != "cpu" else None
    return (statistics or {}).get("bytes_limit") or host_bytes()
