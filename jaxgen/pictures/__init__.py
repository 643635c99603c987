"""Arrays in, pictures out: uint8 arrays [H, W, 3], and the functions that write them to files.

Pillow and matplotlib are imported where they are needed. matplotlib's figures are drawn on their own
canvas, so neither its state nor the display is touched.
"""

from jaxgen.pictures.cameras import cameras, depth_map
from jaxgen.pictures.charts import COLORS, curves, scatter
from jaxgen.pictures.fields import probability_field
from jaxgen.pictures.files import read_png, save_film, save_gif, save_png
from jaxgen.pictures.grids import captioned, grid, strip, upscale

__all__ = [
    "COLORS",
    "cameras",
    "captioned",
    "curves",
    "depth_map",
    "grid",
    "probability_field",
    "read_png",
    "save_film",
    "save_gif",
    "save_png",
    "scatter",
    "strip",
    "upscale",
]
