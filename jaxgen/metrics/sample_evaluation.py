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


def evaluate_sample_batch(
    batch: SampleBatch, reference: SampleBatch, extractor: Extractor, num: int = 10_000
) -> dict[str, float]:
    """The metrics of a sample batch.

    Args:
        batch: the samples.
        reference: a batch of real images, such as those of guided-diffusion; perhaps with the moments of features, `mu`
            and `sigma`, and of spatial features, `mu_s` and `sigma_s`.
        extractor: gives the features.
        num: features on both sides for precision and recall; fewer where there are fewer.

    Raises:
        ValueError: the reference's moments are of other features, or its images do not fit the classifier.
    """
    stored = check_reference(reference, extractor)
    for images in (batch.image, reference.image):
        sizes(extractor, images.shape[1:])
    num = min(num, len(batch.image), len(reference.image))
    samples = summarize_features(extractor, batch.image, num)
    # Of a reference with moments, only those images whose features are compared one by one.
    real = summarize_features(extractor, reference.image[:num] if stored else reference.image, num)
    measured = {extractor.name: _distance(samples.pooled, stored.get("mu") or _pair(real.pooled))}
    if samples.spatial is not None and real.spatial is not None and (not stored or "mu_s" in stored):
        measured["sfid"] = _distance(samples.spatial, stored.get("mu_s") or _pair(real.spatial))
    quality = precision_recall(real.features, samples.features)
    measured |= {"precision": quality.precision, "recall": quality.recall}
    name = "inception_score" if extractor.name == "fid" else "classifier_score"
    measured[name] = inception_score(samples.probabilities)
    if extractor.name != "fid" and batch.label is not None:
        right = samples.probabilities.argmax(axis=1) == batch.label
        measured["label_accuracy_percent"] = 100 * float(np.mean(right))
    counts = {"samples": len(batch.image), "reference_images": reference.settings.get("images", len(reference.image))}
    return {**measured, **counts, "precision_images": num}


def _pair(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    return moments.mean, moments.covariance


def _distance(moments: Moments, reference: tuple[np.ndarray, np.ndarray]) -> float:
    return frechet_from_moments(moments.mean, moments.covariance, *reference)


def check_reference(reference: SampleBatch, extractor: Extractor) -> dict[str, Any]:
    """{"mu": (mean, covariance), "mu_s": likewise} of the reference, or {} where it has no moments.

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
