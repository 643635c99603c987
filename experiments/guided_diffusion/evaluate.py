"""The effect of guidance on samples: classifier-FID, precision and recall against its scale, all from the same noise.

Pieces are kept in the run directory's folder `evaluation`, as those of `ddpm`.
"""

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.ddpm.evaluate import EvalContext
from experiments.guided_diffusion import classifier as noisy_classifier
from experiments.guided_diffusion.config import Config, variants
from jaxgen import data, diffusion, metrics, training
from jaxgen.diffusion import Cond, SamplingVariant


def cond_of_samples(
    model: diffusion.DiffusionModel, test_set: data.Images, numbers: np.ndarray, classes: int = 0
) -> Cond:
    """What samples of these numbers, integers [n], are conditioned on: the classes in turn, or test images in turn.

    Args:
        model: with classes, or an upsampler of test images.
        test_set: test images.
        numbers: of the samples.
        classes: of a classifier that guides a network without classes.
    """
    if model.low_resolution is not None:
        return cond_of_images(model, test_set, numbers % len(test_set))
    classes = model.num_classes or classes
    return {"labels": (numbers % classes).astype(np.int32)} if classes else {}


def cond_of_images(model: diffusion.DiffusionModel, images: data.Images, numbers: np.ndarray) -> Cond:
    """What a network is conditioned on for the images of these numbers, integers [n]."""
    batch = images.read(numbers)
    labels = jnp.asarray(batch["label"], jnp.int32) if model.num_classes else None
    return model.conditioning(jnp.asarray(data.signed(batch["image"])), labels)


@dataclasses.dataclass
class GuidedEvaluation:
    """Samples of a trained model in all variants, and their metrics.

    Attributes:
        context: the model, its parameters, the images, and where results are kept.
        config: of the run, or of what else is measured.
        classifier: of noisy images, or None.
    """

    context: EvalContext
    config: Config
    classifier: diffusion.Pretrained | None

    def __post_init__(self):
        self.variants = variants(self.config, self.context.model.schedule)
        self._samplers: dict[Any, training.ParallelSampler] = {}

    def cond(self, numbers: np.ndarray) -> Cond:
        """What the samples of these numbers are conditioned on."""
        classes = self.classifier.model.num_classes if self.classifier is not None else None
        return cond_of_samples(self.context.model, self.context.images[1], numbers, classes or 0)

    def cond_of_test_images(self, numbers: np.ndarray) -> Cond:
        """What the network is conditioned on for the test images of these numbers."""
        return cond_of_images(self.context.model, self.context.images[1], numbers)

    def null_cond(self, numbers: np.ndarray) -> dict[str, Any]:
        """`cond` with the null label for every sample."""
        cond = dict(self.cond(numbers))
        return cond | {"labels": np.full_like(cond["labels"], self.context.model.null_label)}

    def samples(self, variant: SamplingVariant, num: int) -> np.ndarray:
        """The first `num` samples, uint8 [num, H, W, C]: sample i begins with the same noise in every variant."""
        classifier = self.classifier
        # One program for all scales.
        key = dataclasses.replace(variant, scale=1.0, name="")
        unlabelled = variant.kind == "none" and not variant.labels and self.context.model.null_label is not None
        if unlabelled:
            # Also without labels, which is the null label.
            key = dataclasses.replace(key, labels=True)
        if key not in self._samplers:
            model = None if classifier is None else classifier.model
            self._samplers[key] = self.context.parallel(diffusion.make_sampler(self.context.model, key, model))
        params = {"denoiser": self.context.params, "scale": jnp.float32(variant.scale)}
        if variant.kind in ("classifier", "classifier_alone"):
            assert classifier is not None
            params["classifier"] = classifier.params
        guided_inside = variant.interval if variant.kind != "none" else None
        inside = "" if guided_inside is None else f"-{guided_inside[0]:g}-{guided_inside[1]:g}"
        kind = variant.kind if variant.labels or variant.kind != "none" else "without-labels"
        name = f"samples-{kind}-{variant.scale:g}{inside}-{variant.sampler.name}"
        cond = self.null_cond if unlabelled else self.cond
        return self.context.draw(num, name, self._samplers[key], params, cond)

    @cached_property
    def extractor(self) -> metrics.Extractor:
        """The network that gives features."""
        return self.context.extractor()

    @cached_property
    def reference(self) -> np.ndarray:
        """Features of the images that samples are compared with."""
        return self.extractor(self.context.compared[0].image)[0]

    def evaluate(self) -> dict[str, float]:
        """The metrics of the bound, of the classifier, and of every variant."""
        settings, context, compared = self.config.evaluation, self.context, self.context.comparison
        of_training_images = lambda numbers: cond_of_images(context.model, context.images[0], numbers)
        results = context.measure_bound(self.cond_of_test_images, of_training_images)
        if self.classifier is not None:
            num = min(settings.classified, len(context.images[1]))
            accuracies = lambda: self.accuracies(num)
            results |= context.run.cached("classifier", accuracies, images=num, levels=settings.levels)
        if settings.samples:
            results |= context.run.cached("floor", self.floor, **compared)
            for variant in self.variants:
                how = {"variant": variant.name, "sampler": variant.sampler, "interval": self.config.guidance.interval}
                compare = lambda variant=variant: self.compare(variant)
                results |= context.cached_metrics("samples", compare, **how, **compared)
        return results

    def accuracies(self, num: int) -> dict[str, float]:
        """Percent of test images that the noisy classifier classifies right, by noise level."""
        assert self.classifier is not None
        key = jax.random.fold_in(training.keys.stream(self.context.key, "eval"), 2**30)
        levels, batch_size = self.config.evaluation.levels, self.config.evaluation.batch_size
        percent = noisy_classifier.accuracy(self.classifier, self.context.images[1], num, levels, key, batch_size)
        named = {f"noisy_accuracy_percent_t{t}": value for t, value in percent.items()}
        return {"noisy_accuracy_percent": float(np.mean([*percent.values()])), **named, "noisy_accuracy_images": num}

    def floor(self) -> dict[str, float]:
        """The metrics of held-out real images."""
        num = self.config.evaluation.samples
        real = self.context.compared[1].select(slice(num))
        features, _ = self.extractor(real.image)
        results = metrics.compare_features(self.reference, features, self.extractor.name, "_floor")
        results |= {"fid_samples": num, "floor_images": len(real), "reference_images": len(self.reference)}
        if self.extractor.accuracy is not None:
            results["classifier_accuracy_percent"] = 100 * self.extractor.accuracy
        return results

    def compare(self, variant: SamplingVariant) -> dict[str, float]:
        """The metrics of the samples of one variant."""
        num, suffix = self.config.evaluation.samples, f"_{variant.name}"
        features, probabilities = self.extractor(self.samples(variant, num))
        results = metrics.compare_features(self.reference, features, self.extractor.name, suffix)
        labels = self.cond(np.arange(num)).get("labels")
        if labels is not None and self.extractor.name == "classifier_fid":
            # By a classifier of clean images that takes no part in guidance.
            results[f"named_right_percent{suffix}"] = 100 * float(np.mean(probabilities.argmax(axis=1) == labels))
        return results
