"""COCO run-length masks as outlines, without ever making a mask of the image's size."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

Integers = npt.NDArray[np.int64]

FIRST_CODE = 48
"""A compressed count is written in characters from this code on, six bits each: five of number, one "more follows"."""

MOST_PIXELS = 2**40
"""Far more than any image has, and few enough that sums of runs stay exact."""


def rle_polygon(segmentation: dict[str, Any]) -> shapely.Geometry:
    """Return the outline of a COCO run-length mask, along the outer borders of its pixels.

    The area is exactly the number of pixels. Holes are kept; pixels that touch only at a corner are separate parts.

    Args:
        segmentation: ``size`` is height, width; ``counts`` is a list of run lengths or the compressed text. Runs go
            down the columns, background first.

    Returns:
        A valid Polygon or MultiPolygon in image pixels; an empty Polygon for an empty mask.

    Raises:
        ValueError: The runs are not a mask of that size.
    """
    height, width = _size(segmentation.get("size"))
    starts, stops = _foreground(_counts(segmentation.get("counts")), height * width)
    if not len(starts):
        return shapely.Polygon()
    boxes = _column_boxes(starts, stops, height)
    # The union keeps a vertex at every column; dropping those on straight lines changes no point of the outline.
    return shapely.simplify(shapely.union_all(boxes), 0)


def _size(size: Any) -> tuple[int, int]:
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"the run-length mask has size {size!r}, not [height, width]")
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"the run-length mask is too large, {size[0]} x {size[1]} pixels")
    return size[0], size[1]


def _counts(counts: Any) -> Integers:
    if isinstance(counts, str):
        return _decompress(counts)
    if isinstance(counts, list) and all(isinstance(count, int) and abs(count) <= MOST_PIXELS for count in counts):
        return np.asarray(counts, np.int64)
    raise ValueError("the run-length mask has no counts")


def _decompress(text: str) -> Integers:
    """Return run lengths from COCO's text form: variable-length numbers, from the fourth on as differences."""
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - FIRST_CODE
    if not len(codes):
        return np.empty(0, np.int64)
    last = (codes & 0x20) == 0
    if codes.min() < 0 or codes.max() >= 64 or not last[-1]:
        raise ValueError("the compressed run-length mask is broken")
    ends = np.flatnonzero(last)
    begins = np.concatenate([[0], ends[:-1] + 1])
    position = np.arange(len(codes)) - np.repeat(begins, ends - begins + 1)
    if position.max() > 11:
        raise ValueError("the compressed run-length mask is broken")
    numbers = np.add.reduceat((codes & 0x1F) << (5 * position), begins)
    negative = (codes[ends] & 0x10) != 0
    numbers[negative] -= np.int64(1) << (5 * (position[ends][negative] + 1))
    # Each number from the fourth on is relative to the one two places before it.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers


def _foreground(counts: Integers, pixels: int) -> tuple[Integers, Integers]:
    if len(counts) and counts.min() < 0:
        raise ValueError("the run-length mask has a run of negative length")
    if counts.sum() != pixels:
        raise ValueError(f"the runs of the mask hold {counts.sum()} pixels, its size says {pixels}")
    bounds = np.concatenate([[0], np.cumsum(counts)])
    starts, stops = bounds[1:-1:2], bounds[2::2]
    full = stops > starts
    return starts[full], stops[full]


def _column_boxes(starts: Integers, stops: Integers, height: int) -> npt.NDArray[np.object_]:
    """Return boxes that cover the runs: at most three for a run, as the full columns in its middle are one box."""
    first, last = starts // height, (stops - 1) // height
    top, bottom = starts % height, (stops - 1) % height + 1
    single = first == last
    head = shapely.box(first, top, first + 1, np.where(single, bottom, height))
    tail = shapely.box(last, 0, last + 1, bottom)[~single]
    wide = last - first > 1
    middle = shapely.box(first + 1, 0, last, height)[wide]
    return np.concatenate([head, middle, tail])
