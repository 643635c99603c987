"""Layers that two or more chapters use."""

from jaxgen.nn.conv import conv, conv_transpose, pixel_shuffle
from jaxgen.nn.conv_layers import Conv, ConvTranspose, SubPixelConv
from jaxgen.nn.dense import DenseStack
from jaxgen.nn.normalization import GroupNorm, at_least_float32, group_norm
from jaxgen.nn.products import dense_dot, matmul
from jaxgen.nn.upsampling import nearest, upsampled_conv

__all__ = [
    "Conv",
    "ConvTranspose",
    "DenseStack",
    "GroupNorm",
    "SubPixelConv",
    "at_least_float32",
    "conv",
    "conv_transpose",
    "dense_dot",
    "group_norm",
    "matmul",
    "nearest",
    "pixel_shuffle",
    "upsampled_conv",
]
