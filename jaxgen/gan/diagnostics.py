"""Diagnostics of GAN training: what the losses do not show.

The losses of a GAN do not fall as its samples improve. What can be watched instead: the variance of the samples
relative to the data's, whether the discriminator is certain of every example or indifferent to all, and, where the
density of the data is known, the distance of D from the optimal discriminator of Goodfellow et al. (2014).
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.arguments import Count, Float, Host, Real, takes
from jaxgen.gan.game import optimal_logits
from jaxgen.gan.objectives import VALUE_AT_EQUILIBRIUM, Losses, value
from jaxgen.metrics import parzen_log_density

COLLAPSED = 0.05
"""The samples' variance, as a share of the data's, below which the generator counts as collapsed."""
CERTAIN = 0.01
"""Distance of D's mean probabilities from 0 and 1, or from 1/2, below which it counts as certain, or indifferent."""


@takes(
    real_logits=Float("N"), fake_logits=Float("N"), real=Host("_ ...", finite=False), fake=Host("_ ...", finite=False)
)
def diagnose(losses: Losses, real_logits: Any, fake_logits: Any, real: Any, fake: Any) -> dict[str, float]:
    """The state of the game on as many real as generated examples.

    Args:
        losses: what each player minimizes.
        real_logits: D's logits of `real`, [N].
        fake_logits: D's logits of `fake`, [N].
        real: examples, [N, ...].
        fake: generated examples, [N, ...].

    Returns:
        Means over N: "discriminator_loss", "generator_loss", the "value" of the game, "real_probability" and
        "fake_probability" (of D). Also "variance", that of the samples as a share of the data's, and "shift", the
        squared distance of the means as a share of the data's variance.

    Raises:
        ValueError: the logits have different shapes.
    """
    real_logits, fake_logits = jnp.asarray(real_logits), jnp.asarray(fake_logits)
    per_example = {
        "discriminator_loss": losses.discriminator(real_logits, fake_logits),
        "generator_loss": losses.generator(fake_logits),
        "value": value(real_logits, fake_logits),
        "real_probability": jax.nn.sigmoid(real_logits),
        "fake_probability": jax.nn.sigmoid(fake_logits),
    }
    real, fake = np.asarray(real), np.asarray(fake)
    spread = lambda x: float(np.sum(np.var(x, axis=0, dtype=np.float64)))
    shift = real.mean(axis=0, dtype=np.float64) - fake.mean(axis=0, dtype=np.float64)
    moments = {
        "variance": spread(fake) / max(spread(real), 1e-30),
        "shift": float(np.sum(shift**2)) / max(spread(real), 1e-30),
    }
    return {name: float(jnp.mean(values)) for name, values in per_example.items()} | moments


def warnings(diagnosis: Mapping[str, float], loss: str = "non_saturating") -> dict[str, str]:
    """What is wrong with the game, and what to try.

    Early in training the samples of a healthy generator may all be alike: ask later, and act on what lasts.

    Args:
        diagnosis: of `diagnose`, with "modes" (found) and "modes_in_all" where they are known.
        loss: "non_saturating", "saturating", "least_squares", "wasserstein" or "hinge".

    Returns:
        {kind: sentence}, kinds "collapsed", "certain" and "indifferent"; empty where nothing is wrong.
    """
    texts = {}
    one_mode = diagnosis.get("modes", 2) <= 1 and diagnosis.get("modes_in_all", 1) > 1
    if diagnosis["variance"] < COLLAPSED or (one_mode and diagnosis["variance"] < 0.5):
        texts["collapsed"] = (
            "the generator has collapsed to one mode: the samples' variance is "
            f"{100 * diagnosis['variance']:.2g} % of the data's. Try an R1 penalty, more discriminator steps, a lower "
            "learning rate of the generator, or the Wasserstein loss with a gradient penalty"
        )
    if _is_certain(diagnosis, loss):
        note = "; the saturating loss has no gradient there" if loss == "saturating" else ""
        texts["certain"] = (
            "the discriminator separates real from generated examples with certainty (its loss is "
            f"{diagnosis['discriminator_loss']:.2g}), so the generator has little gradient{note}. Try a lower learning "
            "rate of the discriminator, an R1 penalty, spectral normalisation, or the non-saturating loss"
        )
    far = diagnosis["shift"] > 0.5 or not 0.5 < diagnosis["variance"] < 2
    distances = [abs(diagnosis[name] - 0.5) for name in ("real_probability", "fake_probability")]
    if far and max(distances) < CERTAIN and loss in ("non_saturating", "saturating"):
        values = f"value {diagnosis['value']:.4f}, at the equilibrium {VALUE_AT_EQUILIBRIUM:.4f}"
        texts["indifferent"] = (
            f"D is 1/2 everywhere ({values}), although the samples are far from the data. Try a higher learning rate "
            "of the discriminator, more discriminator steps, or a smaller weight of the penalty"
        )
    return texts


