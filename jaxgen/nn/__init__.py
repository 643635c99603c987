"""Layers that two or more chapters use."""

from jaxgen.nn.conv import conv, conv_transpose, pixel_shuffle
from jaxgen.nn.conv_layers import Conv, ConvTranspose, SubPixelConv
from jaxgen.nn.dense import DenseStack
from jaxgen.nn.normalization import GroupNorm, at_least_float32, group_norm
from jaxgen.nn.products import dense_dot, matmul
from jaxgen.nn.upsampling import nearest, upsampled_conv
from jaxgen.nn.weight_files import UnsafeWeightsError, read_weights, write_weights

__all__ = [
    "Conv",
    "ConvTranspose",
    "DenseStack",
    "GroupNorm",
    "SubPixelConv",
    "UnsafeWeightsError",
    "at_least_float32",
    "conv",
    "conv_transpose",
    "dense_dot",
    "group_norm",
    "matmul",
    "nearest",
    "pixel_shuffle",
    "read_weights",
    "upsampled_conv",
    "write_weights",
]
