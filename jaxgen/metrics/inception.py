"""The Inception network of the published FID, from its weights in a file.

The network is Inception-v3 as TensorFlow released it in December 2015, in the form of pytorch-fid: its file
`pt_inception-2015-12-05-6726825d.pth` (https://github.com/mseitzer/pytorch-fid, releases) is read, without running what
a pickle may hold. Features are the 2048 averages before the last layer, the classes are 1008.
"""

from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxgen.weights import explain, read_weights, select, tree_digest

from .features import Extractor

Weights = Mapping[str, jax.Array]


def load_inception(path: str | Path) -> Extractor:
    """The extractor called "fid".

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, or not of this network.
    """
    shapes = expected_shapes()
    found = select(read_weights(path), shapes)
    missing = [name for name, shape in shapes.items() if name not in found or found[name].shape != shape]
    if missing:
        raise ValueError(
            f"{path} has no {missing[0]} of shape {shapes[missing[0]]} ({len(missing)} such arrays); expected "
            f"pytorch-fid's pt_inception-2015-12-05-6726825d.pth. {explain(found)}"
        )
    weights = {name: np.asarray(found[name], np.float32) for name in shapes}
    on_device = jax.device_put(weights)
    both = jax.jit(lambda weights, x: inception(weights, prepared(x)))
    three = jax.jit(lambda weights, x: with_places(weights, prepared(x)))
    return Extractor("fid", lambda x: both(on_device, x), tree_digest(weights), spatial=lambda x: three(on_device, x))


def prepared(x: jax.Array) -> jax.Array:
    """[B, H, W, 1 or 3] in [-1, 1] -> [B, 299, 299, 3], bilinear without smoothing, as pytorch-fid does it.

    Raises:
        ValueError: another number of channels.
    """
    if x.shape[-1] not in (1, 3):
        raise ValueError(f"images have {x.shape[-1]} channels; Inception sees 3, or 1 repeated")
    x = jnp.broadcast_to(x, (*x.shape[:3], 3))
    return jax.image.resize(x, (x.shape[0], 299, 299, 3), "bilinear", antialias=False)


