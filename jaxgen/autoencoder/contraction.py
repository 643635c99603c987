"""The contractive penalty ||J_f(x)||_F^2 and what it does to the code (notes 1.3).

Source: Rifai et al., "Contractive Auto-Encoders", ICML 2011. Here J_ji = dh_j/dx_i, for a code
h = encode(x) of one example x [D] -> [H].
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxgen.arguments import Count, Float, Key, Real, takes
from jaxgen.autoencoder.networks import Autoencoder, apply
from jaxgen.autoencoder.objectives import BATCH, Loss, check_error, reconstruction_loss, reconstruction_terms
from jaxgen.nn.random import given_or_drawn, per_example

Encode = Callable[[jax.Array], jax.Array]
"""One example [D] -> [H]."""

_PENALTIES = ("closed_form", "exact", "hutchinson")


def _code_size(encode: Encode, x: jax.Array) -> int:
    """H, for examples x [B, D]; ValueError where the encoder does not return one vector for an example."""
    code = jax.eval_shape(encode, jax.ShapeDtypeStruct(x.shape[1:], x.dtype))
    if getattr(code, "ndim", None) != 1:
        raise ValueError(
            f"encode returns {getattr(code, 'shape', type(code).__name__)} for one example {list(x.shape[1:])}; "
            "expected a vector [H]: flatten its feature maps"
        )
    return code.shape[0]


def _jacobian(encode: Encode, x: jax.Array) -> jax.Array:
    """J of each example, by the mode that needs fewer passes: [B, D] -> [B, H, D]."""
    differentiate = jax.jacrev if _code_size(encode, x) <= x.shape[1] else jax.jacfwd
    return jax.vmap(differentiate(encode))(x)


@takes(x=Float("B D"))
def contractive_penalty(encode: Encode, x: ArrayLike) -> jax.Array:
    """||J_f(x)||_F^2 = sum_ij (dh_j/dx_i)^2, exactly, by automatic differentiation: [B, D] -> [B].

    Costs min(D, H) passes through the encoder and B D H numbers of memory.

    Args:
        encode: one example [D] -> [H], any depth.
        x: [B, D].
    """
    x = jnp.asarray(x)
    return jnp.sum(jnp.square(_jacobian(encode, x)), axis=(1, 2))


@takes(hidden=Float("... H"), kernel=Float("_ H"))
def sigmoid_contractive_penalty(hidden: ArrayLike, kernel: ArrayLike) -> jax.Array:
    """||J||_F^2 of h = sigmoid(x W + b): sum_j (h_j (1 - h_j))^2 sum_i W_ij^2, [..., H] -> [...].

    Rifai et al. (2011), equation 5 and section 5.3; costs no more than the reconstruction.

    Args:
        hidden: h [..., H].
        kernel: W [D, H].
    """
    slope = jnp.square(hidden * (1 - hidden))
    return slope @ jnp.sum(jnp.square(kernel), axis=0)


@takes(x=Float("B D"), probes=Float("B _ D"))
def probed_contractive_penalty(encode: Encode, x: ArrayLike, probes: ArrayLike) -> jax.Array:
    """mean_p ||J_f(x) v_p||^2, the penalty seen along given directions: [B, D] -> [B].

    Args:
        encode: one example [D] -> [H].
        x: [B, D].
        probes: v [B, P, D]. For independent probes with E v v^T = I the expectation is ||J||_F^2;
            for P = D orthogonal ones of squared length D the value is.
    """
    x, probes = jnp.asarray(x), jnp.asarray(probes)
    _code_size(encode, x)

    def one(x: jax.Array, probes: jax.Array) -> jax.Array:
        _, directional = jax.linearize(encode, x)
        return jnp.mean(jnp.sum(jnp.square(jax.vmap(directional)(probes)), axis=-1))

    return jax.vmap(one)(x, probes)


@takes(key=Key("|B"), x=Float("B D"), num_probes=Count(), probes=Float())
def hutchinson_contractive_penalty(
    key: jax.Array | None, encode: Encode, x: ArrayLike, num_probes: int = 1, *, probes: ArrayLike | None = None
) -> jax.Array:
    """An unbiased estimate of ||J_f(x)||_F^2 = E ||J v||^2, v in {-1, 1}^D: [B, D] -> [B].

    Costs `num_probes` forward-mode passes, whatever D and H. Source: Hutchinson, Communications in
    Statistics 18 (1989).

    Args:
        key: one key, split into one for each example, or keys [B]; may be None where `probes` are given.
        encode: one example [D] -> [H].
        x: [B, D].
        num_probes: P, probes for each example.
        probes: v [B, P, D], -1 or 1, in place of the draw.

    Raises:
        ValueError: `num_probes` is below 1, `probes` have another shape, or there is neither a key nor probes.
    """
    x = jnp.asarray(x)
    if num_probes < 1:
        raise ValueError(f"num_probes is {num_probes}; expected at least 1")
    shape = (x.shape[0], num_probes, x.shape[1])
    draw = per_example(jax.random.rademacher)
    return probed_contractive_penalty(encode, x, given_or_drawn("probes", probes, key, draw, shape, x.dtype))


@takes(key=Key("|B"), x=Float("B D"), sigma=Real(low=0), num_corruptions=Count(), noise=Float())
def higher_order_contractive_penalty(
    key: jax.Array | None,
    encode: Encode,
    x: ArrayLike,
    sigma: float,
    num_corruptions: int = 4,
    *,
    noise: ArrayLike | None = None,
) -> jax.Array:
    """mean_c ||J_f(x) - J_f(x + sigma e_c)||_F^2, e ~ N(0, I): [B, D] -> [B].

    The second term of the CAE+H, beside `contractive_penalty`: divided by sigma^2 it tends to the squared norm of the
    Hessian as sigma falls to 0. Source: Rifai et al., "Higher Order Contractive Auto-Encoder", ECML 2011, equation 6.

    Args:
        key: one key, split into one for each example, or keys [B]; may be None where `noise` is given.
        encode: one example [D] -> [H].
        x: [B, D].
        sigma: standard deviation of the corruption, in the units of x.
        num_corruptions: C, for each example.
        noise: e, standard normal, [B, C, D], in place of the draw.

    Raises:
        ValueError: `noise` has another shape, or there is neither a key nor noise.
    """
    x = jnp.asarray(x)
    shape = (x.shape[0], num_corruptions, x.shape[1])
    e = given_or_drawn("noise", noise, key, per_example(jax.random.normal), shape, x.dtype)
    jacobians = _jacobian(encode, (x[:, None, :] + sigma * e).reshape(-1, x.shape[1]))
    change = jacobians.reshape(*shape[:2], *jacobians.shape[1:]) - _jacobian(encode, x)[:, None]
    return jnp.mean(jnp.sum(jnp.square(change), axis=(2, 3)), axis=1)


@takes(hidden=Float("... _"), low=Real(), high=Real())
def saturation(hidden: ArrayLike, low: float = 0.05, high: float = 0.95) -> jax.Array:
    """Share of sigmoid units below `low` or above `high`: [..., H] -> [...], in [0, 1].

    "SAT" of Rifai et al. (2011), table 1, there in percent.
    """
    hidden = jnp.asarray(hidden)
    outside = (hidden < low) | (hidden > high)
    return jnp.mean(outside.astype(hidden.dtype), axis=-1)


@takes(x=Float("B D"))
def jacobian_spectrum(encode: Encode, x: ArrayLike) -> jax.Array:
    """Singular values of J_f(x), largest first: [B, D] -> [B, min(D, H)].

    Rifai et al. (2011), section 5.4 and figure 2 (there averaged over examples).
    """
    x = jnp.asarray(x)
    return jnp.linalg.svd(_jacobian(encode, x), compute_uv=False)


@takes(key=Key("|B"), x=Float("B D"), radius=Real(positive=True), noise=Float())
def contraction_ratio(
    key: jax.Array | None, encode: Encode, x: ArrayLike, radius: float, *, noise: ArrayLike | None = None
) -> jax.Array:
    """||f(x + r u) - f(x)|| / r for u uniform on the unit sphere, one a example: [B, D] -> [B].

    Rifai et al. (2011), section 5.4 and figure 1: the curve of its mean over r tells how far the
    contraction reaches.

    Args:
        key: one key, split into one for each example, or keys [B]; may be None where `noise` is given.
        encode: one example [D] -> [H].
        x: [B, D].
        radius: r > 0, in the units of x.
        noise: standard normal, [B, D], in place of the draw: u = noise / |noise|.

    Raises:
        ValueError: `noise` has another shape than x, or there is neither a key nor noise.
    """
    x = jnp.asarray(x)
    directions = given_or_drawn("noise", noise, key, per_example(jax.random.normal), x.shape, x.dtype)

    _code_size(encode, x)

    def one(direction: jax.Array, x: jax.Array) -> jax.Array:
        moved = x + radius * direction / jnp.linalg.norm(direction)
        return jnp.linalg.norm(encode(moved) - encode(x)) / radius

    return jax.vmap(one)(directions, x)


@takes(weight=Real(), num_probes=Count())
def contractive_loss(
    network: Autoencoder,
    weight: float,
    penalty: str = "closed_form",
    error: str = "cross_entropy",
    num_probes: int = 1,
    corrupt: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> Loss:
    """error(x, f(g(x))) + weight ||J_g(x)||_F^2 (Rifai et al. 2011, equation 7).

    Args:
        network: the autoencoder.
        weight: lambda.
        penalty: "closed_form" (one sigmoid layer: widths=(), code_activation=nn.sigmoid), "exact"
            (any network) or "hutchinson" (any network, an unbiased estimate).
        error: "cross_entropy" or "squared_error".
        num_probes: probes of "hutchinson" for each example.
        corrupt: as in `reconstruction_loss`; the penalty is taken at the clean input.

    Returns:
        loss(params, batch, keys, context); metrics "squared_error", the error and "penalty"
        (without the weight). The batch may hold "corrupted" as in `reconstruction_loss`, and
        "probes" as in `hutchinson_contractive_penalty`.

    Raises:
        ValueError: `penalty` is unknown or does not fit the network, or `error` does not.
    """
    check_error(network, error)
    if penalty not in _PENALTIES:
        raise ValueError(f"penalty is {penalty!r}; expected one of {', '.join(_PENALTIES)}")
    if penalty == "closed_form" and (len(network.widths) > 0 or network.code_activation is not jax.nn.sigmoid):
        raise ValueError(
            'penalty "closed_form" needs one sigmoid layer (widths=(), code_activation=nn.sigmoid),'
            f" but the network has widths={tuple(network.widths)} and"
            f' code_activation={network.code_activation}; use penalty="exact" or "hutchinson"'
        )
    denoising = reconstruction_loss(network, error, corrupt)

    @takes(batch=BATCH, keys=Key("B"))
    def loss(params, batch, keys, context):
        x = batch["x"]
        encode = lambda x: apply(network, params, x, "encode")
        code = encode(x)
        if corrupt is None and "corrupted" not in batch:
            losses, metrics = reconstruction_terms(network, params, x, code, error)
        else:
            losses, metrics = denoising(params, batch, keys, context)
        if penalty == "closed_form":
            # Of the same code, so that one backward pass through the encoder serves both terms.
            value = sigmoid_contractive_penalty(code, params["encoder"]["layers_0"]["kernel"])
        elif penalty == "exact":
            value = contractive_penalty(encode, x)
        else:
            # 0 is the corruption's.
            probe_keys = None if keys is None else jax.vmap(jax.random.fold_in, (0, None))(keys, 1)
            value = hutchinson_contractive_penalty(probe_keys, encode, x, num_probes, probes=batch.get("probes"))
        return losses + weight * value, metrics | {"penalty": value}

    return loss
