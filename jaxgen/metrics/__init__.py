"""Measures that need only arrays."""

from .image import psnr, ssim

__all__ = ["psnr", "ssim"]
