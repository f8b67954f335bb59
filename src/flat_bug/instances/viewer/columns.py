"""What the viewer tells about each animal: the columns of its table."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.instances.table import Instances

UNITS = {"px": "px", "px2": "px²", "mm": "mm", "mm2": "mm²"}
"""Last part of a column's name, and the unit that it stands for."""
DEVIATION = "_sd"
"""Last part of the name of a column with the standard deviations of another one."""
TAKEN = ("score", "level", "box_width_px", "box_height_px", "area_px2", "area_mm2")


@dataclass(frozen=True)
class Column:
    """A number for each animal.

    Attributes:
        key: Name in files: ``length_mm``.
        label: Name for people: ``Length``.
        unit: ``mm``, ``px²``, or nothing.
        values: ``(n,)``; not a number where it is not known.
        deviations: ``(n,)`` standard deviation of each value, where that is known.
    """

    key: str
    label: str
    unit: str
    values: npt.NDArray[np.float64]
    deviations: npt.NDArray[np.float64] | None = None

    def as_mapping(self) -> dict[str, Any]:
        """Return the column for the page, with seven digits of each value and None for what is not known."""
        deviations = None if self.deviations is None else _seven_digits(self.deviations)
        values = {"values": _seven_digits(self.values), "deviations": deviations}
        return {"key": self.key, "label": self.label, "unit": self.unit, **values}


def columns_of(table: Instances, measurements: Mapping[str, npt.ArrayLike] | None = None) -> list[Column]:
    """Return the columns: what every table has, and behind it every measurement that is a number.

    Args:
        table: The animals.
        measurements: Names with their unit at the end (``length_px``, ``width_mm``) and a value for each animal; what
            is no number is left out. ``length_px_sd`` is the standard deviation of ``length_px``.
    """
    sides = table.boxes[:, 2:] - table.boxes[:, :2]
    areas = {"area_px2": table.areas}
    known = {} if table.mm_per_px is None else {"area_mm2": table.areas * table.mm_per_px**2}
    further = {name: values for name, values in (measurements or {}).items() if name not in TAKEN}
    last = {"box_width_px": sides[:, 0], "box_height_px": sides[:, 1], "level": table.levels}
    # Where the scale is known, pixels are of less interest.
    order = known | further | areas if known else areas | further
    named = {"score": table.scores} | order | last
    columns = {name: column for name, values in named.items() if (column := _column(name, values, len(table)))}
    return [
        replace(column, deviations=columns[name + DEVIATION].values) if name + DEVIATION in columns else column
        for name, column in columns.items()
        if name.removesuffix(DEVIATION) == name or name.removesuffix(DEVIATION) not in columns
    ]


def _seven_digits(values: npt.NDArray[np.float64]) -> list[float | None]:
    return [float(f"{value:.7g}") if np.isfinite(value) else None for value in values.tolist()]


def _column(name: str, values: npt.ArrayLike, count: int) -> Column | None:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    if numbers.shape != (count,):
        return None
    words, _, last = name.rpartition("_")
    unit = UNITS.get(last, "") if words else ""
    label = (words if unit else name).replace("_", " ")
    return Column(name, label[:1].upper() + label[1:], unit, numbers)