def inception(weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[B, 299, 299, 3] in [-1, 1] -> features [B, 2048], class probabilities [B, 1008]."""
    return with_places(weights, x)[:2]


def with_places(weights: Weights, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The same, and features that know places: the first 7 channels of a 17 x 17 map, flattened, [B, 2023].

    The distance of those is sFID (Nash et al. 2021), of the map that guided-diffusion's evaluator calls mixed_6/conv.
    """
    conv = lambda name, x, stride=1, pad=(0, 0): unit(weights, name, x, stride, pad)
    x = conv("Conv2d_1a_3x3", x, 2)
    x = conv("Conv2d_2a_3x3", x)
    x = max_pool(conv("Conv2d_2b_3x3", x, 1, (1, 1)), 2)
    x = conv("Conv2d_3b_1x1", x)
    x = max_pool(conv("Conv2d_4a_3x3", x), 2)
    for name in ("5b", "5c", "5d"):
        x = block_35(weights, f"Mixed_{name}.", x)
    x = reduce_35(weights, "Mixed_6a.", x)
    places = x
    for name in ("6b", "6c", "6d", "6e"):
        x = block_17(weights, f"Mixed_{name}.", x)
        if name == "6d":
            places = x[..., :7].reshape(x.shape[0], -1)
    x = reduce_17(weights, "Mixed_7a.", x)
    x = block_8(weights, "Mixed_7b.", x, average_pool)
    # The published network pools by the maximum in its last block.
    x = block_8(weights, "Mixed_7c.", x, lambda x: max_pool(x, 1))
    found = jnp.mean(x, axis=(1, 2))
    return found, jax.nn.softmax(found @ weights["fc.weight"].T + weights["fc.bias"][None]), places


def block_35(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """On the 35 x 35 map."""
    conv = lambda part, x, pad=0: unit(weights, name + part, x, 1, (pad, pad))
    five = conv("branch5x5_2", conv("branch5x5_1", x), 2)
    double = conv("branch3x3dbl_3", conv("branch3x3dbl_2", conv("branch3x3dbl_1", x), 1), 1)
    return _join(conv("branch1x1", x), five, double, conv("branch_pool", average_pool(x)))


def reduce_35(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """From 35 x 35 to 17 x 17."""
    double = unit(weights, name + "branch3x3dbl_2", unit(weights, name + "branch3x3dbl_1", x), 1, (1, 1))
    double = unit(weights, name + "branch3x3dbl_3", double, 2)
    return _join(unit(weights, name + "branch3x3", x, 2), double, max_pool(x, 2))


def block_17(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """On the 17 x 17 map; the kernels of 7 are rows and columns."""
    conv = lambda part, x: unit(weights, name + part, x, 1, "same")
    seven, double = x, x
    for i in range(1, 4):
        seven = conv(f"branch7x7_{i}", seven)
    for i in range(1, 6):
        double = conv(f"branch7x7dbl_{i}", double)
    return _join(conv("branch1x1", x), seven, double, conv("branch_pool", average_pool(x)))


def reduce_17(weights: Weights, name: str, x: jax.Array) -> jax.Array:
    """From 17 x 17 to 8 x 8."""
    three = unit(weights, name + "branch3x3_2", unit(weights, name + "branch3x3_1", x), 2)
    seven = x
    for i in range(1, 4):
        seven = unit(weights, f"{name}branch7x7x3_{i}", seven, 1, "same")
    return _join(three, unit(weights, name + "branch7x7x3_4", seven, 2), max_pool(x, 2))


def block_8(weights: Weights, name: str, x: jax.Array, pool) -> jax.Array:
    """On the 8 x 8 map; the kernels of 3 are split into a row and a column side by side."""
    conv = lambda part, x: unit(weights, name + part, x, 1, "same")
    three = conv("branch3x3_1", x)
    double = conv("branch3x3dbl_2", conv("branch3x3dbl_1", x))
    split = lambda part, x: _join(conv(part + "a", x), conv(part + "b", x))
    return _join(
        conv("branch1x1", x), split("branch3x3_2", three), split("branch3x3dbl_3", double),
        conv("branch_pool", pool(x)),
    )  # fmt: skip


def unit(weights: Weights, name: str, x: jax.Array, stride: int = 1, pad: tuple[int, int] | str = (0, 0)) -> jax.Array:
    """Convolution, batch normalisation with its running statistics, ReLU: [B, H, W, C] -> [B, H', W', O]."""
    kernel = jnp.transpose(weights[f"{name}.conv.weight"], (2, 3, 1, 0))
    sides = [(k // 2, k // 2) for k in kernel.shape[:2]] if isinstance(pad, str) else [(p, p) for p in pad]
    y = lax.conv_general_dilated(x, kernel, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    norm = {part: weights[f"{name}.bn.{part}"] for part in ("weight", "bias", "running_mean", "running_var")}
    scale = norm["weight"] * lax.rsqrt(norm["running_var"] + 0.001)
    shift = norm["bias"] - norm["running_mean"] * scale
    return jax.nn.relu(y * scale.reshape(1, 1, 1, -1) + shift.reshape(1, 1, 1, -1))


def average_pool(x: jax.Array) -> jax.Array:
    """Mean over 3 x 3, of those pixels alone that there are: [B, H, W, C] -> the same."""
    sums = lambda x: lax.reduce_window(x, 0.0, lax.add, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return sums(x) / sums(jnp.ones((1, *x.shape[1:3], 1)))


def max_pool(x: jax.Array, stride: int) -> jax.Array:
    """Maximum over 3 x 3; with stride 1 the size stays."""
    padding = "SAME" if stride == 1 else "VALID"
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), padding)


def _join(*parts: jax.Array) -> jax.Array:
    return jnp.concatenate(parts, axis=-1)


def expected_shapes() -> dict[str, tuple[int, ...]]:
    """The names and shapes of all arrays that the network reads, in PyTorch's layout."""
    shapes: dict[str, tuple[int, ...]] = {"fc.weight": (1008, 2048), "fc.bias": (1008,)}

    def conv(name, inputs, outputs, height, width):
        shapes[f"{name}.conv.weight"] = (outputs, inputs, height, width)
        shapes.update({f"{name}.bn.{p}": (outputs,) for p in ("weight", "bias", "running_mean", "running_var")})

    for name, inputs, outputs, size in (
        ("Conv2d_1a_3x3", 3, 32, 3), ("Conv2d_2a_3x3", 32, 32, 3), ("Conv2d_2b_3x3", 32, 64, 3),
        ("Conv2d_3b_1x1", 64, 80, 1), ("Conv2d_4a_3x3", 80, 192, 3),
    ):  # fmt: skip
        conv(name, inputs, outputs, size, size)
    for block, inputs, pooled in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        for part, a, b, size in (
            ("1x1", inputs, 64, 1), ("5x5_1", inputs, 48, 1), ("5x5_2", 48, 64, 5), ("3x3dbl_1", inputs, 64, 1),
            ("3x3dbl_2", 64, 96, 3), ("3x3dbl_3", 96, 96, 3), ("_pool", inputs, pooled, 1),
        ):  # fmt: skip
            conv(f"Mixed_{block}.branch{part}", a, b, size, size)
    for part, a, b, size in (
        ("3x3", 288, 384, 3), ("3x3dbl_1", 288, 64, 1), ("3x3dbl_2", 64, 96, 3), ("3x3dbl_3", 96, 96, 3),
    ):  # fmt: skip
        conv(f"Mixed_6a.branch{part}", a, b, size, size)
    for block, c in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        for part, a, b, height, width in (
            ("1x1", 768, 192, 1, 1), ("7x7_1", 768, c, 1, 1), ("7x7_2", c, c, 1, 7), ("7x7_3", c, 192, 7, 1),
            ("7x7dbl_1", 768, c, 1, 1), ("7x7dbl_2", c, c, 7, 1), ("7x7dbl_3", c, c, 1, 7), ("7x7dbl_4", c, c, 7, 1),
            ("7x7dbl_5", c, 192, 1, 7), ("_pool", 768, 192, 1, 1),
        ):  # fmt: skip
            conv(f"Mixed_{block}.branch{part}", a, b, height, width)
    for part, a, b, height, width in (
        ("3x3_1", 768, 192, 1, 1), ("3x3_2", 192, 320, 3, 3), ("7x7x3_1", 768, 192, 1, 1), ("7x7x3_2", 192, 192, 1, 7),
        ("7x7x3_3", 192, 192, 7, 1), ("7x7x3_4", 192, 192, 3, 3),
    ):  # fmt: skip
        conv(f"Mixed_7a.branch{part}", a, b, height, width)
    for block, inputs in (("7b", 1280), ("7c", 2048)):
        for part, a, b, height, width in (
            ("1x1", inputs, 320, 1, 1), ("3x3_1", inputs, 384, 1, 1), ("3x3_2a", 384, 384, 1, 3),
            ("3x3_2b", 384, 384, 3, 1), ("3x3dbl_1", inputs, 448, 1, 1), ("3x3dbl_2", 448, 384, 3, 3),
            ("3x3dbl_3a", 384, 384, 1, 3), ("3x3dbl_3b", 384, 384, 3, 1), ("_pool", inputs, 192, 1, 1),
        ):  # fmt: skip
            conv(f"Mixed_{block}.branch{part}", a, b, height, width)
    return shapes
