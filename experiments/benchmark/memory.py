"""Memory and FLOP estimate for training the released networks of guided-diffusion, without allocating anything.

    python -m experiments.benchmark.memory
    python -m experiments.benchmark.memory --only 64x64_diffusion --devices 8 32 --batch-size 1024 --markdown

The estimate is `training.estimate_memory`'s: parameters, the optimizer's state (AdamW's two moments), the moving
average, the gradient, and what the forward pass saves for the backward pass, with blocks that save their activations
and with blocks that are computed again (remat). FLOPs are those of the network's forward and backward pass; the loss
and the optimizer are left out.
"""

import dataclasses
import difflib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
import tyro

from experiments.command import cli, terminal
from jaxgen import diffusion, training

# Of Dhariwal & Nichol (2021); 256 for all others.
PAPER_BATCH = {"64x64_diffusion": 2048}
NETWORKS = (
    "64x64_diffusion", "128x128_diffusion", "256x256_diffusion", "512x512_diffusion", "64_256_upsampler",
    "128_512_upsampler",
)  # fmt: skip
GIB, TERA = 2**30, 1e12
# {heading: (key of a row, its unit)}
COLUMNS = {
    "network": ("network", None), "devices": ("devices", None), "examples": ("examples", None),
    "parameters GiB": ("parameters", GIB), "gradient GiB": ("gradient", GIB), "optimizer GiB": ("optimizer", GIB),
    "EMA GiB": ("ema", GIB), "saved GiB": ("saved", GIB), "with remat GiB": ("saved_remat", GIB),
    "total GiB": ("total", GIB), "total with remat GiB": ("total_remat", GIB),
    "TFLOP a step": ("flops", TERA), "with remat TFLOP": ("flops_remat", TERA),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What to estimate."""

    only: tuple[str, ...] = NETWORKS
    """released networks by the names of their files, classifiers too"""
    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """numbers of devices that share a batch"""
    model_parallel_size: int = training.renamed(1, "model_devices")
    """M > 1: each M devices share a model (--train.model-parallel-size) and its state; FLOPs and what is saved are
    of the M together"""
    batch_size: int = 0
    """examples a step, over all devices; 0: the paper's"""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """dtype of the computation; parameters and statistics are float32"""
    json: str = ""
    """file for every number"""
    markdown: bool = False
    """print the table as Markdown"""


def estimate(
    model: diffusion.Released, dtype: str, model_parallel_size: int = 1
) -> tuple[training.MemoryEstimate, training.MemoryEstimate]:
    """Estimates of a released network without and with remat, computing in that dtype."""
    size, network = model.model.shape[0], model.model.network.clone(dtype=jnp.dtype(dtype))
    params = diffusion.parameter_shapes(network, size)
    batch = {
        "x": jax.ShapeDtypeStruct((1, size, size, network.in_channels), jnp.float32),
        "t": jax.ShapeDtypeStruct((1,), jnp.float32),
    }
    if isinstance(network, diffusion.UNet) and network.num_classes is not None:
        batch["labels"] = jax.ShapeDtypeStruct((1,), jnp.int32)

    def loss_of(network: Any) -> training.Objective:
        def loss(params, batch, keys, context):
            cond = {"labels": batch["labels"]} if "labels" in batch else {}
            keys = keys if network.dropout else None
            output = network.apply({"params": params}, batch["x"], batch["t"], keys=keys, **cond)
            return jnp.mean(jnp.square(output), axis=range(1, output.ndim)), {}

        return loss

    options = {"ema": True, "model_parallel_size": model_parallel_size}
    estimate = lambda network: training.estimate_memory(loss_of(network), params, batch, optax.adamw(1e-4), **options)
    return estimate(network.clone(remat=False)), estimate(network.clone(remat=True))


def row(
    name: str,
    estimates: Sequence[training.MemoryEstimate],
    devices: int,
    batch_size: int,
    model_parallel_size: int = 1,
) -> dict[str, Any]:
    """Bytes on each device, and the bytes saved and FLOPs of the devices that share a model.

    Args:
        name: of the network.
        estimates: without and with remat.
        devices: number of devices.
        batch_size: examples a step, over all devices.
        model_parallel_size: number of devices that share a model.

    Raises:
        ValueError: the batch does not divide.
    """
    data_parallel_size = training.data_parallel_size(devices, model_parallel_size)
    training.check_split(batch_size, data_parallel_size)
    examples, state = batch_size // data_parallel_size, estimates[0]
    found = {"network": name, "devices": devices, "model_parallel_size": model_parallel_size, "examples": examples}
    found |= {"parameters": state.parameters, "gradient": state.parameters}
    found |= {"optimizer": state.optimizer, "ema": state.ema}
    for suffix, estimate in zip(("", "_remat"), estimates, strict=True):
        found |= {f"saved{suffix}": estimate.saved(examples), f"total{suffix}": estimate.total(examples)}
        found[f"flops{suffix}"] = estimate.flops(examples)
    return found


def table(rows: list[dict[str, Any]], markdown: bool) -> str:
    """The rows as text; numbers are of one device, or of those that share a model (`Options.model_parallel_size`)."""
    cell = lambda value, unit: str(value) if unit is None else f"{value / unit:.2f}"
    lines = [[cell(row[key], unit) for key, unit in COLUMNS.values()] for row in rows]
    return terminal.table([list(COLUMNS), *lines], markdown, align_right=True)


def run(options: Options) -> list[dict[str, Any]]:
    """Estimates for every network, prints the table, and writes the file.

    Raises:
        ValueError: an unknown network, no devices, or a batch that they cannot share.
    """
    known = {name.removesuffix(".pt"): model for name, model in diffusion.released().items()}
    names = [name.removesuffix(".pt") for name in options.only]
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
            raise ValueError(f"no network {name!r}; the nearest is {near!r}, all are {', '.join(known)}")
    if min(options.devices, default=0) < 1 or options.batch_size < 0:
        raise ValueError(f"devices are {options.devices}, batch_size {options.batch_size}; expected at least 1 and 0")
    rows = []
    for name in names:
        batch_size = options.batch_size or PAPER_BATCH.get(name, 256)
        estimates = estimate(known[name], options.dtype, options.model_parallel_size)
        rows += [row(name, estimates, devices, batch_size, options.model_parallel_size) for devices in options.devices]
        print(f"{name}: {known[name].num_parameters:,} parameters", file=sys.stderr, flush=True)
    if options.json:
        record = {"options": dataclasses.asdict(options), "rows": rows}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows, options.markdown))
    return rows


def main() -> None:
    arguments = cli.rename_flags(training.old_names(Options()), sys.argv[1:])
    options = tyro.cli(Options, args=arguments, prog="python -m experiments.benchmark.memory", description=__doc__)
    with terminal.errors_exit():
        run(options)


if __name__ == "__main__":
    main()
