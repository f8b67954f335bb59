"""A picture of the whole image with every instance outlined, boxed and scored."""

import numpy as np
import numpy.typing as npt
import pyvips
import shapely

from flat_bug.instances.drawing import DARK, LIGHT, Colour, Numerals, Picture, blend, fill, luminance, tint
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances

LONGEST = 4000
"""Longest side of an overview, in pixels."""
LONGEST_FAST = 3072
"""Longest side of a fast overview, which is also at most half as large as the image."""

# Colours of Okabe and Ito that people with any colour vision tell apart, without those that vanish on yellow or white.
PALETTE: tuple[Colour, ...] = ((213, 94, 0), (0, 114, 178), (204, 121, 167), (0, 158, 115), (86, 180, 233))
FILL_OPACITY = 0.22
SMALLEST_DIGIT = 8
"""Height in pixels below which digits cannot be read."""


def overview_size(width: int, height: int, *, fast: bool = False) -> tuple[int, int]:
    """Return width and height of the overview of an image."""
    limit = min(0.5, LONGEST_FAST / max(width, height)) if fast else min(1.0, LONGEST / max(width, height))
    return max(1, round(width * limit)), max(1, round(height * limit))


def overview(pixels: Pixels, table: Instances, *, fast: bool = False) -> Picture:
    """Draw the instances over a scaled-down image.

    Time and memory depend on the size of the overview, not of the image. Scores are left out where the animal is too
    small on the picture to carry one, or where two would overlap.

    Returns:
        ``uint8 (h, w, 3)`` RGB.

    Raises:
        ImageError: The image is damaged.
    """
    size = overview_size(pixels.width, pixels.height, fast=fast)
    picture = np.array(pixels.read(0, 0, *size, size=size))
    scale = np.array(size) / (pixels.width, pixels.height)
    polygons = shapely.simplify(shapely.transform(table.polygons, lambda points: points * scale), 0.2)
    boxes = table.boxes * np.tile(scale, 2)
    line = float(np.clip(max(size) / 1600, 1.2, 2.5))
    colours = [PALETTE[row % len(PALETTE)] for row in range(len(table))]
    _draw_outlines(picture, polygons, colours, line)
    _draw_boxes(picture, boxes, colours)
    _draw_scores(picture, boxes, table.scores, colours)
    return picture


def encode_jpeg(picture: Picture) -> bytes:
    """Return a picture as the bytes of a JPEG file, its colours unblurred so that thin lines stay crisp."""
    image = pyvips.Image.new_from_array(picture, interpretation="srgb")
    return bytes(image.jpegsave_buffer(Q=88, subsample_mode="off"))


def _draw_outlines(picture: Picture, polygons: npt.NDArray[np.object_], colours: list[Colour], line: float) -> None:
    borders = shapely.boundary(polygons)
    halos = shapely.buffer(borders, line / 2 + 0.8, quad_segs=2)
    strokes = shapely.buffer(borders, line / 2, quad_segs=2)
    for polygon, halo, stroke, colour in zip(polygons, halos, strokes, colours, strict=True):
        fill(picture, polygon, colour, FILL_OPACITY)
        # A thin shade on both sides keeps the line visible on a ground of its own colour.
        fill(picture, halo, DARK, 0.45)
        fill(picture, stroke, colour, 1.0)


def _draw_boxes(picture: Picture, boxes: npt.NDArray[np.float64], colours: list[Colour]) -> None:
    low = np.round(boxes[:, :2]).astype(int) - 2
    high = np.round(boxes[:, 2:]).astype(int) + 2
    for (x1, y1), (x2, y2), colour in zip(low.tolist(), high.tolist(), colours, strict=True):
        for side in (
            (x1, y1, x2, y1 + 1),
            (x1, y2 - 1, x2, y2),
            (x1, y1 + 1, x1 + 1, y2 - 1),
            (x2 - 1, y1 + 1, x2, y2 - 1),
        ):
            tint(picture, side, colour, 0.6)


def _draw_scores(
    picture: Picture, boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], colours: list[Colour]
) -> None:
    if len(boxes) == 0:
        return
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1)
    largest = max(SMALLEST_DIGIT, max(picture.shape[:2]) // 130)
    numerals = Numerals(int(np.clip(np.median(sides) / 4, SMALLEST_DIGIT, largest)))
    taken = np.zeros(picture.shape[:2], bool)
    # The most certain first: where labels would overlap, theirs is the one that is shown.
    for row in np.argsort(-scores, kind="stable"):
        text = numerals.draw(f"{scores[row]:.2f}")
        if sides[row] >= 0.6 * text.shape[1]:
            _draw_label(picture, taken, boxes[row], text, colours[row])


def _draw_label(
    picture: Picture,
    taken: npt.NDArray[np.bool_],
    box: npt.NDArray[np.float64],
    text: npt.NDArray[np.float32],
    colour: Colour,
) -> None:
    """Draw a text on a plate above the upper left corner of a box, or below the box where there is no room above."""
    pad = max(2, text.shape[0] // 4)
    height, width = text.shape[0] + 2 * pad, text.shape[1] + 2 * pad
    x = int(np.clip(round(box[0]) - 2, 0, max(0, picture.shape[1] - width)))
    above, below = round(box[1]) - 2 - height, round(box[3]) + 2
    for y in (above, below):
        where = np.s_[y : y + height, x : x + width]
        if y < 0 or picture[where].shape[:2] != (height, width) or taken[where].any():
            continue
        taken[where] = True
        tint(picture, (x, y, x + width, y + height), colour, 0.85)
        ink = DARK if luminance(colour) > 140 else LIGHT
        blend(picture[where][pad:-pad, pad:-pad], text, ink, 1.0)
        return
