"""How uncertain a measurement is: where an outline lies, how well it is drawn, and how large a pixel is."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MASK_CELL = 4.0
"""Side of a cell of the masks that networks draw, in pixels of the level that an animal is seen on."""
DRAWN_SD = {"length_px": 0.08, "width_px": 0.08, "feret_max_px": 0.08, "feret_min_px": 0.08, "perimeter_px": 0.1}
"""Share of a size by which it is off because networks leave out legs and ends, or draw more than there is.

Found by ``benchmarks/outline_uncertainty.py``; areas are hardly changed by it.
"""


def outline_sd(levels: Floats, mask_cell: float = MASK_CELL) -> Floats:
    """Return the standard deviation of the place of each outline, in image pixels.

    An outline lies at most half a mask cell off, inwards or outwards, and anywhere between is as likely. So animals
    that were seen on a coarse level, a scale below 1, are less certain.

    Args:
        levels: ``(n,)`` level pixels per image pixel.
        mask_cell: Side of a mask cell in level pixels.
    """
    return np.asarray(mask_cell / 2 / np.sqrt(3) / levels, np.float64)


def measurement_sds(outline: Floats, sizes: Mapping[str, Floats]) -> dict[str, Floats]:
    """Return the standard deviation of each size, of an outline that may lie off and may be drawn wrong.

    If it lies outside of the true one by e everywhere, a shape gains e at either end and side, perimeter times e in
    area, and 2πe in perimeter (Steiner's formula). What is drawn wrong grows with the size.

    Args:
        outline: ``(n,)`` from ``outline_sd``.
        sizes: ``(n,)`` each, by their names with ``px``, perimeters among them.
    """
    moved = {
        "length_px": 2 * outline,
        "width_px": 2 * outline,
        "feret_max_px": 2 * outline,
        "feret_min_px": 2 * outline,
        "area_px2": sizes["perimeter_px"] * outline,
        "perimeter_px": 2 * np.pi * outline,
    }
    return {name: np.hypot(moved[name], DRAWN_SD.get(name, 0.0) * size) for name, size in sizes.items()}


def scaled_sd(value: Floats, sd: Floats, mm_per_px: float, relative_sd: float, power: int) -> Floats:
    """Return the standard deviation in mm, or mm² for power 2, of a value in pixels whose scale is uncertain too."""
    return np.asarray(mm_per_px**power * np.hypot(sd, power * relative_sd * value), np.float64)
