"""Lay translucent shapes and small text over a picture, touching only the pixels under them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import shapely
from matplotlib.ft2font import FT2Font

from flat_bug.instances.coverage import coverage, strips

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

DARK: Colour = (16, 16, 16)
LIGHT: Colour = (255, 255, 255)


def fill(picture: Picture, shape: shapely.Geometry, colour: Colour, opacity: float) -> None:
    """Blend a colour into the pixels under a shape, in place.

    Args:
        picture: ``uint8 (h, w, 3)``.
        shape: Polygon in picture pixels; what lies outside the picture is left out.
        colour: RGB.
        opacity: 0 leaves the picture as it is, 1 covers it.
    """
    bounds = shapely.bounds(shape)
    if np.isnan(bounds).any():
        return
    x1, y1, x2, y2 = _within(picture, (*np.floor(bounds[:2]), *np.ceil(bounds[2:])))
    if x1 == x2:
        return
    for top, rows in strips(x2 - x1, y2 - y1):
        region = picture[y1 + top : y1 + top + rows, x1:x2]
        blend(region, coverage(shape, x1, y1 + top, x2 - x1, rows), colour, opacity)


def tint(picture: Picture, rectangle: tuple[float, float, float, float], colour: Colour, opacity: float) -> None:
    """Blend a colour into x1, y1, x2, y2 on whole pixels, in place; what lies outside the picture is left out."""
    x1, y1, x2, y2 = _within(picture, rectangle)
    region = picture[y1:y2, x1:x2]
    blend(region, np.ones(region.shape[:2], np.float32), colour, opacity)


def blend(region: Picture, share: npt.NDArray[np.float32], colour: Colour, opacity: float) -> None:
    """Blend a colour into a region in place, where ``share (h, w)`` says how much of each pixel it covers."""
    weight = (share * np.float32(opacity))[..., None]
    mixed = region + weight * (np.array(colour, np.float32) - region)
    region[:] = (mixed + np.float32(0.5)).astype(np.uint8)


def _within(picture: Picture, rectangle: tuple[float, float, float, float]) -> tuple[int, int, int, int]:
    """Return the part of x1, y1, x2, y2 that lies in the picture; the sides meet where there is none."""
    height, width = picture.shape[:2]
    x1, y1, x2, y2 = np.clip(rectangle, 0, (width, height, width, height)).astype(int).tolist()
    return x1, y1, x2, y2


def luminance(colour: Colour) -> float:
    """Return how bright a colour looks, between 0 and 255."""
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue


@dataclass(frozen=True)
class Numerals:
    """The characters of a score, drawn once per picture in the font that comes with matplotlib.

    Attributes:
        height: Height of a digit in pixels.
    """

    height: int

    @cached_property
    def _glyphs(self) -> dict[str, npt.NDArray[np.float32]]:
        font = FT2Font(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans-Bold.ttf")))
        # Digits of this font are 0.73 of its size high.
        font.set_size(self.height / 0.73, 72)
        return {character: _glyph(font, character) for character in "0123456789."}

    def draw(self, text: str) -> npt.NDArray[np.float32]:
        """Return how much of each pixel a text of digits and points covers, ``float32 (h, w)``."""
        glyphs = [self._glyphs[character] for character in text]
        tallest = max(glyph.shape[0] for glyph in glyphs)
        # Digits are equally high and a point stands on the line, so all are aligned at the bottom.
        return np.concatenate([np.pad(glyph, ((tallest - glyph.shape[0], 0), (0, 1))) for glyph in glyphs], axis=1)


def _glyph(font: FT2Font, character: str) -> npt.NDArray[np.float32]:
    font.set_text(character)
    font.draw_glyphs_to_bitmap(antialiased=True)
    return np.asarray(font.get_image(), np.float32) / np.float32(255)
