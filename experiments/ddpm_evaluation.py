"""What a diffusion model is worth: the bound on test images, and its samples beside real images.

Everything is computed in pieces that are kept in the run directory's folder `evaluation`, so that an interrupted
evaluation goes on where it was, and so that the samples are there to be used.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import array_files, features, image_batches, inception
from jaxgen import diffusion, training
from jaxgen.training.compiler import with_options


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How samples are drawn."""

    method: diffusion.Method = "ancestral"
    """"dpm_solver" needs the fewest steps, respaced by "logsnr20" or so"""
    steps: str = ""
    """respacing: a count "100", sections "10,15,20", "ddim25" or "logsnr20"; empty: all T"""
    eta: float = 0.0
    """ddim: share of the noise, 1 being ancestral"""
    variance: Literal["model", "fixed_small", "fixed_large"] = "model"
    """ancestral: "model" as it was trained; with few steps "fixed_small" is the better of the fixed ones"""

    def schedule(self, schedule: diffusion.Schedule) -> diffusion.Schedule:
        """The chain over the steps that are taken.

        Raises:
            ValueError: a respacing that the chain does not have, or eta without DDIM or outside [0, 1].
        """
        if not 0 <= self.eta <= 1 or (self.eta and self.method != "ddim"):
            raise ValueError(f"eta is {self.eta} with method {self.method!r}; it is in [0, 1], and 0 unless 'ddim'")
        return diffusion.respace(schedule, self.steps) if self.steps else schedule


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What is measured at the end."""

    images: int = 256
    """first test images whose bound is measured, with all T steps; 0: none"""
    samples: int = 2000
    """samples drawn for classifier-FID, precision and recall; 0: only those of the figures"""
    sampler: Sampler = Sampler(steps="100", variance="fixed_small")
    reference: Literal["train", "test"] = "train"
    """the split that samples are compared with; as many images of the other one are the floor"""
    features: str = training.free("")
    """file of the classifier that gives features, made where it is not there; empty: features.npz in the workdir"""
    inception: str = training.free("")
    """file of Inception's weights, see `experiments.inception`: then its features are taken, and the distance is FID"""
    batch_size: int = training.free(64)
    """images at a time; a sample does not depend on the batch it is drawn in"""

    def check(self, train: image_batches.Images, test: image_batches.Images) -> None:
        """Raises ValueError where this cannot be measured on such data."""
        if min(self.images, self.samples) < 0 or self.batch_size < 1:
            raise ValueError("evaluation.images and evaluation.samples must be 0 or more, and batch_size at least 1")
        if 0 < self.samples < 10:
            raise ValueError(f"evaluation.samples is {self.samples}; statistics need at least 10, or 0 for none")
        if self.images > len(test):
            raise ValueError(
                f"evaluation.images is {self.images}; the test split has {len(test)}: set "
                f"--evaluation.images {len(test)}, or 0 for no bound"
            )
        if self.samples and not self.inception and (train.label is None or test.label is None):
            raise ValueError(
                "the data has no labels to train a classifier on, so there are no features to compare samples by: "
                "set --evaluation.samples 0, or give Inception's weights with --evaluation.inception FILE"
            )
        if self.inception and not Path(self.inception).expanduser().is_file():
            raise FileNotFoundError(f"no file {self.inception}; --evaluation.inception is that of Inception's weights")


class Model(NamedTuple):
    """A network and what its output means.

    Attributes:
        network: the U-Net.
        schedule: the chain it was trained for.
        prediction: what it puts out.
        variance: of p.
        shape: (H, W, C) of the images.
    """

    network: diffusion.UNet
    schedule: diffusion.Schedule
    prediction: diffusion.Prediction
    variance: diffusion.Variance
    shape: tuple[int, int, int]

    def denoise(self, params) -> diffusion.Denoise:
        """(x, t) -> the output, without dropout."""
        return lambda x, t: self.network.apply({"params": params}, x, t)  # type: ignore[return-value]

    def options(self, sampler: Sampler) -> dict[str, Any]:
        """What the functions of `diffusion` that take steps need to know, besides the schedule."""
        variance = self.variance if sampler.variance == "model" else sampler.variance
        return {"prediction": self.prediction, "variance": variance}

    def denoise_for(self, sampler: Sampler, params) -> diffusion.Denoise:
        """As `denoise`, without a learned variance where the sampler does not want it."""
        if sampler.variance == "model":
            return self.denoise(params)
        return lambda x, t: diffusion.split_output(self.denoise(params)(x, t), self.variance)[0]

    def sampler(self, sampler: Sampler) -> Callable[[Any, jax.Array], jax.Array]:
        """(params, keys [n]) -> samples [n, H, W, C] in [-1, 1]; the whole loop is one compiled program."""
        schedule = sampler.schedule(self.schedule)

        def draw(params, keys):
            return diffusion.sample(
                keys,
                self.denoise_for(sampler, params),
                (keys.shape[0], *self.shape),
                schedule,
                method=sampler.method,
                eta=sampler.eta,
                **self.options(sampler),
            )

        return program(draw)


