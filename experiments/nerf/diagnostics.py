"""A check while training that stops a run whose field is empty."""

import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import data, nerf, training

RAYS = 1024
REMEDIES = (
    "Remedies, in this order: --rays.crop-steps 500 (begin in the middle of the images, where the object is); "
    "--model.density softplus (its gradient never vanishes); --optimizer.delay-steps 2500, or half the learning rate; "
    "another --seed. If none helps, look at figures/cameras.png and poses.txt: rays may miss the scene (near, far, "
    "axes). --evaluation.watch-step 0 switches this check off."
)


def callback(step: int, loss: nerf.Loss, batches: data.DeviceBatches, key: jax.Array) -> training.Callback:
    """Stops a run at `step` whose field is empty everywhere, and whose images are no better than the background.

    Raises (in training):
        Collapsed: with the remedies.
    """
    measure = jax.jit(lambda params, batch, keys: loss(params, batch, keys, None)[1])

    def check(now: int, state: training.TrainState) -> None:
        if now != step:
            return
        positions = jnp.arange(RAYS, dtype=jnp.int32)
        order, draws = (training.keys.stream(key, name) for name in ("order", "eval"))
        batch = jax.jit(batches.make)(order, batches.arrays, jnp.int32(now), positions)
        keys = training.keys.per_example(training.keys.at_step(draws, now), positions)
        metrics = jax.device_get(measure(training.fetch(state.params), batch, keys))
        check_collapse(now, metrics, np.asarray(batch["rgb"]))

    return step, check


def check_collapse(step: int, metrics: dict[str, Any], rgb: np.ndarray) -> None:
    """Raises Collapsed if the field is empty; prints a warning if it is an opaque fog, which may still change.

    Args:
        step: for the message.
        metrics: of the loss, as for `nerf.warning`.
        rgb: the images' colors, [B, 3].
    """
    found = nerf.warning(metrics, rgb)
    if found is None:
        return
    kind, text = found
    if kind == "empty":
        raise nerf.Collapsed(f"step {step}: {text} {REMEDIES}")
    print(f"step {step}: {text} {REMEDIES}", file=sys.stderr, flush=True)
