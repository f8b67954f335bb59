"""What an outline tells by itself: sizes, diameters, position and direction, for all instances at once."""

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Geometries = npt.NDArray[np.object_]


def perimeters(polygons: Geometries) -> Floats:
    """Return the length of each outline in pixels: of all its parts and of the rims of its holes."""
    return np.asarray(shapely.length(polygons), np.float64)


def solidities(polygons: Geometries) -> Floats:
    """Return the area of each outline over that of its convex hull: 1 is convex; not a number without an area."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(shapely.area(polygons) / shapely.area(shapely.convex_hull(polygons)), np.float64)


def centroids(polygons: Geometries) -> Floats:
    """Return the centre of the area of each outline, ``(n, 2)``; not a number without an area."""
    centres = shapely.centroid(polygons)
    found = np.full((len(polygons), 2), np.nan)
    found[~shapely.is_empty(centres)] = shapely.get_coordinates(centres)
    return found


def orientations(polygons: Geometries) -> Floats:
    """Return the direction of the longest spread of each area, in degrees.

    0 is along x, 90 along y, which points down; from -90 (left out) to 90. Not a number without an area.
    """
    middle = np.nan_to_num(centroids(polygons))
    parts, rows = shapely.get_parts(polygons, return_index=True)
    oriented = shapely.orient_polygons(parts)
    rings, ring_parts = shapely.get_rings(oriented, return_index=True)
    points, ring = shapely.get_coordinates(rings, return_index=True)
    points = points - middle[rows[ring_parts[ring]]]
    edge = np.flatnonzero(ring[1:] == ring[:-1])
    (x0, y0), (x1, y1) = points[edge].T, points[edge + 1].T
    cross = x0 * y1 - x1 * y0
    owner = rows[ring_parts[ring[edge]]]
    # Second moments of an area by Green's theorem, with the factors that do not change the direction left out.
    xx = np.bincount(owner, cross * (x0**2 + x0 * x1 + x1**2), len(polygons))
    yy = np.bincount(owner, cross * (y0**2 + y0 * y1 + y1**2), len(polygons))
    xy = np.bincount(owner, cross * (x0 * y1 + 2 * x0 * y0 + 2 * x1 * y1 + x1 * y0), len(polygons)) / 2
    angles = np.degrees(np.arctan2(2 * xy, xx - yy)) / 2
    return np.where(shapely.area(polygons) > 0, angles, np.nan)


def feret_diameters(polygons: Geometries) -> tuple[Floats, Floats]:
    """Return the greatest and the least distance of two parallel lines that hold each outline between them.

    What calipers would measure, legs and antennae included. Not a number where there is no outline. Calipers are turned
    around the convex hull: one jaw lies along a side, the other one touches the corner opposite.
    """
    greatest, least = np.full(len(polygons), np.nan), np.full(len(polygons), np.nan)
    hulls = shapely.convex_hull(polygons)
    rows = np.flatnonzero(shapely.area(hulls) > 0)
    points, ring = shapely.get_coordinates(shapely.orient_polygons(hulls[rows]), return_index=True)
    here = np.flatnonzero(ring[1:] == ring[:-1])
    owner, corners, sides = ring[here], points[here], points[here + 1] - points[here]
    first = np.searchsorted(owner, np.arange(len(rows)))
    count = np.bincount(owner, minlength=len(rows))
    opposite = _opposite(sides, owner, first)
    following = _around(np.arange(len(here)) + 1, owner, first, count)
    normals = np.stack([-sides[:, 1], sides[:, 0]], axis=1) / np.hypot(*sides.T)[:, None]
    # Where two sides are parallel either end of the opposite one may be met.
    spans, reaches = np.zeros(len(here)), np.zeros(len(here))
    for step in (-1, 0, 1):
        other = corners[_around(opposite + step, owner, first, count)]
        spans = np.maximum(spans, ((other - corners) * normals).sum(axis=1))
        for end in (corners, corners[following]):
            reaches = np.maximum(reaches, np.hypot(*(other - end).T))
    if len(rows):
        greatest[rows], least[rows] = np.maximum.reduceat(reaches, first), np.minimum.reduceat(spans, first)
    return greatest, least


def _opposite(sides: Floats, owner: Integers, first: Integers) -> Integers:
    """Return the corner opposite to each side of convex rings that turn left: where sides have turned by 180°."""
    before = sides[np.maximum(np.arange(len(sides)) - 1, 0)]
    turns = np.arctan2(before[:, 0] * sides[:, 1] - before[:, 1] * sides[:, 0], (before * sides).sum(axis=1))
    turns[first] = 0
    angles = np.cumsum(turns)
    angles -= angles[first][owner]
    # Each ring has a stretch of numbers of its own, longer than a turn.
    wanted = np.mod(angles + np.pi, 2 * np.pi)
    return np.asarray(np.searchsorted(angles + owner * 4 * np.pi, wanted + owner * 4 * np.pi), np.int64)


def _around(corners: Integers, owner: Integers, first: Integers, count: Integers) -> Integers:
    """Return numbers of corners that went beyond the end of their ring, counted on from its beginning."""
    start = first[owner]
    return np.asarray(start + np.mod(corners - start, count[owner]), np.int64)
