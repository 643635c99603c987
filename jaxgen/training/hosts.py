"""Several hosts, one process each, joined by jax.distributed: what they must agree on, and who writes.

Process 0 writes and reads the run directory; it alone needs the disk. The others keep their files in a scratch folder
and receive from it what they need.
"""

import json
import os
import sys
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

# A host that has not been heard of for so many seconds is lost.
HEARTBEAT = 60


class HostLost(RuntimeError):
    """Another host of this run has ended or cannot be reached."""


def join(how: str) -> None:
    """Joins the processes of one run; to be called before the devices are opened.

    Args:
        how: "auto" under SLURM, Open MPI or on TPU pods; elsewhere "host:port,processes,index", the address being that
            of process 0, and index from 0 to processes - 1; "": one process alone.

    Raises:
        ValueError: none of these, or "auto" where nothing says who the processes are.
    """
    if not how:
        return
    expected = f"--distributed is {how!r}; expected auto, or host:port,processes,index, such as node0:1234,4,0"
    options: dict[str, Any] = {"heartbeat_timeout_seconds": HEARTBEAT}
    if how != "auto":
        parts = how.split(",")
        try:
            address, number, index = parts[0], int(parts[1]), int(parts[2])
            port = int(address.rpartition(":")[2])
        except (IndexError, ValueError) as error:
            raise ValueError(expected) from error
        if len(parts) != 3 or not address.rpartition(":")[0] or not 0 < port < 2**16 or not 0 <= index < number:
            raise ValueError(expected)
        options |= {"coordinator_address": address, "num_processes": number, "process_id": index}
        options["cluster_detection_method"] = "deactivate"
    try:
        jax.distributed.initialize(**options)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"cannot join the other processes ({error}). {expected}") from error


def is_multihost() -> bool:
    """Whether `join` has joined more processes than this one; opens no devices where it was not called."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return not is_multihost() or jax.process_index() == 0


def broadcast_from_primary(value: Any) -> Any:
    """Process 0's `value`, plain data as JSON holds it, on every process. All must call it."""
    if not is_multihost():
        return value
    return json.loads(_bytes_from_primary(json.dumps(value).encode()))


def broadcast_arrays_from_primary(arrays: dict[str, np.ndarray] | None) -> dict[str, np.ndarray] | None:
    """Process 0's `arrays`, bit for bit, on every process. All must call it."""
    if not is_multihost():
        return arrays
    heads = {name: (x.dtype.str, x.shape) for name, x in (arrays or {}).items()}
    heads = broadcast_from_primary(heads if arrays is not None else None)
    if heads is None:
        return None
    received = {}
    for name, (dtype, shape) in heads.items():
        # As bytes, because a sum, which a broadcast is, turns -0.0 into 0.0.
        data = _bytes_from_primary(np.ascontiguousarray(arrays[name]).tobytes() if arrays and is_primary() else b"")
        received[name] = np.frombuffer(bytearray(data), np.dtype(dtype)).reshape(shape)
    return received


def joined(x: np.ndarray) -> np.ndarray:
    """The processes' arrays of the same shape one after another, bit for bit, on every process. All must call it."""
    if not is_multihost():
        return x
    from jax.experimental import multihost_utils

    data = np.ascontiguousarray(x).view(np.uint8).reshape(-1)
    everyone = np.asarray(multihost_utils.process_allgather(data, tiled=True))
    return everyone.view(x.dtype).reshape(-1, *x.shape[1:])


def local(tree: Any) -> Any:
    """Each array whole and of this process; with one process, as they are. All must call it.

    Those that are cut among devices are put together one after another, as NumPy arrays: no device may hold them all.
    """
    if not is_multihost():
        return tree
    from jax.experimental import multihost_utils

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable:
            return x
        return x.addressable_data(0) if x.is_fully_replicated else multihost_utils.process_allgather(x, tiled=True)

    return jax.tree.map(whole, tree)


def fetch(tree: Any) -> Any:
    """NumPy copies of the whole arrays, on every process; of what is only traced, the tracers. All must call it."""
    if any(isinstance(x, Tracer) for x in jax.tree.leaves(tree)):
        return tree
    return jax.device_get(local(tree))


def largest(number: int) -> int:
    """The largest of the processes' numbers, on every process. All must call it."""
    if not is_multihost():
        return number
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def check_same(what: str, value: Any) -> None:
    """All processes must call it with the same `value`, plain data.

    Raises:
        ValueError: on every process, where one has another value than process 0.
    """
    theirs = broadcast_from_primary(value)
    if largest(theirs != json.loads(json.dumps(value))):
        raise ValueError(f"the processes of this run do not have the same {what}; here it is {value!r}")


def leave(code: int) -> None:
    """Ends the program with this exit code.

    With several processes at once: an orderly end waits for the others, and they wait for this one.
    """
    if is_multihost():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _bytes_from_primary(data: bytes) -> bytes:
    from jax.experimental import multihost_utils

    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(data))))
    # Few lengths, since each is a program.
    padded = np.zeros(max(1024, 1 << (size - 1).bit_length() if size else 0), np.uint8)
    if is_primary():
        padded[:size] = np.frombuffer(data, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).tobytes()[:size]
