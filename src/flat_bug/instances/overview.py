"""A picture of the whole image with every instance outlined, boxed and scored."""

import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.transforms import Affine2D

from flat_bug.instances.canvas import Canvas, Colour, Picture, path_of, path_of_box, path_of_text
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.vips import pyvips

LONGEST = 4000
"""Longest side of an overview, in pixels."""
LONGEST_FAST = 3072
"""Longest side of a fast overview, which is also at most half as large as the image."""

# Colours of Okabe and Ito that people with any colour vision tell apart, without those that vanish on yellow or white.
PALETTE: tuple[Colour, ...] = (
    (0.835, 0.369, 0.000),
    (0.000, 0.447, 0.698),
    (0.800, 0.475, 0.655),
    (0.000, 0.620, 0.451),
    (0.337, 0.706, 0.914),
)
DARK: Colour = (0.06, 0.06, 0.06)
LIGHT: Colour = (1.0, 1.0, 1.0)
LUMINANCE = (0.299, 0.587, 0.114)
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
    canvas = Canvas(pixels.read(0, 0, *size, size=size))
    scale = np.array(size) / (pixels.width, pixels.height)
    polygons = shapely.simplify(shapely.transform(table.polygons, lambda points: points * scale), 0.2)
    boxes = table.boxes * np.tile(scale, 2)
    line = float(np.clip(max(size) / 1600, 1.5, 2.5))
    for row, polygon in enumerate(polygons):
        _draw_instance(canvas, polygon, boxes[row], _colour(row), line)
    _draw_scores(canvas, boxes, table.scores, size)
    return canvas.picture()


def encode_jpeg(picture: Picture) -> bytes:
    """Return a picture as the bytes of a JPEG file, its colours unblurred so that thin lines stay crisp."""
    image = pyvips.Image.new_from_array(picture, interpretation="srgb")
    return bytes(image.jpegsave_buffer(Q=88, subsample_mode="off"))


def _colour(row: int) -> Colour:
    return PALETTE[row % len(PALETTE)]


def _draw_instance(
    canvas: Canvas, polygon: shapely.Geometry, box: npt.NDArray[np.float64], colour: Colour, line: float
) -> None:
    outline = path_of(polygon)
    canvas.fill(outline, colour, FILL_OPACITY)
    # A thin shade on both sides keeps the line visible on a ground of its own colour.
    canvas.stroke(outline, DARK, 0.45, line + 1.6)
    canvas.stroke(outline, colour, 1.0, line)
    # Through the middle of pixels, so that it is one pixel wide and crisp.
    x1, y1, x2, y2 = np.round(box).tolist()
    canvas.stroke(path_of_box((x1 - 1.5, y1 - 1.5, x2 + 1.5, y2 + 1.5)), colour, 0.6, 1.0)


def _draw_scores(
    canvas: Canvas, boxes: npt.NDArray[np.float64], scores: npt.NDArray[np.float64], size: tuple[int, int]
) -> None:
    """Write the score over the upper left corner of each box, or under the box where there is no room over it."""
    if len(boxes) == 0:
        return
    sides = np.max(boxes[:, 2:] - boxes[:, :2], axis=1)
    digit = float(np.clip(np.median(sides) / 6, SMALLEST_DIGIT, max(SMALLEST_DIGIT, max(size) / 170)))
    pad = max(2.0, digit / 4)
    taken = np.zeros((size[1], size[0]), bool)
    # The most certain first: where labels would overlap, theirs is the one that is shown.
    for row in np.argsort(-scores, kind="stable"):
        text, width = path_of_text(f"{scores[row]:.2f}", digit)
        if sides[row] < 0.6 * width:
            continue
        plate = _free_place(taken, boxes[row], round(width + 2 * pad), round(digit + 2 * pad))
        if plate is None:
            continue
        corner = Affine2D().translate(plate[0] + pad, plate[3] - pad)
        canvas.fill(path_of_box(plate), _colour(row), 0.9)
        ink = DARK if np.dot(_colour(row), LUMINANCE) > 0.55 else LIGHT
        canvas.fill(corner.transform_path(text), ink, 1.0)


def _free_place(
    taken: npt.NDArray[np.bool_], box: npt.NDArray[np.float64], width: int, height: int
) -> tuple[int, int, int, int] | None:
    """Return x1, y1, x2, y2 of a label that covers no other one, and mark it as taken; None where there is no room."""
    x1 = int(np.clip(round(box[0]) - 2, 0, max(0, taken.shape[1] - width)))
    for y1 in (round(box[1]) - 2 - height, round(box[3]) + 2):
        place = taken[max(0, y1) : y1 + height, x1 : x1 + width]
        if y1 >= 0 and place.shape == (height, width) and not place.any():
            place[:] = True
            return x1, y1, x1 + width, y1 + height
    return None
