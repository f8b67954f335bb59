"""How long a body is along its own, maybe bent, axis, and how wide: discs that fit into the outline, and their centres.

The centres of all discs that touch the outline in two places or more are the medial axis of a shape. A body is as long
as the way along that axis between two discs, and these two discs. The two are chosen so that the way is longest, but
only among discs at least ``LEG`` as large as the largest one, so that no leg, antenna or bristle is walked along; and a
way that leads into a corner, where discs shrink about as fast as the way grows, is not worth going.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import Delaunay

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Geometries = npt.NDArray[np.object_]

LEG = 0.4
"""What is narrower than this share of the widest place, at either end of a body, is no body."""
WORTH = 0.6
"""The way goes on as long as discs do not shrink faster than this per length; those in a right corner do by 0.71."""
DENSITY = 5
"""Points on the outline in the length of half its mean width."""
TIP = 3.0
"""A tip reaches at most so many radii beyond the centre of the last disc."""
BACK = 2
"""So many pieces of the way, each half of the largest radius long, tell which way an end points."""
ROUND = 0.2
"""A way that is shorter than this share of the radius has no direction."""
FEWEST, MOST = 24, 3000
"""Points on a ring."""
POINTS_AT_ONCE = 8000
"""Points of so many bodies are triangulated together: fewer calls, and the triangulation stays small."""
APART = 4.0
"""Bodies, scaled to 1, are laid out so far from each other that none is in the way of another's discs."""


@dataclass(frozen=True)
class Extent:
    """Length and width of bodies.

    Attributes:
        length: ``(n,)`` along the midline, in pixels; not a number where there is no outline.
        width: ``(n,)`` diameter of the largest disc in the outline.
    """

    length: Floats
    width: Floats


@dataclass(frozen=True)
class _Axis:
    """The medial axes of many bodies as one graph; a body's nodes are a stretch of it.

    Attributes:
        points: ``(m, 2)`` centres of discs, in pixels.
        radii: ``(m,)``.
        owners: ``(m,)`` ascending row of the body.
        graph: Lengths of the ways between neighbours, in pixels.
    """

    points: Floats
    radii: Floats
    owners: Integers
    graph: csr_array


def extents(bodies: Geometries) -> Extent:
    """Measure bodies.

    Args:
        bodies: ``(n,)`` of ``Polygon``, empty ones among them.
    """
    length, width = np.full(len(bodies), np.nan), np.full(len(bodies), np.nan)
    rows = np.flatnonzero(shapely.area(bodies) > 0)
    rings, ring_rows, counts = _rings(bodies[rows])
    shapely.prepare(bodies[rows])
    for chunk in _chunks(np.bincount(ring_rows, counts, len(rows))):
        inside = (ring_rows >= chunk.start) & (ring_rows < chunk.stop)
        mine = rows[chunk.start : chunk.stop]
        points, owners = _samples(rings[inside], ring_rows[inside] - chunk.start, counts[inside])
        length[mine], width[mine] = _measure(bodies[mine], points, owners)
    return Extent(length, width)


def _rings(bodies: Geometries) -> tuple[Geometries, Integers, Integers]:
    """Return all rings, the row of the body that each belongs to, and how many points to look at on it."""
    rings, rows = shapely.get_rings(bodies, return_index=True)
    half_width = 2 * shapely.area(bodies) / shapely.length(bodies)
    wanted = np.ceil(DENSITY * shapely.length(rings) / half_width[rows])
    return rings, rows, np.clip(wanted, FEWEST, MOST).astype(np.int64)


def _chunks(counts: npt.NDArray[Any]) -> Iterator[range]:
    """Yield stretches of bodies that have about ``POINTS_AT_ONCE`` points together, at least one body each."""
    start, total = 0, 0.0
    for row, count in enumerate(counts.tolist()):
        total += count
        if total >= POINTS_AT_ONCE:
            yield range(start, row + 1)
            start, total = row + 1, 0.0
    if start < len(counts):
        yield range(start, len(counts))


def _samples(rings: Geometries, rows: Integers, counts: Integers) -> tuple[Floats, Integers]:
    """Return points that are evenly spread along rings, ``(m, 2)``, and the row of each."""
    coordinates, ring = shapely.get_coordinates(rings, return_index=True)
    steps = np.hypot(*np.diff(coordinates, axis=0).T) * (ring[1:] == ring[:-1])
    along = np.concatenate([[0.0], np.cumsum(steps)])
    first = np.searchsorted(ring, np.arange(len(rings)))
    last = np.searchsorted(ring, np.arange(len(rings)), side="right") - 1
    number = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    # Halfway between ends, so that no point lies where one ring ends and the next begins.
    share = (number + 0.5) / np.repeat(counts, counts)
    at = np.repeat(along[first], counts) + share * np.repeat(along[last] - along[first], counts)
    points = np.stack([np.interp(at, along, coordinates[:, axis]) for axis in (0, 1)], axis=1)
    return points, np.repeat(rows, counts)


