"""Join the halves of animals that tile edges cut."""

import numpy as np
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from flat_bug.pyramid.fragments import Animals, Flags, Floats, Fragments, Polygons, Rows

AGREEMENT = 0.5
"""Two cut fragments are parts of one animal if they agree this well (IoU) where both tiles look."""


def join(fragments: Fragments) -> Animals:
    """Join fragments of one level and class that show parts of the same animal, and say which animals are whole.

    A fragment that no edge cuts passes as it is. The result does not depend on the order of the fragments, except
    for its own order.
    """
    count = len(fragments)
    first, second = _facing_pairs(fragments)
    agreed = _agree(fragments, first, second)
    first, second = first[agreed], second[agreed]
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    # The rows group by group, the best of each group first: it lends the group its score.
    order = np.lexsort((*ties(fragments.polygons), -fragments.scores, group))
    starts = np.searchsorted(group[order], np.arange(groups))
    best = order[starts]
    polygons = fragments.polygons[best]
    members = np.split(order, starts[1:]) if groups else []
    pieces = np.bincount(group, minlength=groups)
    for joined in np.flatnonzero(pieces > 1):
        polygons[joined] = shapely.union_all(fragments.polygons[members[joined]])
    open_edges = (fragments.cut & ~_continued(fragments, first, second)).any(axis=1)
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
    fits = (
        (first < second)
        & (fragments.levels[first] == fragments.levels[second])
        & (fragments.classes[first] == fragments.classes[second])
        & (fragments.tiles[first] != fragments.tiles[second])
    )
    return first[fits], second[fits]


def _agree(fragments: Fragments, first: Rows, second: Rows) -> Flags:
    """Return which pairs show the same outline in the zone that both tiles cover."""
    low = np.maximum(fragments.windows[first, :2], fragments.windows[second, :2])
    high = np.minimum(fragments.windows[first, 2:], fragments.windows[second, 2:])
    zones = shapely.box(*low.T, *high.T)
    ones, others = fragments.polygons[first], fragments.polygons[second]
    shared = shapely.area(shapely.intersection(ones, others))
    total = shapely.area(shapely.intersection(ones, zones)) + shapely.area(shapely.intersection(others, zones)) - shared
    return np.asarray((shared > 0) & (shared >= AGREEMENT * total))


def _continued(fragments: Fragments, first: Rows, second: Rows) -> Flags:
    """Return, per fragment and edge, whether a fragment that it is joined with looks beyond that edge."""
    beyond = np.zeros((len(fragments), 4), np.bool_)
    for rows, others in ((first, second), (second, first)):
        mine, theirs = fragments.windows[rows], fragments.windows[others]
        np.logical_or.at(beyond, rows, np.hstack([theirs[:, :2] < mine[:, :2], theirs[:, 2:] > mine[:, 2:]]))
    return beyond
