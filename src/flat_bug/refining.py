"""Look once more, magnified, at animals that are small or were drawn from a coarse level: for a better outline."""

from collections.abc import Callable, Iterator

import numpy as np
import shapely

from flat_bug.looking import Seen
from flat_bug.pyramid.attention import CONTEXT, box_overlap
from flat_bug.pyramid.fragments import Animals, Floats, Polygons, Rows, concatenate
from flat_bug.pyramid.packing import Sheet, pack
from flat_bug.pyramid.tiling import Level, Tile, scaled_size

WANTED = 192.0
"""An animal whose longer side has so many pixels is outlined well."""
LEAST_GAIN, MOST = 2.0, 4.0
"""Less than twice as large is not worth a look; more than four times native shows nothing more."""
SAME = 0.5
"""A magnified outline is that of the animal if their boxes overlap this much (IoU): outlines of a thin leg need not."""

Look = Callable[[tuple[Sheet, ...]], Iterator[Seen]]


def refined(animals: Animals, size: tuple[int, int], side: int, look: Look) -> Animals:
    """Return the animals with better outlines, where a magnified look shows the same animal whole.

    Scores and everything else stay as they are, and so does what the magnified look does not show.

    Args:
        animals: As they were found, in native pixels.
        size: Width and height of the native level.
        side: Side of a tile.
        look: Has the network look at sheets.
    """
    scales = magnifications(animals, side)
    rows = np.flatnonzero(scales >= LEAST_GAIN * animals.levels)
    sheets = pack(_windows(animals.polygons[rows], scales[rows], size, _context(side)), side)
    if not sheets:
        return animals
    seen = concatenate([latest.fragments for latest in look(sheets)])
    whole = np.flatnonzero(~seen.cut.any(axis=1))
    of, row = _best_matches(seen.polygons[whole], seen.levels[whole], animals.polygons[rows], scales[rows])
    polygons, levels = animals.polygons.copy(), animals.levels.copy()
    polygons[rows[row]], levels[rows[row]] = seen.polygons[whole[of]], seen.levels[whole[of]]
    return Animals(polygons, animals.scores, animals.classes, levels, animals.whole, animals.pieces)


def magnifications(animals: Animals, side: int) -> Floats:
    """Return the scale at which each animal is about as large as wanted: a power of two."""
    bounds = shapely.bounds(animals.polygons).reshape(-1, 4)
    longer = np.maximum((bounds[:, 2:] - bounds[:, :2]).max(axis=1, initial=0), 1)
    # The nearest power of two may be larger by the root of two, and whole pixels by two: the animal must fit on a tile.
    wanted = min(WANTED, (side - 2 * _context(side) - 2) / np.sqrt(2))
    return np.asarray(2 ** np.minimum(np.rint(np.log2(wanted / longer)), np.log2(MOST)))


def _context(side: int) -> int:
    return min(CONTEXT, side // 8)


def _windows(polygons: Polygons, scales: Floats, size: tuple[int, int], context: int) -> list[Tile]:
    """Return a window around each outline on the level of its scale, with some context."""
    tiles = []
    for bounds, scale in zip(shapely.bounds(polygons).reshape(-1, 4), scales, strict=True):
        width, height = scaled_size(*size, scale)
        level = Level(float(scale), width, height, (size[0] / width, size[1] / height))
        factors = np.tile(1 / np.array(level.native_per_level), 2)
        low = np.maximum(np.floor(bounds[:2] * factors[:2]).astype(int) - context, 0)
        high = np.minimum(np.ceil(bounds[2:] * factors[2:]).astype(int) + context, (width, height))
        tiles.append(Tile(level, int(low[0]), int(low[1]), int(high[0] - low[0]), int(high[1] - low[1])))
    return tiles


def _best_matches(ones: Polygons, one_levels: Floats, others: Polygons, other_levels: Floats) -> tuple[Rows, Rows]:
    """Return pairs of rows, of ones and of others, for each other that has one: the one that overlaps it most."""
    one, other = shapely.STRtree(others).query(ones, predicate="intersects")
    fits = one_levels[one] == other_levels[other]
    one, other = one[fits], other[fits]
    overlap = box_overlap(shapely.bounds(ones[one]), shapely.bounds(others[other]))
    order = np.lexsort((-overlap, other))
    order = order[overlap[order] >= SAME]
    _, first = np.unique(other[order], return_index=True)
    return one[order[first]], other[order[first]]
