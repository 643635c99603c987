"""Evaluation of a trained GAN: modes found, Parzen estimates, distances on features, and the state of the game."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import checks
from experiments.gan.context import EvalContext, Trained
from experiments.gan.data import Images, Points
from experiments.sample_batches import feature_classifier
from jaxgen import data, gan, metrics, training

MODE_SAMPLES = 2500
GAME_SAMPLES = 10_000
VALIDATION = 1000  # of the held-out images choose sigma, as in the authors' script


def measure(context: EvalContext, trained: Trained) -> dict[str, float]:
    """Every measure of one training."""

    def cached(name: str, function: Callable[[EvalContext, Trained], dict[str, float]]) -> dict[str, float]:
        at = {"stage": context.stage, "step": context.config.train.num_steps}
        return context.run.cached(name, lambda: function(context, trained), **at)

    measured = {}
    if isinstance(context.data, Images):
        measured |= cached("parzen", parzen)
        if context.data.has_features:
            measured |= cached("features", on_features)
    elif context.data.shape == (2,):
        measured |= cached("modes", modes)
    return measured | cached("game", state_of_game)


def modes(context: EvalContext, trained: Trained) -> dict[str, float]:
    """Modes captured, share of good samples, divergence from equal shares."""
    assert isinstance(context.data, Points)
    mixture, samples = context.data.mixture, context.fake(trained.generator, 10, MODE_SAMPLES)
    found = metrics.mode_coverage(samples, np.asarray(mixture.means), mixture.std)
    return {
        "modes": found.captured,
        "modes_20": found.captured_20,
        "modes_in_all": len(mixture.means),
        "high_quality_percent": 100 * found.high_quality,
        "modes_kl": found.kl,
        "modes_total_variation": found.total_variation,
    }


def parzen(context: EvalContext, trained: Trained) -> dict[str, float]:
    """Log-likelihood of the test images under windows around samples, and around two other sets for comparison."""
    assert isinstance(context.data, Images)
    images, evaluation = context.data, context.config.evaluation
    sets = {"parzen": images.to_unit(context.fake(trained.generator, 11, evaluation.samples))}
    some = np.asarray(jax.random.permutation(context.draw_key(18), len(images.train)))[: evaluation.samples]
    train = images.train.unit()
    sets["parzen_of_training_images"] = train[some]
    if evaluation.centres:
        centres = metrics.kmeans_centres(train, min(evaluation.centres, len(train)), context.config.seed)
        sets["parzen_of_kmeans_centres"] = centres
    return metrics.parzen_table(sets, images.validation.unit(0, VALIDATION), images.test.unit())


def on_features(context: EvalContext, trained: Trained) -> dict[str, float]:
    """Frechet distance, precision and recall on a classifier's features."""
    assert isinstance(context.data, Images)
    images, evaluation = context.data, context.config.evaluation
    reference, held_out = images.whole, images.test
    path = evaluation.features or context.run.workdir / "features.npz"
    extractor = feature_classifier.cached(path, reference, held_out)
    unit = images.to_unit(context.fake(trained.generator, 11, evaluation.samples))
    samples = images.train.pictures(np.rint(255 * unit).astype(np.uint8))
    return metrics.sample_quality(extractor, samples, reference.image, held_out.image)


def state_of_game(context: EvalContext, trained: Trained) -> dict[str, float]:
    """Value, losses and D at the end; on known densities also the distance of D from the optimal discriminator."""
    measured = {}
    if isinstance(context.data, Images):
        # D has memorised the training images if this is far above its probability of the test images.
        logits = context.logits(trained.discriminator, *context.real(13, GAME_SAMPLES, "train"))
        measured["train_probability"] = float(jnp.mean(jax.nn.sigmoid(jnp.asarray(logits))))
    measured |= context.diagnose(trained.last, trained.discriminator, (12, 13), GAME_SAMPLES)
    if measured.get("train_probability", 0) > measured["real_probability"] + 0.25:
        checks.note(
            f"D is {measured['train_probability']:.2f} on training and {measured['real_probability']:.2f} on test "
            "images: it has memorized the training images"
        )
    if isinstance(context.data, Points):
        sets = context.real(15, 2000)[0], context.fake(trained.last, 16, 2000)
        own = [context.logits(trained.discriminator, x) for x in sets]
        measured |= gan.compare_to_optimal(*own, *optimal_logits(context, trained, *sets))
    if context.data.shape == (1,):
        d = 1 / (1 + np.exp(-context.logits(trained.discriminator, line(context))))
        measured["largest_distance_from_half"] = float(np.abs(d - 0.5).max())
    return measured


def line(context: EvalContext) -> np.ndarray:
    """[201, 1]: the mean of a Gaussian on a line, and 2 standard deviations to either side."""
    assert isinstance(context.data, Points)
    mean, std = float(context.data.mixture.means[0, 0]), context.data.mixture.std
    return np.linspace(mean - 2 * std, mean + 2 * std, 201, dtype=np.float32)[:, None]


def optimal_logits(context: EvalContext, trained: Trained, *sets: Any, floor: float = -np.inf) -> list[np.ndarray]:
    """The logits [N] of the optimal discriminator on sets of points [N, D], smoothed by as much as a mode is wide."""
    assert isinstance(context.data, Points)
    mixture, samples = context.data.mixture, context.fake(trained.last, 14, GAME_SAMPLES)
    smoothed = data.Mixture(mixture.means, mixture.std * 2**0.5)
    density = lambda x: data.mixture_log_density(smoothed, x)
    return [gan.estimate_optimal_logits(density, samples, x, mixture.std, floor=floor) for x in sets]


def best_generator(context: EvalContext) -> training.KeepBest:
    """The generator with the highest Parzen estimate on held-out images."""
    return training.KeepBest(context.run, f"{context.prefix}best", "parzen", "validation", stage=context.stage)


def select_callback(context: EvalContext) -> training.Callback:
    """Measures the generator on held-out images and keeps the best."""
    images, evaluation, best = context.data, context.config.evaluation, best_generator(context)
    assert isinstance(images, Images)
    held_out = images.validation.unit(0, VALIDATION)

    def validate(generator: Any) -> dict[str, float]:
        samples = images.to_unit(context.fake(generator, 17, evaluation.samples))
        # Only the choice of sigma matters here.
        found = metrics.parzen_log_likelihood(samples, held_out, held_out[:1])
        return {"parzen": max(found.validation), "sigma": found.sigma}

    def select(step: int, state: training.TrainState) -> None:
        # The last step of a training that is resumed with more steps may be another one: there it would not be kept.
        if step % evaluation.select_every == 0:
            generator = context.generator(state)
            best.offer(step, {"generator": generator}, lambda: validate(generator))

    return evaluation.select_every, select


def over_seeds(measured: list[dict[str, float]]) -> dict[str, float]:
    """The measures of one training; of several their means, and standard deviations over them as "..._std"."""
    if len(measured) == 1:
        return measured[0]
    table: dict[str, float] = {}
    for name in measured[0]:
        values = np.array([m[name] for m in measured])
        table |= {name: float(values.mean()), f"{name}_std": float(values.std(ddof=1))}
        if name in ("modes", "modes_20"):
            table |= {f"{name}_least": float(values.min())}
        if name == "largest_distance_from_half":
            table |= {f"{name}_most": float(values.max())}
    return table | {"seeds": len(measured)}
