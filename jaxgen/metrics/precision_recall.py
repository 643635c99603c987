"""Precision and recall of a generator on features."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen.compiler import check_once

from .distances import check_sets, squared_distances


class PrecisionRecall(NamedTuple):
    """How much of each set lies on the manifold of the other.

    Attributes:
        precision: share of generated features within a real one's radius, in [0, 1]: quality.
        recall: share of real features within a generated one's radius, in [0, 1]: variety.
    """

    precision: float
    recall: float


def precision_recall(real: Any, generated: Any, neighbours: int = 3, batch_size: int = 500) -> PrecisionRecall:
    """Improved precision and recall (Kynkaanniemi et al. 2019).

    The manifold of a set is the union of balls around its features, each reaching to the k-th nearest other feature
    of the set. The paper takes k = 3 and 50,000 features of both sets; numbers of other counts do not compare.

    Args:
        real: features of data, [N, D].
        generated: features of samples, [M, D].
        neighbours: k, at least 1 and below N and M.
        batch_size: rows of the distance matrix at a time.

    Raises:
        ValueError: the sets do not fit together, or are too small for k.
    """
    check_once()
    check_sets(real=real, generated=generated)
    if not 1 <= neighbours < min(len(real), len(generated)) or batch_size < 1:
        raise ValueError(
            f"neighbours is {neighbours} and batch_size {batch_size}, of {len(real)} real and {len(generated)} "
            "generated features; expected 1 <= neighbours < both counts"
        )
    real, generated = np.asarray(real), np.asarray(generated)
    centre = real.mean(axis=0)
    real, generated = jnp.asarray(real - centre), jnp.asarray(generated - centre)

    def by_batch(f, x, *arguments):
        return np.concatenate([f(x[i : i + batch_size], *arguments) for i in range(0, len(x), batch_size)])

    reach = lambda x: jnp.asarray(by_batch(functools.partial(_reach, neighbours=neighbours), x, x))
    return PrecisionRecall(
        precision=float(by_batch(_inside, generated, real, reach(real)).mean()),
        recall=float(by_batch(_inside, real, generated, reach(generated)).mean()),
    )


@functools.partial(jax.jit, static_argnames="neighbours")
def _reach(x, all, neighbours):
    """Squared distance to the k-th nearest other of the set: the nearest of all is x itself."""
    nearest, _ = jax.lax.top_k(-squared_distances(x, all), neighbours + 1)
    return -nearest[:, -1]


@jax.jit
def _inside(x, centres, reach):
    return jnp.any(squared_distances(x, centres) <= reach[None, :], axis=1)