def _measure(bodies: Geometries, points: Floats, owners: Integers) -> tuple[Floats, Floats]:
    """Return the length and the width of a few bodies, from points on their outlines."""
    axis = _medial_axis(bodies, points, owners)
    largest = _best(axis.radii, axis.owners, len(bodies))
    # What is too thin for any disc to be found is its own axis.
    length, width, known = _longest(bodies), _narrowest(bodies), largest >= 0
    known[known] = axis.radii[largest[known]] > 0
    if not known.any():
        return length, width
    thick = axis.radii >= LEG * axis.radii[largest[axis.owners]]

    def farthest(starts: Integers) -> tuple[Integers, Floats, Integers]:
        away, before, _ = dijkstra(axis.graph, False, starts[known], return_predecessors=True, min_only=True)
        before = before.astype(np.int64)
        worth = np.where(thick & np.isfinite(away), WORTH * away + axis.radii, -1)
        return _best(worth, axis.owners, len(bodies)), away, before

    start, _, _ = farthest(largest)
    end, away, before = farthest(start)
    ways = _smooth_ways(axis, start[known], end[known], away, before, step=axis.radii[largest[known]] / 2)
    length[known] = ways.length + sum(_tips(bodies[known], *ends) for ends in ways.ends())
    width[known] = 2 * _largest_disc(bodies[known], ways, axis.points[largest[known]])
    return length, width


def _medial_axis(bodies: Geometries, points: Floats, owners: Integers) -> _Axis:
    """Return the centres of the discs that touch three of the points, and which of them are neighbours."""
    low, side = _frames(bodies)
    columns = int(np.ceil(np.sqrt(len(bodies))))
    slots = np.stack(np.divmod(np.arange(len(bodies)), columns), axis=1) * APART
    local = (points - low[owners]) / side[owners, None]
    triangles = Delaunay(local + slots[owners])
    corners = triangles.simplices
    owner = owners[corners[:, 0]]
    own = (owner[:, None] == owners[corners]).all(axis=1)
    centres, radii = _circles(local[corners])
    centres, radii = centres * side[owner, None] + low[owner], radii * side[owner]
    inside = own & np.isfinite(radii)
    inside[inside] = shapely.contains_xy(bodies[owner[inside]], *centres[inside].T)
    # A waist may be thinner than the points are apart: what lies in it leads on, though it holds no disc.
    passage = own & ~inside
    middles = points[corners[passage]].mean(axis=1)
    centres[passage], radii[passage] = middles, 0
    passage[passage] = shapely.contains_xy(bodies[owner[passage]], *middles.T)
    own = inside | passage
    order = np.flatnonzero(own)[np.argsort(owner[own], kind="stable")]
    number = np.full(len(own), -1)
    number[order] = np.arange(len(order))
    beside = np.where(triangles.neighbors[order] >= 0, number[triangles.neighbors[order]], -1)
    here, there = np.repeat(np.arange(len(order)), 3)[beside.ravel() >= 0], beside.ravel()[beside.ravel() >= 0]
    same = owner[order][here] == owner[order][there]
    here, there, centres = here[same], there[same], centres[order]
    # Discs on one spot are neighbours too, and a graph knows no way of no length.
    ways = np.maximum(np.hypot(*(centres[here] - centres[there]).T), 1e-12)
    return _Axis(centres, radii[order], owner[order], csr_array((ways, (here, there)), shape=(len(order),) * 2))


def _frames(bodies: Geometries) -> tuple[Floats, Floats]:
    bounds = shapely.bounds(bodies)
    return bounds[:, :2], (bounds[:, 2:] - bounds[:, :2]).max(axis=1)


def _circles(corners: Floats) -> tuple[Floats, Floats]:
    """Return centre ``(m, 2)`` and radius of the circle through the corners ``(m, 3, 2)`` of each triangle."""
    (bx, by), (cx, cy) = (corners[:, 1] - corners[:, 0]).T, (corners[:, 2] - corners[:, 0]).T
    b, c, double = bx**2 + by**2, cx**2 + cy**2, 2 * (bx * cy - by * cx)
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = np.stack([(cy * b - by * c) / double, (bx * c - cx * b) / double], axis=1)
    return corners[:, 0] + offset, np.hypot(*offset.T)


def _best(values: Floats, owners: Integers, count: int) -> Integers:
    """Return the node of the largest value of each owner, -1 for those without a node."""
    order = np.lexsort((values, owners))
    found = np.full(count, -1, np.int64)
    found[owners[order]] = order  # the last one of an owner stays
    return found


