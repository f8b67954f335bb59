"""Of what several tiles of one level show of the same place, believe the tile that shows it best."""

import numpy as np
import shapely

from flat_bug.pyramid.fragments import Flags, Floats, Fragments
from flat_bug.pyramid.joining import ties
from flat_bug.pyramid.shared import shared_areas
from flat_bug.suppression import keep_best

SAME = 0.5
"""Outlines from two tiles of one level that overlap this much (IoU) show one animal."""
EXPLAINED = 0.5
"""An outline that an edge cuts gives way to one of another tile that is not cut and covers this share of it."""
ROOM = 64.0
"""What is farther from the edges of its tile than this, in level pixels, is seen as well as anything can be."""


def best_views(fragments: Fragments) -> Flags:
    """Return which fragments no other tile of their level shows better.

    Near the edge of a tile a network is less sure, and takes half an animal for one. So where tiles overlap, an outline
    gives way to the same one in a tile that shows it farther from its edges; and one that an edge cuts to one that is
    not cut and covers it, however sure of that the network is: it has seen all that is there. Outlines that are cut in
    all tiles stay, to be joined.

    Args:
        fragments: Of one level or several.
    """
    first, second = shapely.STRtree(fragments.polygons).query(fragments.polygons, predicate="intersects")
    clean = np.logical_not(fragments.cut.any(axis=1))
    rivals = clean[first] & fragments.may_show_one_animal(first, second)
    first, second = first[rivals], second[rivals]
    areas = shapely.area(fragments.polygons)
    shared = shared_areas(fragments.polygons[first], fragments.polygons[second])
    same = shared >= SAME * (areas[first] + areas[second] - shared)
    explained = ~clean[second] & (shared >= EXPLAINED * areas[second])
    rank = np.lexsort((*ties(fragments.polygons), -fragments.scores, -_room(fragments), ~clean)).argsort()
    better = (rank[first] < rank[second]) & (same | explained)
    return keep_best(len(fragments), first[better], second[better])


def _room(fragments: Fragments) -> Floats:
    """Return ``(n,)``: how far each outline is from the nearest edge of its tile, in level pixels, at most ``ROOM``."""
    bounds = shapely.bounds(fragments.polygons).reshape(-1, 4)
    gaps = np.hstack([bounds[:, :2] - fragments.windows[:, :2], fragments.windows[:, 2:] - bounds[:, 2:]])
    return np.asarray(np.minimum(gaps.min(axis=1) * fragments.levels, ROOM))
