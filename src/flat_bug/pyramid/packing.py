"""Lay tiles that are smaller than what the network takes side by side, so that it looks at many of them at once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from flat_bug.pyramid.tiling import Tile

GAP = 16
"""Grey pixels between neighbours, so that the network takes the border of one for what it is."""


@dataclass(frozen=True)
class Place:
    """A tile on a sheet.

    Attributes:
        tile: The tile.
        left: Where it starts on the sheet, in pixels.
        top: Where it starts on the sheet.
    """

    tile: Tile
    left: int
    top: int


Sheet = tuple[Place, ...]
"""What the network looks at in one go: tiles that do not touch."""


@dataclass
class _Shelf:
    """A row of tiles on a sheet, and the width that is taken."""

    sheet: int
    top: int
    height: int
    taken: int


@dataclass
class _Shelves:
    """Sheets that are filled shelf by shelf."""

    side: int
    shelves: list[_Shelf] = field(default_factory=list)
    taken: list[int] = field(default_factory=list)  # height of each sheet

    def put(self, width: int, height: int) -> tuple[int, int, int]:
        """Return the sheet, the left and the top of the first place that is free."""
        for shelf in self.shelves:
            if height <= shelf.height and shelf.taken + width <= self.side:
                break
        else:
            shelf = self._new_shelf(height)
        left = shelf.taken
        shelf.taken += width + GAP
        return shelf.sheet, left, shelf.top

    def _new_shelf(self, height: int) -> _Shelf:
        fits = (number for number, taken in enumerate(self.taken) if taken + height <= self.side)
        sheet = next(fits, len(self.taken))
        if sheet == len(self.taken):
            self.taken.append(0)
        shelf = _Shelf(sheet, self.taken[sheet], height, 0)
        self.taken[sheet] += height + GAP
        self.shelves.append(shelf)
        return shelf


def pack(tiles: Sequence[Tile], side: int) -> tuple[Sheet, ...]:
    """Lay tiles on as few sheets as shelves allow, the highest first.

    Args:
        tiles: Tiles that are no larger than a sheet.
        side: Side of a sheet.
    """
    shelves = _Shelves(side)
    sheets: list[list[Place]] = []
    for tile in sorted(tiles, key=lambda tile: (-tile.height, -tile.width)):
        sheet, left, top = shelves.put(tile.width, tile.height)
        if sheet == len(sheets):
            sheets.append([])
        sheets[sheet].append(Place(tile, left, top))
    return tuple(tuple(sheet) for sheet in sheets)
