"""Features that are pixels, and random images to take them of."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import metrics

SIZE = 4


@jax.jit
def pixels(x):
    """Four features, certain classes by the first pixel's sign, and six spatial features."""
    flat = x.reshape(len(x), -1)
    first = (flat[:, :1] > 0).astype(jnp.float32)
    return flat[:, :4], jnp.concatenate([first, 1 - first], axis=1), flat[:, 4:10]


FID = metrics.Extractor("fid", lambda x: pixels(x)[:2], "aaa", spatial=pixels)
CLASSIFIER = metrics.Extractor("classifier_fid", lambda x: pixels(x)[:2], "bbb", accuracy=1.0)


def images(num, seed, low=0):
    """uint8 [num, SIZE, SIZE, 3], from `low` to 255."""
    return np.random.default_rng(seed).integers(low, 256, (num, SIZE, SIZE, 3)).astype(np.uint8)
