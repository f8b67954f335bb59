"""Where a fine level is worth a look, after the coarser ones: the adaptive pyramid.

Two things call for it: what a coarser level saw, but too small or too uncertain; and what differs from its surroundings
although no coarser level saw anything there. Windows around both are laid side by side on as few sheets as possible.
Where they would cover most of a tile anyway, the tile is looked at as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import shapely
from scipy import ndimage

from flat_bug.pyramid.packing import GAP
from flat_bug.pyramid.tiling import Grid, Level, Tile
from flat_bug.suppression import keep_best

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

FULL_LEVELS_BELOW = 0.3
"""Levels at a scale below this are looked at as a whole; with those above them they are a tenth of the work."""
CANDIDATE = 0.2
"""What scores above this share of the threshold on a coarse level may be an animal on a finer one."""
RESOLVED = 56.0
"""An animal of this size, sqrt(width x height) in level pixels, gains little from a finer level."""
KNOWN = 0.3
"""Two boxes that overlap this much (IoU) may show one animal."""
LEAST_CONTRAST = 30
"""Differences of fewer grey levels are no animal."""
NOISE = 6.0
"""Nor are those below the median of their neighbourhood times this."""
BLOCK = 32
"""Side of a neighbourhood, in samples."""
LEAST_TILES = 7.5
"""A level of less than the area of so many tiles is looked at as a whole: there is little to gain. The area, since how
many tiles there are depends on where they lie."""
CELL = 24
"""What differs is looked at in pieces of at most so many samples."""
CONTEXT = 64
"""A window shows so many pixels around what it is made for."""
DENSE = 0.65
"""A tile is looked at as a whole when windows would cover this share of it."""


@dataclass(frozen=True)
class Sightings:
    """Boxes that coarser levels saw, in native pixels.

    Attributes:
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        scores: ``(n,)``.
        scales: ``(n,)`` of the level that saw each.
    """

    boxes: Floats
    scores: Floats
    scales: Floats

    @classmethod
    def concatenate(cls, parts: Sequence["Sightings"]) -> "Sightings":
        """Return the rows of all parts, of which there is at least one."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))

    def __getitem__(self, rows: Flags) -> "Sightings":
        return Sightings(self.boxes[rows], self.scores[rows], self.scales[rows])

    @property
    def sizes(self) -> Floats:
        """sqrt(width x height) in pixels of the level."""
        return np.asarray(np.sqrt(np.prod(self.boxes[:, 2:] - self.boxes[:, :2], axis=1)) * self.scales)


def is_worth_choosing(grid: Grid) -> bool:
    """Return whether to choose among the tiles of a level; a coarse or small one is looked at as a whole."""
    level, side = grid[0].level, max(grid[0].width, grid[0].height)
    return level.scale >= FULL_LEVELS_BELOW and level.width * level.height >= LEAST_TILES * side * side


def tiles_worth_a_look(
    grid: Grid, side: int, seen: Sightings, contrast: npt.NDArray[np.uint8], threshold: float
) -> tuple[Tile, ...]:
    """Return the windows and tiles of one level that are worth a look.

    Args:
        grid: The tiles that cover the level.
        side: Side of a tile.
        seen: What coarser levels saw, above ``CANDIDATE`` times the threshold.
        contrast: ``uint8 (rows, columns)``: how much the samples of the level differ from their surroundings.
        threshold: Score above which an animal is kept.
    """
    level = grid[0].level
    factors = np.tile(1 / np.array(level.native_per_level), 2)
    wanted = np.vstack([unsettled(seen, threshold) * factors, _unexplained(seen, contrast, level)])
    windows = _windows(wanted, level)
    return _whole_where_dense(windows, grid, side)


def unsettled(seen: Sightings, threshold: float) -> Floats:
    """Return the boxes ``(n, 4)`` of what may be an animal, and is too small for the finest level so far.

    What only coarser levels saw there, it has looked at and found to be nothing. What it saw too, and a coarser level
    was sure of already, two levels have seen: a third one adds little.
    """
    latest = seen.scales == seen.scales.max(initial=0)
    small = seen.sizes < RESOLVED
    sure = (seen.scores >= threshold) & ~(latest & small)
    boxes, known = seen.boxes[latest & small], seen.boxes[sure]
    first, second = shapely.STRtree(shapely.box(*known.T)).query(shapely.box(*boxes.T))
    same = box_overlap(boxes[first], known[second]) >= KNOWN
    return np.asarray(np.delete(boxes, first[same], axis=0))


