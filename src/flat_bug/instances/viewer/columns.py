"""What the viewer tells about each animal: the columns of its table."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.instances.table import Instances

UNITS = {"px": "px", "px2": "px²", "mm": "mm", "mm2": "mm²"}
"""Last part of a column's name, and the unit that it stands for."""
TAKEN = ("score", "level", "box_width_px", "box_height_px", "area_px2", "area_mm2")


@dataclass(frozen=True)
class Column:
    """A number for each animal.

    Attributes:
        key: Name in files: ``length_mm``.
        label: Name for people: ``Length``.
        unit: ``mm``, ``px²``, or nothing.
        values: ``(n,)``; not a number where it is not known.
    """

    key: str
    label: str
    unit: str
    values: npt.NDArray[np.float64]

    def as_mapping(self) -> dict[str, Any]:
        """Return the column for the page, with seven digits of each value and None for what is not known."""
        values = [float(f"{value:.7g}") if np.isfinite(value) else None for value in self.values.tolist()]
        return {"key": self.key, "label": self.label, "unit": self.unit, "values": values}


def columns_of(table: Instances, measurements: Mapping[str, npt.ArrayLike] | None = None) -> list[Column]:
    """Return the columns: what every table has, and behind it every measurement that is a number.

    Args:
        table: The animals.
        measurements: Names with their unit at the end (``length_px``, ``width_mm``) and a value for each animal; what
            is no number is left out.
    """
    sides = table.boxes[:, 2:] - table.boxes[:, :2]
    areas = {"area_px2": table.areas}
    known = {} if table.mm_per_px is None else {"area_mm2": table.areas * table.mm_per_px**2}
    further = {name: values for name, values in (measurements or {}).items() if name not in TAKEN}
    last = {"box_width_px": sides[:, 0], "box_height_px": sides[:, 1], "level": table.levels}
    # Where the scale is known, pixels are of less interest.
    order = known | further | areas if known else areas | further
    columns = [_column(name, values) for name, values in ({"score": table.scores} | order | last).items()]
    return [column for column in columns if column is not None and len(column.values) == len(table)]


def _column(name: str, values: npt.ArrayLike) -> Column | None:
    try:
        numbers = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return None
    if numbers.ndim != 1:
        return None
    words, _, last = name.rpartition("_")
    unit = UNITS.get(last, "") if words else ""
    label = (words if unit else name).replace("_", " ")
    return Column(name, label[:1].upper() + label[1:], unit, numbers)
