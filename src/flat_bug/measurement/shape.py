"""What an outline tells by itself: sizes, diameters, position and direction, for all instances at once."""

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]
Geometries = npt.NDArray[np.object_]

FINENESS = 1e-5
"""Corners of a hull that matter less than this share of its size are left out of the search for diameters."""


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

    What calipers would measure, legs and antennae included. Not a number where there is no outline.
    """
    hulls = shapely.convex_hull(polygons)
    sizes = np.nan_to_num(np.sqrt(shapely.area(hulls)))
    hulls = shapely.simplify(hulls, FINENESS * sizes)
    points, row = shapely.get_coordinates(hulls, return_index=True)
    first = np.searchsorted(row, np.arange(len(polygons) + 1))
    greatest, least = np.full(len(polygons), np.nan), np.full(len(polygons), np.nan)
    for number in np.flatnonzero(np.diff(first) > 3):
        greatest[number], least[number] = _diameters(points[first[number] : first[number + 1]])
    return greatest, least


def _diameters(ring: Floats) -> tuple[float, float]:
    """Return the diameters of a convex ring; the least one is at right angles to a side of it."""
    sides = np.diff(ring, axis=0)
    normals = np.stack([-sides[:, 1], sides[:, 0]], axis=1) / np.hypot(*sides.T)[:, None]
    corners = ring[:-1]
    reach = corners @ normals.T
    spans = reach.max(axis=0) - reach.min(axis=0)
    apart = corners[:, None] - corners[None]
    return float(np.sqrt((apart**2).sum(axis=2).max())), float(spans.min())
