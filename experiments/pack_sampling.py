"""Samples of a trained diffusion network, by number: sample i depends on the seed and on i alone.

Each device runs the same program on its own part of a batch and exchanges nothing, so the samples of one batch size per
device are the same bits on any number of devices; another batch size changes them by rounding.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments import image_batches, pack_files, trained_networks
from experiments.ddpm_evaluation import Sampler, program
from experiments.trained_networks import Trained
from jaxgen import diffusion, training

Pixels = Literal["nearest", "truncated"]


@dataclasses.dataclass(frozen=True)
class Guide:
    """What draws samples towards their class.

    Attributes:
        scale: of the classifier's gradient; without one, of classifier-free guidance, where 1 is the model itself.
        classifier: of noisy images, or None.
        interval: classifier-free: the original timesteps, first and last, at which there is guidance; None: all.
    """

    scale: float = 1.0
    classifier: Trained | None = None
    interval: tuple[int, int] | None = None


def check(model: Trained, guide: Guide, labels: str, low: pack_files.Pack | None, num: int) -> int | None:
    """How many classes the labels of samples are of, or None where they have no labels.

    Raises:
        ValueError: the network, the classifier, the labels and the small images do not fit together.
    """
    if isinstance(model.network, diffusion.EncoderUNet):
        raise ValueError(f"{model.name} is a classifier, which draws nothing; give it as --classifier of a network")
    classes = model.num_classes
    if guide.classifier is not None:
        check_classifier(model, guide.classifier)
        classes = guide.classifier.num_classes
    elif guide.scale != 1 and model.null_label is None:
        what = "without classes" if classes is None else "that was never trained without labels"
        raise ValueError(
            f"guidance of scale {guide.scale:g} with {model.name}, a network {what}: it needs a --classifier; without "
            "one, only a network trained with dropped labels can be guided"
        )
    if guide.interval is not None and (guide.classifier is not None or model.null_label is None):
        raise ValueError("--interval belongs to classifier-free guidance, and there is none here")
    if labels and classes is None:
        raise ValueError(f"labels {labels!r} for {model.name}, a network without classes, and no --classifier")
    if classes is not None and labels not in ("", "random", "cycle"):
        wrong = [label for label in numbered(labels) if not 0 <= label < classes]
        if wrong:
            raise ValueError(f"labels {wrong} are none of the classes, which are 0 to {classes - 1}")
    if (low is None) != (model.low_resolution is None):
        raise ValueError(
            f"{model.name} enlarges images of {model.low_resolution} pixels: give a pack of them with --low-resolution"
            if low is None
            else f"--low-resolution is for networks that enlarge images, and {model.name} draws them from noise"
        )
    if low is not None:
        expected = (model.low_resolution, model.low_resolution, model.channels)
        if low.image.shape[1:] != expected or len(low.image) < num:
            raise ValueError(
                f"the pack of --low-resolution holds {len(low.image)} images {list(low.image.shape[1:])}; expected "
                f"{num} or more of {list(expected)}"
            )
        if classes is not None and low.label is not None and not labels and not 0 <= low.label.max() < classes:
            raise ValueError(f"the pack of --low-resolution has label {low.label.max()}; there are {classes} classes")
    return classes


def check_classifier(model: Trained, classifier: Trained) -> None:
    """Raises ValueError where it is none, or one of other images, classes or noise than the network's."""
    if not isinstance(classifier.network, diffusion.EncoderUNet):
        raise ValueError(
            f"--classifier is {classifier.name}, which draws images; expected a classifier of noisy images"
        )
    if (classifier.size, classifier.channels) != (model.size, model.channels):
        raise ValueError(
            f"{classifier.name} classifies images of {classifier.size} pixels and {classifier.channels} channels, "
            f"{model.name} draws {model.size} and {model.channels}"
        )
    if classifier.schedule.exact_betas != model.schedule.exact_betas:
        told = [f"{m.name}: T = {m.schedule.num_steps}, beta {_ends(m.schedule)}" for m in (classifier, model)]
        raise ValueError(f"the classifier was trained for another noise schedule: {'; '.join(told)}")
    if model.num_classes is not None and model.num_classes != classifier.num_classes:
        raise ValueError(
            f"{classifier.name} knows {classifier.num_classes} classes, {model.name} {model.num_classes}; labels would "
            "mean different things"
        )


def _ends(schedule: diffusion.Schedule) -> str:
    return f"{float(schedule.betas[0]):.3g} to {float(schedule.betas[-1]):.3g}"


