"""Figures of a variational autoencoder: reconstructions, samples, and paths through its latent space."""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.command import figures
from jaxgen import data, pictures, vae


def draw(
    folder: Path,
    name: str,
    key: jax.Array,
    network: vae.VAE,
    params: Any,
    likelihood: vae.Likelihood,
    images: data.Images,
    means: np.ndarray,
) -> None:
    """Draws all figures of one model into a folder; `means` [N, Z_1] are E[z_1 | x] of the first N of `images`."""
    prefix = f"{name}-" if name else ""

    def save(what: str, x: Any, columns: int) -> None:
        picture = pictures.grid(images.pictures(np.clip(x, 0, 1)), columns)
        pictures.save_png(folder / f"{prefix}{what}.png", pictures.upscale(picture, figures.magnification(images)))

    x = images.unit(0, 12)
    rows = {"data": x, "VAE": vae.reconstruct(network, params, likelihood, jnp.asarray(x))}
    figures.save_rows(folder / f"{prefix}reconstructions.png", rows, images)
    expected, drawn = vae.sample(key, network, params, likelihood, 100)
    save("samples", expected, 20)
    save("samples-drawn", drawn, 20)

    most_varying = np.argsort(-np.var(means, axis=0))
    if len(network.latent_sizes) == 1:
        output: Any = partial(network.apply, {"params": params}, method="decode")
        decode = jax.jit(lambda z: likelihood.mean(output(z)))
        if pairs := min(len(means), 12) // 2:
            ends = jnp.asarray(means[: 2 * pairs])
            path = vae.interpolate(ends[0::2], ends[1::2], 10, spherical=True)
            save("interpolations", np.concatenate([decode(path[:, i]) for i in range(path.shape[1])]), 10)
        walks = vae.traverse(jnp.asarray(means[0]), jnp.linspace(-2.5, 2.5, 11))[most_varying[:10]]
        save("traversals", np.concatenate([decode(walk) for walk in walks]), 11)
        if network.latent_sizes[0] == 2:
            save("manifold", decode(jnp.asarray(vae.manifold(20))), 20)

    if means.shape[1] >= 2:
        axes, num = np.sort(most_varying[:2]), min(len(means), 3000)
        labels = None if images.label is None else images.label[:num]
        picture = pictures.scatter(means[:num, axes], labels, f"E[z | x], dimensions {axes[0]} and {axes[1]}")
        pictures.save_png(folder / f"{prefix}posterior.png", picture)
