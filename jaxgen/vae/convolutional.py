"""Convolutional recognition and generative networks of one latent layer. No paper's network: the sizes are ours."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxgen.nn import Conv
from jaxgen.vae.gaussian import check_bounds
from jaxgen.vae.networks import VAE, GaussianLayer


class _ConvTrunk(nn.Module):
    """x [..., H * W * C] -> features [..., F]: 3 x 3 convolutions of stride 2, doubling the channels."""

    shape: tuple[int, int, int]
    channels: int
    depth: int
    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = x.reshape(-1, *self.shape)
        for level in range(self.depth):
            h = nn.relu(Conv(self.channels * 2**level, stride=2)(h))
        return nn.relu(nn.Dense(self.width)(h.reshape(*x.shape[:-1], -1)))


class _ConvGenerator(nn.Module):
    """z [..., Z] -> output [..., outputs * H * W * C]: the trunk's mirror, upsampling by nearest neighbour."""

    shape: tuple[int, int, int]
    channels: int
    depth: int
    width: int
    outputs: int

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        height, width, image_channels = self.shape
        sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(self.depth + 1)]
        lowest = self.channels * 2 ** (self.depth - 1)
        h = nn.relu(nn.Dense(self.width)(z))
        h = nn.relu(nn.Dense(sizes[-1][0] * sizes[-1][1] * lowest)(h)).reshape(-1, *sizes[-1], lowest)
        for level in reversed(range(self.depth)):
            rows, columns = sizes[level]
            h = jnp.repeat(jnp.repeat(h, 2, axis=1), 2, axis=2)[:, :rows, :columns]
            if level:
                h = nn.relu(Conv(self.channels * 2 ** (level - 1))(h))
        h = Conv(self.outputs * image_channels, name="output_convolution")(h)
        # The likelihood takes all means first, then all log variances.
        h = h.reshape(*z.shape[:-1], height * width, self.outputs, image_channels)
        h = jnp.moveaxis(h, -2, -3).reshape(*z.shape[:-1], -1)
        bias = self.param("output", lambda key: {"bias": jnp.zeros(h.shape[-1])})["bias"]
        return h + bias.reshape((1,) * (h.ndim - 1) + (-1,)).astype(h.dtype)


def conv_vae(
    image_shape: tuple[int, int, int],
    latent_size: int,
    channels: int = 32,
    depth: int = 2,
    width: int = 256,
    outputs: int = 1,
    log_variance_bounds: tuple[float, float] | None = None,
) -> VAE:
    """A VAE of one latent layer with convolutional networks; x and the output are flat, as everywhere in this chapter.

    Args:
        image_shape: (H, W, C).
        latent_size: Z.
        channels: of the first level; each further level has twice as many.
        depth: levels, each of half the resolution.
        width: of the dense layer beside the latent variables.
        outputs: numbers the likelihood takes for each dimension of x.
        log_variance_bounds: of q(z | x), see `GaussianLayer`.

    Raises:
        ValueError: a size below 1, or more levels than the image can be halved.
    """
    if min(latent_size, channels, depth, width, *image_shape) < 1:
        raise ValueError("image_shape, latent_size, channels, depth and width must be at least 1")
    if 2**depth > min(image_shape[:2]):
        most = int(np.log2(min(image_shape[:2])))
        raise ValueError(f"depth is {depth}, but {image_shape[0]} x {image_shape[1]} pixels can be halved {most} times")
    check_bounds("log_variance_bounds", log_variance_bounds)
    trunk = _ConvTrunk(image_shape, channels, depth, width)
    return VAE(
        int(np.prod(image_shape)),
        (GaussianLayer(trunk, latent_size, log_variance_bounds=log_variance_bounds),),
        (),
        _ConvGenerator(image_shape, channels, depth, width, outputs),
    )
