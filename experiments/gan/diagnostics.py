"""Diagnostics while training, with a warning once a problem has been found twice in a row."""

import math
import sys
from typing import Any

import numpy as np

from experiments.gan.context import EvalContext
from experiments.gan.data import Points
from jaxgen import gan, metrics, training

SAMPLES = 1000
FLAGS = {
    "collapsed": "--objective.penalty, --objective.discriminator-steps, --generator.learning-rate, --objective.loss",
    "certain": "--discriminator.learning-rate, --objective.penalty, --objective.spectral, --objective.loss",
    "indifferent": "--discriminator.learning-rate, --objective.discriminator-steps, --objective.penalty-weight",
}


def callback(context: EvalContext) -> training.Callback:
    """(steps between diagnostics, the function that measures and warns)."""
    num_steps, lasting = context.config.train.num_steps, gan.LastingWarnings()

    def check(step: int, state: training.TrainState) -> None:
        measure = lambda: measure_state(context, state)
        diagnosis = context.run.cached("diagnostics", measure, stage=context.stage, step=step)
        if step < num_steps // 10:
            return  # the samples of a generator at its start may be all alike
        for kind, text in lasting(gan.warnings(diagnosis, context.config.objective.loss)).items():
            print(f"{context.stage or 'gan'} step {step}: {text} ({FLAGS[kind]}).", file=sys.stderr, flush=True)

    return context.config.evaluation.check_every or max(num_steps // 20, 1), check


def measure_state(context: EvalContext, state: Any) -> dict[str, float]:
    """`gan.diagnose`, and for mixtures the modes captured; without values that are not finite."""
    generator = state.params["generator"]
    found = context.diagnose(generator, context.discriminator(state), (4, 5), SAMPLES)
    if isinstance(context.data, Points) and math.isfinite(found["variance"]):
        mixture, fake = context.data.mixture, context.fake(generator, 4, SAMPLES)
        captured = metrics.mode_coverage(fake, np.asarray(mixture.means), mixture.std).captured
        found |= {"modes": captured, "modes_in_all": len(mixture.means)}
    # A run that has diverged is stopped by the loop.
    return {name: value for name, value in found.items() if math.isfinite(value)}
