"""What tiles show of animals, before it is stitched."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Polygons = npt.NDArray[np.object_]


@dataclass(frozen=True)
class Fragments:
    """Outlines from tiles, as columns; coordinates are float64 pixels of the native level.

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

    polygons: Polygons
    scores: Floats
    classes: Rows
    levels: Floats
    tiles: Rows
    windows: Floats
    cut: Flags

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Rows | Flags) -> "Fragments":
        return Fragments(*(getattr(self, column.name)[rows] for column in fields(Fragments)))

    def may_show_one_animal(self, first: Rows, second: Rows) -> Flags:
        """Return which pairs of rows are of one level and class, and from different tiles."""
        return np.asarray(
            (self.levels[first] == self.levels[second])
            & (self.classes[first] == self.classes[second])
            & (self.tiles[first] != self.tiles[second])
        )


def concatenate(parts: Sequence[Fragments]) -> Fragments:
    """Return the rows of all parts, of which there is at least one."""
    return Fragments(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(Fragments)))


@dataclass(frozen=True)
class Animals:
    """Animals, as columns like those of ``Fragments``.

    Attributes:
        polygons: ``(n,)`` outline.
        scores: ``(n,)``.
        classes: ``(n,)``.
        levels: ``(n,)`` scale of the level that the outline comes from.
        whole: ``(n,)`` whether no tile edge cuts it.
        pieces: ``(n,)`` number of fragments that it was joined from.
    """

    polygons: Polygons
    scores: Floats
    classes: Rows
    levels: Floats
    whole: Flags
    pieces: Rows

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: Rows | Flags) -> "Animals":
        return Animals(*(getattr(self, column.name)[rows] for column in fields(Animals)))
