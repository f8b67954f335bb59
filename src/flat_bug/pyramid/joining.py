"""Join the halves of animals that tile edges cut."""

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flat_bug.pyramid.fragments import Animals, Flags, Floats, Fragments, Polygons, Rows
from flat_bug.pyramid.shared import shared_areas

AGREEMENT = 0.5
"""Two cut fragments are parts of one animal if they agree this well (IoU) where both tiles look."""


def join(fragments: Fragments, margin: float) -> Animals:
    """Join fragments of one level and class that show parts of the same animal, and say which animals are whole.

    A fragment that no edge cuts passes as it is. The result does not depend on the order of the fragments, except
    for its own order.

    Args:
        fragments: Of one level or several.
        margin: What is nearer than this to the edge of a tile, in level pixels, may be cut by it.
    """
    count = len(fragments)
    first, second = _facing_pairs(fragments)
    agreed = _agree(fragments, first, second)
    first, second = first[agreed], second[agreed]
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    # The rows group by group, the best of each group first: it lends the group its score.
    order = np.lexsort((*ties(fragments.polygons), -fragments.scores, group))
    pieces = np.bincount(group, minlength=groups)
    best = order[np.cumsum(pieces) - pieces]
    polygons = fragments.polygons[best]
    joined = np.flatnonzero(pieces > 1)
    parts = fragments.polygons[order[pieces[group[order]] > 1]]
    parts = shapely.geometrycollections(parts, indices=np.repeat(np.arange(len(joined)), pieces[joined]))
    polygons[joined] = shapely.union_all(parts[:, None], axis=1)
    open_edges = (fragments.cut & ~_continued(fragments, first, second, margin)).any(axis=1)
    whole = np.bincount(group, open_edges, minlength=groups) == 0
    return Animals(polygons, fragments.scores[best], fragments.classes[best], fragments.levels[best], whole, pieces)


def ties(polygons: Polygons) -> Floats:
    """Return ``(5, n)`` keys that order what is equal otherwise, whatever the order it came in."""
    bounds = np.asarray(shapely.bounds(polygons), np.float64).reshape(len(polygons), 4)
    return np.vstack([shapely.area(polygons), bounds.T])


def _facing_pairs(fragments: Fragments) -> tuple[Rows, Rows]:
    """Return pairs of cut fragments of one class and level, from different tiles, that overlap."""
    cut = np.flatnonzero(fragments.cut.any(axis=1))
    tree = shapely.STRtree(fragments.polygons[cut])
    first, second = cut[tree.query(fragments.polygons[cut], predicate="intersects")]
    fits = (first < second) & fragments.may_show_one_animal(first, second)
    return first[fits], second[fits]


def _agree(fragments: Fragments, first: Rows, second: Rows) -> Flags:
    """Return which pairs show the same outline in the zone that both tiles cover."""
    low = np.maximum(fragments.windows[first, :2], fragments.windows[second, :2])
    high = np.minimum(fragments.windows[first, 2:], fragments.windows[second, 2:])
    zones = shapely.box(*low.T, *high.T)
    ones = shapely.intersection(fragments.polygons[first], zones)
    others = shapely.intersection(fragments.polygons[second], zones)
    shared = shared_areas(ones, others)
    total = _touched_area(ones, others) + _touched_area(others, ones) - shared
    return np.asarray((shared > 0) & (shared >= AGREEMENT * total))


def _touched_area(polygons: Polygons, others: Polygons) -> Floats:
    """Return the area of the parts of each polygon that its other one touches.

    Where one tile sees a body with two legs, the next may see two legs: each of them is all that there is to agree on.
    """
    parts, row = shapely.get_parts(polygons, return_index=True)
    touched = shapely.intersects(parts, others[row])
    return np.asarray(np.bincount(row[touched], shapely.area(parts[touched]), len(polygons)), np.float64)


def _continued(fragments: Fragments, first: Rows, second: Rows, margin: float) -> Flags:
    """Return ``(n, 4)``, per fragment and edge, whether a fragment that it is joined with shows how it goes on there.

    That one must look beyond the edge, and along all of the edge that the animal comes near to: tiles of a grid do, but
    of two windows at different heights each may see another end of a ring.
    """
    continued = np.zeros((len(fragments), 4), np.bool_)
    near = _near_edges(fragments, margin)
    for rows, others in ((first, second), (second, first)):
        mine, theirs = fragments.windows[rows], fragments.windows[others]
        beyond = np.hstack([theirs[:, :2] < mine[:, :2], theirs[:, 2:] > mine[:, 2:]])
        low, high = theirs[:, [1, 0, 1, 0]], theirs[:, [3, 2, 3, 2]]
        along = (near[rows, :, 0] >= low) & (near[rows, :, 1] <= high)
        np.logical_or.at(continued, rows, beyond & along)
    return continued


def _near_edges(fragments: Fragments, margin: float) -> Floats:
    """Return ``(n, 4, 2)``: from where to where, along each edge that cuts it, a fragment is near that edge."""
    near = np.full((len(fragments), 4, 2), np.nan)
    for edge in range(4):
        rows = np.flatnonzero(fragments.cut[:, edge])
        strips = fragments.windows[rows].copy()
        depth = margin / fragments.levels[rows]
        strips[:, (edge + 2) % 4] = fragments.windows[rows, edge] + (depth if edge < 2 else -depth)
        parts = shapely.intersection(fragments.polygons[rows], shapely.box(*strips.T))
        along = 1 - edge % 2
        near[rows, edge] = shapely.bounds(parts).reshape(-1, 4)[:, [along, along + 2]]
    return near
