"""The engine: keys, state, update, parallel compile, loop, checkpoints, run directory.

Everything here is written once, against the shape `update(state, batch, keys, mean) -> (state, metrics)`.
"""

from . import hosts, keys
from .batches import DeviceBatches, HostBatches
from .checkpoints import Checkpoints, DamagedCheckpoint, NonFiniteState, tree_digest
from .config import Settings, free, to_dict
from .drawing import ParallelDraw
from .files import CannotWrite
from .hosts import HostLost, fetch
from .loop import Every, Interrupted, NonFiniteLoss, fit, pick_devices
from .mean import Mean, device_mean, exact_mean, plain_mean
from .parallel import ParallelUpdate, Tally, check_split
from .placement import bytes_per_device, num_rows
from .run import Run, RunRefused
from .state import TrainState, create_state
from .update import (
    Context,
    Objective,
    Update,
    average_parameters,
    update_from_objective,
    warm_up_decay,
)

__all__ = [
    "CannotWrite",
    "Checkpoints",
    "Context",
    "DamagedCheckpoint",
    "DeviceBatches",
    "Every",
    "HostBatches",
    "HostLost",
    "Interrupted",
    "Mean",
    "NonFiniteLoss",
    "NonFiniteState",
    "Objective",
    "ParallelDraw",
    "ParallelUpdate",
    "Run",
    "RunRefused",
    "Settings",
    "Tally",
    "TrainState",
    "Update",
    "average_parameters",
    "bytes_per_device",
    "check_split",
    "create_state",
    "device_mean",
    "exact_mean",
    "fetch",
    "fit",
    "free",
    "hosts",
    "keys",
    "num_rows",
    "pick_devices",
    "plain_mean",
    "to_dict",
    "tree_digest",
    "update_from_objective",
    "warm_up_decay",
]
