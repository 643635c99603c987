"""What the samples of a pack are worth beside a reference: Frechet distances, precision, recall.

A reference is a pack of real images, with the moments of their features where it was made so, under the names of
guided-diffusion's reference batches: `mu` and `sigma`, and `mu_s` and `sigma_s` of the features that know places.
"""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from experiments import features, image_batches, inception, pack_files
from jaxgen import data, metrics, training


class Moments(NamedTuple):
    """Of N features: N, their mean [F], and the sum of the products of their deviations from it [F, F], float64."""

    number: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """[F, F], with N - 1."""
        return self.scatter / (self.number - 1)

    def plus(self, more: np.ndarray) -> "Moments":
        """With further features [n, F] (Chan, Golub & LeVeque 1979)."""
        more = np.asarray(more, np.float64)
        mean, total = more.mean(axis=0), self.number + len(more)
        centred, apart = more - mean[None], mean - self.mean
        scatter = centred.T @ centred + np.outer(apart, apart) * (self.number * len(more) / total)
        return Moments(total, self.mean + apart * (len(more) / total), self.scatter + scatter)


def no_moments(size: int) -> Moments:
    """Of no features [0, size]."""
    return Moments(0, np.zeros(size), np.zeros((size, size)))


class Found(NamedTuple):
    """What an extractor finds in images.

    Attributes:
        features: of the first K images, [K, F].
        probabilities: of all, [N, classes].
        pooled: moments of all features.
        places: moments of all features that know places, or None.
    """

    features: np.ndarray
    probabilities: np.ndarray
    pooled: Moments
    places: Moments | None


def look(extractor: features.Extractor, images: Any, first: int, batch_size: int = 100) -> Found:
    """What is found in uint8 images [N, H, W, C]; features are kept of the first `first` alone.

    Raises:
        ValueError: fewer than two images.
    """
    if len(images) < 2:
        raise ValueError(f"{len(images)} image; a covariance needs at least 2")
    kept, probabilities, seen = [], [], 0
    moments: list[Moments] = []
    for found in features.in_batches(extractor.spatial or extractor.extract, images, batch_size):
        pooled, probability, *places = found
        if not moments:
            moments = [no_moments(x.shape[1]) for x in (pooled, *places)]
        moments = [known.plus(x) for known, x in zip(moments, (pooled, *places), strict=True)]
        probabilities.append(probability)
        kept.append(pooled[: max(0, first - seen)])
        seen += len(pooled)
    return Found(np.concatenate(kept), np.concatenate(probabilities), moments[0], (moments[1:] or [None])[0])


def load_extractor(inception_file: str, features_file: str) -> features.Extractor:
    """Inception, or the classifier that some run left.

    Raises:
        ValueError: both are asked for, or neither.
        FileNotFoundError: there is no such file.
    """
    if bool(inception_file) == bool(features_file):
        raise ValueError("give either --inception FILE (Inception's weights) or --features FILE (a run's features.npz)")
    return inception.load(inception_file) if inception_file else features.read(features_file)


