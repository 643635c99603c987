"""Evaluation of a diffusion model: the bound on test images, and its samples compared with real images.

Everything is computed in pieces that are kept in the run directory's folder `evaluation`, so that an interrupted
evaluation continues where it stopped, and the samples can be used afterwards.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import checks, image_data
from experiments.ddpm.config import Evaluation
from experiments.sample_batches import feature_classifier
from jaxgen import data, diffusion, metrics, training
from jaxgen.compiler import compile_per_shape
from jaxgen.diffusion import Cond
from jaxgen.weights import read_arrays, write_arrays

CondOf = Callable[[np.ndarray], Cond]
"""cond(numbers), integers [n] -> what the examples of these numbers are conditioned on."""


class EvalContext(NamedTuple):
    """What is evaluated, and how.

    Attributes:
        settings: what is measured.
        model: the network, and what its output means.
        params: its parameters.
        key: root key of the run.
        run: the run, in whose directory results are kept.
        step: number of updates of the parameters.
        images: training and test images.
    """

    settings: Evaluation
    model: diffusion.DiffusionModel
    params: Any
    key: jax.Array
    run: training.Run
    step: int
    images: image_data.Splits

    @property
    def compared(self) -> image_data.Splits:
        """The images that samples are compared with, and those of the floor."""
        train_set, test_set = self.images
        return (train_set, test_set) if self.settings.reference == "train" else (test_set, train_set)

    @property
    def comparison(self) -> dict[str, Any]:
        """What a comparison of samples depends on besides the samples."""
        features = "inception" if self.settings.inception else "classifier"
        return {"samples": self.settings.samples, "reference": self.settings.reference, "features": features}

    def cached_arrays(self, name: str, make: Callable[[], dict]) -> dict[str, np.ndarray]:
        """The arrays that `make` returns, read from evaluation/step-STEP/NAME.npz where they were made before."""
        path = self.run.workdir / "evaluation" / f"step-{self.step}" / f"{name}.npz"
        if not training.hosts.broadcast_from_primary(path.exists()):
            write_arrays(path, {key: np.asarray(value) for key, value in make().items()})
        read = read_arrays(path) if training.hosts.is_primary() else None
        arrays = training.hosts.broadcast_arrays_from_primary(read)
        assert arrays is not None
        return arrays

    def cached_metrics(self, what: str, measure: Callable[[], dict[str, float]], **depends_on: Any) -> dict:
        """`run.cached` for a measurement of the parameters at this step."""
        return self.run.cached(what, measure, step=self.step, **depends_on)

    def extractor(self) -> metrics.Extractor:
        """The network that gives features: Inception, or the classifier of this data."""
        if self.settings.inception:
            return metrics.load_inception(self.settings.inception)
        path = self.settings.features or self.run.workdir / "features.npz"
        return feature_classifier.cached(path, *self.images)

    def parallel(self, draw: Callable[..., jax.Array]) -> training.ParallelSampler:
        """`draw(params, keys, cond)` over the run's devices."""
        return training.ParallelSampler(
            lambda params, keys, numbers, *cond: draw(params, keys, *(cond or ({},))),
            devices=training.pick_devices(self.run.config.train.devices),
            batch_size=self.settings.batch_size,
            fixed_batch_size=self.settings.fixed_batch_size,
        )

    def draw(
        self, num: int, name: str, draw: training.ParallelSampler, params: Any, cond: CondOf | None = None
    ) -> np.ndarray:
        """The first `num` samples: sample i depends on (seed, i), not on num or the batch size.

        Args:
            num: number of samples.
            name: of the files in which they are kept; it must say what the samples depend on.
            draw: of `parallel`.
            params: what it draws from.
            cond: what the samples are conditioned on.

        Returns:
            uint8 [num, H, W, C].
        """
        settings, stream = self.settings, training.keys.stream(self.key, "sample")
        # Whole shards, or an even share, for every device.
        multiple = len(training.pick_devices(self.run.config.train.devices)) * max(settings.fixed_batch_size, 1)
        size = -(-settings.batch_size // multiple) * multiple
        name += f"-exact{settings.fixed_batch_size}" if settings.fixed_batch_size else ""
        parts = []
        for part in data.slices(num, size):

            def make(part=part):
                # A whole batch in any case, so that there is one shape to compile.
                numbers = np.arange(part.start, part.start + size)
                return {"x": data.to_bytes(draw(params, stream, numbers, cond))}

            parts.append(self.cached_arrays(f"{name}-{part.start}-{size}", make)["x"][: part.stop - part.start])
        return np.concatenate(parts)

    def bound(self, cond: CondOf | None = None, split: int = 1, num: int | None = None) -> dict[str, np.ndarray]:
        """The bound of the first test images in bits/dim: {"prior" [N], "terms", "x0_mse", "noise_mse" [N, T]}.

        Args:
            cond: what the network is conditioned on for the images of these numbers.
            split: 0: of training images.
            num: number of images; None: as in the settings.
        """
        model, images, num = self.model, self.images[split], self.settings.images if num is None else num
        stream = training.keys.stream(self.key, "eval")

        def terms(params: Any, keys: jax.Array, x0: jax.Array, cond: Cond) -> diffusion.Bound:
            kinds: dict[str, Any] = {"prediction": model.prediction, "variance": model.variance}
            return diffusion.bits_per_dim(keys, model.denoise(params, **cond), model.schedule, x0, **kinds)

        compiled, size, parts = compile_per_shape(terms), min(self.settings.batch_size, num), []
        for part in data.slices(num, size):

            def make(part=part):
                x0 = diffusion.check_images(images.signed(part.start, part.stop))
                x0 = np.concatenate([x0, np.zeros((size - len(x0), *x0.shape[1:]), np.float32)])
                numbers = np.arange(part.start, part.start + size)
                given = {} if cond is None else cond(np.minimum(numbers, num - 1))
                keys = training.keys.per_example(stream, jnp.asarray(numbers))
                return compiled(self.params, keys, x0, given)._asdict()

            arrays = self.cached_arrays(f"{'' if split else 'train-'}bound-{part.start}-{size}", make)
            parts.append({name: values[: part.stop - part.start] for name, values in arrays.items()})
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def measure_bound(self, cond: CondOf | None = None, train_cond: CondOf | None = None) -> dict[str, float]:
        """The number of parameters and, where images are measured, the metrics of the bound.

        Where every training image was visited more than 100 times, also the bound of some of them.
        """
        results: dict[str, float] = {"parameters": sum(x.size for x in jax.tree.leaves(self.params))}
        images, train = self.settings.images, len(self.images[0])
        if images:
            results |= self.cached_metrics("bound", lambda: bound_metrics(self.bound(cond)), images=images)
        if images and self.step * self.run.config.train.batch_size > 100 * train:
            num = min(images, train, 256)
            measure = lambda: {"train_bits_per_dim": bound_metrics(self.bound(train_cond, 0, num))["bits_per_dim"]}
            results |= self.cached_metrics("bound of training images", measure, images=num)
            found = results["train_bits_per_dim"], results["bits_per_dim"]
            checks.note_memorization(*found, "the bound in bits/dim", train)
        return results


def evaluate(context: EvalContext) -> dict[str, float]:
    """The metrics of the bound and of the samples."""
    results = context.measure_bound()
    if context.settings.samples:

        def compare() -> dict[str, float]:
            drawn = samples(context, context.settings.samples)
            return metrics.sample_quality(context.extractor(), drawn, *(split.image for split in context.compared))

        results |= context.cached_metrics("samples", compare, sampler=context.settings.sampler, **context.comparison)
    return results


def samples(context: EvalContext, num: int) -> np.ndarray:
    """The first `num` samples of the evaluation's sampler, uint8 [num, H, W, C]."""
    sampler = context.settings.sampler
    draw = context.parallel(diffusion.make_sampler(context.model, diffusion.SamplingVariant(sampler)))
    return context.draw(num, f"samples-{sampler.name}", draw, {"denoiser": context.params})


def bound_metrics(bound: dict[str, np.ndarray]) -> dict[str, float]:
    """Means of the bound over images, bits/dim, and the standard error due to the number of images."""
    prior, terms = bound["prior"].astype(np.float64), bound["terms"].astype(np.float64)
    total = prior + terms.sum(axis=1)
    return {
        "bits_per_dim": total.mean(),
        "bits_per_dim_standard_error": total.std(ddof=1) / len(total) ** 0.5 if len(total) > 1 else 0.0,
        "rate": (prior + terms[:, 1:].sum(axis=1)).mean(),
        "distortion": terms[:, 0].mean(),
        "prior_kl": prior.mean(),
        "noise_error": bound["noise_mse"].mean(),
        "bound_images": len(total),
    }
