"""Convolutional players after Radford, Metz & Chintala (2016), DCGAN, with or without class labels.

Where DCGAN has batch normalisation there is group normalisation here (Wu & He 2018), or none: statistics of one example
do not depend on how the batch is split over devices. Kernels are 4x4 with stride 2. They begin as N(0, 0.02^2), as in
the paper, but in the discriminator, which has no normalisation by default, as He et al. (2015) give for leaky ReLU.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.core import Tracer

from jaxgen.arguments import Count, takes
from jaxgen.arguments.values import array
from jaxgen.gan.networks import Noise, Players
from jaxgen.nn import Conv, ConvTranspose

NORMAL = nn.initializers.normal(0.02)
SLOPE = 0.2
HE = nn.initializers.variance_scaling(2 / (1 + SLOPE**2), "fan_in", "normal")


def halvings(image_size: int) -> tuple[int, int]:
    """(number of halvings, side of the smallest map), each rounded up, until at most 7 is left: 28 -> (2, 7).

    32 -> (3, 4), 8 -> (1, 4), 30 -> 15 -> 8 -> 4, so (3, 4).

    Raises:
        ValueError: the size is below 8.
    """
    sides = map_sides(image_size)
    return len(sides) - 1, sides[-1][0]


def map_sides(image_size: int | tuple[int, int]) -> list[tuple[int, int]]:
    """(height, width) of the image and of each smaller map, as many as halve the longer side to at most 7.

    Args:
        image_size: pixels a side, or (height, width).

    Raises:
        ValueError: the longer side is below 8.
    """
    height, width = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    sides: list[tuple[int, int]] = [(height, width)]
    if min(sides[0]) < 1 or max(sides[0]) < 8:
        raise ValueError(
            f"an image size of {image_size}: expected at least 8 pixels on the longer side, for one or more halvings"
        )
    while max(sides[-1]) > 7:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    return sides


@takes(num_classes=Count(0))
def check_labels(labels: Any, num_classes: int) -> None:
    """Raises ValueError unless int labels [B] are in 0 .. num_classes - 1.

    Inside a compiled program their values are unknown; there a label out of range makes the result NaN.
    """
    labels = array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer) or labels.ndim != 1:
        raise ValueError(f"labels are {labels.dtype}{list(labels.shape)}; expected integers [B]")
    if isinstance(labels, Tracer):
        return
    outside = [int(v) for v in np.unique(np.asarray(labels)) if not 0 <= v < num_classes]
    if outside:
        raise ValueError(f"labels {outside[:5]} are outside of 0 .. {num_classes - 1}, the network's classes")


class Embedding(nn.Module):
    """A vector a class: labels [B] -> [B, size]. Parameter `embedding` [num_classes, size], at first N(0, std^2)."""

    num_classes: int
    size: int
    std: float

    @nn.compact
    def __call__(self, labels: jax.Array) -> jax.Array:
        table = self.param("embedding", nn.initializers.normal(self.std), (self.num_classes, self.size))
        check_labels(labels, self.num_classes)
        # A negative index would count from the end; past the end, the result is NaN.
        return jnp.take(table, jnp.where(labels < 0, self.num_classes, labels), axis=0, mode="fill")


class DCGANGenerator(nn.Module):
    """z [B, Z], labels [B] -> images [B, H, W, image_channels] in [-1, 1].

    A dense layer, then transposed convolutions that double the side (less a row or a column where the larger map is
    odd), each but the last followed by normalisation and ReLU; tanh at the end. With classes, an embedding of the label
    is appended to z.

    Attributes:
        image_size: pixels a side, or (H, W); the longer side is at least 8.
        image_channels: 1 or 3.
        channels: of the map below the image, doubled at each halving.
        groups: of the group normalisation; 0: none.
        num_classes: 0: unconditional.
    """

    image_size: int | tuple[int, int] = 28
    image_channels: int = 1
    channels: int = 64
    groups: int = 8
    num_classes: int = 0

    @nn.compact
    def __call__(self, z: jax.Array, labels: jax.Array | None = None) -> jax.Array:
        sides = map_sides(self.image_size)[::-1]
        number, (height, width_of_map) = len(sides) - 1, sides[0]
        _check_condition(labels, self.num_classes)
        if labels is not None:
            # Of length 1, as a one-hot label. At the length of z the network ignored z: one image for each class.
            label = Embedding(self.num_classes, z.shape[-1], z.shape[-1] ** -0.5, name="label")(labels)
            z = jnp.concatenate([z, label], axis=-1)
        width = self.channels * 2 ** (number - 1)
        x = nn.Dense(height * width_of_map * width, kernel_init=NORMAL, name="dense")(z)
        x = x.reshape(-1, height, width_of_map, width)
        for i in range(number):
            x = nn.relu(normalized(x, self.groups, f"norm_{i}"))
            last = i + 1 == number
            width = self.image_channels if last else width // 2
            x = ConvTranspose(width, kernel_init=NORMAL, name=f"conv_{i}")(x)
            if x.shape[1:3] != sides[i + 1]:
                x = x[:, : sides[i + 1][0], : sides[i + 1][1]]
        return nn.tanh(x)


class DCGANDiscriminator(nn.Module):
    """Images [B, H, W, C], labels [B] -> logits [B].

    Convolutions that halve the side until it is 4 or less, 28 -> 14 -> 7 -> 4, each followed by normalisation (but the
    first) and leaky ReLU of slope 0.2, then a dense layer. (In a last map of 7 x 7 each place would see 10 x 10 pixels:
    the sum over them tells strokes from no strokes, but not digits from no digits.) With classes, the logit gains
    <embedding of the label, features summed over the plane> (the projection discriminator of Miyato & Koyama 2018).

    Attributes:
        image_size: as of the generator.
        channels: of the first map, doubled at each halving.
        groups: of the group normalisation; 0: none, as with spectral normalisation or a gradient penalty.
        num_classes: 0: unconditional.
    """

    image_size: int | tuple[int, int] = 28
    channels: int = 64
    groups: int = 0
    num_classes: int = 0

    @nn.compact
    def __call__(self, x: jax.Array, labels: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        del keys
        sides = map_sides(self.image_size)
        number = len(sides) - 1 + (max(sides[-1]) > 4)
        _check_condition(labels, self.num_classes)
        if x.ndim != 4 or x.shape[1:3] != sides[0]:
            raise ValueError(f"images have shape {x.shape}; this network takes [B, {sides[0][0]}, {sides[0][1]}, C]")
        for i in range(number):
            x = Conv(self.channels * 2**i, 4, stride=2, kernel_init=HE, name=f"conv_{i}")(x)
            x = nn.leaky_relu(normalized(x, self.groups if i else 0, f"norm_{i}"), SLOPE)
        logits = nn.Dense(1, name="dense")(x.reshape(len(x), -1))[:, 0]
        if labels is None:
            return logits
        features = jnp.sum(x, axis=(1, 2))
        # With features of about 1 at each place, the label's term starts as large as the dense layer's.
        std = 1 / (x.shape[1] * x.shape[2] * features.shape[-1] ** 0.5)
        directions = Embedding(self.num_classes, features.shape[-1], std, name="label")(labels)
        return logits + jnp.sum(directions * features, axis=-1)


def dcgan_players(
    shape: Sequence[int], noise: Noise, channels: int = 64, groups: int = 8, num_classes: int = 0
) -> Players:
    """Convolutional players for images in [-1, 1]; with classes, labels are batch["label"].

    Args:
        shape: (height, width, channels) of an image, at least 8 pixels on the longer side.
        noise: p_z.
        channels: of the largest map of both networks.
        groups: of the generator's group normalisation; 0: none.
        num_classes: 0: unconditional.

    Raises:
        ValueError: the images are smaller.
    """
    height, width, image_channels = shape
    size = height if height == width else (height, width)
    map_sides(size)
    generator = DCGANGenerator(size, image_channels, channels, groups, num_classes)
    discriminator = DCGANDiscriminator(size, channels, num_classes=num_classes)
    return Players(generator, discriminator, noise, "label" if num_classes else None)


def normalized(x: jax.Array, groups: int, name: str) -> jax.Array:
    """Group normalisation of [B, H, W, C] over each example's own groups of channels; 0 groups: x itself."""
    return nn.GroupNorm(groups, epsilon=1e-5, name=name)(x) if groups else x


def _check_condition(labels, num_classes):
    if (labels is None) != (num_classes == 0):
        wanted = f"labels in 0 .. {num_classes - 1}" if num_classes else "no labels (num_classes is 0)"
        raise ValueError(f"labels are {'missing' if labels is None else 'given'}; this network takes {wanted}")
