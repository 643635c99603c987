"""Whether a field trains at all.

With ReLU densities a field can become empty everywhere: then its gradient is zero, and training has no effect. It can
also become an opaque fog before the cameras. Source: ours; the authors of Mildenhall et al. (2020) restart such runs.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Collapsed(ValueError):
    """The field is empty everywhere, and its gradient is zero."""


def warning(metrics: Mapping[str, jax.Array | np.ndarray], rgb: ArrayLike) -> tuple[str, str] | None:
    """What is wrong with a field whose images are no better than one color for all pixels.

    Args:
        metrics: of `nerf_loss` on training rays: "opacity" and "fine_squared_error" (or "coarse_squared_error"),
            [B] each.
        rgb: the rays' true colors, [B, 3].

    Returns:
        None, or a kind and a sentence: "empty" where rays have no opacity, and "fog" where they have, which may still
        change.
    """
    rgb = jnp.asarray(rgb)
    error = float(np.mean(metrics.get("fine_squared_error", metrics["coarse_squared_error"])))
    opacity = float(np.mean(metrics["opacity"]))
    # The error of the best single color.
    flat = float(np.mean(np.var(rgb, axis=0)))
    if error <= 0.98 * flat:
        return None
    values = (
        f"mean opacity {opacity:.2g} over {len(rgb)} training rays, PSNR {-10 * np.log10(error):.2f} dB, where one "
        f"colour for all pixels would have {-10 * np.log10(flat):.2f} dB."
    )
    if opacity < 0.01:
        return "empty", f"the field is empty: {values} Its gradient is zero, so nothing will change."
    return "fog", (f"the field is no better than one colour: {values} If the PSNR of the next lines stays there, stop.")