@dataclass(frozen=True)
class _Ways:
    """Smooth lines, one for each body, as stretches of points.

    Attributes:
        points: ``(m, 2)`` in pixels.
        owners: ``(m,)`` ascending row of the body.
    """

    points: Floats
    owners: Integers

    @property
    def length(self) -> Floats:
        """``(n,)`` length of each line."""
        steps = np.hypot(*np.diff(self.points, axis=0).T) * (self.owners[1:] == self.owners[:-1])
        return np.asarray(np.bincount(self.owners[1:], steps, self.owners[-1] + 1), np.float64)

    def ends(self) -> Iterator[tuple[Floats, Floats]]:
        """Yield the first points and the ways that lead out of the lines there, then the last ones."""
        first = np.flatnonzero(np.diff(self.owners, prepend=-1))
        last = np.append(first[1:], len(self.owners))[: len(first)] - 1
        for end, inner in ((first, np.minimum(first + BACK, last)), (last, np.maximum(last - BACK, first))):
            yield self.points[end], self.points[end] - self.points[inner]


def _largest_disc(bodies: Geometries, ways: _Ways, centres: Floats) -> Floats:
    """Return the radius of the largest disc in each body: around the centre found for it, or one on the smooth way."""
    points = np.concatenate([ways.points, centres])
    owners = np.concatenate([ways.owners, np.arange(len(bodies))])
    radii = np.zeros(len(bodies))
    inside = shapely.contains_xy(bodies[owners], *points.T)
    distances = shapely.distance(shapely.boundary(bodies)[owners], shapely.points(points))
    np.maximum.at(radii, owners, np.where(inside, distances, 0))
    return radii


def _tips(bodies: Geometries, points: Floats, outwards: Floats) -> Floats:
    """Return how far each body reaches beyond the last centre of a disc, along its axis.

    A pointed tip reaches farther than the disc, but no farther than its diameter, or an antenna would be walked along.
    Without a direction, as in a body that is as wide as it is long, it is the radius.
    """
    starts, outlines = shapely.points(points), shapely.boundary(bodies)
    radii = shapely.distance(starts, outlines)
    sides = np.hypot(*outwards.T)
    known = sides > ROUND * radii
    goals = points + outwards / np.where(known, sides, 1)[:, None] * (TIP * radii)[:, None]
    rays = shapely.linestrings(np.stack([points, goals], axis=1))
    reach = shapely.distance(starts, shapely.intersection(rays, outlines))
    return np.asarray(np.where(known, np.where(np.isnan(reach), TIP * radii, reach), radii), np.float64)


def _smooth_ways(
    axis: _Axis, starts: Integers, ends: Integers, away: Floats, before: Integers, *, step: Floats
) -> _Ways:
    """Return the way from start to end of each body, its jitter smoothed over ``step`` pixels.

    An outline that is uneven by half a pixel makes its axis zigzag, and a zigzag is longer than the body.
    """
    nodes, rows = _nodes_between(starts, ends, before)
    pieces = np.maximum(np.rint(away[ends] / step), 1).astype(np.int64)
    share = away[nodes] / np.maximum(away[ends], 1e-12)[rows]
    # The first and the last point are the two ends themselves, and between them lie the means of the pieces.
    piece = np.minimum((share * pieces[rows]).astype(np.int64), pieces[rows] - 1) + 1
    piece[nodes == starts[rows]] = 0
    at_end = nodes == ends[rows]
    piece[at_end] = pieces[rows[at_end]] + 1
    first = np.cumsum(pieces + 2) - (pieces + 2)
    key = first[rows] + piece
    count = np.bincount(key)
    used = np.flatnonzero(count)
    means = np.stack([np.bincount(key, axis.points[nodes, side])[used] / count[used] for side in (0, 1)], axis=1)
    return _Ways(means, np.searchsorted(first, used, side="right") - 1)


def _nodes_between(starts: Integers, ends: Integers, before: Integers) -> tuple[Integers, Integers]:
    """Return the nodes on the way from each start to its end, and the row that each belongs to."""
    rows, at = np.arange(len(starts)), ends
    nodes, owners = [at], [rows]
    while len(rows):
        going = at != starts[rows]
        rows, at = rows[going], before[at[going]]
        nodes.append(at)
        owners.append(rows)
    return np.concatenate(nodes), np.concatenate(owners)


def _longest(bodies: Geometries) -> Floats:
    return np.asarray(np.hypot(*(shapely.bounds(bodies)[:, 2:] - shapely.bounds(bodies)[:, :2]).T), np.float64)


def _narrowest(bodies: Geometries) -> Floats:
    return np.asarray(2 * shapely.area(bodies) / shapely.length(bodies), np.float64)
