"""All measurements of the animals of one image, as columns: in pixels, and in millimetres where the scale is known."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.measurement import shape
from flat_bug.measurement.body import bodies
from flat_bug.measurement.colour import NAMES as COLOURS
from flat_bug.measurement.colour import mean_colours
from flat_bug.measurement.midline import extents
from flat_bug.measurement.scale import Scale
from flat_bug.measurement.uncertainty import measurement_sds, outline_sd, scaled_sd

Floats = npt.NDArray[np.float64]
Columns = dict[str, Floats]

UNITS = {"px": ("mm", 1), "px2": ("mm2", 2)}
"""End of a name in pixels → that in millimetres, and the power of the scale between them."""


def measured(table: Instances, pixels: Pixels | None = None, scale: Scale | None = None) -> Instances:
    """Return a table with its measurements.

    Args:
        table: The animals.
        pixels: Their image, for the mean colours; without it these are not known.
        scale: Size of a pixel, if that is known.

    Raises:
        ImageError: The image is damaged where an animal is.
    """
    columns = _in_pixels(table)
    colours = dict.fromkeys(COLOURS, np.full(len(table), np.nan)) if pixels is None else mean_colours(table, pixels)
    return with_scale(replace(table, measurements=columns | _form(table, columns) | colours), scale)


def with_scale(table: Instances, scale: Scale | None) -> Instances:
    """Return a table that was measured with its millimetres made anew, or left out where there is no scale."""
    in_pixels = {name: values for name, values in table.measurements.items() if not _is_scaled(name)}
    if scale is None:
        return replace(table, mm_per_px=None, mm_per_px_relative_sd=0.0, measurements=in_pixels)
    columns = _in_millimetres(in_pixels, scale) | in_pixels
    return replace(table, mm_per_px=scale.mm_per_px, mm_per_px_relative_sd=scale.relative_sd, measurements=columns)


def scale_of(table: Instances) -> Scale | None:
    """Return the scale that a table was measured with."""
    return None if table.mm_per_px is None else Scale(table.mm_per_px, table.mm_per_px_relative_sd)


def _in_pixels(table: Instances) -> Columns:
    """Return sizes with their standard deviations behind them."""
    extent = extents(bodies(table.polygons))
    greatest, least = shape.feret_diameters(table.polygons)
    sizes = {
        "length_px": extent.length,
        "width_px": extent.width,
        "feret_max_px": greatest,
        "feret_min_px": least,
        "area_px2": table.areas,
        "perimeter_px": shape.perimeters(table.polygons),
    }
    sds = measurement_sds(outline_sd(table.levels), sizes)
    return {key: column for name, size in sizes.items() for key, column in ((name, size), (f"{name}_sd", sds[name]))}


def _form(table: Instances, columns: Columns) -> Columns:
    """Return what has no scale: position, direction and form."""
    centres = shape.centroids(table.polygons)
    with np.errstate(invalid="ignore", divide="ignore"):
        elongation = columns["length_px"] / columns["width_px"]
    return {
        "centroid_x": centres[:, 0],
        "centroid_y": centres[:, 1],
        "orientation_deg": shape.orientations(table.polygons),
        "elongation": elongation,
        "solidity": shape.solidities(table.polygons),
    }


def _in_millimetres(columns: Mapping[str, Floats], scale: Scale) -> Columns:
    found: Columns = {}
    for name, values in columns.items():
        words, _, unit = name.rpartition("_")
        if unit in UNITS and f"{name}_sd" in columns:
            other, power = UNITS[unit]
            found[f"{words}_{other}"] = values * scale.mm_per_px**power
            sd = scaled_sd(values, columns[f"{name}_sd"], scale.mm_per_px, scale.relative_sd, power)
            found[f"{words}_{other}_sd"] = sd
    return found


def _is_scaled(name: str) -> bool:
    return name.removesuffix("_sd").endswith(("_mm", "_mm2"))
