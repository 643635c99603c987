"""What a trained GAN is worth: modes found, the Parzen estimate, distances on features, and the state of the game."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import features, flat_images, gan_data, gan_health, image_batches
from experiments.gan_game import Game
from jaxgen import data, gan, metrics, training

MODE_SAMPLES = 2500
GAME_SAMPLES = 10_000
VALIDATION = 1000  # of the held-out images choose sigma, as in the authors' script


def measure(game: Game, generator: Any, last: Any, discriminator: Any) -> dict[str, float]:
    """Every measure of one game.

    Args:
        game: played to its end.
        generator: parameters to evaluate (a moving average, an earlier step).
        last: the generator's own at the last step, which the discriminator knows.
        discriminator: parameters of the last step.
    """
    end = f"at the end, step {game.config.train.num_steps}"
    once = lambda name, take: game.run.once(f"{game.prefix}{name} {end}", take)
    measured = {}
    if isinstance(game.data, gan_data.Images):
        measured |= once("parzen", lambda: parzen(game, generator))
        if game.data.train.label is not None:
            measured |= once("features", lambda: on_features(game, generator))
    elif game.data.shape == (2,):
        measured |= once("modes", lambda: modes(game, game.fake(generator, 10, MODE_SAMPLES)))
    return measured | once("game", lambda: state_of_game(game, last, discriminator))


def modes(game: Game, samples: np.ndarray) -> dict[str, float]:
    """Modes captured, share of good samples, divergence from equal shares."""
    assert isinstance(game.data, gan_data.Points)
    mixture = game.data.mixture
    found = metrics.mode_coverage(samples, np.asarray(mixture.means), mixture.std)
    return {
        "modes": found.captured,
        "modes_20": found.captured_20,
        "modes_in_all": len(mixture.means),
        "high_quality_percent": 100 * found.high_quality,
        "modes_kl": found.kl,
        "modes_total_variation": found.total_variation,
    }


def parzen(game: Game, generator: Any) -> dict[str, float]:
    """Log-likelihood of the test images under windows around samples, and around two other sets for comparison."""
    assert isinstance(game.data, gan_data.Images)
    images, evaluation = game.data, game.config.evaluation
    sets = {"parzen": images.to_unit(game.fake(generator, 11, evaluation.samples))}
    some = np.asarray(jax.random.permutation(game.draw_key(18), len(images.train.x)))[: evaluation.samples]
    sets["training_images"] = images.train.unit()[some]
    if evaluation.centres:
        sets["kmeans_centres"] = kmeans_centres(images.train, evaluation.centres, game.config.seed)
    measured = {}
    for name, samples in sets.items():
        found = metrics.parzen_log_likelihood(samples, images.validation.unit(0, VALIDATION), images.test.unit())
        prefix = name if name == "parzen" else f"parzen_of_{name}"
        measured |= {
            prefix: found.mean,
            f"{prefix}_standard_error": found.standard_error,
            f"{prefix}_sigma": found.sigma,
            f"{prefix}_sigma_at_edge": found.at_edge,
        }
    return measured


def kmeans_centres(images: flat_images.FlatImages, number: int, seed: int) -> np.ndarray:
    """float32 [number, D]: one pass of mini-batch k-means from images drawn at random, and a little more."""
    from sklearn.cluster import MiniBatchKMeans

    settings: dict[str, Any] = {
        # Each batch must hold several images for a centre, or the centres stay the images that they began as.
        "batch_size": min(len(images.x), 2 * number), "max_iter": 2,
        "init": "random", "n_init": 1, "reassignment_ratio": 0, "random_state": seed,
    }  # fmt: skip
    clusters = MiniBatchKMeans(number, **settings)
    return np.asarray(clusters.fit(images.unit()).cluster_centers_, np.float32)


def on_features(game: Game, generator: Any) -> dict[str, float]:
    """Frechet distance, precision and recall on a classifier's features."""
    assert isinstance(game.data, gan_data.Images)
    images, evaluation = game.data, game.config.evaluation
    as_pictures = lambda x: np.asarray(x).reshape(-1, *images.train.shape)
    reference, held_out = (
        image_batches.Images(as_pictures(split.x), split.label, split.fingerprint)
        for split in (images.whole, images.test)
    )
    extractor = features.cached(evaluation.features or game.run.workdir / "features.npz", reference, held_out)
    samples = images.to_unit(game.fake(generator, 11, evaluation.samples))
    return features.measure(extractor, as_pictures(np.rint(255 * samples).astype(np.uint8)), reference, held_out)


