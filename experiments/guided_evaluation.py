"""What guidance does to samples: classifier-FID, precision and recall against its scale, all from the same noise.

Pieces are kept in the run directory's folder `evaluation`, as those of `ddpm_evaluation`.
"""

import dataclasses
from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import ddpm_evaluation, features, guided_classifier, image_batches
from experiments.ddpm_evaluation import Given, Sampler
from experiments.guided_networks import Conditions
from jaxgen import diffusion, training

Kind = Literal["none", "classifier", "classifier_alone", "classifier_free"]


@dataclasses.dataclass(frozen=True)
class Guidance:
    """How samples are pushed towards their class."""

    kinds: tuple[Kind, ...] = ("classifier",)
    """"classifier": by the gradient of log p(y | x_t); "classifier_alone": likewise, of the model that is not told the
    class; "classifier_free": away from that model; "none": nowhere"""
    scales: tuple[float, ...] = (1.0,)
    """each is measured; there is no guidance at 0, and of "classifier_free" at 1"""
    interval: tuple[float, float] = (0.0, 1.0)
    """part of the chain in which there is guidance, from 0, the data, to 1, the noise"""

    def check(self, conditions: Conditions, has_classifier: bool) -> None:
        """Raises ValueError where there is nothing to guide by."""
        if not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise ValueError(f"guidance.interval is {self.interval}; expected (first, last) in [0, 1], first <= last")
        if not self.kinds or (not self.scales and set(self.kinds) != {"none"}):
            raise ValueError("guidance.kinds or guidance.scales is empty; --guidance.kinds none is the model alone")
        for kind in self.kinds:
            if kind.startswith("classifier") and kind != "classifier_free" and not has_classifier:
                raise ValueError(
                    f"guidance.kinds has {kind!r}, and the run has no classifier: set --classifier.num-steps N to "
                    "train one, or --classifier.trained FOLDER to take another run's"
                )
            if kind in ("classifier", "classifier_free") and not conditions.classes:
                raise ValueError(
                    f"guidance.kinds has {kind!r}, and the model is unconditional: it knows no classes; set "
                    "--labels.conditional, or --guidance.kinds classifier_alone"
                )
            if kind in ("classifier_alone", "classifier_free") and conditions.classes and conditions.null is None:
                raise ValueError(
                    f"guidance.kinds has {kind!r}, which needs the model without labels too, and labels.dropout is 0: "
                    "train with --labels.dropout 0.1"
                )


@dataclasses.dataclass(frozen=True)
class Evaluation(ddpm_evaluation.Evaluation):
    """What is measured at the end."""

    samples: int = 1000
    """samples drawn in each way for classifier-FID, precision and recall; 0: only those of the figures"""
    sampler: Sampler = Sampler("ddim", "ddim25")
    second: Sampler = Sampler(steps="250")
    """another sampler"""
    second_scales: tuple[float, ...] = ()
    """scales, of the first kind of guidance, at which the second sampler is measured as well"""
    levels: int = 11
    """noise levels at which the classifier is tested"""
    classified: int = 1000
    """first test images that it is tested on; all where there are fewer"""

    def check(self, train: image_batches.Images, test: image_batches.Images) -> None:
        """Raises ValueError where this cannot be measured on such data."""
        super().check(train, test)
        if self.levels < 1 or self.classified < 1:
            raise ValueError("evaluation.levels and evaluation.classified must be at least 1")


class Way(NamedTuple):
    """A way to draw.

    Attributes:
        kind: of the guidance.
        scale: of the guidance.
        labels: whether the network is told the class, if it can be.
        sampler: how steps are taken.
        name: what its measures are called by.
    """

    kind: Kind
    scale: float
    labels: bool
    sampler: Sampler
    name: str


def ways(guidance: Guidance, evaluation: Evaluation) -> list[Way]:
    """Everything that is measured, each once: scales without guidance are "unguided" or "without_labels"."""
    found: dict[str, Way] = {}

    def add(kind: Kind, scale: float, sampler: Sampler, suffix: str = "") -> None:
        labels, name = kind != "classifier_alone", f"{kind}_{scale:g}"
        if kind == "none" or (kind, scale) in (("classifier", 0), ("classifier_free", 1)):
            kind, scale, name = "none", 1.0, "unguided"
        elif scale == 0:
            kind, scale, labels, name = "none", 1.0, False, "without_labels"
        found.setdefault(name + suffix, Way(kind, scale, labels, sampler, name + suffix))

    for kind in guidance.kinds:
        for scale in guidance.scales or (1.0,):
            add(kind, scale, evaluation.sampler)
    for scale in evaluation.second_scales:
        add(guidance.kinds[0], scale, evaluation.second, f"_{evaluation.second.steps or 'all'}_steps")
    return list(found.values())


