"""What training a published network of guided-diffusion takes, before anything is bought: bytes a device, and FLOPs.

    python -m experiments.plan_memory
    python -m experiments.plan_memory --only 64x64_diffusion --devices 8 32 --batch-size 1024 --markdown

Nothing is computed and nothing allocated: a training step is traced with shapes alone. Counted are the parameters, the
optimizer's state (AdamW's two moments), the moving average, the gradient, and what the forward pass saves for the
backward pass, with blocks that save what is inside them and with blocks computed again (remat). Saved is what JAX's
differentiation asks to be kept; the compiler drops some of it where making it again costs nothing, and adds room to
work in. FLOPs are those of the network's forward and backward pass as XLA counts them before it compiles: a product
and its sum are 2, the loss and the optimizer are left out.
"""

import dataclasses
import difflib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
import tyro

from jaxgen import diffusion, training

# A prime that no other dimension is a multiple of: an array that grows with the batch shows by its shape.
BATCH = 10_007
# Of Dhariwal & Nichol (2021); 256 for all others.
PAPER_BATCH = {"64x64_diffusion": 2048}
NETWORKS = (
    "64x64_diffusion", "128x128_diffusion", "256x256_diffusion", "512x512_diffusion", "64_256_upsampler",
    "128_512_upsampler",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Options:
    """What to plan for."""

    only: tuple[str, ...] = NETWORKS
    """released networks by the names of their files, classifiers too"""
    devices: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64, 128, 256)
    """numbers of devices that share a batch"""
    model_devices: int = 1
    """M > 1: each M devices share a model (--train.model-devices): its state is cut; what is saved, and the FLOPs, are
    of the M together"""
    batch_size: int = 0
    """over all devices; 0: the paper's"""
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """of the computation; parameters and statistics are float32"""
    json: str = ""
    """file for every number"""
    markdown: bool = False
    """print the table as Markdown"""


class Work(NamedTuple):
    """What one step of a network does.

    Attributes:
        saved: bytes that the forward pass saves for the backward pass, for each example.
        fixed: bytes that it saves whatever the batch, such as parameters in another dtype.
        flops: of forward and backward pass, for each example.
    """

    saved: float
    fixed: int
    flops: float


class Plan(NamedTuple):
    """What a network needs on a device, in bytes, and its steps' work.

    Attributes:
        parameters: of the network; their gradient and their average have as many.
        optimizer: of its state.
        plain: work where blocks save what is inside them.
        remat: work where blocks are computed again.
    """

    parameters: int
    optimizer: int
    plain: Work
    remat: Work


def work(loss: Callable[..., jax.Array], params: Any, inputs: Any) -> Work:
    """Of differentiating `loss(params, *inputs)`, a scalar.

    Args:
        loss: traced once.
        params: tree of shapes.
        inputs: trees of shapes; arrays of examples have a leading axis of `BATCH`.
    """

    def step(params, *inputs):
        value, pullback = jax.vjp(lambda params: loss(params, *inputs), params)
        (gradient,) = pullback(jnp.ones_like(value))
        return jax.tree.leaves(pullback), gradient, value

    # The residuals come first, and whatever is a parameter or an input is there in any case.
    traced = jax.jit(step).trace(params, *inputs)
    jaxpr = traced.jaxpr.jaxpr
    given = {id(variable) for variable in jaxpr.invars}
    num_residuals = len(jaxpr.outvars) - len(jax.tree.leaves(params)) - 1
    kept = {id(v): v.aval for v in jaxpr.outvars[:num_residuals] if not hasattr(v, "val") and id(v) not in given}
    saved = fixed = 0
    for x in kept.values():
        if any(size % BATCH == 0 for size in x.shape):
            saved += x.size * x.dtype.itemsize
        else:
            fixed += x.size * x.dtype.itemsize
    cost: Any = traced.lower().cost_analysis()
    return Work(saved / BATCH, fixed, cost["flops"] / BATCH)


