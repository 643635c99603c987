"""What a diffusion model looks like: samples, the way from noise to image, neighbours, the bound, interpolations."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ddpm_evaluation, image_batches
from jaxgen import diffusion, pictures, training


def draw(folder: Path, measured: ddpm_evaluation.Measured, train_set, test_set) -> None:
    """All figures into a folder."""
    save = lambda name, picture: pictures.save_png(folder / f"{name}.png", picture)
    drawn = ddpm_evaluation.samples(measured, 100)
    save("samples", enlarged(pictures.grid(drawn, 10), measured.model.shape))
    save("neighbours", neighbours(drawn[:12], train_set))
    save("denoising", denoising(measured))
    save("interpolations", interpolations(measured, test_set))
    if measured.settings.images:
        save("bound", bound_curves(ddpm_evaluation.bound(measured, test_set)))


def bound_curves(found: dict[str, np.ndarray]) -> np.ndarray:
    """The terms of the bound, and the error of the noise, on average over images."""
    terms, error = found["terms"].mean(axis=0), found["noise_mse"].mean(axis=0)
    t = np.arange(1, len(terms) + 1)
    # A divergence of nearly equal Gaussians may round to zero.
    series = {"L at this step, bits/dim": (t, np.maximum(terms, 1e-9)), "squared error of the noise": (t, error)}
    return pictures.curves(series, "steps of noise", "", "xy", f"{len(found['terms'])} test images")


def enlarged(picture: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Small images bigger, each pixel a square."""
    return pictures.upscale(picture, max(1, 48 // shape[0]))


def denoising(measured: ddpm_evaluation.Measured, num: int = 4, frames: int = 12) -> np.ndarray:
    """x_t, and below it the x_0 predicted from it, of the first samples, from noise to image."""
    sampler, model = measured.settings.sampler, measured.model
    schedule = sampler.schedule(model.schedule)
    frames = min(frames, schedule.num_steps)

    def trajectory(params, keys):
        return diffusion.sample_trajectory(
            keys,
            model.denoise_for(sampler, params),
            (num, *model.shape),
            schedule,
            frames,
            method=sampler.method,
            eta=sampler.eta,
            **model.options(sampler),
        )

    stream = training.keys.stream(measured.key, "sample")
    keys = jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.arange(num))
    found = ddpm_evaluation.program(trajectory)(measured.params, keys)
    rows, names = [], []
    for i in range(num):
        end = image_batches.to_bytes(found.x[None, i])
        for name, states in (("x_t", found.x_t), ("x_0", found.x0)):
            rows.append(np.concatenate([image_batches.to_bytes(states[:, i]), end]))
            names.append(name)
    return pictures.strip(rows, names, factor=max(1, 48 // model.shape[0]))


def neighbours(drawn: np.ndarray, train_set: image_batches.Images, num: int = 4) -> np.ndarray:
    """Samples, and below each the training images nearest to it in squared distance of pixels."""
    x = drawn.reshape(len(drawn), -1).astype(np.float32)
    distances = []
    for part in image_batches.slices(len(train_set), 2000):
        y = train_set.image[part].reshape(part.stop - part.start, -1).astype(np.float32)
        distances.append(np.sum(np.square(y), axis=1)[None] - 2 * x @ y.T)
    nearest = np.argsort(np.concatenate(distances, axis=1), axis=1)[:, :num]
    rows = [drawn, *(train_set.image[nearest[:, i]] for i in range(nearest.shape[1]))]
    names = ["samples", *(f"training {i + 1}" for i in range(nearest.shape[1]))]
    return pictures.strip(rows, names, factor=max(1, 48 // train_set.shape[0]))


def interpolations(measured: ddpm_evaluation.Measured, test_set: image_batches.Images, pairs: int = 6) -> np.ndarray:
    """Between test images, both noised a quarter of the way up the chain; the outermost columns are the originals.

    Ho et al. (2020, figure 8) go half-way; of small images nothing is left there.
    """
    sampler, model = measured.settings.sampler, measured.model
    schedule = sampler.schedule(model.schedule)
    pairs = min(pairs, len(test_set) // 2)
    x = test_set.signed(0, 2 * pairs)
    first, second = x[0::2], x[1::2]

    def between(params, key, first, second):
        denoise = model.denoise_for(sampler, params)
        t = schedule.num_steps // 4
        return diffusion.interpolate(key, denoise, schedule, first, second, 9, t, **model.options(sampler))

    # Beyond the numbers of the test images, whose keys come of the same stream.
    key = jax.random.fold_in(training.keys.stream(measured.key, "eval"), 2**31)
    middle = image_batches.to_bytes(ddpm_evaluation.program(between)(measured.params, key, first, second))
    ends = [image_batches.to_bytes(end)[None] for end in (first, second)]
    rows = np.concatenate([ends[0], middle, ends[1]]).swapaxes(0, 1)
    picture = pictures.grid(rows.reshape(-1, *model.shape), middle.shape[0] + 2)
    return enlarged(picture, model.shape)