def program(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled once for each set of shapes, with the compiler options that convolutions want."""
    jitted, compiled = jax.jit(function), {}

    def call(*args):
        leaves, structure = jax.tree.flatten(args)
        shapes = (structure, *((np.shape(x), x.dtype, getattr(x, "sharding", None)) for x in leaves))
        if shapes not in compiled:
            compiled[shapes] = with_options(jitted, *args)
        return compiled[shapes](*args)

    return call


class Measured(NamedTuple):
    """What is evaluated, and how: a model's parameters after `step` updates of a run."""

    settings: Evaluation
    model: Model
    params: Any
    key: jax.Array
    run: training.Run
    step: int

    def kept(self, name: str, make: Callable[[], dict]) -> dict[str, np.ndarray]:
        """The arrays that `make` returns, from evaluation/step-STEP/NAME.npz where they were made before."""
        path = self.run.workdir / "evaluation" / f"step-{self.step}" / f"{name}.npz"
        if not path.exists():
            array_files.write(path, {key: np.asarray(value) for key, value in make().items()})
        return array_files.read(path)


def evaluate(measured: Measured, train_set: image_batches.Images, test_set: image_batches.Images) -> dict[str, float]:
    """Bound and samples."""
    settings, run, step = measured.settings, measured.run, measured.step
    metrics: dict[str, float] = {"parameters": sum(x.size for x in jax.tree.leaves(measured.params))}
    if settings.images:
        what = f"bound of {settings.images} images at step {step}"
        metrics |= run.once(what, lambda: bound_metrics(bound(measured, test_set)))
    if settings.samples:
        by = "Inception" if settings.inception else "the classifier"
        what = f"{settings.samples} samples at step {step}, {settings.sampler}, {settings.reference}, by {by}"

        def compare() -> dict[str, float]:
            drawn = samples(measured, settings.samples)
            if settings.inception:
                extractor = inception.load(settings.inception)
            else:
                extractor = features.cached(settings.features or run.workdir / "features.npz", train_set, test_set)
            pair = (train_set, test_set) if settings.reference == "train" else (test_set, train_set)
            return features.measure(extractor, drawn, *pair)

        metrics |= run.once(what, compare)
    return metrics


def samples(measured: Measured, num: int) -> np.ndarray:
    """The first `num` samples, uint8 [num, H, W, C]; sample i depends on (seed, i), not on num or the batch size."""
    settings, sampler = measured.settings, measured.settings.sampler
    draw = measured.model.sampler(sampler)
    stream = training.keys.stream(measured.key, "sample")
    devices = training.pick_devices(measured.run.config.train.devices)
    split = NamedSharding(Mesh(np.array(devices), ("data",)), PartitionSpec("data"))
    size = -(-settings.batch_size // len(devices)) * len(devices)
    on_devices = jax.device_put(measured.params, NamedSharding(split.mesh, PartitionSpec()))
    how = f"{sampler.method}-{sampler.steps.replace(',', '_') or 'all'}-{sampler.eta:g}-{sampler.variance}"
    parts = []
    for part in image_batches.slices(num, size):

        def make(part=part):
            # A whole batch in any case, so that there is one shape to compile.
            keys = jax.device_put(_keys(stream, part.start, size), split)
            return {"x": image_batches.to_bytes(draw(on_devices, keys))}

        parts.append(measured.kept(f"samples-{how}-{part.start}-{size}", make)["x"][: part.stop - part.start])
    return np.concatenate(parts)


def bound(measured: Measured, test_set: image_batches.Images) -> dict[str, np.ndarray]:
    """The bound of the first test images in bits/dim: {"prior" [N], "terms" [N, T], "x0_mse", "noise_mse" [N, T]}."""
    model, num = measured.model, measured.settings.images
    stream = training.keys.stream(measured.key, "eval")

    def terms(params, keys, x0):
        return diffusion.bits_per_dim(
            keys, model.denoise(params), model.schedule, x0, prediction=model.prediction, variance=model.variance
        )

    compiled, size, parts = program(terms), min(measured.settings.batch_size, num), []
    for part in image_batches.slices(num, size):

        def make(part=part):
            x0 = diffusion.check_images(test_set.signed(part.start, part.stop))
            x0 = np.concatenate([x0, np.zeros((size - len(x0), *x0.shape[1:]), np.float32)])
            return compiled(measured.params, _keys(stream, part.start, size), x0)._asdict()

        found = measured.kept(f"bound-{part.start}-{size}", make)
        parts.append({name: values[: part.stop - part.start] for name, values in found.items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _keys(stream: jax.Array, start: int, num: int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, (None, 0))(stream, jnp.arange(start, start + num))


def bound_metrics(found: dict) -> dict[str, float]:
    """Means over images of what `bound` returned, bits/dim, and the standard error that comes of the images' number."""
    prior, terms = found["prior"].astype(np.float64), found["terms"].astype(np.float64)
    total = prior + terms.sum(axis=1)
    return {
        "bits_per_dim": total.mean(),
        "bits_per_dim_standard_error": total.std(ddof=1) / len(total) ** 0.5 if len(total) > 1 else 0.0,
        "rate": (prior + terms[:, 1:].sum(axis=1)).mean(),
        "distortion": terms[:, 0].mean(),
        "prior_kl": prior.mean(),
        "noise_error": found["noise_mse"].mean(),
        "bound_images": len(total),
    }
