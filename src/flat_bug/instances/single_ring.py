"""One ring around all parts of an outline, for formats that have no more than that."""

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial import cKDTree

Floats = npt.NDArray[np.float64]


def single_ring(geometry: shapely.Polygon | shapely.MultiPolygon) -> Floats:
    """Return one open ring, ``(k, 2)``, that encloses all parts of an outline.

    Parts are joined, always the nearest next, by bridges of no width
    between their nearest vertices; both sides of a bridge are the same line, so the ring encloses the area of the parts
    and no more. Holes are filled.
    """
    # All parts turn the same way; otherwise their areas would cancel out.
    parts = shapely.orient_polygons(shapely.get_parts(geometry))
    rings = [shapely.get_coordinates(part.exterior)[:-1] for part in parts]
    joined: Floats = rings.pop(0)
    while rings:
        ends = np.cumsum([len(ring) for ring in rings])
        distances, nearest = cKDTree(joined).query(np.concatenate(rings))
        vertex = int(distances.argmin())
        chosen = int(np.searchsorted(ends, vertex, side="right"))
        ring = rings.pop(chosen)
        there = vertex - int(ends[chosen]) + len(ring)
        here = int(nearest[vertex])
        detour = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], detour, joined[here:]])
    return joined
