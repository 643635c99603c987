"""The engine: keys, state, update, parallel compile, loop, checkpoints, run directory.

Everything here is written once, against the shape `update(state, batch, keys, mean) -> (state, metrics)`.
"""

from jaxgen.data.batches import DeviceBatches, HostBatches

from . import hosts, keys
from .best import KeepBest
from .checkpoints import Checkpoints, DamagedCheckpoint, NonFiniteState, tree_digest
from .config import Settings, from_dict, not_finite, old_names, renamed, to_dict, untracked, untracked_fields
from .files import CannotWrite
from .hosts import HostLost, fetch
from .loop import Interrupted, NonFiniteLoss, fit, fit_together
from .mean import Mean, device_mean, exact_mean, plain_mean
from .memory import MemoryEstimate, StepCost, estimate_memory
from .optimizers import Optimizer, build_optimizer
from .parallel import MetricSums, ParallelUpdate, check_split, pick_devices
from .placement import bytes_per_device, data_parallel_size
from .run import Limits, Run, RunRefused, StoppedEarly
from .run_lock import FolderLostError
from .sampling import ParallelSampler
from .stacking import Callback, Deferred, Fit
from .state import TrainState, create_state
from .train import train, train_state
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
    "Callback",
    "Checkpoints",
    "Context",
    "DamagedCheckpoint",
    "Deferred",
    "DeviceBatches",
    "Fit",
    "FolderLostError",
    "HostBatches",
    "HostLost",
    "Interrupted",
    "KeepBest",
    "Limits",
    "Mean",
    "MemoryEstimate",
    "NonFiniteLoss",
    "NonFiniteState",
    "Objective",
    "Optimizer",
    "ParallelSampler",
    "ParallelUpdate",
    "Run",
    "RunRefused",
    "Settings",
    "StepCost",
    "StoppedEarly",
    "MetricSums",
    "TrainState",
    "Update",
    "average_parameters",
    "build_optimizer",
    "bytes_per_device",
    "check_split",
    "create_state",
    "device_mean",
    "estimate_memory",
    "exact_mean",
    "fetch",
    "fit",
    "fit_together",
    "from_dict",
    "hosts",
    "keys",
    "data_parallel_size",
    "not_finite",
    "old_names",
    "pick_devices",
    "plain_mean",
    "renamed",
    "to_dict",
    "train",
    "train_state",
    "tree_digest",
    "untracked",
    "untracked_fields",
    "update_from_objective",
    "warm_up_decay",
]
