"""Is the game going well? Numbers about both players while they train, and what to try when one has lost.

The losses of a GAN do not fall as it improves, so a run can look alive for hours after it has died. What is looked at:
the variance of the samples beside the data's, and whether the discriminator is certain, or answers the same to all.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import gan_data
from experiments.gan_game import Game
from jaxgen import gan, metrics, training

SAMPLES = 1000

COLLAPSED = 0.05
CERTAIN = 0.01


def watcher(game: Game) -> Callable[[int, Any], None]:
    """Measures the game at a step, and says what is wrong with it once that has been seen twice in a row."""
    before: set[str] = set()
    told: set[str] = set()

    def measure(state: training.TrainState) -> dict[str, float]:
        fake, discriminator = game.fake(state.params["generator"], 4, SAMPLES), game.discriminator(state)
        real, labels = game.real(5, SAMPLES)
        real_logits = game.logits(discriminator, real, labels)
        fake_logits = game.logits(discriminator, fake, game.labels(SAMPLES))
        num = min(len(real), len(fake))
        found = look(game.losses, real_logits[:num], fake_logits[:num], real[:num], fake[:num])
        if isinstance(game.data, gan_data.Points) and np.isfinite(fake).all():
            mixture = game.data.mixture
            captured = metrics.mode_coverage(fake, np.asarray(mixture.means), mixture.std).captured
            found |= {"modes": captured, "modes_in_all": len(mixture.means)}
        # A run that has diverged is stopped by the loop.
        return {name: value for name, value in found.items() if math.isfinite(value)}

    def check(step: int, state: training.TrainState) -> None:
        found = game.run.once(f"{game.prefix}game at step {step}", lambda: measure(state))
        if step < game.config.train.num_steps // 10:
            return  # a generator may well begin with samples that are all alike
        said = complaints(found, game.config.objective.loss)
        for kind, text in said.items():
            if kind in before and kind not in told:
                print(f"{game.name or 'gan'} step {step}: {text}.", file=sys.stderr, flush=True)
                told.add(kind)
        before.clear()
        before.update(said)
        told.intersection_update(said)

    return check


def look(
    losses: gan.Losses, real_logits: np.ndarray, fake_logits: np.ndarray, real: np.ndarray, fake: np.ndarray
) -> dict[str, float]:
    """What the two players are doing.

    Args:
        losses: of the game.
        real_logits: D's answers to `real`, [N].
        fake_logits: to `fake`, [N].
        real: examples, [N, ...].
        fake: of the generator, [N, ...].

    Returns:
        Means over the N of both losses, the value of the game and D on both; the samples' variance as a share of the
        data's ("variance"), and the squared distance of the means as a share of it ("shift").
    """
    of_real, of_fake = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    each = {
        "discriminator_loss": losses.discriminator(of_real, of_fake),
        "generator_loss": losses.generator(of_fake),
        "value": gan.value(of_real, of_fake),
        "real_probability": jax.nn.sigmoid(of_real),
        "fake_probability": jax.nn.sigmoid(of_fake),
    }
    spread = lambda x: float(np.sum(np.var(x, axis=0, dtype=np.float64)))
    shift = real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
    moments = {
        "variance": spread(fake) / max(spread(real), 1e-30),
        "shift": float(np.sum(shift**2)) / max(spread(real), 1e-30),
    }
    return {name: float(jnp.mean(value)) for name, value in each.items()} | moments


def complaints(found: dict[str, float], loss: str) -> dict[str, str]:
    """What is wrong, by kind, and what to try; empty where all is well.

    Args:
        found: of `look`, with "modes" (captured) and "modes_in_all" where they are known.
        loss: name of the loss, as in the config.
    """
    said = {}
    one_mode = found.get("modes", 2) <= 1 and found.get("modes_in_all", 1) > 1
    if found["variance"] < COLLAPSED or (one_mode and found["variance"] < 0.5):
        what = f"the samples' variance is {100 * found['variance']:.2g} % of the data's"
        said["collapsed"] = (
            f"the generator has collapsed to one mode: {what}. Try --objective.penalty r1, more "
            "--objective.discriminator-steps, a lower --generator.learning-rate, or --objective.loss wasserstein with "
            "--objective.penalty gradient"
        )
    if _certain(found, loss):
        note = "; with --objective.loss saturating it gets none" if loss == "saturating" else ""
        said["certain"] = (
            f"the discriminator tells real from generated without doubt (its loss is {found['discriminator_loss']:.2g})"
            f", so the generator has little to learn from{note}. Try a lower --discriminator.learning-rate, "
            "--objective.penalty r1, --objective.spectral, or --objective.loss non_saturating"
        )
    far = found["shift"] > 0.5 or not 0.5 < found["variance"] < 2
    indifferent = max(abs(found["real_probability"] - 0.5), abs(found["fake_probability"] - 0.5)) < CERTAIN
    if far and indifferent and loss in ("non_saturating", "saturating"):
        said["indifferent"] = (
            f"the discriminator answers 1/2 to everything (value {found['value']:.4f}, at the equilibrium "
            f"{-2 * math.log(2):.4f}), although the samples are far from the data. Try a higher "
            "--discriminator.learning-rate, more --objective.discriminator-steps, or a smaller "
            "--objective.penalty-weight"
        )
    return said


def _certain(found: dict[str, float], loss: str) -> bool:
    if loss == "wasserstein":
        return False  # a critic's loss is a distance, without an end
    if loss in ("hinge", "least_squares"):
        return found["discriminator_loss"] < CERTAIN
    return found["real_probability"] > 1 - CERTAIN and found["fake_probability"] < CERTAIN
