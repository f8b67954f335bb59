"""Outlines as YOLO label rows: one ring for each animal, in fractions of the image's sides."""

import numpy as np
import numpy.typing as npt
import shapely
from scipy.spatial.distance import cdist

Floats = npt.NDArray[np.float64]


def label_text(polygons: npt.NDArray[np.object_], width: int, height: int) -> str:
    """Return the content of a label file: a line ``0 x y x y …`` for each outline.

    Args:
        polygons: ``(n,)`` Polygon or MultiPolygon with an area, inside the image.
        width: Image width in pixels.
        height: Image height in pixels.
    """
    return "".join(_row(single_ring(polygon) / (width, height)) for polygon in polygons)


def single_ring(geometry: shapely.Polygon | shapely.MultiPolygon) -> Floats:
    """Return one open ring, ``(k, 2)``, that encloses all parts of an outline.

    YOLO labels have one ring for each instance. Parts are joined, largest first, by bridges of no width between their
    nearest vertices; both sides of a bridge are the same line, so the ring encloses the area of the parts and no more.
    Holes are filled.
    """
    parts = sorted(shapely.get_parts(geometry), key=shapely.area, reverse=True)
    # All parts turn the same way; otherwise their areas would cancel out.
    rings = [shapely.get_coordinates(shapely.orient_polygons(part).exterior)[:-1] for part in parts]
    joined: Floats = rings[0]
    for ring in rings[1:]:
        distances = cdist(joined, ring)
        here, there = np.unravel_index(int(distances.argmin()), distances.shape)
        detour = np.concatenate([ring[there:], ring[: there + 1]])
        joined = np.concatenate([joined[: here + 1], detour, joined[here:]])
    return joined


def _row(ring: Floats) -> str:
    # Nine digits keep a thousandth of a pixel in images far larger than any scanner makes.
    return "0 " + " ".join([f"{value:.9g}" for value in ring.ravel().tolist()]) + "\n"
