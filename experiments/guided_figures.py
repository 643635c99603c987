"""What guidance looks like: the same noise at every scale, and what is won and lost as it grows."""

from pathlib import Path

import numpy as np

from experiments import ddpm_evaluation, ddpm_figures, image_batches
from experiments.guided_evaluation import Guided, Kind, Way
from jaxgen import pictures


def draw(folder: Path, guided: Guided, metrics: dict[str, float]) -> None:
    """All figures into a folder."""
    save = lambda name, picture: pictures.save_png(folder / f"{name}.png", picture)
    save("guided", scales(guided))
    if not isinstance(guided.train_set.image, image_batches.OnDisk):
        strongest = max((w for w in guided.ways if w.sampler == guided.evaluation.sampler), key=lambda w: w.scale)
        save("neighbours", ddpm_figures.neighbours(guided.samples(strongest, 12), guided.train_set))
    if guided.conditions.low_resolution:
        save("upsampled", upsampled(guided))
    if guided.evaluation.images:
        found = ddpm_evaluation.bound(guided.measured, guided.test_set, guided.of_test_images)
        save("bound", ddpm_figures.bound_curves(found))
    if curve := accuracy_curve(metrics):
        save("classifier", pictures.curves(curve, "step of noise t", "test images named right, percent"))
    if guided.evaluation.samples and (picture := tradeoff(guided, metrics)) is not None:
        save("tradeoff", picture)


def scales(guided: Guided, columns: int = 20) -> np.ndarray:
    """A row for each way to draw, a column for each class, twice over: sample i begins with the same noise in all.

    Below, a training image of each class.
    """
    classes = guided.conditions.classes or columns
    num = columns if classes >= columns else classes * max(1, columns // classes)
    rows = [guided.samples(way, num)[:num] for way in guided.ways]
    names = [way.name.replace("_", " ") for way in guided.ways]
    labels, known = guided.told(np.arange(num)).get("labels"), guided.train_set.label
    if labels is not None and known is not None and np.isin(labels, known).all():
        chosen = np.array([np.flatnonzero(known == label)[0] for label in np.asarray(labels)])
        rows.append(guided.train_set.image[chosen])
        names.append("training images")
    return pictures.strip(rows, names, factor=max(1, 48 // guided.measured.model.shape[0]))


def upsampled(guided: Guided, num: int = 10) -> np.ndarray:
    """What the network was given, enlarged without it, its samples, and the truth."""
    numbers = np.arange(num) % len(guided.test_set)
    truth = guided.test_set.read(numbers)["image"]
    small = np.asarray(guided.of_test_images(numbers)["low_resolution"])
    factor = truth.shape[1] // small.shape[1]
    enlarged = image_batches.to_bytes(small).repeat(factor, axis=1).repeat(factor, axis=2)
    rows = [enlarged, guided.samples(guided.ways[0], num)[:num], truth]
    return pictures.strip(rows, ["given", "sample", "truth"], factor=max(1, 48 // truth.shape[1]))


def accuracy_curve(metrics: dict[str, float]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The classifier's accuracy against the noise, or nothing."""
    start = "noisy_accuracy_percent_t"
    found = {int(n.removeprefix(start)): value for n, value in metrics.items() if n.startswith(start)}
    return {"classifier of noisy images": (np.array([*found]), np.array([*found.values()]))} if found else {}


def tradeoff(guided: Guided, metrics: dict[str, float]) -> np.ndarray | None:
    """Distance, precision and recall against the scale, as figure 4 of Dhariwal & Nichol (2021); N in the title."""
    by_kind = {kind: along(guided, kind) for kind in guided.guidance.kinds if kind != "none"}
    by_kind = {kind: found for kind, found in by_kind.items() if len(found) > 1}
    if not by_kind:
        return None
    distance = "fid" if guided.evaluation.inception else "classifier_fid"
    panels: list[dict] = [{}, {}, {}]
    for kind, found in by_kind.items():
        x = np.array([*found])
        y = {n: np.array([metrics[f"{n}_{w.name}"] for w in found.values()]) for n in (distance, "precision", "recall")}
        called = kind.replace("_", "-")
        panels[0][called] = (x, y[distance])
        panels[1] |= {f"precision, {called}": (x, y["precision"]), f"recall, {called}": (x, y["recall"])}
        panels[2][called] = (y["recall"], y["precision"])
    title = f"{guided.evaluation.samples} samples each, {guided.evaluation.sampler.steps or 'all'}"
    axes = [("scale", distance.replace("_", "-")), ("scale", "share"), ("recall", "precision")]
    return np.concatenate(
        [pictures.curves(p, *names, title=title) for p, names in zip(panels, axes, strict=True)], axis=1
    )


def along(guided: Guided, kind: Kind) -> dict[float, Way]:
    """{scale: way} of one kind of guidance and the first sampler, with those that are not guided where they belong."""
    unguided = {
        "classifier": {"unguided": 0.0},
        "classifier_alone": {"without_labels": 0.0},
        "classifier_free": {"without_labels": 0.0, "unguided": 1.0},
    }[kind]
    found = {unguided[w.name]: w for w in guided.ways if w.name in unguided}
    found |= {w.scale: w for w in guided.ways if w.kind == kind and w.sampler == guided.evaluation.sampler}
    return dict(sorted(found.items()))
