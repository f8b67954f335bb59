"""The outlines of COCO annotations as shapely geometries, all annotations of a file at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.datasets.rle import rle_polygon

Floats = npt.NDArray[np.float64]
Geometries = npt.NDArray[np.object_]

FARTHEST = 1e9
"""No coordinate is farther out than this, in pixels; NaN is not either."""


class OutlineError(ValueError):
    """An annotation has an impossible outline; ``row`` says which."""

    def __init__(self, what: str, row: int) -> None:
        super().__init__(what)
        self.row = row


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of annotations, a row each.

    Attributes:
        polygons: ``(n,)`` valid Polygon or MultiPolygon; empty where there is no area.
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        box_only: ``(n,)`` whether the polygon is only the box.
        repaired: ``(n,)`` whether a ring crossed or touched itself.
    """

    polygons: Geometries
    boxes: Floats
    box_only: npt.NDArray[np.bool_]
    repaired: npt.NDArray[np.bool_]


def read_outlines(annotations: list[dict[str, Any]]) -> Outlines:
    """Return the outlines of COCO annotations.

    Raises:
        OutlineError: An outline or box has odd, too few, infinite or other impossible coordinates.
    """
    boxes, has_box = _boxes(annotations)
    box_only = np.array([entry.get("segmentation") in (None, [], [[]]) for entry in annotations], np.bool_)
    unknown = np.flatnonzero(box_only & ~has_box)
    if len(unknown):
        raise OutlineError("it has neither an outline (segmentation) nor a box (bbox)", int(unknown[0]))
    polygons = np.full(len(annotations), None, object)
    polygons[box_only] = shapely.box(*boxes[box_only].T)
    rings: list[list[float]] = []
    owners: list[int] = []
    for row in np.flatnonzero(~box_only).tolist():
        segmentation = annotations[row]["segmentation"]
        if isinstance(segmentation, dict):
            polygons[row] = _from_runs(segmentation, row)
        else:
            rings.extend(_checked_rings(segmentation, row))
            owners.extend([row] * (len(rings) - len(owners)))
    repaired = np.zeros(len(annotations), np.bool_)
    if rings:
        drawn, polygons[drawn], repaired[drawn] = _from_rings(rings, np.array(owners, np.intp))
    # The box of an outline without area is lost when that is made valid, so it is taken before.
    boxes = np.where(has_box[:, None], boxes, shapely.bounds(polygons).reshape(-1, 4))
    polygons = _valid(polygons)
    return Outlines(polygons, boxes, box_only | _marked(annotations), repaired & ~shapely.is_empty(polygons))


def _marked(annotations: list[dict[str, Any]]) -> npt.NDArray[np.bool_]:
    return np.array([entry.get("box_only") is True for entry in annotations], np.bool_)


def _boxes(annotations: list[dict[str, Any]]) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the boxes as corners, zeros where there is none, and where there is one."""
    boxes = np.zeros((len(annotations), 4))
    present = np.zeros(len(annotations), np.bool_)
    for row, entry in enumerate(annotations):
        box = entry.get("bbox")
        if box is None or box == []:
            continue
        if not isinstance(box, list) or len(box) != 4 or not _all_numbers(box):
            raise OutlineError(f"the bbox is {box!r}, not [x, y, width, height]", row)
        if not all(abs(value) <= FARTHEST for value in box) or min(box[2:]) < 0:
            raise OutlineError(f"the bbox {box} has an impossible position or a negative side", row)
        boxes[row] = box
        present[row] = True
    boxes[:, 2:] += boxes[:, :2]
    return boxes, present


def _checked_rings(segmentation: Any, row: int) -> list[list[float]]:
    if not isinstance(segmentation, list) or not all(isinstance(ring, list) for ring in segmentation):
        raise OutlineError("the outline is neither a list of rings nor a run-length mask", row)
    for ring in segmentation:
        if len(ring) % 2:
            raise OutlineError(f"a ring has {len(ring)} coordinates, an odd number", row)
        if len(ring) // 2 - (ring[:2] == ring[-2:]) < 3:
            raise OutlineError(f"a ring has {len(ring) // 2} points, too few for an outline", row)
    return segmentation


def _from_runs(segmentation: dict[str, Any], row: int) -> shapely.Geometry:
    try:
        return rle_polygon(segmentation)
    except ValueError as error:
        raise OutlineError(str(error), row) from error


def _from_rings(
    rings: list[list[float]], owners: npt.NDArray[np.intp]
) -> tuple[npt.NDArray[np.intp], Geometries, npt.NDArray[np.bool_]]:
    """Return the rows that own rings, a geometry for each, and whether one of its rings crosses or touches itself.

    Args:
        rings: x, y, x, y… of each ring.
        owners: The row that each ring belongs to, in ascending order.
    """
    sizes = np.array([len(ring) // 2 for ring in rings])
    coordinates = _coordinates(rings, owners).reshape(-1, 2)
    parts = shapely.polygons(shapely.linearrings(coordinates, indices=np.repeat(np.arange(len(rings)), sizes)))
    rows, place, counts = np.unique(owners, return_inverse=True, return_counts=True)
    broken = np.bincount(place, weights=~shapely.is_valid(parts)) > 0
    geometries = np.empty(len(rows), object)
    single = counts[place] == 1
    geometries[place[single]] = parts[single]
    several = np.flatnonzero(counts > 1)
    if len(several):
        geometries[several] = shapely.multipolygons(parts[~single], indices=np.searchsorted(several, place[~single]))
    return rows, geometries, broken


def _valid(polygons: Geometries) -> Geometries:
    """Return the polygons with crossing rings taken apart and overlapping parts joined."""
    broken = ~shapely.is_valid(polygons)
    # "structure" joins the loops of a ring that crosses itself; "linework" would make holes of overlapping ones.
    polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    return polygons


def _coordinates(rings: list[list[float]], owners: npt.NDArray[np.intp]) -> Floats:
    if not _all_numbers(chain.from_iterable(rings)):
        row = next(row for ring, row in zip(rings, owners.tolist(), strict=True) if not _all_numbers(ring))
        raise OutlineError("a coordinate is not a number", row)
    try:
        values = np.fromiter(chain.from_iterable(rings), np.float64)
    except OverflowError as error:
        row = next(row for ring, row in zip(rings, owners.tolist(), strict=True) if max(map(abs, ring)) > FARTHEST)
        raise OutlineError("the outline has a coordinate beyond any image", row) from error
    impossible = np.flatnonzero(~(np.abs(values) <= FARTHEST))
    if len(impossible):
        ends = np.cumsum([len(ring) for ring in rings])
        row = int(owners[np.searchsorted(ends, impossible[0], side="right")])
        raise OutlineError(f"the outline has the coordinate {values[impossible[0]]}", row)
    return values


def _all_numbers(values: Iterable[Any]) -> bool:
    # numpy would take text for numbers, and null for NaN.
    return set(map(type, values)) <= {int, float}
