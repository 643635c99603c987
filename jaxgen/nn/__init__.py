"""Layers that two or more chapters use."""

from jaxgen.nn.conv import conv, conv_transpose, pixel_shuffle
from jaxgen.nn.conv_layers import Conv, ConvTranspose, SubPixelConv
from jaxgen.nn.dense import DenseStack

__all__ = ["Conv", "ConvTranspose", "DenseStack", "SubPixelConv", "conv", "conv_transpose", "pixel_shuffle"]
