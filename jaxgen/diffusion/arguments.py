"""What arrays of images may be in this chapter, for `takes` (ours)."""

import dataclasses

from jaxgen.arguments import Float

SCALE = " (bytes / 127.5 - 1)"
IMAGES = Float("B ...", only=True, hint=f", images scaled to [-1, 1]{SCALE}")
"""[B, ...], floating point; images in [-1, 1], and other data on its own scale."""
LEVELS = dataclasses.replace(IMAGES, low=-1, high=1)
"""[B, ...] in [-1, 1]."""
OUTPUT = Float(only=True)
"""A network's output [B, ..., C], or [B, ..., 2 C] where the variance is learned."""
