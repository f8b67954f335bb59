"""Make one instance of each animal from the fragments that tiles and levels show of it.

Three things tell which of several outlines is the animal: levels that agree are evidence for each other; a finer level
draws a better outline; and what is a part of a whole animal is no animal of its own.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import shapely

from flat_bug.pyramid.fragments import Animals, Flags, Floats, Fragments, Polygons, Rows
from flat_bug.pyramid.joining import join, ties
from flat_bug.pyramid.shared import shared_areas
from flat_bug.pyramid.views import best_views
from flat_bug.suppression import keep_best

SAME = 0.5
"""Outlines from different levels that overlap this much (IoU) vouch for each other."""
INDEPENDENCE = 0.5
"""Levels show the same pixels, so that their evidence is not independent: each counts as this share of a witness."""
FINENESS = 0.5
"""The score of an outline counts times the scale of its level to this power when outlines compete."""
CUT, JOINED = 0.5, 0.8
"""The score of an outline that stays cut, or is joined from pieces, counts this much against one that is seen whole."""
EXPLAINED = 0.5
"""A cut outline is dropped if a whole animal covers this share of it."""
PART = 0.85
"""An outline is a part of a larger whole one that covers this share of it."""


def stitch(
    fragments: Fragments,
    *,
    levels: int,
    margin: float,
    score_threshold: float,
    overlap_threshold: float,
    metric: str = "IoU",
) -> Animals:
    """Return each animal once: halves joined, parts and fragments replaced by the whole, duplicates resolved.

    The result does not depend on the order of the fragments.

    Args:
        fragments: From all tiles of all levels. Fragments below the threshold count as evidence.
        levels: Number of levels that were looked at.
        margin: What is nearer than this to the edge of a tile, in level pixels, may be cut by it.
        score_threshold: Animals whose combined score is not above this are left out.
        overlap_threshold: Two outlines that overlap more than this are one animal.
        metric: ``IoU``, overlap over the union, or ``IoS``, over the smaller of the two.

    Returns:
        Animals, best first. The score combines the evidence of all levels; the outline is the best single one.
    """
    animals = join(fragments[best_views(fragments)], margin)
    rank = animals.scores * animals.levels**FINENESS
    rank *= np.where(animals.whole, 1.0, CUT) * np.where(animals.pieces > 1, JOINED, 1.0)
    animals = animals[np.lexsort((*ties(animals.polygons), -rank))]
    pairs = _overlapping(animals.polygons)
    scores = _combine(animals, pairs, max(INDEPENDENCE, 1 / levels))
    alive = scores > score_threshold
    same = (pairs.union_share if metric == "IoU" else pairs.smaller_share) > overlap_threshold
    first, second = pairs.first[same], pairs.second[same]
    alive &= ~_explained(animals, _keep_best(alive & animals.whole, first, second), pairs)
    alive &= ~_parts(animals, _keep_best(alive, first, second), pairs)
    kept = _keep_best(alive, first, second)
    result = replace(animals, scores=scores)[kept]
    return result[np.lexsort((*ties(result.polygons), -result.scores))]


@dataclass(frozen=True)
class _Pairs:
    """Pairs of rows whose outlines overlap, the better row first, with what they share.

    Attributes:
        first: ``(p,)`` rows.
        second: ``(p,)`` rows, each after its partner.
        areas: ``(p, 2)`` of both.
        shared: ``(p,)`` area.
    """

    first: Rows
    second: Rows
    areas: Floats
    shared: Floats

    @property
    def union_share(self) -> Floats:
        """Intersection over union."""
        return np.asarray(self.shared / (self.areas.sum(axis=1) - self.shared))

    @property
    def smaller_share(self) -> Floats:
        """Intersection over the smaller of the two."""
        return np.asarray(self.shared / self.areas.min(axis=1))

    def both_ways(self) -> Iterator[tuple[Rows, Rows, Floats]]:
        """Yield rows, their partners, and the share of each row that its partner covers, one way and the other."""
        yield self.first, self.second, self.shared / self.areas[:, 0]
        yield self.second, self.first, self.shared / self.areas[:, 1]


def _overlapping(polygons: Polygons) -> _Pairs:
    first, second = shapely.STRtree(polygons).query(polygons, predicate="intersects")
    first, second = first[first < second], second[first < second]
    areas = shapely.area(polygons)
    shared = shared_areas(polygons[first], polygons[second])
    return _Pairs(first, second, np.column_stack([areas[first], areas[second]]), shared)


def _combine(animals: Animals, pairs: _Pairs, weight: float) -> Floats:
    """Return for each row the score that its witnesses give it together: the best of each level, as noisy or."""
    scales, level = np.unique(animals.levels, return_inverse=True)
    best = np.zeros((len(animals), len(scales)))
    best[np.arange(len(animals)), level] = animals.scores
    vouch = pairs.union_share >= SAME
    for rows, others, _ in pairs.both_ways():
        np.maximum.at(best, (rows[vouch], level[others[vouch]]), animals.scores[others[vouch]])
    return np.asarray(1 - np.prod(1 - best, axis=1) ** weight)


def _explained(animals: Animals, wholes: Flags, pairs: _Pairs) -> Flags:
    """Return which cut outlines one of these whole animals covers."""
    explained = np.zeros(len(animals), np.bool_)
    for rows, others, covered in pairs.both_ways():
        explained[rows[~animals.whole[rows] & wholes[others] & (covered >= EXPLAINED)]] = True
    return explained


def _parts(animals: Animals, kept: Flags, pairs: _Pairs) -> Flags:
    """Return which outlines are parts of a larger whole animal that is kept."""
    parts = np.zeros(len(animals), np.bool_)
    areas = shapely.area(animals.polygons)
    for rows, others, covered in pairs.both_ways():
        parts[rows[(areas[rows] < areas[others]) & animals.whole[others] & kept[others] & (covered >= PART)]] = True
    return parts


def _keep_best(alive: Flags, first: Rows, second: Rows) -> Flags:
    """Return which of the rows that are alive remain when the first of each pair suppresses the second."""
    both = alive[first] & alive[second]
    return alive & keep_best(len(alive), first[both], second[both])
