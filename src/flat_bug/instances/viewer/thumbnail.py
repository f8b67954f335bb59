"""A small picture of an image that shows at a glance where its animals are."""

import numpy as np
import shapely

from flat_bug.instances.canvas import Canvas, Colour, path_of
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.vips import pyvips

LARGEST = (480, 360)
SMALLEST_OUTLINE = 3
"""Pixels of the thumbnail; of what is smaller the box is drawn, at least so large."""
COLOUR: Colour = (1.0, 0.69, 0.0)
DARK: Colour = (0.0, 0.0, 0.0)


def make_thumbnail(pixels: Pixels, table: Instances) -> bytes:
    """Return the bytes of a JPEG, at most ``LARGEST``.

    Raises:
        ImageError: The image is damaged.
    """
    scale = min(1.0, LARGEST[0] / pixels.width, LARGEST[1] / pixels.height)
    size = max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale))
    canvas = Canvas(pixels.read(0, 0, *size, size=size))
    outlines = _outlines(table, np.array(size) / (pixels.width, pixels.height))
    if len(outlines):
        # All at once: a call for each of many thousands would take seconds.
        path = path_of(shapely.multipolygons(outlines))
        canvas.stroke(path, DARK, 0.45, 2.6)
        canvas.stroke(path, COLOUR, 1.0, 1.3)
    picture = pyvips.Image.new_from_array(canvas.picture(), interpretation="srgb")
    return bytes(picture.jpegsave_buffer(Q=82))


def _outlines(table: Instances, scale: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[shapely.Polygon]:
    """Return the parts of all outlines in pixels of the thumbnail."""
    drawn = shapely.simplify(shapely.transform(table.polygons, lambda points: points * scale), 0.3)
    bounds = shapely.bounds(drawn).reshape(-1, 4)
    middle, half = (bounds[:, :2] + bounds[:, 2:]) / 2, (bounds[:, 2:] - bounds[:, :2]) / 2
    small = (half * 2).max(axis=1) < SMALLEST_OUTLINE
    half = np.maximum(half, SMALLEST_OUTLINE / 2)
    drawn[small] = shapely.box(*(middle - half)[small].T, *(middle + half)[small].T)
    return [part for part in shapely.get_parts(drawn) if not part.is_empty]
