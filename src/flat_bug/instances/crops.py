"""One picture per instance: its box with a margin, or a square of fixed size; masked by the outline, or as it is."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.instances.coverage import alpha
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.vips import pyvips

MARGIN = 5
"""Image pixels around the box, as flat-bug 1.x has them."""
MOST_ENLARGED = 16
"""A smaller animal is enlarged by this to fill a square, and stays small in it: there is no more to see."""
RECORD = "flat-bug-crop"
"""Key of the text in a PNG file that says how it was cut; what flat-bug 1.x would have cut has none."""

Background = Literal["transparent", "white", "black", "image"]
Picture = npt.NDArray[np.uint8]
Frame = tuple[int, int, int, int]
"""x1, y1, x2, y2 in whole pixels."""


@dataclass(frozen=True)
class CropOptions:
    """How crops are cut.

    Attributes:
        size: Side in pixels of a square that each animal is scaled to fit; by default its crop is as large as it is.
        margin: Image pixels around the box.
        background: What is around the outline: nothing, white, black, or the image itself.
    """

    size: int | None = None
    margin: int = MARGIN
    background: Background = "transparent"

    @property
    def record(self) -> str:
        """What a crop says about how it was cut; nothing where that is as ever."""
        return "" if self == CropOptions() else f"size={self.size} margin={self.margin} background={self.background}"


def crops(pixels: Pixels, table: Instances, options: CropOptions | None = None) -> Iterator[Picture]:
    """Yield each instance as ``uint8 (h, w, 4)`` RGBA or ``(h, w, 3)`` RGB, in the order of the table.

    A pixel that the outline cuts is as opaque as the share of it that lies inside. Only the pixels of one crop are in
    memory at a time.

    Raises:
        ImageError: The image is damaged there.
    """
    options = options or CropOptions()
    for polygon, frame in zip(table.polygons, crop_frames(table, options.margin), strict=True):
        if options.size is None:
            yield _cut(pixels, polygon, frame, (pixels.width, pixels.height), options.background)
        else:
            yield _cut_square(pixels, polygon, options, options.size)


def crop_frames(table: Instances, margin: int = MARGIN) -> list[Frame]:
    """Return x1, y1, x2, y2 of each crop: the box rounded outwards plus the margin, at least a pixel of the image."""
    low = np.floor(table.boxes[:, :2]) - margin
    high = np.ceil(table.boxes[:, 2:]) + margin
    size = np.array([table.width, table.height])
    low = np.clip(low, 0, size - 1).astype(np.int64)
    high = np.clip(high, low + 1, size).astype(np.int64)
    return [(x1, y1, x2, y2) for (x1, y1), (x2, y2) in zip(low.tolist(), high.tolist(), strict=True)]


def encode_png(picture: Picture, record: str = "") -> bytes:
    """Return a picture ``(h, w, 3 or 4)`` as the bytes of a PNG file, with a text about how it was cut."""
    image = pyvips.Image.new_from_array(picture, interpretation="srgb")
    if record:
        image = image.copy()
        image.set_type(pyvips.GValue.gstr_type, f"png-comment-0-{RECORD}", record)
    return bytes(image.pngsave_buffer(compression=3, filter="up"))


def record_of(path: Path) -> str | None:
    """Return what the PNG file of a crop says about how it was cut; nothing at all for a file that is none."""
    try:
        image = pyvips.Image.pngload(str(path))
    except pyvips.Error:
        return None
    texts = [
        image.get(name) for name in image.get_fields() if name.startswith("png-comment-") and name.endswith(RECORD)
    ]
    return str(texts[0]) if texts else ""


def _cut_square(pixels: Pixels, polygon: shapely.Geometry, options: CropOptions, side: int) -> Picture:
    """Return a square of an image in which an animal and its margin fit, scaled as they need it."""
    x1, y1, x2, y2 = shapely.bounds(polygon)
    scale = min(side / max(x2 - x1 + 2 * options.margin, y2 - y1 + 2 * options.margin, 1), MOST_ENLARGED)
    size = (max(1, round(pixels.width * scale)), max(1, round(pixels.height * scale)))
    factors = np.array(size) / (pixels.width, pixels.height)
    middle = np.array([x1 + x2, y1 + y2]) / 2 * factors
    left, top = np.round(middle - side / 2).astype(int).tolist()
    scaled = shapely.transform(polygon, lambda points: points * factors)
    return _cut(pixels, scaled, (left, top, left + side, top + side), size, options.background)


def _cut(
    pixels: Pixels, polygon: shapely.Geometry, frame: Frame, size: tuple[int, int], background: Background
) -> Picture:
    """Return what a frame shows of an image that is scaled to a size, as the polygon is; it may leave the image."""
    x1, y1, x2, y2 = frame
    left, top, right, bottom = max(x1, 0), max(y1, 0), min(x2, size[0]), min(y2, size[1])
    picture = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
    if right > left and bottom > top:
        part = pixels.read(left, top, right - left, bottom - top, size=size)
        picture[top - y1 : bottom - y1, left - x1 : right - x1] = part
    if background == "image":
        return picture
    opacity = alpha(polygon, x1, y1, x2 - x1, y2 - y1)[..., None]
    if background == "transparent":
        return np.concatenate([picture, opacity], axis=2)
    behind = 255 if background == "white" else 0
    share = opacity.astype(np.float32) / 255
    return np.rint(share * picture + (1 - share) * behind).astype(np.uint8)
