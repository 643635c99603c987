"""Metrics of a sample batch compared with a reference: Frechet distances, precision, recall.

A reference is a batch of real images, perhaps with the moments of their features under the names of guided-diffusion's
reference batches: `mu` and `sigma`, and `mu_s` and `sigma_s` of the spatial features. Source: the evaluator of
Dhariwal & Nichol (2021).
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.errors import ScopeParamShapeError

from .features import Extractor, inception_score
from .frechet import frechet_from_moments
from .moments import Moments, summarize_features
from .precision_recall import precision_recall
from .sample_batches import SampleBatch

NEIGHBOURS = 3
"""k of the published precision and recall."""


def evaluate_sample_batch(
    batch: SampleBatch, reference: SampleBatch, extractor: Extractor, num: int = 10_000
) -> dict[str, float]:
    """The metrics of a sample batch.

    Args:
        batch: the samples.
        reference: a batch of real images, such as those of guided-diffusion; perhaps with the moments of features, `mu`
            and `sigma`, and of spatial features, `mu_s` and `sigma_s`, or those alone.
        extractor: gives the features.
        num: features on both sides for precision and recall; fewer where there are fewer.

    Returns:
        {name: value}; "precision" and "recall" where there are 4 images or more on both sides, "precision_images" of
        them.

    Raises:
        ValueError: the reference's moments are of other features, its images do not fit the classifier, or there are
            fewer than 2 samples.
    """
    if not len(batch.image):
        raise ValueError("the samples are a file of statistics alone; only a reference may be")
    stored = check_reference(reference, extractor, batch.image.shape[1:])
    for images in (batch.image, reference.image) if len(reference.image) else (batch.image,):
        sizes(extractor, images.shape[1:])
    num = min(num, len(batch.image), len(reference.image))
    num = num if num > NEIGHBOURS else 0
    samples = summarize_features(extractor, batch.image, num)
    # Of a reference with moments, only those images whose features are compared one by one.
    taken = reference.image[:num] if "mu" in stored else reference.image
    real = summarize_features(extractor, taken, num) if len(taken) else None
    pooled, spatial = stored.get("mu"), stored.get("mu_s")
    if real is not None:
        pooled = pooled or _pair(real.pooled)
        spatial = spatial or (None if stored or real.spatial is None else _pair(real.spatial))
    assert pooled is not None  # there are images where there are no moments
    measured = {extractor.name: _distance(samples.pooled, pooled)}
    if samples.spatial is not None and spatial is not None:
        measured["sfid"] = _distance(samples.spatial, spatial)
    if num and real is not None:
        quality = precision_recall(real.features, samples.features, NEIGHBOURS)
        measured |= {"precision": quality.precision, "recall": quality.recall}
    name = "inception_score" if extractor.name == "fid" else "classifier_score"
    measured[name] = inception_score(samples.probabilities)
    if extractor.name != "fid" and batch.label is not None:
        right = samples.probabilities.argmax(axis=1) == batch.label
        measured["label_accuracy_percent"] = 100 * float(np.mean(right))
    measured |= {"samples": len(batch.image), "precision_images": num}
    if real_images := reference.settings.get("images", len(reference.image)):
        measured["reference_images"] = real_images
    return measured


def _pair(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    return moments.mean, moments.covariance


def _distance(moments: Moments, reference: tuple[np.ndarray, np.ndarray]) -> float:
    return frechet_from_moments(moments.mean, moments.covariance, *reference)


def check_reference(
    reference: SampleBatch, extractor: Extractor, shape: tuple[int, ...] | None = None
) -> dict[str, Any]:
    """{"mu": (mean, covariance), "mu_s": likewise} of the reference, or {} where it has no moments.

    Args:
        reference: images, moments or both.
        extractor: of the features.
        shape: [H, W, C] of the samples, which stands for that of the reference's images where it has none.

    Raises:
        ValueError: they are of other features than the extractor's, not finite, or no mean and covariance.
    """
    for mean, covariance in (("mu", "sigma"), ("mu_s", "sigma_s")):
        if (mean in reference.rest) != (covariance in reference.rest):
            raise ValueError(f"the reference holds one of {mean} and {covariance}; expected both, or neither")
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
    for name, (mean, covariance) in stored.items():
        if mean.ndim != 1 or covariance.shape != 2 * mean.shape or {mean.dtype.kind, covariance.dtype.kind} != {"f"}:
            raise ValueError(
                f"{name} of the reference is {mean.dtype}{list(mean.shape)} with a covariance {covariance.dtype}"
                f"{list(covariance.shape)}; expected floating point [F] and [F, F]"
            )
        scale = np.abs(covariance).max() if np.isfinite(covariance).all() and np.isfinite(mean).all() else np.nan
        if not np.abs(covariance - covariance.T).max() <= 1e-3 * scale:
            raise ValueError(f"{name} of the reference is not finite, or its covariance is not symmetric")
    shape = reference.image.shape[1:] if len(reference.image) or shape is None else shape
    found = dict(zip(("mu", "mu_s"), sizes(extractor, shape), strict=False))
    for name, size in found.items():
        if name in stored and stored[name][0].shape != (size,):
            raise ValueError(
                f"{name} of the reference has {stored[name][0].size} numbers and {extractor.name} finds {size}; it was "
                "made of other features"
            )
    return stored


def sizes(extractor: Extractor, shape: tuple[int, ...]) -> list[int]:
    """Number of features of images [H, W, C], and number of spatial features where there are some.

    Raises:
        ValueError: the extractor does not take such images.
    """
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    try:
        pooled, _, *spatial = jax.eval_shape(extractor.spatial or extractor.extract, x)
    except ScopeParamShapeError:
        raise ValueError(f"images are {list(shape)}, and the classifier was made for another size or kind") from None
    return [found.shape[1] for found in (pooled, *spatial)]