def state_of_game(game: Game, last: Any, discriminator: Any) -> dict[str, float]:
    """Value, losses and D at the end; on known densities also D beside the best answer to this generator."""
    fake = game.fake(last, 12, GAME_SAMPLES)
    fake_logits = game.logits(discriminator, fake, game.labels(len(fake)))
    measured = {}
    if isinstance(game.data, gan_data.Images):
        # D knows the training images by heart where this is far above its answer to the test images.
        logits = game.logits(discriminator, *game.real(13, GAME_SAMPLES, "train"))
        measured["train_probability"] = float(jnp.mean(jax.nn.sigmoid(jnp.asarray(logits))))
    real, labels = game.real(13, GAME_SAMPLES)
    num = min(len(real), len(fake))
    real_logits = game.logits(discriminator, real, labels)
    measured |= gan_health.look(game.losses, real_logits[:num], fake_logits[:num], real[:num], fake[:num])
    if isinstance(game.data, gan_data.Points):
        measured |= beside_best(game, discriminator, last)
        if game.data.shape == (1,):
            x = around(game.data.mixture)
            d = 1 / (1 + np.exp(-game.logits(discriminator, x, None)))
            measured["largest_distance_from_half"] = float(np.abs(d - 0.5).max())
    return measured


def around(mixture: data.Mixture) -> np.ndarray:
    """[201, 1]: the mean of a Gaussian on a line, and 2 standard deviations to either side."""
    mean, std = float(mixture.means[0, 0]), mixture.std
    return np.linspace(mean - 2 * std, mean + 2 * std, 201, dtype=np.float32)[:, None]


def best_logits(mixture: data.Mixture, samples: np.ndarray, x: np.ndarray, floor: float = -np.inf) -> np.ndarray:
    """Of D*, log p_r - log p_g at x [N, D] -> [N], both densities smoothed by a Gaussian as wide as a mode's.

    A generator's density is not known, only samples of it: p_g is a Parzen estimate. The mixture's is smoothed by the
    same kernel, exactly, so that D* = 1/2 where the two agree. `floor` is a log density added to both.
    """
    width = mixture.std
    smoothed = data.Mixture(mixture.means, width * 2**0.5)
    parts = []
    for start in range(0, len(x), 1000):
        part = jnp.asarray(x[start : start + 1000])
        of_both = (
            data.mixture_log_density(smoothed, part),
            metrics.parzen_log_density(part, jnp.asarray(samples), width),
        )
        parts.append(np.asarray(gan.optimal_logits(*(jnp.logaddexp(p, floor) for p in of_both))))
    return np.concatenate(parts)


def beside_best(game: Game, discriminator: Any, last: Any) -> dict[str, float]:
    """D beside D* on as many real as generated points, and the divergence of the two that V(D*, G) tells."""
    assert isinstance(game.data, gan_data.Points)
    samples = game.fake(last, 14, GAME_SAMPLES)
    real, _ = game.real(15, 2000)
    fake = game.fake(last, 16, 2000)
    sigmoid = lambda logits: np.asarray(jax.nn.sigmoid(jnp.asarray(logits)))
    best = [best_logits(game.data.mixture, samples, x) for x in (real, fake)]
    own = [game.logits(discriminator, x, None) for x in (real, fake)]
    gaps = [np.abs(sigmoid(a) - sigmoid(b)).mean() for a, b in zip(own, best, strict=True)]
    value = float(np.mean(gan.value(*map(jnp.asarray, best))))
    return {
        "distance_from_best_discriminator": float(np.mean(gaps)),
        "jensen_shannon": (value - gan.VALUE_AT_EQUILIBRIUM) / 2,
    }


def selector(game: Game) -> Callable[[int, Any], None]:
    """Keeps the generator with the highest Parzen estimate on held-out images."""
    images = game.data
    assert isinstance(images, gan_data.Images)
    held_out = images.validation.unit(0, VALIDATION)

    def validate(generator) -> dict[str, float]:
        samples = images.to_unit(game.fake(generator, 17, game.config.evaluation.samples))
        # Only the choice of sigma matters here.
        found = metrics.parzen_log_likelihood(samples, held_out, held_out[:1])
        return {"parzen": max(found.validation), "sigma": found.sigma}

    def select(step: int, state: training.TrainState) -> None:
        if step % game.config.evaluation.select_every:
            # The last step of a game that may be made longer, and would then not be looked at here.
            return
        generator = game.generator(state)
        found = game.run.once(_validation(game, step), lambda: validate(generator))
        with _best(game) as best:
            kept = best.steps()
            if not kept or found["parzen"] > game.run.once(_validation(game, kept[-1]), dict)["parzen"]:
                best.save(step, {"generator": generator})

    return select


def selected(game: Game, like: Any) -> Any:
    """The generator that `selector` kept, or `like`, one of its structure, where it has kept none."""
    with _best(game) as best:
        restored = best.restore({"generator": like})
    return like if restored is None else restored[1]["generator"]


def over_seeds(measured: list[dict[str, float]]) -> dict[str, float]:
    """Of one training what was measured; of several the mean, and the standard deviation over them as "..._std"."""
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


def _best(game: Game):
    return game.run.checkpoints(f"{game.prefix}best", keep=1)


def _validation(game: Game, step: int) -> str:
    return f"{game.prefix}validation at step {step}"
