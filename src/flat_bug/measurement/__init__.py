"""Measures animals: length along the body, width, area, perimeter and colour, in pixels and millimetres."""

from flat_bug.measurement.measure import measured, scale_of, with_scale
from flat_bug.measurement.scale import Scale

__all__ = ["Scale", "measured", "scale_of", "with_scale"]
