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

from experiments import array_files, features, image_batches, inception
from jaxgen import diffusion, training
from jaxgen.compiler import with_options


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

    @property
    def name(self) -> str:
        """For the names of files."""
        return f"{self.method}-{self.steps.replace(',', '_') or 'all'}-{self.eta:g}-{self.variance}"


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
    """images at a time; a sample does not depend, to rounding, on the batch it is drawn in"""
    exact_shard: int = training.free(0)
    """K > 0: samples are computed K at a time on each device, so that their bits depend on (seed, number) alone, not on
    the number of devices or on which others are drawn"""

    def check(self, train: image_batches.Images, test: image_batches.Images) -> None:
        """Raises ValueError where this cannot be measured on such data."""
        if min(self.images, self.samples, self.exact_shard) < 0 or self.batch_size < 1:
            raise ValueError(
                "evaluation.images, samples and exact_shard must be 0 or more, and evaluation.batch_size at least 1"
            )
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


Given = dict[str, Any]
"""What a network is told besides x and t, by the names of its arguments: arrays of one entry for each image."""


class Model(NamedTuple):
    """A network and what its output means.

    Attributes:
        network: called as `network.apply({"params": params}, x, t, **given)`: the U-Net.
        schedule: the chain it was trained for.
        prediction: what it puts out.
        variance: of p.
        shape: (H, W, C) of the images.
    """

    network: Any
    schedule: diffusion.Schedule
    prediction: diffusion.Prediction
    variance: diffusion.Variance
    shape: tuple[int, int, int]

    def denoise(self, params, given: Given | None = None) -> diffusion.Denoise:
        """(x, t) -> the output, without dropout."""
        return lambda x, t: self.network.apply({"params": params}, x, t, **(given or {}))

    def options(self, sampler: Sampler) -> dict[str, Any]:
        """What the functions of `diffusion` that take steps need to know, besides the schedule."""
        variance = self.variance if sampler.variance == "model" else sampler.variance
        return {"prediction": self.prediction, "variance": variance}

    def denoise_for(self, sampler: Sampler, params, given: Given | None = None) -> diffusion.Denoise:
        """As `denoise`, without a learned variance where the sampler does not want it."""
        return self.for_sampler(sampler, self.denoise(params, given))

    def for_sampler(self, sampler: Sampler, denoise: diffusion.Denoise) -> diffusion.Denoise:
        """`denoise`, without a learned variance where the sampler does not want it."""
        if sampler.variance == "model":
            return denoise
        return lambda x, t: diffusion.split_output(denoise(x, t), self.variance)[0]

    def draw(
        self, sampler: Sampler, keys: jax.Array, denoise: diffusion.Denoise, guidance: diffusion.Guidance | None = None
    ) -> jax.Array:
        """Samples [n, H, W, C] in [-1, 1] for keys [n]."""
        return diffusion.sample(
            keys,
            self.for_sampler(sampler, denoise),
            (keys.shape[0], *self.shape),
            sampler.schedule(self.schedule),
            method=sampler.method,
            eta=sampler.eta,
            guidance=guidance,
            **self.options(sampler),
        )

    def drawing(self, sampler: Sampler) -> Callable[..., jax.Array]:
        """(params, keys [n], given) -> samples [n, H, W, C] in [-1, 1], not compiled."""
        return lambda params, keys, given=None: self.draw(sampler, keys, self.denoise(params, given))

    def sampler(self, sampler: Sampler) -> Callable[..., jax.Array]:
        """The same; the whole loop is one compiled program."""
        return program(self.drawing(sampler))


