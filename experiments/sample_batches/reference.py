"""References that sample batches are compared with, and the networks whose features are compared.

A reference is a batch of real images, perhaps with the moments of their features under the names of guided-diffusion's
reference batches: `mu` and `sigma`, and `mu_s` and `sigma_s` of the spatial features.
"""

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments.sample_batches import feature_classifier
from jaxgen import data, metrics, training


def load_extractor(inception_file: str, features_file: str) -> metrics.Extractor:
    """Inception, or the feature classifier of a run.

    Raises:
        ValueError: both are given, or neither.
        FileNotFoundError: there is no such file.
    """
    if bool(inception_file) == bool(features_file):
        raise ValueError("give either --inception FILE (Inception's weights) or --features FILE (a run's features.npz)")
    return metrics.load_inception(inception_file) if inception_file else feature_classifier.read(features_file)


def make_reference(
    path: str | Path, splits: list[data.Images], extractor: metrics.Extractor | None, num: int
) -> dict[str, Any]:
    """Writes a reference of real images and returns its settings.

    Args:
        path: of the file, ending with .npz.
        splits: the images, in memory or on disk.
        extractor: gives the features whose moments, of all images, are written; None: none are.
        num: images in the file, in an order that mixes classes; 0: all.

    Raises:
        ValueError: another suffix, or splits of different shapes.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"the reference is {path}; expected a name ending with .npz")
    if len({split.shape for split in splits}) > 1:
        raise ValueError(f"the splits' images differ in shape: {', '.join(str(split.shape) for split in splits)}")
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
        pooled, spatial = _moments_of(extractor, splits)
        arrays |= {"mu": pooled.mean, "sigma": pooled.covariance}
        if spatial is not None:
            arrays |= {"mu_s": spatial.mean, "sigma_s": spatial.covariance}
        settings["features"] = {"name": extractor.name, "sha256": extractor.sha256}
    metrics.save_sample_batch(path, arrays, settings)
    return settings


def _moments_of(
    extractor: metrics.Extractor, splits: list[data.Images]
) -> tuple[metrics.Moments, metrics.Moments | None]:
    moments: list[metrics.Moments] = []
    for split in splits:
        for pooled, _, *spatial in metrics.extract_in_batches(extractor.spatial or extractor.extract, split.image, 100):
            moments = moments or [metrics.no_moments(x.shape[1]) for x in (pooled, *spatial)]
            moments = [before.plus(x) for before, x in zip(moments, (pooled, *spatial), strict=True)]
    return moments[0], (moments[1:] or [None])[0]
