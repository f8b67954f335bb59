"""How much of each pixel a polygon covers: exact areas, without samples, for any rectangle of the image."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import shapely

Coverage = npt.NDArray[np.float32]

CELLS_AT_ONCE = 1 << 22
"""Size of a strip in pixels; working in floating point on more would cost memory and no less time."""


def coverage(polygon: shapely.Geometry, x: int, y: int, width: int, height: int) -> Coverage:
    """Return the share of each pixel of a rectangle that lies inside a polygon.

    Each edge is cut where it crosses pixel borders. A piece then lies in one pixel, covers a trapezoid of it, and all
    of the row to its right; a running sum along the rows adds the pieces up (Green's theorem). The result is exact,
    whatever the size of the polygon, and its sum is the polygon's area.

    Args:
        polygon: A valid ``Polygon`` or ``MultiPolygon`` in image pixels; holes are not covered.
        x: Left side of the rectangle.
        y: Upper side of the rectangle.
        width: Columns.
        height: Rows.

    Returns:
        ``float32 (height, width)`` between 0 and 1.
    """
    starts, ends = _edges(polygon)
    starts, ends = _cut(starts - (x, y), ends - (x, y), width, height)
    middle = (starts + ends) / 2
    row = np.floor(middle[:, 1]).astype(np.int64)
    column = np.floor(np.clip(middle[:, 0], 0, width)).astype(np.int64)
    inside = (row >= 0) & (row < height)
    row, column, middle = row[inside], column[inside], middle[inside]
    rise = (ends - starts)[inside, 1]
    # What lies left of the rectangle covers its rows whole; what lies right of it ends in the two spare columns.
    share = np.clip(middle[:, 0] - column, 0, 1)
    cells = row * (width + 2) + column
    sums = np.bincount(cells, rise * (1 - share), minlength=height * (width + 2))
    sums += np.bincount(cells + 1, rise * share, minlength=height * (width + 2))
    covered = np.cumsum(sums.reshape(height, width + 2), axis=1)[:, :width]
    return np.clip(covered, 0, 1).astype(np.float32)


def alpha(polygon: shapely.Geometry, x: int, y: int, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return ``coverage`` as ``uint8 (height, width)`` from 0 to 255, made in strips so that memory stays bounded."""
    result = np.empty((height, width), np.uint8)
    for top, rows in strips(width, height):
        result[top : top + rows] = np.rint(coverage(polygon, x, y + top, width, rows) * 255)
    return result


def half_covered(polygon: shapely.Geometry, x: int, y: int, width: int, height: int) -> npt.NDArray[np.bool_]:
    """Return which pixels are at least half covered, ``bool (height, width)``, made in strips as ``alpha`` is."""
    result = np.empty((height, width), np.bool_)
    for top, rows in strips(width, height):
        result[top : top + rows] = coverage(polygon, x, y + top, width, rows) >= 0.5
    return result


def pixel_bounds(polygon: shapely.Geometry, width: int, height: int) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 in whole pixels of what an image of some size shows of a polygon."""
    low_x, low_y, high_x, high_y = shapely.bounds(polygon)
    return (
        int(np.clip(np.floor(low_x), 0, width)),
        int(np.clip(np.floor(low_y), 0, height)),
        int(np.clip(np.ceil(high_x), 0, width)),
        int(np.clip(np.ceil(high_y), 0, height)),
    )


def strips(width: int, height: int) -> Iterator[tuple[int, int]]:
    """Yield the first row and the number of rows of each strip that a rectangle is worked through in."""
    rows = max(1, CELLS_AT_ONCE // max(width, 1))
    for top in range(0, height, rows):
        yield top, min(rows, height - top)


def _edges(polygon: shapely.Geometry) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the ends of all edges, ``(n, 2)`` each, turned so that left sides run down and right sides run up."""
    oriented = shapely.orient_polygons(shapely.get_parts(polygon), exterior_cw=True)
    coordinates, ring = shapely.get_coordinates(shapely.get_rings(oriented), return_index=True)
    same_ring = ring[1:] == ring[:-1]
    return coordinates[:-1][same_ring], coordinates[1:][same_ring]


def _cut(
    starts: npt.NDArray[np.float64], ends: npt.NDArray[np.float64], width: int, height: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Cut edges at the pixel borders of a rectangle at the origin, so that each piece lies in one pixel."""
    count = len(starts)
    where = [np.zeros(count), np.ones(count)]
    edges = [np.arange(count), np.arange(count)]
    for axis, last in ((0, width), (1, height)):
        low = np.minimum(starts[:, axis], ends[:, axis])
        high = np.maximum(starts[:, axis], ends[:, axis])
        first = np.ceil(np.clip(low, 0, last + 1)).astype(np.int64)
        number = np.maximum(np.floor(np.clip(high, -1, last)).astype(np.int64) - first + 1, 0)
        edge = np.repeat(np.arange(count), number)
        border = np.arange(len(edge)) - np.repeat(np.cumsum(number) - number, number) + first[edge]
        length = (ends - starts)[edge, axis]
        # An edge that runs along a border is not cut by it.
        crossing = length != 0
        edges.append(edge[crossing])
        where.append(np.clip((border - starts[edge, axis])[crossing] / length[crossing], 0, 1))
    edge = np.concatenate(edges)
    share = np.concatenate(where)
    order = np.lexsort((share, edge))
    edge, share = edge[order], share[order]
    points = starts[edge] + share[:, None] * (ends - starts)[edge]
    same_edge = edge[1:] == edge[:-1]
    return points[:-1][same_edge], points[1:][same_edge]
