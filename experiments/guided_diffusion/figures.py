"""Figures of guidance: the same noise at every scale, and the metrics against the scale."""

from pathlib import Path

import numpy as np

from experiments.ddpm.figures import bound_curves, neighbours
from experiments.guided_diffusion.evaluate import GuidedEvaluation
from jaxgen import data, pictures
from jaxgen.diffusion import GuidanceKind, SamplingVariant


def draw(folder: Path, guided: GuidedEvaluation, metrics: dict[str, float]) -> None:
    """Draws all figures into a folder."""
    save = lambda name, picture: pictures.save_png(folder / f"{name}.png", picture)
    save("guided", scales(guided))
    if not isinstance(guided.context.images[0].image, data.OnDisk):
        first = [v for v in guided.variants if v.sampler == guided.config.evaluation.sampler]
        strongest = max(first, key=lambda variant: variant.scale)
        save("neighbours", neighbours(guided.samples(strongest, 12), guided.context.images[0]))
    if guided.context.model.low_resolution:
        save("upsampled", upsampled(guided))
    if guided.config.evaluation.images:
        save("bound", bound_curves(guided.context.bound(guided.cond_of_test_images)))
    if curve := accuracy_curve(metrics):
        save("classifier", pictures.curves(curve, "step of noise t", "test images named right, percent"))
    if guided.config.evaluation.samples and (picture := tradeoff(guided, metrics)) is not None:
        save("tradeoff", picture)


def scales(guided: GuidedEvaluation, columns: int = 20) -> np.ndarray:
    """A row for each variant, a column for each class, twice over: sample i begins with the same noise in all.

    Below, a training image of each class.
    """
    classes = guided.context.model.num_classes or columns
    num = columns if classes >= columns else classes * max(1, columns // classes)
    rows = [guided.samples(variant, num)[:num] for variant in guided.variants]
    names = [variant.name.replace("_", " ") for variant in guided.variants]
    labels, known = guided.cond(np.arange(num)).get("labels"), guided.context.images[0].label
    if labels is not None and known is not None and np.isin(labels, known).all():
        chosen = np.array([np.flatnonzero(known == label)[0] for label in np.asarray(labels)])
        rows.append(guided.context.images[0].image[chosen])
        names.append("training images")
    return pictures.strip(rows, names, factor=max(1, 48 // guided.context.model.shape[0]))


def upsampled(guided: GuidedEvaluation, num: int = 10) -> np.ndarray:
    """The small images enlarged by repetition, the samples, and the original images."""
    numbers = np.arange(num) % len(guided.context.images[1])
    truth = guided.context.images[1].read(numbers)["image"]
    small = np.asarray(guided.cond_of_test_images(numbers)["low_resolution"])
    factor = truth.shape[1] // small.shape[1]
    enlarged = data.to_bytes(small).repeat(factor, axis=1).repeat(factor, axis=2)
    rows = [enlarged, guided.samples(guided.variants[0], num)[:num], truth]
    return pictures.strip(rows, ["given", "sample", "truth"], factor=max(1, 48 // truth.shape[1]))


def accuracy_curve(metrics: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The classifier's accuracy against the noise, or nothing."""
    start = "noisy_accuracy_percent_t"
    found = {int(n.removeprefix(start)): value for n, value in metrics.items() if n.startswith(start)}
    return {"classifier of noisy images": (np.array([*found]), np.array([*found.values()]))} if found else {}


def tradeoff(guided: GuidedEvaluation, metrics: dict[str, float]) -> np.ndarray | None:
    """Distance, precision and recall against the scale, as figure 4 of Dhariwal & Nichol (2021); N in the title."""
    by_kind = {kind: along(guided, kind) for kind in guided.config.guidance.kinds if kind != "none"}
    by_kind = {kind: found for kind, found in by_kind.items() if len(found) > 1}
    if not by_kind:
        return None
    distance = "fid" if guided.config.evaluation.inception else "classifier_fid"
    panels: list[dict] = [{}, {}, {}]
    for kind, found in by_kind.items():
        x = np.array([*found])
        y = {n: np.array([metrics[f"{n}_{w.name}"] for w in found.values()]) for n in (distance, "precision", "recall")}
        called = kind.replace("_", "-")
        panels[0][called] = (x, y[distance])
        panels[1] |= {f"precision, {called}": (x, y["precision"]), f"recall, {called}": (x, y["recall"])}
        panels[2][called] = (y["recall"], y["precision"])
    title = f"{guided.config.evaluation.samples} samples each, {guided.config.evaluation.sampler.steps or 'all'}"
    axes = [("scale", distance.replace("_", "-")), ("scale", "share"), ("recall", "precision")]
    return np.concatenate(
        [pictures.curves(p, *names, title=title) for p, names in zip(panels, axes, strict=True)], axis=1
    )


def along(guided: GuidedEvaluation, kind: GuidanceKind) -> dict[float, SamplingVariant]:
    """{scale: variant} of one kind of guidance and the first sampler, with the unguided ones at their scales."""
    unguided = {
        "classifier": {"unguided": 0.0},
        "classifier_alone": {"without_labels": 0.0},
        "classifier_free": {"without_labels": 0.0, "unguided": 1.0},
    }[kind]
    found = {unguided[w.name]: w for w in guided.variants if w.name in unguided}
    found |= {w.scale: w for w in guided.variants if w.kind == kind and w.sampler == guided.config.evaluation.sampler}
    return dict(sorted(found.items()))
