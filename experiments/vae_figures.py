"""What a variational autoencoder looks like: reconstructions, samples, and walks through its latent space."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgen import pictures, vae


def draw(folder: Path, name: str, key, network, params, likelihood, images, means) -> None:
    """All figures of one model into a folder; `means` [N, Z_1] are E[z_1 | x] of the first N of `images`."""
    prefix = f"{name}-" if name else ""
    factor = max(1, 48 // images.shape[0])
    shown = lambda x: images.pictures(np.clip(x, 0, 1))
    save = lambda what, picture: pictures.save_png(folder / f"{prefix}{what}.png", picture)

    x = images.unit(0, 12)
    rebuilt = np.asarray(vae.reconstruct(network, params, likelihood, jnp.asarray(x)))
    save("reconstructions", pictures.strip([shown(x), shown(rebuilt)], ["data", "VAE"], factor=factor))
    expected, drawn = (np.asarray(a) for a in vae.sample(key, network, params, likelihood, 100))
    save("samples", pictures.upscale(pictures.grid(shown(expected), 20), factor))
    save("samples-drawn", pictures.upscale(pictures.grid(shown(drawn), 20), factor))

    if len(network.latent_sizes) == 1:
        decode = jax.jit(lambda z: likelihood.mean(network.apply({"params": params}, z, method="decode")))
        pairs = jnp.asarray(means[:12])
        path = vae.interpolate(pairs[0::2], pairs[1::2], 10, spherical=True)
        rows = [shown(np.asarray(decode(path[:, i]))) for i in range(path.shape[1])]
        save("interpolations", pictures.upscale(pictures.grid(np.concatenate(rows), 10), factor))
        active = np.argsort(-np.var(means, axis=0))[:10]
        walks = vae.traverse(jnp.asarray(means[0]), jnp.linspace(-2.5, 2.5, 11))[active]
        rows = [shown(np.asarray(decode(walk))) for walk in walks]
        save("traversals", pictures.upscale(pictures.grid(np.concatenate(rows), 11), factor))
        if network.latent_sizes[0] == 2:
            grid = np.asarray(decode(jnp.asarray(vae.manifold(20))))
            save("manifold", pictures.upscale(pictures.grid(shown(grid), 20), factor))

    if means.shape[1] >= 2:
        axes = np.sort(np.argsort(-np.var(means, axis=0))[:2])
        labels = None if images.label is None else images.label[: len(means)]
        title = f"E[z | x], dimensions {axes[0]} and {axes[1]}"
        some = slice(0, 3000)
        save("posterior", pictures.scatter(means[some][:, axes], None if labels is None else labels[some], title))
