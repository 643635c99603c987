"""Samples of a trained diffusion network, by number: sample i depends on the seed and on i alone.

Each device runs the same program on its own part of a batch and exchanges nothing, so the samples of one batch size per
device are the same bits on any number of devices; another batch size changes them by rounding.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.sample_batches.networks import check_classifier
from jaxgen import data, diffusion, metrics, training
from jaxgen.data.images import read_image
from jaxgen.diffusion import Cond, Sampler, SamplingVariant

Pixels = Literal["nearest", "truncated"]


class Known(NamedTuple):
    """What inpainting keeps: uint8 image [H, W, C], bool mask [H, W, 1], True where the image is known."""

    image: np.ndarray
    mask: np.ndarray
    resampling: diffusion.Resampling = diffusion.Resampling()


def read_known(image: str, mask: str, resampling: diffusion.Resampling) -> Known | None:
    """The image and the mask in PNG or JPEG files, or None where no names are given.

    Raises:
        ValueError: one name without the other, a mask that is not black and white, or of another size.
    """
    if bool(image) != bool(mask):
        raise ValueError("inpainting takes both --inpaint IMAGE and --mask MASK")
    if not image:
        return None
    pixels, marks = read_image(Path(image), None), read_image(Path(mask), None)
    if not np.isin(marks, (0, 255)).all() or np.ptp(marks, axis=2).any() or marks.min() == marks.max():
        raise ValueError(f"{mask}: expected black pixels, which are drawn, and white pixels, which are kept")
    if marks.shape[:2] != pixels.shape[:2]:
        raise ValueError(f"{mask} is {list(marks.shape[:2])} pixels and {image} {list(pixels.shape[:2])}")
    return Known(pixels, marks[..., :1] > 0, resampling)


@dataclasses.dataclass(frozen=True)
class SampleRequest:
    """What is drawn, and from what.

    Attributes:
        network: the network.
        sampler: how steps are taken.
        classifier: of noisy images, whose gradient guides samples to their class, or None.
        scale: of the classifier's gradient; without one, of classifier-free guidance, where 1 is the network alone.
        interval: classifier-free: the original timesteps, first and last, at which there is guidance; None: all.
        labels: "random", each class equally likely, by (seed, number); "cycle", one class after another; classes
            "207,360", taken in turn; "": those of `low`, otherwise "random".
        low: sample batch of small images, for an upsampler: sample i enlarges its image i.
        pixels: "nearest" of the 256 levels, or "truncated" to the one below, as the authors' code does.
        seed: random seed of noise and labels.
        known: what inpainting keeps, or None.
        size: (height, width) of the images where it is not that of the training; the networks are made for it.
    """

    network: diffusion.Pretrained
    sampler: Sampler
    classifier: diffusion.Pretrained | None = None
    scale: float = 1.0
    interval: tuple[int, int] | None = None
    labels: str = ""
    low: metrics.SampleBatch | None = None
    pixels: Pixels = "nearest"
    seed: int = 0
    known: Known | None = None
    size: tuple[int, int] | None = None

    @property
    def classes(self) -> int | None:
        """Number of classes of the labels of samples, or None where they have no labels."""
        return (self.classifier or self.network).model.num_classes

    @property
    def variant(self) -> SamplingVariant:
        """The sampler and the guidance."""
        if self.classifier is not None:
            return SamplingVariant(self.sampler, "classifier", self.scale)
        if self.network.model.null_label is not None and self.scale != 1:
            return SamplingVariant(self.sampler, "classifier_free", self.scale, interval=self.interval)
        return SamplingVariant(self.sampler)

    @property
    def settings(self) -> dict[str, Any]:
        """What samples depend on, as it is recorded in their file."""
        low = self.low
        later: dict[str, Any] = {} if self.size is None else {"size": self.size}
        if self.known is not None:
            image, mask, resampling = self.known
            later["inpaint"] = {"sha256": training.tree_digest((image, mask)), **dataclasses.asdict(resampling)}
        return later | {
            "network": self.network.describe(),
            "dtype": str(np.dtype(self.network.model.network.dtype or np.float32)),
            "sampler": dataclasses.asdict(self.sampler),
            "classifier": None if self.classifier is None else self.classifier.describe(),
            "scale": self.scale,
            "interval": self.interval,
            "labels": self.labels,
            "low_resolution": None if low is None else training.tree_digest((low.image, low.label)),
            "pixels": self.pixels,
            "seed": self.seed,
        }

    def check(self, num: int) -> None:
        """Checks that `num` such samples can be drawn.

        Raises:
            ValueError: the network, the classifier, the labels and the small images do not fit together.
        """
        (name, model, _), classes = self.network, self.classes
        if model.is_classifier:
            raise ValueError(f"{name} is a classifier, which draws nothing; give it as --classifier of a network")
        problems = self.sampler.check(model.schedule)
        if self.known is not None and self.known.image.shape != model.shape:
            problems += [f"the image to inpaint is {list(self.known.image.shape)}, {name} draws {list(model.shape)}"]
        if self.known is not None and self.sampler.method == "dpm_solver":
            problems += ["inpainting takes the method 'ancestral' or 'ddim'"]
        if not np.isfinite(self.scale):
            problems += [f"the scale is {self.scale}"]
        if self.interval is not None and not 0 <= self.interval[0] <= self.interval[1]:
            problems += [f"the interval is {list(self.interval)}; expected the first and the last timestep"]
        if problems:
            raise ValueError("; ".join(problems))
        if self.classifier is not None:
            check_classifier(name, model, model.num_classes, self.classifier)
        elif self.scale != 1 and model.null_label is None:
            what = "without classes" if classes is None else "that was never trained without labels"
            raise ValueError(
                f"guidance of scale {self.scale:g} with {name}, a network {what}: it needs a --classifier; without "
                "one, only a network trained with dropped labels can be guided"
            )
        if self.interval is not None and (self.classifier is not None or model.null_label is None):
            raise ValueError("--interval belongs to classifier-free guidance, and there is none here")
        if self.labels and classes is None:
            raise ValueError(f"labels {self.labels!r} for {name}, a network without classes, and no --classifier")
        if classes is not None and self.labels not in ("", "random", "cycle"):
            wrong = [label for label in listed_classes(self.labels) if not 0 <= label < classes]
            if wrong:
                raise ValueError(f"labels {wrong} are none of the classes, which are 0 to {classes - 1}")
        self._check_low_resolution(num)

    def _check_low_resolution(self, num: int) -> None:
        (name, model, _), low, classes = self.network, self.low, self.classes
        if (low is None) != (model.low_resolution is None):
            raise ValueError(
                f"{name} enlarges images of {model.low_resolution} pixels: give a sample batch of them with "
                "--low-resolution"
                if low is None
                else f"--low-resolution is for networks that enlarge images, and {name} draws them from noise"
            )
        if low is None:
            return
        expected = (model.low_resolution, model.low_resolution, model.shape[2])
        if low.image.shape[1:] != expected or len(low.image) < num:
            raise ValueError(
                f"the batch of --low-resolution holds {len(low.image)} images {list(low.image.shape[1:])}; expected "
                f"{num} or more of {list(expected)}"
            )
        if classes is not None and low.label is not None and not self.labels and not 0 <= low.label.max() < classes:
            raise ValueError(f"the batch of --low-resolution has label {low.label.max()}; there are {classes} classes")

    def cond(self, key: jax.Array, numbers: np.ndarray) -> Cond:
        """What the samples of these numbers, integers [n], are conditioned on; random labels are drawn from `key`."""
        cond: Cond = {} if self.low is None else {"low_resolution": data.signed(self.low.image[numbers])}
        if self.known is not None:
            image, mask, _ = self.known
            copies = lambda x: np.broadcast_to(x, (len(numbers), *x.shape))
            cond |= {"image": copies(np.asarray(data.signed(image))), "mask": copies(mask)}
        if self.classes is None:
            return cond
        if self.low is not None and self.low.label is not None and not self.labels:
            return {**cond, "labels": self.low.label[numbers].astype(np.int32)}
        return {**cond, "labels": labels_of(key, numbers, self.labels or "random", self.classes)}


def listed_classes(labels: str) -> list[int]:
    """The classes in "207,360".

    Raises:
        ValueError: it is no list of numbers.
    """
    try:
        return [int(part) for part in labels.split(",")]
    except ValueError:
        raise ValueError(f"labels are {labels!r}; expected 'random', 'cycle' or classes like '207,360'") from None


def labels_of(key: jax.Array, numbers: np.ndarray, labels: str, classes: int) -> np.ndarray:
    """The labels of the samples of these numbers, int32 [n].

    Args:
        key: of the labels.
        numbers: integers [n].
        labels: "random", "cycle" or classes, see `SampleRequest`.
        classes: number of classes.
    """
    if labels == "random":
        keys = training.keys.per_example(key, jnp.asarray(numbers))
        return np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, classes))(keys))
    chosen = np.arange(classes) if labels == "cycle" else np.array(listed_classes(labels))
    return chosen[numbers % len(chosen)].astype(np.int32)


def write(
    path: Any,
    num: int,
    request: SampleRequest,
    *,
    batch_size: int = 64,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> bool:
    """Draws `num` samples into the sample batch at `path`, see `metrics.write_sample_batch`.

    Args:
        path: of the file.
        num: number of samples.
        request: what is drawn.
        batch_size: images at a time, of each device.
        devices: default all of this process.
        progress: `progress(number of samples)` is called after each shard.

    Raises:
        ValueError: the request does not fit together, or a batch of other settings is there.
    """
    request.check(num)
    devices = list(jax.local_devices() if devices is None else devices)
    network, classifier, size = request.network, request.classifier, batch_size * len(devices)
    guide, resampling = classifier and classifier.model, request.known and request.known.resampling
    draw = diffusion.make_sampler(network.model, request.variant, guide, resampling=resampling)
    sampler = training.ParallelSampler(
        lambda params, keys, numbers, *cond: draw(params, keys, *cond), devices=devices, batch_size=size
    )
    params: dict[str, Any] = {"denoiser": network.params, "scale": jnp.float32(request.scale)}
    if classifier is not None:
        params["classifier"] = classifier.params
    key = training.keys.root(request.seed)
    noise, label_key = training.keys.stream(key, "sample"), training.keys.stream(key, "eval")

    def make(start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        # A whole batch in any case, so that there is one shape to compile.
        numbers = np.minimum(np.arange(start, start + size), num - 1)
        x = sampler(params, noise, numbers, lambda rows: request.cond(label_key, rows.astype(np.int64)))
        wrong = numbers[: stop - start][~np.isfinite(x[: stop - start]).all(axis=(1, 2, 3))]
        if len(wrong):
            keys = jax.vmap(jax.random.fold_in, (None, 0))(noise, jnp.asarray(wrong[:1]))
            when = first_nonfinite(request, params, keys, request.cond(label_key, wrong[:1]))
            raise ValueError(
                f"sample {wrong[0]} is not finite from {when} on, nor are {len(wrong) - 1} others of samples {start} "
                f"to {stop - 1}; they are not written. The network's output or the guidance overflows: check the "
                "schedule, --scale and --dtype"
            )
        label = request.cond(label_key, numbers).get("labels")
        return in_bytes(x[: stop - start], request.pixels), None if label is None else label[: stop - start]

    return metrics.write_sample_batch(path, make, num, settings=request.settings, batch_size=size, progress=progress)


def first_nonfinite(request: SampleRequest, params: dict[str, Any], keys: jax.Array, cond: Cond) -> str:
    """The step at which the sample of keys [1] is not finite, found by drawing it again."""
    network, seen = request.network, []

    def note(t, is_finite):
        if not is_finite:
            seen.append(int(t))

    def observe(x, t, output):
        jax.debug.callback(note, t[0], jnp.isfinite(x).all() & jnp.isfinite(output).all(), ordered=True)

    guide, resampling = request.classifier and request.classifier.model, request.known and request.known.resampling
    draw = diffusion.make_sampler(network.model, request.variant, guide, resampling=resampling, observe=observe)
    jax.block_until_ready(jax.jit(draw)(params, keys, cond))
    jax.effects_barrier()
    schedule = request.sampler.schedule(network.model.schedule)
    if not seen:
        return "the last step"
    step = schedule.num_steps - int(np.searchsorted(np.asarray(schedule.timesteps), seen[0]))
    return f"step {step} of {schedule.num_steps} (timestep {seen[0]})"


def in_bytes(x: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Floating point in [-1, 1], any shape -> uint8."""
    if pixels == "nearest":
        return data.to_bytes(x)
    return np.clip((np.asarray(x, np.float32) + 1) * np.float32(127.5), 0, 255).astype(np.uint8)
