"""Measures that need only arrays."""

from .image import psnr

__all__ = ["psnr"]