class LastingWarnings:
    """Of the warnings of successive steps those that come twice in a row, each once until it is gone."""

    def __init__(self):
        self._before: set[str] = set()
        self._reported: set[str] = set()

    def __call__(self, found: Mapping[str, str]) -> dict[str, str]:
        """Those of `warnings` that are to be reported at this step: {kind: sentence}."""
        new = found.keys() & self._before - self._reported
        self._before, self._reported = set(found), (self._reported | new) & found.keys()
        return {kind: text for kind, text in found.items() if kind in new}


@takes(samples=Float("_ D"), x=Host("_ D", dtype=None, finite=False), width=Real(positive=True), batch_size=Count())
def estimate_optimal_logits(
    real_log_density: Callable[[jax.Array], jax.Array],
    samples: Any,
    x: Any,
    width: float,
    *,
    floor: float = -math.inf,
    batch_size: int = 1000,
) -> np.ndarray:
    """Logits of D* at x, log p_r - log p_g, with a Parzen estimate of the generator's density.

    The estimate is smoothed by a Gaussian of standard deviation `width`. Smooth p_r by the same Gaussian (for a mixture
    of Gaussians: add width^2 to the variance), so that D* = 1/2 where the two distributions agree.

    Args:
        real_log_density: log p_r, smoothed: [n, D] -> [n], nats.
        samples: of the generator, [S, D].
        x: points, [N, D].
        width: standard deviation of the smoothing.
        floor: log density that is added to both, so that their ratio is 1 where both are far below it.
        batch_size: points at a time.

    Returns:
        [N], nats.
    """
    x, parts = np.asarray(x), []
    for start in range(0, len(x), batch_size):
        part = jnp.asarray(x[start : start + batch_size])
        densities = real_log_density(part), parzen_log_density(part, jnp.asarray(samples), width)
        parts.append(np.asarray(optimal_logits(*(jnp.logaddexp(density, floor) for density in densities))))
    return np.concatenate(parts)


@takes(real_logits=Float("N"), fake_logits=Float("M"), optimal_real_logits=Float("N"), optimal_fake_logits=Float("M"))
def compare_to_optimal(
    real_logits: Any, fake_logits: Any, optimal_real_logits: Any, optimal_fake_logits: Any
) -> dict[str, float]:
    """The distance of D from D*, and the divergence that the value of the game at D* gives.

    Args:
        real_logits: D's logits of N real examples, [N].
        fake_logits: D's logits of N generated examples, [N].
        optimal_real_logits: D*'s logits of the same real examples, [N], e.g. of `estimate_optimal_logits`.
        optimal_fake_logits: D*'s logits of the same generated examples, [N].

    Returns:
        "distance_from_best_discriminator", the mean of |D - D*| over both sets, in [0, 1], and "jensen_shannon", nats,
        from V(D*, G) = 2 JS(p_r || p_g) - 2 log 2 (Goodfellow et al. 2014, theorem 1).
    """
    sigmoid = lambda logits: np.asarray(jax.nn.sigmoid(jnp.asarray(logits)))
    pairs = (real_logits, optimal_real_logits), (fake_logits, optimal_fake_logits)
    gaps = [np.abs(sigmoid(own) - sigmoid(optimal)).mean() for own, optimal in pairs]
    optimal_value = float(np.mean(value(jnp.asarray(optimal_real_logits), jnp.asarray(optimal_fake_logits))))
    return {
        "distance_from_best_discriminator": float(np.mean(gaps)),
        "jensen_shannon": (optimal_value - VALUE_AT_EQUILIBRIUM) / 2,
    }


def _is_certain(diagnosis: Mapping[str, float], loss: str) -> bool:
    if loss == "wasserstein":
        return False  # a critic's loss is minus a distance, without a bound
    if loss in ("hinge", "least_squares"):
        return diagnosis["discriminator_loss"] < CERTAIN
    return diagnosis["real_probability"] > 1 - CERTAIN and diagnosis["fake_probability"] < CERTAIN
