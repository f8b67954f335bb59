"""The body of an animal as one outline: its parts joined, glints in it filled."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

GLINT = 0.1
"""A hole that is smaller than this share of its part is a reflection in the mask and no shape of the animal."""
PART = 0.1
"""A part that is smaller than this share of the largest one is the end of a leg, or a speck, and not body."""
BRIDGE = 0.05
"""Half the width of what joins two parts, as a share of the root of the largest part's area."""

Geometries = npt.NDArray[np.object_]


def bodies(polygons: Geometries) -> Geometries:
    """Return the outline in which length and width are measured, a ``Polygon`` for each instance.

    Masks come apart at a thin waist, so parts are joined where they are nearest; and a shining back leaves holes in
    them, so small holes are filled. Area and perimeter are measured in the outline as it is.

    Args:
        polygons: ``(n,)`` of ``Polygon`` or ``MultiPolygon``, valid or empty.
    """
    found = np.asarray(polygons, object).copy()
    counts = shapely.get_num_geometries(found)
    simple = (shapely.get_type_id(found) == shapely.GeometryType.POLYGON) & (shapely.get_num_interior_rings(found) == 0)
    for row in np.flatnonzero(~simple & (counts > 0)):
        found[row] = _body(found[row])
    return found


def _body(polygon: Any) -> Any:
    parts = shapely.get_parts(polygon)
    parts = np.array([_without_glints(part) for part in parts[~shapely.is_empty(parts)]], object)
    if len(parts) == 0:
        return shapely.Polygon()
    areas = shapely.area(parts)
    parts = parts[np.argsort(-areas)][: int((areas >= PART * areas.max()).sum())]
    return _joined(parts)


def _without_glints(part: Any) -> Any:
    holes = shapely.polygons(part.interiors) if len(part.interiors) else np.empty(0, object)
    outside = shapely.Polygon(part.exterior)
    large = shapely.area(holes) >= GLINT * outside.area
    return shapely.Polygon(part.exterior, [hole.exterior for hole in holes[large]])


def _joined(parts: Geometries) -> Any:
    """Return parts, the largest one first, as one polygon: each in turn is tied to what it is nearest to."""
    body, waiting = parts[0], parts[1:]
    width = BRIDGE * np.sqrt(body.area)
    while len(waiting):
        nearest = int(np.argmin(shapely.distance(body, waiting)))
        bridge = shapely.shortest_line(body, waiting[nearest]).buffer(width)
        body = shapely.union_all([body, waiting[nearest], bridge])
        waiting = np.delete(waiting, nearest)
    if body.geom_type == "Polygon":
        return body
    whole = shapely.get_parts(body)
    return whole[np.argmax(shapely.area(whole))]