def box_overlap(ones: Floats, others: Floats) -> Floats:
    """Return the intersection over union of pairs of boxes ``(n, 4)``."""
    low, high = np.maximum(ones[:, :2], others[:, :2]), np.minimum(ones[:, 2:], others[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (ones, others)]
    return np.asarray(shared / (areas[0] + areas[1] - shared))


def _unexplained(seen: Sightings, contrast: npt.NDArray[np.uint8], level: Level) -> Floats:
    """Return boxes ``(n, 4)`` in level pixels of what stands out, although no coarser level saw anything there."""
    rows, columns = contrast.shape
    per_sample = np.array([level.width / columns, level.height / rows])
    different = stands_out(contrast)
    explained = seen.boxes / np.tile(per_sample * level.native_per_level, 2)
    for x1, y1, x2, y2 in np.hstack([np.floor(explained[:, :2]) - 2, np.ceil(explained[:, 2:]) + 2]).astype(int):
        different[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)] = False
    # What is a single sample wide is grain or a hair: only squares of two by two count, each told by its first sample.
    squares = different[:-1, :-1] & different[1:, 1:]
    squares &= different[1:, :-1]
    squares &= different[:-1, 1:]
    y, x = np.nonzero(squares)
    cell = y // CELL * (columns // CELL + 1) + x // CELL
    order = np.argsort(cell, kind="stable")
    starts = np.flatnonzero(np.diff(cell[order], prepend=-1))
    if len(starts) == 0:
        return np.empty((0, 4))
    low = [np.minimum.reduceat(axis[order], starts) for axis in (x, y)]
    high = [np.maximum.reduceat(axis[order], starts) + 2 for axis in (x, y)]
    return np.asarray(np.stack([*low, *high], axis=1) * np.tile(per_sample, 2))


def stands_out(contrast: npt.NDArray[np.uint8]) -> Flags:
    """Return which samples differ from their surroundings, and by more than is usual in their neighbourhood.

    What is usual is the median of a block, smoothed over blocks.
    """
    rows, columns = (max(1, round(side / BLOCK)) for side in contrast.shape)
    strips = np.array_split(contrast, rows)
    blocks = [np.array_split(strip, columns, axis=1) for strip in strips]
    medians = np.array([[np.median(block) for block in strip] for strip in blocks], np.float32)
    least = np.maximum(NOISE * ndimage.median_filter(medians, 3), LEAST_CONTRAST)
    widths = [block.shape[1] for block in blocks[0]]
    # Strip by strip: of a large image, the least contrast of each sample would take more memory than all else.
    return np.concatenate([strip >= np.repeat(row, widths) for strip, row in zip(strips, least, strict=True)])


def _windows(wanted: Floats, level: Level) -> npt.NDArray[np.int64]:
    """Return x1, y1, x2, y2 of windows around the boxes; one that another one shows with some context goes."""
    limits = [level.width, level.height]
    low = np.clip(np.floor(wanted[:, :2]) - CONTEXT, 0, limits)
    high = np.clip(np.ceil(wanted[:, 2:]) + CONTEXT, 0, limits)
    windows = np.hstack([low, high]).astype(np.int64)
    windows = windows[(windows[:, 2] > windows[:, 0]) & (windows[:, 3] > windows[:, 1])]
    areas = np.prod(windows[:, 2:] - windows[:, :2], axis=1)
    windows = windows[np.lexsort((*windows.T, -areas))]
    half = CONTEXT // 2
    inner = shapely.box(*(windows + np.array([half, half, -half, -half])).T)
    larger, smaller = shapely.STRtree(shapely.box(*windows.T)).query(inner, predicate="covers")
    pairs = larger < smaller
    return windows[keep_best(len(windows), larger[pairs], smaller[pairs])]


def _whole_where_dense(windows: npt.NDArray[np.int64], grid: Grid, side: int) -> tuple[Tile, ...]:
    """Return windows as tiles; those that lie in a tile that they would mostly cover give way to it."""
    if len(windows) == 0:
        return ()
    level = grid[0].level
    tiles = np.array([(tile.x, tile.y, tile.x + tile.width, tile.y + tile.height) for tile in grid])
    centres, middles = ((boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (windows, tiles))
    owner = np.abs(centres[:, None] - middles).max(axis=2).argmin(axis=1)
    covered = np.bincount(owner, np.prod(windows[:, 2:] - windows[:, :2] + GAP, axis=1), minlength=len(grid))
    dense = covered > DENSE * side * side
    # What no window can show whole, all tiles around it show together.
    long = (windows[:, 2:] - windows[:, :2]).max(axis=1) > side
    _, around = shapely.STRtree(shapely.box(*tiles.T)).query(shapely.box(*windows[long].T), predicate="intersects")
    dense[around] = True
    inside = (windows[:, :2] >= tiles[owner, :2]).all(axis=1) & (windows[:, 2:] <= tiles[owner, 2:]).all(axis=1)
    single = windows[~long & ~(dense[owner] & inside)].tolist()
    return (
        *(tile for tile, whole in zip(grid, dense, strict=True) if whole),
        *(Tile(level, x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in single),
    )