def numbered(labels: str) -> list[int]:
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
        labels: "random": each of the classes equally likely, by (key, number); "cycle": one class after another; or
            classes, "207,360", which are taken in turn.
        classes: how many there are.
    """
    if labels == "random":
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.asarray(numbers))
        return np.asarray(jax.vmap(lambda key: jax.random.randint(key, (), 0, classes))(keys))
    chosen = np.arange(classes) if labels == "cycle" else np.array(numbered(labels))
    return chosen[numbers % len(chosen)].astype(np.int32)


def draw(model: Trained, sampler: Sampler, guide: Guide) -> Callable[[Any, jax.Array, dict[str, jax.Array]], jax.Array]:
    """`f(params, keys, given)` -> samples [n, H, W, C] in [-1, 1].

    `params` is {"network": tree, "classifier": tree or None}, keys are [n], and `given` holds "label", integers [n],
    where there are classes, and "low", small images [n, h, w, C] in [-1, 1], for an upsampler.
    """
    classifier, schedule, null_label = guide.classifier, sampler.schedule(model.schedule), model.null_label
    is_conditional = model.num_classes is not None

    def samples(params, keys, given):
        low, labels = given.get("low"), given.get("label")

        def network(x, t, *labels):
            if low is not None:
                x = diffusion.with_low_resolution(x, jnp.tile(low, (x.shape[0] // low.shape[0], 1, 1, 1)))
            return model(params["network"], x, t, *labels)

        if classifier is None and null_label is not None and guide.scale != 1:
            denoise = diffusion.classifier_free_guidance(
                network, labels, null_label, guide.scale, interval=guide.interval, variance=model.variance
            )
        else:
            denoise = lambda x, t: network(x, t, *((labels,) if is_conditional else ()))
        variance = model.variance if sampler.variance == "model" else sampler.variance
        known = denoise
        if sampler.variance != "model":
            denoise = lambda x, t: diffusion.split_output(known(x, t), model.variance)[0]
        guidance = None
        if classifier is not None:
            logits = functools.partial(classifier, params["classifier"])
            guidance = diffusion.classifier_guidance(logits, labels, guide.scale)
        return diffusion.sample(
            keys,
            denoise,
            (keys.shape[0], model.size, model.size, model.channels),
            schedule,
            method=sampler.method,
            eta=sampler.eta,
            prediction=model.prediction,
            variance=variance,
            guidance=guidance,
        )

    return samples


def write(
    path: Any,
    num: int,
    model: Trained,
    sampler: Sampler,
    guide: Guide,
    *,
    seed: int = 0,
    labels: str = "",
    low: pack_files.Pack | None = None,
    pixels: Pixels = "nearest",
    batch_size: int = 64,
    devices: Sequence[Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> bool:
    """Draws `num` samples into the pack at `path`, see `pack_files.write`.

    Args:
        path: of the pack.
        num: how many.
        model: the network.
        sampler: how it is drawn from.
        guide: towards which class.
        seed: of noise and labels.
        labels: as in `labels_of`; "": those of the pack of small images, otherwise "random".
        low: the pack of small images, for an upsampler: sample i enlarges its image i.
        pixels: "nearest" of the 256 levels, or "truncated" to the one below, as the authors' code does.
        batch_size: images at a time, of each device.
        devices: default all of this process.
        progress: told how many samples there are.

    Raises:
        ValueError: what was asked for does not fit together, or another pack is there.
    """
    classes = check(model, guide, labels, low, num)
    devices = list(jax.local_devices() if devices is None else devices)
    mesh = Mesh(np.array(devices), ("data",))
    everywhere, split = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), PartitionSpec("data")))
    classifier = guide.classifier
    trees = {"network": model.params, "classifier": None if classifier is None else classifier.params}
    params = jax.device_put(trees, everywhere)
    # check_vma: the loops begin with arrays that are the same on all devices, and go on with some that are not.
    drawn = program(
        jax.shard_map(
            draw(model, sampler, guide), mesh=mesh, check_vma=False, out_specs=PartitionSpec("data"),
            in_specs=(PartitionSpec(), PartitionSpec("data"), PartitionSpec("data")),
        )
    )  # fmt: skip
    key, size = training.keys.root(seed), batch_size * len(devices)
    noise, of_labels = training.keys.stream(key, "sample"), training.keys.stream(key, "eval")

    def label(numbers: np.ndarray) -> np.ndarray | None:
        if classes is None:
            return None
        if low is not None and low.label is not None and not labels:
            return low.label[numbers].astype(np.int32)
        return labels_of(of_labels, numbers, labels or "random", classes)

    def make(start: int, stop: int) -> tuple[np.ndarray, np.ndarray | None]:
        # A whole batch in any case, so that there is one shape to compile.
        numbers = np.minimum(np.arange(start, start + size), num - 1)
        given = {"label": label(numbers), "low": low and image_batches.signed(low.image[numbers])}
        given = {name: value for name, value in given.items() if value is not None}
        keys = jax.vmap(jax.random.fold_in, (None, 0))(noise, jnp.asarray(numbers))
        x = np.asarray(drawn(params, *jax.device_put((keys, given), split)))[: stop - start]
        found = given.get("label")
        return in_bytes(x, pixels), None if found is None else np.asarray(found)[: stop - start]

    settings = {
        "network": trained_networks.describe(model),
        "dtype": str(np.dtype(model.network.dtype or np.float32)),
        "sampler": dataclasses.asdict(sampler),
        "classifier": None if classifier is None else trained_networks.describe(classifier),
        "scale": guide.scale,
        "interval": guide.interval,
        "labels": labels,
        "low_resolution": None if low is None else training.tree_digest((low.image, low.label)),
        "pixels": pixels,
        "seed": seed,
    }
    return pack_files.write(path, make, num, settings=settings, batch_size=size, progress=progress)


def in_bytes(x: np.ndarray, pixels: Pixels) -> np.ndarray:
    """Floating point in [-1, 1], any shape -> uint8."""
    if pixels == "nearest":
        return image_batches.to_bytes(x)
    return np.clip((np.asarray(x, np.float32) + 1) * np.float32(127.5), 0, 255).astype(np.uint8)
