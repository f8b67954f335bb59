"""One picture per instance: its box with a margin, transparent outside the outline."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyvips

from flat_bug.instances.coverage import alpha
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances

MARGIN = 5
"""Image pixels around the box, as flat-bug 1.x has them."""


def crops(pixels: Pixels, table: Instances, margin: int = MARGIN) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield each instance as ``uint8 (h, w, 4)`` RGBA, in the order of the table.

    A pixel that the outline cuts is as opaque as the share of it that lies inside. Only the pixels of one crop are in
    memory at a time.

    Raises:
        ImageError: The image is damaged there.
    """
    for polygon, (x1, y1, x2, y2) in zip(table.polygons, crop_frames(table, margin), strict=True):
        picture = np.empty((y2 - y1, x2 - x1, 4), np.uint8)
        picture[..., :3] = pixels.read(x1, y1, x2 - x1, y2 - y1)
        picture[..., 3] = alpha(polygon, x1, y1, x2 - x1, y2 - y1)
        yield picture


def crop_frames(table: Instances, margin: int = MARGIN) -> list[tuple[int, int, int, int]]:
    """Return x1, y1, x2, y2 of each crop: the box rounded outwards plus the margin, at least a pixel of the image."""
    low = np.floor(table.boxes[:, :2]) - margin
    high = np.ceil(table.boxes[:, 2:]) + margin
    size = np.array([table.width, table.height])
    low = np.clip(low, 0, size - 1).astype(np.int64)
    high = np.clip(high, low + 1, size).astype(np.int64)
    return [(x1, y1, x2, y2) for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True)]


def encode_png(picture: npt.NDArray[np.uint8]) -> bytes:
    """Return a picture ``(h, w, 4)`` as the bytes of a PNG file."""
    image = pyvips.Image.new_from_array(picture, interpretation="srgb")
    return bytes(image.pngsave_buffer(compression=3, filter="up"))
