"""Layers that two or more chapters use."""

from jaxgen.nn.dense import DenseStack

__all__ = ["DenseStack"]