def plan(model: diffusion.Released, dtype: str, model_devices: int = 1) -> Plan:
    """Of a released network, computing in that dtype, its state cut among so many devices."""
    size, network = model.image_size, model.network.clone(dtype=jnp.dtype(dtype))
    params = diffusion.parameter_shapes(network, size)
    of_batch = lambda *shape: jax.ShapeDtypeStruct((BATCH, *shape), jnp.float32)
    labels = jax.ShapeDtypeStruct((BATCH,), jnp.int32)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), BATCH)) if network.dropout else None
    has_labels = isinstance(network, diffusion.UNet) and network.num_classes is not None
    inputs = (of_batch(size, size, network.in_channels), of_batch(), labels if has_labels else None, keys)

    def loss_of(network):
        def loss(params, x, t, labels, keys):
            told = {} if labels is None else {"labels": labels}
            return jnp.mean(jnp.square(network.apply({"params": params}, x, t, keys=keys, **told)))

        return loss

    return Plan(
        *bytes_of(model, model_devices),
        work(loss_of(network.clone(remat=False)), params, inputs),
        work(loss_of(network.clone(remat=True)), params, inputs),
    )


def bytes_of(model: diffusion.Released, model_devices: int) -> tuple[int, int]:
    """Of a device's part of the parameters, and of the optimizer's state."""
    params = diffusion.parameter_shapes(model.network, model.image_size)
    moments = jax.eval_shape(optax.adamw(1e-4).init, params)
    return training.bytes_per_device(params, model_devices), training.bytes_per_device(moments, model_devices)


def row(name: str, needs: Plan, devices: int, batch_size: int, model_devices: int = 1) -> dict[str, Any]:
    """What each of so many devices holds, and what those that share a model save and do in a step together.

    Raises:
        ValueError: the batch does not divide.
    """
    rows = training.num_rows(devices, model_devices)
    training.check_split(batch_size, rows)
    examples = batch_size // rows
    of = lambda work: work.saved * examples + work.fixed
    held = 3 * needs.parameters + needs.optimizer
    return {
        "network": name,
        "devices": devices,
        "model_devices": model_devices,
        "examples": examples,
        "parameters": needs.parameters,
        "gradient": needs.parameters,
        "optimizer": needs.optimizer,
        "ema": needs.parameters,
        "saved": of(needs.plain),
        "saved_remat": of(needs.remat),
        "total": held + of(needs.plain),
        "total_remat": held + of(needs.remat),
        "flops": needs.plain.flops * examples,
        "flops_remat": needs.remat.flops * examples,
    }


def line(found: dict[str, Any]) -> list[str]:
    """The cells of a row: GiB and TFLOP."""
    cells = [found["network"], str(found["devices"]), str(found["examples"])]
    names = ("parameters", "gradient", "optimizer", "ema", "saved", "saved_remat", "total", "total_remat")
    cells += [f"{found[name] / 2**30:.2f}" for name in names]
    return cells + [f"{found[name] / 1e12:.2f}" for name in ("flops", "flops_remat")]


HEADER = [
    "network", "devices", "examples", "parameters GiB", "gradient GiB", "optimizer GiB", "EMA GiB", "saved GiB",
    "with remat GiB", "total GiB", "with remat GiB", "TFLOP a step", "with remat TFLOP",
]  # fmt: skip


def table(rows: list[dict[str, Any]], markdown: bool) -> str:
    """The rows as text; every number is of one device, or of those that share a model, see `Options.model_devices`."""
    lines = [HEADER, *map(line, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    if markdown:
        lines.insert(1, ["---"] * len(widths))
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join("  ".join(cell.rjust(w) for cell, w in zip(cells, widths, strict=True)) for cells in lines)


def run(options: Options) -> list[dict[str, Any]]:
    """Plans for every network, prints the table, and writes the file.

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
        needs = plan(known[name], options.dtype, options.model_devices)
        rows += [row(name, needs, devices, batch_size, options.model_devices) for devices in options.devices]
        print(f"{name}: {known[name].num_parameters:,} parameters", file=sys.stderr, flush=True)
    if options.json:
        record = {"options": dataclasses.asdict(options), "rows": rows}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n")
    print(table(rows, options.markdown))
    return rows


def main() -> None:
    try:
        run(tyro.cli(Options, prog="python -m experiments.plan_memory", description=__doc__))
    except (ValueError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
