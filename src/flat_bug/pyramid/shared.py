"""How much of their area pairs of outlines share: nearly all of the work of stitching."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shapely

from flat_bug.processors import usable_processors
from flat_bug.pyramid.fragments import Floats, Polygons

WORTH_A_THREAD = 500
"""Fewer pairs are done before a thread has begun."""


def shared_areas(ones: Polygons, others: Polygons) -> Floats:
    """Return ``(n,)``: the area of the intersection of each pair of outlines ``(n,)``; all processors work on it."""
    threads = min(len(usable_processors()), max(1, len(ones) // WORTH_A_THREAD))

    def area(thread: int) -> Floats:
        # Every so many-th: neighbours in the list are alike, so that no thread is left with the large ones.
        return np.asarray(shapely.area(shapely.intersection(ones[thread::threads], others[thread::threads])))

    areas = np.empty(len(ones))
    with ThreadPoolExecutor(threads) as pool:
        for thread, found in enumerate(pool.map(area, range(threads))):
            areas[thread::threads] = found
    return areas
