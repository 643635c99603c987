"""Figures of a diffusion model: samples, the path from noise to image, neighbours, the bound, interpolations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ddpm.evaluate import EvalContext, samples
from jaxgen import data, diffusion, pictures, training
from jaxgen.compiler import compile_per_shape


def draw(folder: Path, context: EvalContext) -> None:
    """Draws all figures into a folder."""
    save = lambda name, picture: pictures.save_png(folder / f"{name}.png", picture)
    drawn = samples(context, 100)
    save("samples", enlarged(pictures.grid(drawn, 10), context.model.shape))
    save("neighbours", neighbours(drawn[:12], context.images[0]))
    save("denoising", denoising(context))
    if len(context.images[1]) > 1:
        save("interpolations", interpolations(context))
    if context.settings.images:
        save("bound", bound_curves(context.bound()))


def bound_curves(bound: dict[str, np.ndarray]) -> np.ndarray:
    """The terms of the bound, and the error of the noise, on average over images."""
    terms, error = bound["terms"].mean(axis=0), bound["noise_mse"].mean(axis=0)
    t = np.arange(1, len(terms) + 1)
    # A divergence of nearly equal Gaussians may round to zero.
    series = {"L at this step, bits/dim": (t, np.maximum(terms, 1e-9)), "squared error of the noise": (t, error)}
    return pictures.curves(series, "steps of noise", "", "xy", f"{len(bound['terms'])} test images")


def enlarged(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A picture of small images enlarged, each pixel a square."""
    return pictures.upscale(picture, max(1, 48 // shape[0]))


def denoising(context: EvalContext, num: int = 4, frames: int = 12) -> np.ndarray:
    """x_t, and below it the x_0 predicted from it, of the first samples, from noise to image."""
    model, options, schedule = context.settings.sampler.bind(context.model)
    frames = min(frames, schedule.num_steps)

    def trajectory(params, keys: jax.Array) -> diffusion.Trajectory:
        shape = (num, *model.shape)
        return diffusion.sample_trajectory(keys, model.denoise(params), shape, schedule, frames, options=options)

    keys = training.keys.per_example(training.keys.stream(context.key, "sample"), jnp.arange(num))
    states = compile_per_shape(trajectory)(context.params, keys)
    rows, names = [], []
    for i in range(num):
        end = data.to_bytes(states.x[None, i])
        for name, frame in (("x_t", states.x_t), ("x_0", states.x0)):
            rows.append(np.concatenate([data.to_bytes(frame[:, i]), end]))
            names.append(name)
    return pictures.strip(rows, names, factor=max(1, 48 // model.shape[0]))


def neighbours(drawn: np.ndarray, train_set: data.Images, num: int = 4) -> np.ndarray:
    """Samples, and below each the training images nearest to it in squared distance of pixels."""
    x = drawn.reshape(len(drawn), -1).astype(np.float32)
    distances = []
    for part in data.slices(len(train_set), 2000):
        y = train_set.image[part].reshape(part.stop - part.start, -1).astype(np.float32)
        distances.append(np.sum(np.square(y), axis=1)[None] - 2 * x @ y.T)
    nearest = np.argsort(np.concatenate(distances, axis=1), axis=1)[:, :num]
    rows = [drawn, *(train_set.image[nearest[:, i]] for i in range(nearest.shape[1]))]
    names = ["samples", *(f"training {i + 1}" for i in range(nearest.shape[1]))]
    return pictures.strip(rows, names, factor=max(1, 48 // train_set.shape[0]))


def interpolations(context: EvalContext, pairs: int = 6) -> np.ndarray:
    """Between test images, both noised for a quarter of the steps; the outermost columns are the originals.

    Ho et al. (2020, figure 8) go half-way; of small images nothing is left there.
    """
    (model, options, schedule), test_set = context.settings.sampler.bind(context.model), context.images[1]
    pairs = min(pairs, len(test_set) // 2)
    x = test_set.signed(0, 2 * pairs)
    first, second = x[0::2], x[1::2]

    def between(params, key: jax.Array, first: jax.Array, second: jax.Array) -> jax.Array:
        denoise, t = model.denoise(params), schedule.num_steps // 4
        # As in the paper, whatever the sampler.
        ancestral = {"method": "ancestral", "eta": 0.0}
        return diffusion.interpolate(key, denoise, schedule, first, second, 9, t, options=options, **ancestral)

    # Beyond the numbers of the test images, whose keys come of the same stream.
    key = jax.random.fold_in(training.keys.stream(context.key, "eval"), 2**31)
    middle = data.to_bytes(compile_per_shape(between)(context.params, key, first, second))
    ends = [data.to_bytes(end)[None] for end in (first, second)]
    rows = np.concatenate([ends[0], middle, ends[1]]).swapaxes(0, 1)
    picture = pictures.grid(rows.reshape(-1, *model.shape), middle.shape[0] + 2)
    return enlarged(picture, model.shape)