def make_reference(
    path: str | Path, splits: list[image_batches.Images], extractor: features.Extractor | None, num: int
) -> dict[str, Any]:
    """Writes a reference of real images and returns its settings.

    Args:
        path: of the file, ending with .npz.
        splits: the images, in memory or on disk.
        extractor: gives the features whose moments, of all images, are written; None: none are.
        num: images in the file, in an order that mixes classes; 0: all.

    Raises:
        ValueError: another suffix, or no images.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"the reference is {path}; expected a name ending with .npz")
    total = sum(len(split) for split in splits)
    num = min(num or total, total)
    key = training.keys.root(0)
    chosen = np.asarray(data.shuffled_index(key, 0, jnp.arange(num), total, total))
    starts = np.cumsum([0, *(len(split) for split in splits)])
    image = np.empty((num, *splits[0].shape), np.uint8)
    label = None if any(split.label is None for split in splits) else np.empty(num, np.int64)
    for split, start in zip(splits, starts, strict=False):
        here = np.flatnonzero((chosen >= start) & (chosen < start + len(split)))
        image[here] = split.image[chosen[here] - start]
        if label is not None and split.label is not None:
            label[here] = split.label[chosen[here] - start]
    arrays: dict[str, np.ndarray] = {"arr_0": image} | ({} if label is None else {"arr_1": label})
    settings: dict[str, Any] = {"data": [split.fingerprint for split in splits], "images": total, "features": None}
    if extractor is not None:
        pooled, places = _moments_of(extractor, splits)
        arrays |= {"mu": pooled.mean, "sigma": pooled.covariance}
        if places is not None:
            arrays |= {"mu_s": places.mean, "sigma_s": places.covariance}
        settings["features"] = {"name": extractor.name, "sha256": extractor.sha256}
    pack_files.save(path, arrays, settings)
    return settings


def _moments_of(extractor: features.Extractor, splits: list[image_batches.Images]) -> tuple[Moments, Moments | None]:
    pooled, places = None, None
    for split in splits:
        for found in features.in_batches(extractor.spatial or extractor.extract, split.image, 100):
            pooled = (pooled or no_moments(found[0].shape[1])).plus(found[0])
            if len(found) > 2:
                places = (places or no_moments(found[2].shape[1])).plus(found[2])
    assert pooled is not None
    return pooled, places


def evaluate(
    pack: pack_files.Pack, reference: pack_files.Pack, extractor: features.Extractor, num: int = 10_000
) -> dict[str, float]:
    """Everything that is said of the samples.

    Args:
        pack: the samples.
        reference: of `make_reference`, of guided-diffusion, or any pack of real images.
        extractor: gives the features.
        num: features of either side for precision and recall; fewer where there are fewer.

    Raises:
        ValueError: the reference's moments are of other features, or its images do not fit the classifier.
    """
    stored = check_reference(reference, extractor)
    for images in (pack.image, reference.image):
        sizes(extractor, images.shape[1:])
    num = min(num, len(pack.image), len(reference.image))
    samples = look(extractor, pack.image, num)
    # Of a reference with moments, only those images whose features are compared one by one.
    real = look(extractor, reference.image[:num] if stored else reference.image, num)
    mean, covariance = stored["mu"] if stored else (real.pooled.mean, real.pooled.covariance)
    measured = {
        extractor.name: metrics.frechet_from_moments(samples.pooled.mean, samples.pooled.covariance, mean, covariance)
    }
    if samples.places is not None and real.places is not None and (not stored or "mu_s" in stored):
        mean, covariance = stored["mu_s"] if stored else (real.places.mean, real.places.covariance)
        measured["sfid"] = metrics.frechet_from_moments(
            samples.places.mean, samples.places.covariance, mean, covariance
        )
    quality = metrics.precision_recall(real.features, samples.features)
    measured |= {"precision": quality.precision, "recall": quality.recall}
    name = "inception_score" if extractor.name == "fid" else "classifier_score"
    measured[name] = features.score(samples.probabilities)
    if extractor.name != "fid" and pack.label is not None:
        right = samples.probabilities.argmax(axis=1) == pack.label
        measured["label_accuracy_percent"] = 100 * float(np.mean(right))
    counts = {"samples": len(pack.image), "reference_images": reference.settings.get("images", len(reference.image))}
    return {**measured, **counts, "precision_images": num}


def check_reference(reference: pack_files.Pack, extractor: features.Extractor) -> dict[str, Any]:
    """{"mu": (mean, covariance), "mu_s": likewise} that the reference brings with it; {} where it brings none.

    Raises:
        ValueError: they are of other features than the extractor's.
    """
    stored = {
        mean: (reference.rest[mean], reference.rest[covariance])
        for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s"))
        if mean in reference.rest and covariance in reference.rest
    }
    if not stored:
        return {}
    made_by = reference.settings.get("features")
    if made_by and made_by["sha256"] != extractor.sha256:
        raise ValueError(
            f"the reference's moments are of features {made_by['name']} {made_by['sha256'][:16]}, and those asked for "
            f"are {extractor.name} {extractor.sha256[:16]}; make the reference again with these"
        )
    found = dict(zip(("mu", "mu_s"), sizes(extractor, reference.image.shape[1:]), strict=False))
    for name, size in found.items():
        if name in stored and stored[name][0].shape != (size,):
            raise ValueError(
                f"{name} of the reference has {stored[name][0].size} numbers and {extractor.name} finds {size}; it was "
                "made of other features"
            )
    return stored


def sizes(extractor: features.Extractor, shape: tuple[int, ...]) -> list[int]:
    """How many features of images [H, W, C] there are, and how many that know places.

    Raises:
        ValueError: the extractor does not take such images.
    """
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        pooled, _, *places = jax.eval_shape(extractor.spatial or extractor.extract, x)
    except ScopeParamShapeError:
        raise ValueError(f"images are {list(shape)}, and the classifier was made for another size or kind") from None
    return [found.shape[1] for found in (pooled, *places)]
