"""Linear baselines of the deep autoencoder: PCA, and PCA with a Bernoulli likelihood.

PCA as Hinton & Salakhutdinov (2006) compare with it; the papers of logistic PCA are named with `logistic_pca`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Host, Real, takes
from jaxgen.compiler import check_once

_CHUNK = 400_000  # numbers of one temporary array: fits a cache


def _check_components(x: Any, num_components: int) -> None:
    if x.ndim != 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"x is {x.dtype} {x.shape}; expected floating [N, D]: scale and flatten it")
    if not 1 <= num_components <= min(x.shape):
        raise ValueError(f"num_components is {num_components}; expected 1 to {min(x.shape)} for x of {x.shape}")


@takes(x=Host("N D", dtype=None, only=True, hint=": scale and flatten it"), num_components=Count())
def pca(x: Any, num_components: int) -> tuple[jax.Array, jax.Array]:
    """Principal components: the K leading eigenvectors of the covariance of x.

    The covariance and its eigenvectors are computed in float64, on the host.

    Args:
        x: [N, D] float.
        num_components: K.

    Returns:
        mean [D] and orthonormal components [K, D] in x's dtype, of decreasing variance; the largest
        entry of each is positive.

    Raises:
        ValueError: `x` is not floating [N, D], or K is not in 1..min(N, D).
    """
    check_once()
    _check_components(x, num_components)
    x = np.asarray(x)
    rows = max(1, 10 * _CHUNK // x.shape[1])
    chunks = [slice(i, i + rows) for i in range(0, len(x), rows)]
    mean = np.mean(x, axis=0, dtype=np.float64)
    covariance = sum((c := x[part].astype(np.float64) - mean).T @ c for part in chunks) / len(x)
    components = np.linalg.eigh(covariance)[1][:, ::-1][:, :num_components].T
    largest = np.take_along_axis(components, np.abs(components).argmax(1)[:, None], 1)
    components = components * np.sign(largest)
    dtype = jax.dtypes.canonicalize_dtype(x.dtype)
    return jnp.asarray(mean, dtype), jnp.asarray(components, dtype)


@takes(x=Float("N D"), mean=Float("D"), components=Float("_ D"))
def pca_reconstruct(x: ArrayLike, mean: ArrayLike, components: ArrayLike) -> jax.Array:
    """mean + (x - mean) C^T C: [N, D] -> [N, D], for `mean` [D], C = `components` [K, D]."""
    x, mean, components = jnp.asarray(x), jnp.asarray(mean), jnp.asarray(components)
    # A GPU's or TPU's default precision would show in the third digit of the error.
    dot = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    return mean[None, :] + dot(dot(x - mean[None, :], components.T), components)


@partial(jax.jit, static_argnames="rows")
def _newton_rows(
    x: jax.Array, basis: jax.Array, offset: jax.Array, w: jax.Array, ridge: float, rows: int
) -> tuple[jax.Array, jax.Array]:
    """One damped Newton step for each row of `w` [M, K] on its own convex problem.

    Row m minimises sum_p [softplus(l_mp) - x_mp l_mp] + ridge |w_m|^2 / 2, l = w basis + offset,
    with `x` [M, P], `basis` [K, P], `offset` [P]. The step is halved until the row's objective does
    not rise. Returns the rows and their objectives [M].
    """
    k = w.shape[1]
    upper = jnp.triu_indices(k)
    products = (basis[upper[0]] * basis[upper[1]]).T

    def chunk(args: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, w = args
        logits = w @ basis + offset[None, :]
        p = jax.nn.sigmoid(logits)
        gradient = (p - x) @ basis.T + ridge * w
        packed = (p * (1 - p)) @ products
        hessian = jnp.zeros((x.shape[0], k, k), x.dtype).at[:, upper[1], upper[0]].set(packed)
        hessian = hessian + ridge * jnp.eye(k, dtype=x.dtype)[None]
        factor = jnp.linalg.cholesky(hessian, symmetrize_input=False)
        direction = -jax.scipy.linalg.cho_solve((factor, True), gradient[..., None])[..., 0]
        along = direction @ basis

        def objective(step: jax.Array) -> jax.Array:
            moved, there = w + step * direction, logits + step * along
            likelihood = jnp.sum(jax.nn.softplus(there) - x * there, axis=1, keepdims=True)
            return likelihood + ridge / 2 * jnp.sum(jnp.square(moved), axis=1, keepdims=True)

        start = objective(jnp.zeros((x.shape[0], 1), x.dtype))

        def halve(carry):
            count, step, value = carry
            worse = ~(value <= start)
            step = jnp.where(worse, jnp.where(count < 20, step / 2, 0), step)
            return count + 1, step, objective(step)

        step = jnp.ones((x.shape[0], 1), x.dtype)
        rises = lambda carry: jnp.any(~(carry[2] <= start)) & (carry[0] <= 20)
        _, step, value = jax.lax.while_loop(rises, halve, (0, step, objective(step)))
        return w + step * direction, value[:, 0]

    num = x.shape[0]
    pad = lambda a: jnp.pad(a, ((0, -num % rows), (0, 0))).reshape(-1, rows, a.shape[1])
    w, values = jax.lax.map(chunk, (pad(x), pad(w)))
    return w.reshape(-1, k)[:num], values.reshape(-1)[:num]


def _rows(x: jax.Array) -> int:
    return min(x.shape[0], max(64, _CHUNK // x.shape[1]))


@takes(
    x=Host("N D", low=0, high=1, dtype=None, only=True, hint=": scale and flatten it"),
    num_components=Count(),
    ridge=Real(low=0),
    num_iterations=Count(),
    tolerance=Real(low=0),
)
def logistic_pca(
    x: Any,
    num_components: int,
    ridge: float = 0.1,
    num_iterations: int = 30,
    tolerance: float = 1e-4,
) -> tuple[dict[str, jax.Array], np.ndarray]:
    """PCA with a Bernoulli likelihood: x ~ sigmoid(z W + b), for data in [0, 1].

    Minimises cross_entropy(x, Z W + b) + ridge (|Z|^2 + |W|^2 + |b|^2) / 2 in alternating half
    steps: one damped Newton step of every z_n with W, b fixed, then one of every column of W and b
    with Z fixed. Each is a batch of small independent convex problems, and no half step raises the
    objective. Source: Collins, Dasgupta & Schapire, NIPS 2001; Schein, Saul & Ungar, AISTATS 2003.

    Here each example's code is the best one for it. `Autoencoder(D, (), K)` is the same model with
    codes that must be linear in x, and reconstructs much worse (MNIST, K = 30: 8.2 against 2.9).

    Args:
        x: [N, D] in [0, 1].
        num_components: K.
        ridge: weight of the quadratic penalty.
        num_iterations: pairs of half steps at most.
        tolerance: stop when a pair lowers the objective by less than this share of it.

    Returns:
        {"kernel": W [K, D], "bias": b [D]}, and the objective after each half step (nats, summed
        over examples).

    Raises:
        ValueError: `x` is not floating [N, D], or K is not in 1..min(N, D).
    """
    check_once()
    _check_components(x, num_components)
    mean, components = pca(x, num_components)
    x = jnp.asarray(x)
    rate = jnp.clip(mean, 0.01, 0.99)
    # d logit / dx = 1 / (p (1 - p)) >= 4.
    w = jnp.concatenate([4 * components, (jnp.log(rate) - jnp.log1p(-rate))[None, :]])
    z = jnp.zeros((x.shape[0], num_components), x.dtype)
    by_pixel = x.T
    one, zero = jnp.ones((1, x.shape[0]), x.dtype), jnp.zeros(x.shape[0], x.dtype)
    total = lambda values: float(np.sum(np.asarray(values), dtype=np.float64))
    penalty = lambda a: ridge / 2 * total(jnp.sum(jnp.square(a), axis=1))
    history = []
    for _ in range(num_iterations):
        z, values = _newton_rows(x, w[:-1], w[-1], z, ridge, _rows(x))
        history.append(total(values) + penalty(w))
        basis = jnp.concatenate([z.T, one])
        columns, values = _newton_rows(by_pixel, basis, zero, w.T, ridge, _rows(by_pixel))
        w = columns.T
        history.append(total(values) + penalty(z))
        if len(history) > 2 and history[-3] - history[-1] < tolerance * abs(history[-1]):
            break
    return {"kernel": w[:-1], "bias": w[-1]}, np.array(history)


@takes(x=Host("N D", low=0, high=1, dtype=None), ridge=Real(low=0), num_iterations=Count())
def logistic_pca_codes(x: Any, params: dict[str, jax.Array], ridge: float = 0.1, num_iterations: int = 20) -> jax.Array:
    """The z that minimise cross_entropy(x, z W + b) + ridge |z|^2 / 2: [N, D] -> [N, K].

    Newton's method from z = 0; the problem is convex.
    """
    x = jnp.asarray(x)
    kernel, bias = params["kernel"], params["bias"]
    z = jnp.zeros((x.shape[0], kernel.shape[0]), x.dtype)
    for _ in range(num_iterations):
        z, _ = _newton_rows(x, kernel, bias, z, ridge, _rows(x))
    return z


@takes(codes=Float("N _"))
def logistic_pca_reconstruct(codes: ArrayLike, params: dict[str, jax.Array]) -> jax.Array:
    """sigmoid(z W + b): [N, K] -> [N, D]."""
    return jax.nn.sigmoid(codes @ params["kernel"] + params["bias"][None, :])
