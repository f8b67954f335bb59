"""Levels of the pyramid and the tiles that cover them."""

from dataclasses import dataclass

import numpy as np

STEP = 2.0
"""A level is this many times smaller than the one before."""
OVERLAP_SHARE = 16
"""By default neighbouring tiles share the tile's side divided by this, or twice the margin of their edges if more."""
PADDING = 114
"""Grey outside the image: what ultralytics pads with in training."""


@dataclass(frozen=True)
class Level:
    """The image at one scale.

    Attributes:
        scale: Level pixels per native pixel, before the sides are rounded to whole pixels; 1 is native.
        width: Width in level pixels.
        height: Height in level pixels.
        native_per_level: Native pixels per level pixel along x and y, exactly.
    """

    scale: float
    width: int
    height: int
    native_per_level: tuple[float, float]


@dataclass(frozen=True)
class Tile:
    """A square window on a level; what lies outside the level is padding.

    Attributes:
        level: The level.
        x: Left edge in level pixels.
        y: Top edge in level pixels.
        width: Columns that lie on the level, at most the side of the tile.
        height: Rows that lie on the level.
    """

    level: Level
    x: int
    y: int
    width: int
    height: int


def levels(width: int, height: int, coarsest: int, *, single: bool = False) -> tuple[Level, ...]:
    """Return the levels of an image, finest first; the native one is always among them.

    Args:
        width: Width of the image in pixels.
        height: Height of the image.
        coarsest: Levels are added until the longer side of the image is no longer than this.
        single: Return the native level only.
    """
    found = [Level(1.0, width, height, (1.0, 1.0))]
    while not single and max(found[-1].width, found[-1].height) > coarsest:
        scale = STEP ** -len(found)
        size = scaled_size(width, height, scale)
        found.append(Level(scale, *size, (width / size[0], height / size[1])))
    return tuple(found)


def scaled_size(width: int, height: int, scale: float) -> tuple[int, int]:
    """Return the size of an image at a scale, in whole pixels."""
    return max(1, round(width * scale)), max(1, round(height * scale))


Grid = tuple[Tile, ...]
"""The tiles that cover one level."""


def least_overlap(side: int, margin: int) -> int:
    """Return by how much neighbours overlap at least unless somebody says otherwise.

    Args:
        side: Side of a tile.
        margin: What is nearer to the edge of a tile may be cut by it; both neighbours must see beyond that.
    """
    return max(side // OVERLAP_SHARE, min(2 * margin, side // 8))


def tiles(level: Level, side: int, overlap: int, shift: tuple[int, int] = (0, 0), stride: int = 1) -> Grid:
    """Cover a level with tiles, row by row, evenly spread.

    Args:
        level: The level to cover.
        side: Side of a tile.
        overlap: Least number of pixels that neighbours share; less than ``side``.
        shift: Move the grid left and up by so many level pixels; see ``offsets``.
        stride: Tiles start at multiples of this.
    """
    columns = offsets(level.width, side, overlap, shift[0], stride)
    rows = offsets(level.height, side, overlap, shift[1], stride)
    return tuple(
        Tile(level, x, y, min(side, level.width - x), min(side, level.height - y)) for y in rows for x in columns
    )


def offsets(length: int, side: int, overlap: int, shift: int = 0, stride: int = 1) -> list[int]:
    """Return where tiles start along one axis: the first at 0, the last so that it reaches the end, evenly between.

    A network looks through cells of ``stride`` pixels, and answers a little differently when an animal lies elsewhere
    in them. With starts at multiples of it all tiles, however they are spread, show an animal at the same place of its
    cell. So the last may reach beyond the end by less than that.

    A shift moves the tiles between towards 0, with one more where that opens a gap at the end; a tile that would leave
    the level stays on its border. What a shift does to animals is what tiling does.

    Raises:
        ValueError: The overlap is not less than the side.
    """
    if not 0 <= overlap < side:
        raise ValueError(f"tiles of {side} px cannot overlap by {overlap} px")
    if length <= side:
        return [0]
    stride = min(stride, side - overlap)
    # In cells, and in whole numbers: what is exact here cannot open a gap.
    last = -(-(length - side) // stride)
    steps = -(-last // ((side - overlap) // stride))
    moved = shift * steps % (last * stride)
    starts = (np.arange(steps + 1 + (moved > 0)) * last * stride - moved) // (steps * stride)
    return [int(start) * stride for start in np.unique(starts.clip(0, last))]
