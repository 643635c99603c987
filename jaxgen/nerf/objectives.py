"""The loss of coarse and fine together (Mildenhall et al. 2020)."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import ArrayLike

from jaxgen.arguments import Float, takes
from jaxgen.nerf.rendering import network_field, render_rays

Loss = Callable[[Any, Any, jax.Array | None, Any], tuple[jax.Array, dict[str, jax.Array]]]
"""loss(params, batch, keys, context) -> ([B] losses, {name: [B]})."""


@takes(coarse=Float("... C"), fine=Float("... C"), target=Float("... C"))
def photometric_loss(coarse: ArrayLike, fine: ArrayLike | None, target: ArrayLike) -> jax.Array:
    """|C-hat_c(r) - C(r)|^2 + |C-hat_f(r) - C(r)|^2 of each ray: [..., C] each -> [...].

    Mildenhall et al. (2020), equation 6, whose sum over rays is left to the caller. Both terms matter: the coarse
    weights decide where the fine field is sampled. The authors' code averages over the channels too, a third of this.

    Args:
        coarse: colors of the coarse field.
        fine: of the fine field; None: there is none.
        target: colors of the image.

    Raises:
        ValueError: shapes differ.
    """
    coarse, target = jnp.asarray(coarse), jnp.asarray(target)
    fine = None if fine is None else jnp.asarray(fine)
    shapes = [a.shape for a in (coarse, fine, target) if a is not None]
    if len(set(shapes)) > 1:
        raise ValueError(f"colors have shapes {', '.join(map(str, shapes))}; they must be equal")
    error = lambda color: jnp.sum(jnp.square(color - target), axis=-1)
    return error(coarse) if fine is None else error(coarse) + error(fine)


def nerf_loss(
    network: nn.Module, near: float, far: float, *, noise_std: float = 0.0, background: Any = None, **settings: Any
) -> Loss:
    """The photometric loss of random rays through a coarse and a fine network.

    Args:
        network: the network of both; each has parameters of its own.
        near: as in `render_rays`.
        far: likewise.
        noise_std: as in `network_field`.
        background: as in `composite`, the color behind the images; batch["background"] [B, 3] overrides it.
        **settings: of `render_rays`: num_coarse, num_fine, in_disparity, half_end_bins, infinite_last_interval.

    Returns:
        loss(params, batch, keys, context) of params {"coarse": tree, "fine": tree} (without "fine": one network, one
        pass), batch {"rays": Rays [B, 3], "rgb": [B, 3]} and one key a ray. Metrics: "coarse_squared_error" and
        "fine_squared_error", means over the channels (PSNR is -10 log10 of their mean over rays), and "opacity" of
        the finest pass: a mean near 0 that stays there is a run that has collapsed.

        To compare with other code, the batch may hold the draws: "uniforms" ([B, num_coarse], [B, num_fine]) of
        `render_rays`, and "noise" ([B, num_coarse], [B, num_coarse + num_fine]), the standard normal noise of the
        coarse and the fine density. The second entry is None without a fine network. Keys may be None: what is not
        given is then deterministic or zero.
    """

    def one(params, example, key):
        rays, target = example["rays"], example["rgb"]
        sample_key, *noise_keys = (None, None, None) if key is None else jax.random.split(key, 3)
        names, noise = ("coarse", "fine"), example.get("noise", (None, None))
        fields = [
            network_field(network, params[name], noise_key, noise_std, noise=given)
            for name, noise_key, given in zip(names, noise_keys, noise, strict=True)
            if name in params
        ]
        behind, uniforms = example.get("background", background), example.get("uniforms")
        seen = render_rays(sample_key, rays, near, far, *fields, background=behind, uniforms=uniforms, **settings)
        fine = None if seen.fine is None else seen.fine.color
        mean_error = lambda color: jnp.mean(jnp.square(color - target))
        metrics = {"coarse_squared_error": mean_error(seen.coarse.color), "opacity": seen.best.opacity}
        if fine is not None:
            metrics["fine_squared_error"] = mean_error(fine)
        return photometric_loss(seen.coarse.color, fine, target), metrics

    def loss(params, batch, keys, context):
        del context
        return jax.vmap(one, (None, 0, 0))(params, batch, keys)

    return loss
