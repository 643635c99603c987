"""Figures of a GAN: an animation of its samples, the value of the game over the steps, and nearest neighbours."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import run_folders
from experiments.gan import evaluate
from experiments.gan.context import EvalContext, Trained
from experiments.gan.data import Images, Points
from jaxgen import gan, pictures, training

SERIES = {"value of the game": "value", "D on real": "real_probability", "D on generated": "fake_probability"}


def frame_callback(context: EvalContext) -> training.Callback:
    """Saves frames of the animation, more of them early, where most changes. The noise stays the same."""
    folder = context.run.workdir / "frames" / context.stage
    num_steps, frames = context.config.train.num_steps, context.config.evaluation.frames
    every = max(num_steps // (8 * frames), 1)
    chosen = {0, num_steps} | {every * round(num_steps / every * (i / frames) ** 2) for i in range(frames)}

    def save(step: int, state: training.TrainState) -> None:
        if step not in chosen:
            return
        picture = frame(context, context.generator(state), context.discriminator(state))
        if picture is not None:
            folder.mkdir(parents=True, exist_ok=True)
            pictures.save_png(folder / f"{step:09d}.png", pictures.captioned(picture, f"step {step}"))

    return every, save


def frame(context: EvalContext, generator: Any, discriminator: Any) -> np.ndarray | None:
    """The samples, images as a grid, points in the plane on the field of D; None for points on a line."""
    if isinstance(context.data, Images):
        return image_grid(context.data, context.fake(generator, 1, 64), 8)
    if context.data.shape != (2,):
        return None
    return plane(context.data, lambda x: context.logits(discriminator, x), context.fake(generator, 1, 500))


def image_grid(images: Images, samples: np.ndarray, columns: int) -> np.ndarray:
    """A generator's output [N, ...] as a picture."""
    grid = pictures.grid(images.train.pictures(images.to_unit(samples)), columns)
    return pictures.upscale(grid, max(1, 48 // images.train.shape[0]))


def plane(points: Points, logits: Callable[[np.ndarray], np.ndarray], samples: np.ndarray) -> np.ndarray:
    """The field D(x) (blue: real, orange: generated, white: 1/2), the modes as rings and samples as dots."""
    means = np.asarray(points.mixture.means)
    probability = lambda x: jax.nn.sigmoid(jnp.asarray(logits(x)))
    return pictures.probability_field(probability, 1.3 * float(np.abs(means).max()), samples, means)


def draw(context: EvalContext, trained: Trained) -> None:
    """All figures of one training."""
    path = lambda name: context.run.figures / f"{context.prefix}{name}"
    save = lambda name, picture: pictures.save_png(path(f"{name}.png"), picture)
    frames = sorted((context.run.workdir / "frames" / context.stage).glob("*.png"))
    if frames:
        shown = [pictures.read_png(frame) for frame in frames]
        # The last frame is repeated, so that it is shown for longer.
        pictures.save_film(path("film"), shown + 10 * shown[-1:], 8)
    save("game", draw_metrics(context))
    if isinstance(context.data, Images):
        draw_images(context, context.data, trained.generator, save)
    elif context.data.shape == (2,):
        save("discriminator", draw_plane(context, context.data, trained))
    else:
        save("discriminator", draw_line(context, trained))


def draw_metrics(context: EvalContext) -> np.ndarray:
    """The value of the game and D on both kinds of examples over the steps."""
    logged = run_folders.read(context.run.workdir).stages()[context.stage]
    lines = [line for line in logged if line.keys() >= set(SERIES.values())]
    steps = np.array([line["step"] for line in lines])
    series = {name: (steps, np.array([line[key] for line in lines])) for name, key in SERIES.items()}
    series["value at the equilibrium"] = (steps, np.full(len(steps), gan.VALUE_AT_EQUILIBRIUM))
    return pictures.curves(series, "step", "mean over the steps of a line")


def draw_images(context: EvalContext, images: Images, generator: Any, save: Callable) -> None:
    """Samples, the training image nearest to each sample, and interpolations between two draws of z."""
    samples = context.fake(generator, 2, 200)
    save("samples", image_grid(images, samples, 20))
    some, train = images.to_unit(samples[:16]), images.train.unit()
    nearest = train[[int(np.argmin(np.sum(np.square(train - x), axis=1))) for x in some]]
    rows = [images.train.pictures(x) for x in (some, nearest)]
    save("nearest", pictures.strip(rows, ["sample", "nearest"], factor=max(1, 48 // images.train.shape[0])))
    walks = gan.interpolate(context.draw_key(3), context.players, generator, 10, 12, context.labels(10))
    save("walks", image_grid(images, walks, 12))


def draw_plane(context: EvalContext, points: Points, trained: Trained) -> np.ndarray:
    """The field of D, and that of the optimal discriminator against this generator."""
    samples = context.fake(trained.last, 14, 1000)
    own = plane(points, lambda x: context.logits(trained.discriminator, x), samples)
    # Far from both distributions their ratio means nothing: there it is drawn as 1/2.
    best = plane(points, lambda x: evaluate.optimal_logits(context, trained, x, floor=-7.0)[0], samples)
    panels = [pictures.captioned(own, "D"), pictures.captioned(best, "D* = p_r / (p_r + p_g)")]
    return np.concatenate(panels, axis=1)


def draw_line(context: EvalContext, trained: Trained) -> np.ndarray:
    """On a line: D and the optimal discriminator."""
    x = evaluate.line(context)
    logits = {"D": context.logits(trained.discriminator, x), "D*": evaluate.optimal_logits(context, trained, x)[0]}
    series = {name: (x[:, 0], 1 / (1 + np.exp(-values))) for name, values in logits.items()}
    return pictures.curves(series, "x, mean +- 2 standard deviations", "probability of being real")
