"""How large a pixel is: what a user says of it, checked, and with its uncertainty."""

import math
import re
from dataclasses import dataclass

from flat_bug.errors import UsageError

UNITS = {"mm": 1.0, "cm": 10.0, "um": 1e-3, "µm": 1e-3, "μm": 1e-3, "m": 1000.0, "in": 25.4}
"""Millimetres in each."""
LARGEST, SMALLEST = 1e4, 1e-6
"""Millimetres of a pixel: beyond these a number is a slip, or stands for another unit."""
BAR_END_SD = 1.0
"""Standard deviation of where somebody clicks the end of a scale bar, in pixels."""


@dataclass(frozen=True)
class Scale:
    """Size of a pixel.

    Attributes:
        mm_per_px: Millimetres.
        relative_sd: Standard deviation of it, as a share of it; 0 where it is taken as exact.
    """

    mm_per_px: float
    relative_sd: float = 0.0


def scale_from(mm_per_px: float, relative_sd: float, where: str) -> Scale:
    """Return a scale, checked.

    Raises:
        UsageError: A number is not finite, not positive, or no size that a pixel of an animal's image has.
    """
    if not (math.isfinite(mm_per_px) and SMALLEST <= mm_per_px <= LARGEST):
        raise UsageError(
            f"a pixel cannot be {mm_per_px:g} mm large",
            where=where,
            mend=f"Give a positive number that makes a pixel {SMALLEST:g} to {LARGEST:g} mm large.",
        )
    if not 0 <= relative_sd < 1:
        raise UsageError(
            "the uncertainty of the scale is negative, or as large as the scale",
            where=where,
            mend="Give its standard deviation, in the unit of the scale.",
        )
    return Scale(mm_per_px, relative_sd)


def scale_of_px_per_mm(px_per_mm: float, sd: float | None, where: str) -> Scale:
    """Return the scale of an image that has so many pixels per millimetre, and their standard deviation.

    Raises:
        UsageError: A number is impossible.
    """
    if not (math.isfinite(px_per_mm) and px_per_mm > 0):
        raise UsageError(
            f"there cannot be {px_per_mm:g} pixels per millimetre", where=where, mend="Give a positive number."
        )
    return scale_from(1 / px_per_mm, (sd or 0.0) / px_per_mm, where)


def scale_of_bar(text: str, where: str = "--scale-bar") -> Scale:
    """Return the scale that a bar or a ruler shows between two points.

    Either end is clicked with an error of a pixel, so long bars are more certain.

    Args:
        text: ``x1,y1,x2,y2,LENGTH`` in pixels of the upright image, LENGTH in mm or with its unit: ``10mm``, ``1cm``.
        where: What to call it in messages.

    Raises:
        UsageError: It is no such text, or the points are the same.
    """
    words = [word.strip() for word in text.split(",")]
    length = re.fullmatch(r"([^a-zA-Zµμ]+?)\s*([a-zA-Zµμ]*)", words[-1])
    try:
        x1, y1, x2, y2 = (float(word) for word in words[:-1])
        value = float(length[1]) * UNITS[(length[2] or "mm").lower()] if length else math.nan
    except (ValueError, KeyError) as error:
        raise UsageError(
            f"{text!r} is no scale bar",
            where=where,
            mend="Give both ends in pixels and the length between them: x1,y1,x2,y2,10mm",
        ) from error
    distance = math.hypot(x2 - x1, y2 - y1)
    if not (math.isfinite(distance) and distance > 0 and math.isfinite(value) and value > 0):
        raise UsageError(
            f"{text!r} is no scale bar: its ends are one point, or its length is not positive", where=where
        )
    return scale_from(value / distance, math.sqrt(2) * BAR_END_SD / distance, where)
