"""How uncertain a measurement is: how far an outline may lie off, and how well the size of a pixel is known."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MASK_CELL = 4.0
"""Side of a cell of the masks that networks draw, in pixels of the level that an animal is seen on."""


def outline_sd(levels: Floats, mask_cell: float = MASK_CELL) -> Floats:
    """Return the standard deviation of the place of each outline, in image pixels.

    An outline lies at most half a mask cell off, inwards or outwards, and anywhere between is as likely. So animals
    that were seen on a coarse level, a scale below 1, are less certain.

    Args:
        levels: ``(n,)`` level pixels per image pixel.
        mask_cell: Side of a mask cell in level pixels.
    """
    return np.asarray(mask_cell / 2 / np.sqrt(3) / levels, np.float64)


def measurement_sds(outline: Floats, perimeters: Floats) -> dict[str, Floats]:
    """Return the standard deviations that follow if the outline as a whole lies inside or outside of the true one.

    Moved outwards by e everywhere, a shape gains e at either end and side, perimeter times e in area, and 2πe in
    perimeter (Steiner's formula).

    Args:
        outline: ``(n,)`` from ``outline_sd``.
        perimeters: ``(n,)`` in pixels.
    """
    return {
        "length_px": 2 * outline,
        "width_px": 2 * outline,
        "feret_max_px": 2 * outline,
        "feret_min_px": 2 * outline,
        "area_px2": perimeters * outline,
        "perimeter_px": 2 * np.pi * outline,
    }


def scaled_sd(value: Floats, sd: Floats, mm_per_px: float, relative_sd: float, power: int) -> Floats:
    """Return the standard deviation in mm, or mm² for power 2, of a value in pixels whose scale is uncertain too."""
    return np.asarray(mm_per_px**power * np.hypot(sd, power * relative_sd * value), np.float64)