def told(conditions: Conditions, test_set: image_batches.Images, numbers: np.ndarray) -> Given:
    """What samples of these numbers are given, integers [n]: the classes in turn; an upsampler, test images in turn."""
    if conditions.low_resolution:
        return of_images(conditions, test_set, numbers % len(test_set))
    return {"labels": (numbers % conditions.classes).astype(np.int32)} if conditions.classes else {}


def of_images(conditions: Conditions, images: image_batches.Images, numbers: np.ndarray) -> Given:
    """What a network is told of the images of these numbers, integers [n]."""
    batch = images.read(numbers)
    labels = jnp.asarray(batch["label"], jnp.int32) if conditions.classes else None
    return conditions.given(jnp.asarray(image_batches.signed(batch["image"])), labels)


class Guided:
    """A trained model, its classifier and the images, and what is drawn and measured of them."""

    def __init__(
        self,
        measured: ddpm_evaluation.Measured,
        guidance: Guidance,
        conditions: Conditions,
        classifier: guided_classifier.Trained | None,
        train_set: image_batches.Images,
        test_set: image_batches.Images,
    ):
        self.measured, self.guidance, self.conditions = measured, guidance, conditions
        self.classifier, self.train_set, self.test_set = classifier, train_set, test_set
        self.evaluation: Evaluation = measured.settings  # type: ignore[assignment]
        self.ways = ways(guidance, self.evaluation)
        self._programs: dict[Any, training.ParallelDraw] = {}

    def told(self, numbers: np.ndarray) -> Given:
        """What the samples of these numbers are given: the classes in turn, and test images made small."""
        if self.classifier is not None and not (self.conditions.classes or self.conditions.low_resolution):
            # They are for the classifier.
            return {"labels": (numbers % self.classifier.classifier.network.out_channels).astype(np.int32)}
        return told(self.conditions, self.test_set, numbers)

    def unlabelled(self, numbers: np.ndarray) -> Given:
        """`told` with the null label for every sample."""
        given = dict(self.told(numbers))
        if self.conditions.classes:
            given["labels"] = np.full_like(given["labels"], self.conditions.classes)
        return given

    def of_test_images(self, numbers: np.ndarray) -> Given:
        """What the network is told of the test images of these numbers."""
        return of_images(self.conditions, self.test_set, numbers)

    def samples(self, way: Way, num: int) -> np.ndarray:
        """The first `num` samples, uint8 [num, H, W, C]: sample i begins with the same noise in every way."""
        # One program draws from the unguided model with labels and, given the null label, without.
        key = (way.kind, way.sampler)
        if key not in self._programs:
            self._programs[key] = ddpm_evaluation.parallel(
                self.measured, drawing(self.measured.model, self.guidance, self.conditions, self.classifier, way)
            )
        params = {"denoiser": self.measured.params, "scale": jnp.float32(way.scale)}
        if way.kind in ("classifier", "classifier_alone"):
            assert self.classifier is not None
            params["classifier"] = self.classifier.params
        first, last = self.guidance.interval
        inside = "" if way.kind == "none" or (first, last) == (0, 1) else f"-{first:g}-{last:g}"
        kind = way.kind if way.labels or way.kind != "none" else "without-labels"
        name = f"samples-{kind}-{way.scale:g}{inside}-{way.sampler.name}"
        given = self.told if way.labels or way.kind != "none" else self.unlabelled
        return ddpm_evaluation.drawn(self.measured, num, name, self._programs[key], params, given)

    @cached_property
    def extractor(self) -> features.Extractor:
        """What gives features."""
        return ddpm_evaluation.extractor_of(self.measured, self.train_set, self.test_set)

    @cached_property
    def split(self) -> tuple[image_batches.Images, image_batches.Images]:
        """The images that samples are compared with, and those of the floor."""
        train_set, test_set = self.train_set, self.test_set
        return (train_set, test_set) if self.evaluation.reference == "train" else (test_set, train_set)

    @cached_property
    def reference(self) -> np.ndarray:
        """Features of the images that samples are compared with."""
        return self.extractor(self.split[0].image)[0]

    def evaluate(self) -> dict[str, float]:
        """The bound, the classifier, and every way of drawing."""
        settings, run, step = self.evaluation, self.measured.run, self.measured.step
        metrics: dict[str, float] = {"parameters": sum(x.size for x in jax.tree.leaves(self.measured.params))}
        if settings.images:
            bound = lambda: ddpm_evaluation.bound(self.measured, self.test_set, self.of_test_images)
            what = f"bound of {settings.images} images at step {step}"
            metrics |= run.once(what, lambda: ddpm_evaluation.bound_metrics(bound()))
        if self.classifier is not None:
            num = min(settings.classified, len(self.test_set))
            what = f"classifier on {num} images at {settings.levels} noise levels"
            metrics |= run.once(what, lambda: self.accuracies(num))
        if settings.samples:
            by = "Inception" if settings.inception else "the classifier"
            compared = f"{settings.samples} {settings.reference} images, by {by}"
            metrics |= run.once(f"floor of {compared}", self.floor)
            for way in self.ways:
                what = f"{way.name} at step {step}, {way.sampler}, guided in {self.guidance.interval}, {compared}"
                metrics |= run.once(what, lambda way=way: self.compare(way))
        return metrics

    def accuracies(self, num: int) -> dict[str, float]:
        """Percent of test images whose class the noisy classifier finds, by noise level."""
        assert self.classifier is not None
        key = jax.random.fold_in(training.keys.stream(self.measured.key, "eval"), 2**30)
        found = guided_classifier.accuracy(
            self.classifier, self.measured.model.schedule, self.test_set, num, self.evaluation.levels, key,
            self.evaluation.batch_size,
        )  # fmt: skip
        named = {f"noisy_accuracy_percent_t{t}": value for t, value in found.items()}
        return {"noisy_accuracy_percent": float(np.mean([*found.values()])), **named, "noisy_accuracy_images": num}

    def floor(self) -> dict[str, float]:
        """What held-out real images score."""
        real = self.split[1].first(self.evaluation.samples)
        found, _ = self.extractor(real.image)
        metrics = features.compare(self.reference, found, self.extractor.name, "_floor")
        metrics |= {"fid_samples": self.evaluation.samples, "floor_images": len(real)}
        metrics["reference_images"] = len(self.reference)
        if self.extractor.accuracy is not None:
            metrics["classifier_accuracy_percent"] = 100 * self.extractor.accuracy
        return metrics

    def compare(self, way: Way) -> dict[str, float]:
        """Everything said of the samples of one way."""
        num = self.evaluation.samples
        found, probabilities = self.extractor(self.samples(way, num))
        suffix = f"_{way.name}"
        metrics = features.compare(self.reference, found, self.extractor.name, suffix)
        labels = self.told(np.arange(num)).get("labels")
        if labels is not None and self.extractor.name == "classifier_fid":
            # A classifier of clean images that guidance has not seen.
            metrics[f"named_right_percent{suffix}"] = 100 * float(np.mean(probabilities.argmax(axis=1) == labels))
        return metrics


