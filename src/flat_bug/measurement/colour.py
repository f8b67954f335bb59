"""The mean colour of each animal: every pixel counts as far as the outline covers it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.instances.coverage import coverage
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.vips import pyvips

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

PIXELS_AT_ONCE = 1 << 19
"""Of a huge animal, or of many small ones."""
NAMES = ("red", "green", "blue", "lab_l", "lab_a", "lab_b")


def mean_colours(table: Instances, pixels: Pixels) -> dict[str, Floats]:
    """Return the means of the sRGB values (0–255) and of the CIELAB values (D65) of each animal, as columns.

    The mean of L*a*b* is not the L*a*b* of the mean: it is what two halves of an animal look like on average.

    Raises:
        ImageError: The image is damaged there.
    """
    sums, weights = np.zeros((len(NAMES), len(table))), np.zeros(len(table))
    for row, share, colours in _batches(table, pixels):
        weights += np.bincount(row, share, len(table))
        sums += [np.bincount(row, share * values, len(table)) for values in (*colours.T, *_lab(colours).T)]
    with np.errstate(invalid="ignore"):
        return dict(zip(NAMES, np.where(weights > 0, sums / weights, np.nan), strict=True))


def _batches(table: Instances, pixels: Pixels) -> Iterator[tuple[Rows, Floats, npt.NDArray[np.uint8]]]:
    """Yield pixels, of many small animals at once: whose each is, how much of it the animal covers, and its colour."""
    batch, waiting = [], 0
    for row, polygon in enumerate(table.polygons):
        for x, y, width, height in _strips(table.boxes[row], table.width, table.height):
            covered = coverage(polygon, x, y, width, height)
            inside = covered > 0
            if not inside.any():
                continue
            batch.append((row, covered[inside].astype(np.float64), pixels.read(x, y, width, height)[inside]))
            waiting += len(batch[-1][1])
            if waiting >= PIXELS_AT_ONCE:
                yield _joined(batch)
                batch, waiting = [], 0
    if batch:
        yield _joined(batch)


def _joined(batch: list[tuple[int, Floats, npt.NDArray[np.uint8]]]) -> tuple[Rows, Floats, npt.NDArray[np.uint8]]:
    rows, shares, colours = zip(*batch, strict=True)
    return np.repeat(rows, [len(share) for share in shares]), np.concatenate(shares), np.concatenate(colours)


def _strips(box: Floats, image_width: int, image_height: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield x, y, width and height of the pieces that the part of a box on the image is read in."""
    low, high = np.floor(box[:2]), np.ceil(box[2:])
    if not np.isfinite(box).all():
        return
    x1, y1 = np.clip(low, 0, (image_width, image_height)).astype(int).tolist()
    x2, y2 = np.clip(high, 0, (image_width, image_height)).astype(int).tolist()
    width = x2 - x1
    if width <= 0:
        return
    rows = max(1, PIXELS_AT_ONCE // width)
    for y in range(y1, y2, rows):
        yield x1, y, width, min(rows, y2 - y)


def _lab(colours: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Return ``float32 (n, 3)`` CIELAB of sRGB colours ``(n, 3)``."""
    image = pyvips.Image.new_from_array(np.ascontiguousarray(colours[None])).copy(interpretation="srgb")
    return np.ndarray(colours.shape, np.float32, image.colourspace("lab").write_to_memory())
