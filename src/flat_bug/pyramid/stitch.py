"""Make one instance of each animal from the fragments that tiles and levels show of it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import shapely
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

JOIN_AGREEMENT = 0.5
"""Two cut fragments are halves of one animal if they agree this well (IoU) where both tiles look."""
EXPLAINED = 0.5
"""A cut fragment is dropped if a whole animal covers this share of it."""
CUT_PENALTY = 0.5
"""The score of an instance that stays cut counts this much against one that is whole."""


@dataclass(frozen=True)
class Fragments:
    """What tiles show of animals, as columns; coordinates are float64 image pixels.

    Attributes:
        polygons: ``(n,)`` outline of what one tile shows.
        scores: ``(n,)``.
        classes: ``(n,)``.
        levels: ``(n,)`` scale of the level of the tile; 1 is native.
        tiles: ``(n,)`` number of the tile.
        windows: ``(n, 4)`` x1, y1, x2, y2 of the tile.
        cut: ``(n, 4)`` whether the outline comes near the left, top, right, bottom edge of its tile, where that edge
            is not the border of the image.
    """

    polygons: npt.NDArray[np.object_]
    scores: Floats
    classes: Rows
    levels: Floats
    tiles: Rows
    windows: Floats
    cut: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)


def concatenate(parts: Sequence[Fragments]) -> Fragments:
    """Return the rows of all parts, of which there is at least one."""
    return Fragments(*(np.concatenate([getattr(part, name.name) for part in parts]) for name in fields(Fragments)))


@dataclass(frozen=True)
class Stitched:
    """Animals, as columns like those of ``Fragments``.

    Attributes:
        whole: ``(n,)`` whether no tile edge cuts it.
    """

    polygons: npt.NDArray[np.object_]
    scores: Floats
    classes: Rows
    levels: Floats
    whole: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Rows | npt.NDArray[np.bool_]) -> "Stitched":
        return Stitched(self.polygons[rows], self.scores[rows], self.classes[rows], self.levels[rows], self.whole[rows])


def stitch(fragments: Fragments, overlap_threshold: float, metric: str = "IoU") -> Stitched:
    """Return each animal once: halves joined, fragments replaced by the whole, duplicates resolved.

    The result does not depend on the order of the fragments.

    Args:
        fragments: From all tiles of all levels.
        overlap_threshold: Two instances that overlap more than this are one animal.
        metric: ``IoU``, overlap over the union, or ``IoS``, over the smaller of the two.
    """
    return _resolve(_join(fragments), overlap_threshold, metric)


def _join(fragments: Fragments) -> Stitched:
    """Join fragments of one level that a tile edge separates."""
    count = len(fragments)
    first, second = _facing_pairs(fragments)
    first, second = (rows[_agree(fragments, first, second)] for rows in (first, second))
    graph = coo_array((np.ones(len(first), np.bool_), (first, second)), shape=(count, count))
    groups, group = connected_components(graph, directed=False)
    open_edges = fragments.cut & ~_continued(fragments, first, second)
    # One row per group: the union of its outlines, and the rest from its best member.
    order = np.lexsort((*_ties(fragments.polygons), -fragments.scores, group))
    best = order[np.unique(group[order], return_index=True)[1]]
    polygons = fragments.polygons[best].copy()
    sizes = np.bincount(group, minlength=groups)
    for joined in np.flatnonzero(sizes > 1):
        polygons[joined] = shapely.union_all(fragments.polygons[order[group[order] == joined]])
    whole = np.bincount(group, open_edges.any(axis=1), minlength=groups) == 0
    return Stitched(polygons, fragments.scores[best], fragments.classes[best], fragments.levels[best], whole)


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


def _agree(fragments: Fragments, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    """Return which pairs show the same outline in the zone that both tiles cover."""
    low = np.maximum(fragments.windows[first, :2], fragments.windows[second, :2])
    high = np.minimum(fragments.windows[first, 2:], fragments.windows[second, 2:])
    zones = shapely.box(*low.T, *high.T)
    ones, others = fragments.polygons[first], fragments.polygons[second]
    shared = shapely.area(shapely.intersection(ones, others))
    total = shapely.area(shapely.intersection(ones, zones)) + shapely.area(shapely.intersection(others, zones)) - shared
    return np.asarray((shared > 0) & (shared >= JOIN_AGREEMENT * total))


def _continued(fragments: Fragments, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    """Return, per fragment and edge, whether a fragment that it is joined with looks beyond that edge."""
    beyond = np.zeros((len(fragments), 4), np.bool_)
    for rows, others in ((first, second), (second, first)):
        mine, theirs = fragments.windows[rows], fragments.windows[others]
        np.logical_or.at(beyond, rows, np.hstack([theirs[:, :2] < mine[:, :2], theirs[:, 2:] > mine[:, 2:]]))
    return beyond


def _resolve(animals: Stitched, threshold: float, metric: str) -> Stitched:
    """Keep the best of those that show the same animal."""
    rank = animals.scores * np.where(animals.whole, 1.0, CUT_PENALTY)
    order = np.lexsort((*_ties(animals.polygons), -animals.levels, -rank))
    animals = animals[order]
    tree = shapely.STRtree(animals.polygons)
    first, second = tree.query(animals.polygons, predicate="intersects")
    first, second = first[first < second], second[first < second]
    areas = shapely.area(animals.polygons)
    shared = shapely.area(shapely.intersection(animals.polygons[first], animals.polygons[second]))
    dropped = np.zeros(len(animals), np.bool_)
    for rows, others in ((first, second), (second, first)):
        explained = ~animals.whole[rows] & animals.whole[others] & (shared >= EXPLAINED * areas[rows])
        dropped[rows[explained]] = True
    smaller = np.minimum(areas[first], areas[second])
    base = areas[first] + areas[second] - shared if metric == "IoU" else smaller
    same = shared > threshold * base
    same &= ~dropped[first] & ~dropped[second]
    return animals[~dropped & _greedy(len(animals), first[same], second[same])]


def _greedy(count: int, first: Rows, second: Rows) -> npt.NDArray[np.bool_]:
    """Return which rows, best first, no kept better row suppresses, given all pairs (better, worse)."""
    kept = np.ones(count, np.bool_)
    # Each round settles at least one more row; the fixed point is the result of going through them one by one.
    while True:
        still = np.ones(count, np.bool_)
        still[second[kept[first]]] = False
        if np.array_equal(still, kept):
            return kept
        kept = still


def _ties(polygons: npt.NDArray[np.object_]) -> Floats:
    """Return ``(5, n)`` keys that order what is equal otherwise, whatever the order it came in."""
    bounds = np.asarray(shapely.bounds(polygons), np.float64).reshape(len(polygons), 4)
    return np.vstack([shapely.area(polygons), bounds.T])