def drawing(
    model: ddpm_evaluation.Model,
    guidance: Guidance,
    conditions: Conditions,
    trained: guided_classifier.Trained | None,
    way: Way,
) -> Callable[..., jax.Array]:
    """`draw({"denoiser", "classifier", "scale"}, keys [n], given) -> [n, H, W, C]`, for any scale."""
    last = model.schedule.num_original_steps - 1
    first, end = (round(share * last) for share in guidance.interval)
    everywhere = (first, end) == (0, last)

    def classifier_free(params, given):
        def network(x, t, labels):
            # Both models are one batch.
            times = x.shape[0] // given["labels"].shape[0]
            others = {n: jnp.concatenate([a] * times) for n, a in given.items() if n != "labels"}
            return model.denoise(params["denoiser"], {**others, "labels": labels})(x, t)

        return diffusion.classifier_free_guidance(
            network,
            given["labels"],
            conditions.classes,
            params["scale"],
            interval=None if everywhere else (first, end),
            variance=model.variance,
        )

    def by_classifier(params, given):
        assert trained is not None
        network = trained.classifier
        logits = lambda x, t: network.logits(params["classifier"], x, t)
        gradient = diffusion.classifier_guidance(logits, given["labels"], params["scale"])
        if everywhere:
            return gradient
        # All timesteps of a sampler's step are the same.
        inside = lambda t: jnp.any((t >= first) & (t <= end))
        return lambda x, t: jax.lax.cond(inside(t), gradient, lambda x, t: jnp.zeros_like(x), x, t)

    def draw(params, keys, given):
        if way.kind == "classifier_free":
            return model.draw(way.sampler, keys, classifier_free(params, given))
        told = dict(given)
        if not conditions.classes:
            told.pop("labels", None)
        elif way.kind == "classifier_alone":
            # The labels are the classifier's.
            told["labels"] = jnp.full_like(told["labels"], conditions.classes)
        gradient = None if way.kind == "none" else by_classifier(params, given)
        return model.draw(way.sampler, keys, model.denoise(params["denoiser"], told), gradient)

    return draw