def program(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` compiled once for each set of shapes, with `compiler.options`."""
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
        if not training.hosts.from_first(path.exists()):
            array_files.write(path, {key: np.asarray(value) for key, value in make().items()})
        found = training.hosts.arrays_from_first(array_files.read(path) if training.hosts.is_first() else None)
        assert found is not None
        return found


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
            extractor = extractor_of(measured, train_set, test_set)
            pair = (train_set, test_set) if settings.reference == "train" else (test_set, train_set)
            return features.measure(extractor, drawn, *pair)

        metrics |= run.once(what, compare)
    return metrics


def extractor_of(measured: Measured, train_set: image_batches.Images, test_set: image_batches.Images):
    """What gives the features: Inception, or the classifier of this data."""
    settings = measured.settings
    if settings.inception:
        return inception.load(settings.inception)
    return features.cached(settings.features or measured.run.workdir / "features.npz", train_set, test_set)


def samples(measured: Measured, num: int) -> np.ndarray:
    """The first `num` samples, uint8 [num, H, W, C]; sample i depends on (seed, i), not on num or the batch size."""
    sampler = measured.settings.sampler
    draw = parallel(measured, measured.model.drawing(sampler))
    return drawn(measured, num, f"samples-{sampler.name}", draw, measured.params)


def parallel(measured: Measured, draw: Callable[..., jax.Array]) -> training.ParallelDraw:
    """`draw(params, keys)` or `draw(params, keys, given)` over the run's devices."""
    return training.ParallelDraw(
        lambda params, keys, numbers, *given: draw(params, keys, *given),
        devices=training.pick_devices(measured.run.config.train.devices),
        batch_size=measured.settings.batch_size,
        exact_shard=measured.settings.exact_shard,
    )


def drawn(
    measured: Measured,
    num: int,
    name: str,
    draw: training.ParallelDraw,
    params: Any,
    given: Callable[[np.ndarray], Given] | None = None,
) -> np.ndarray:
    """The first `num` samples.

    Args:
        measured: says how many at a time, and keeps them.
        num: how many.
        name: of the files in which they are kept; it must say what they depend on.
        draw: of `parallel`.
        params: what it draws from.
        given: `given(numbers)`, integers [n], what the samples of these numbers are given.

    Returns:
        uint8 [num, H, W, C].
    """
    settings, stream = measured.settings, training.keys.stream(measured.key, "sample")
    # Whole shards, or an even share, for every device.
    multiple = len(training.pick_devices(measured.run.config.train.devices)) * max(settings.exact_shard, 1)
    size = -(-settings.batch_size // multiple) * multiple
    name += f"-exact{settings.exact_shard}" if settings.exact_shard else ""
    parts = []
    for part in image_batches.slices(num, size):

        def make(part=part):
            # A whole batch in any case, so that there is one shape to compile.
            numbers = np.arange(part.start, part.start + size)
            return {"x": image_batches.to_bytes(draw(params, stream, numbers, given))}

        parts.append(measured.kept(f"{name}-{part.start}-{size}", make)["x"][: part.stop - part.start])
    return np.concatenate(parts)


def bound(
    measured: Measured, test_set: image_batches.Images, given: Callable[[np.ndarray], Given] | None = None
) -> dict[str, np.ndarray]:
    """The bound of the first test images in bits/dim: {"prior" [N], "terms" [N, T], "x0_mse", "noise_mse" [N, T]}.

    Args:
        measured: what, and of how many images.
        test_set: the images.
        given: `given(numbers)`, integers [n], what the network is told of the test images of these numbers.
    """
    model, num = measured.model, measured.settings.images
    stream = training.keys.stream(measured.key, "eval")

    def terms(params, keys, x0, given):
        return diffusion.bits_per_dim(
            keys, model.denoise(params, given), model.schedule, x0, prediction=model.prediction, variance=model.variance
        )

    compiled, size, parts = program(terms), min(measured.settings.batch_size, num), []
    for part in image_batches.slices(num, size):

        def make(part=part):
            x0 = diffusion.check_images(test_set.signed(part.start, part.stop))
            x0 = np.concatenate([x0, np.zeros((size - len(x0), *x0.shape[1:]), np.float32)])
            numbers = np.minimum(np.arange(part.start, part.start + size), num - 1)
            told = {} if given is None else given(numbers)
            return compiled(measured.params, _keys(stream, part.start, size), x0, told)._asdict()

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
