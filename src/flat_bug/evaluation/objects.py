"""The objects of many images as columns: the ground truth is one such table, the predictions another."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Objects:
    """Annotated or predicted animals of many images, one row each, ordered by image.

    Attributes:
        images: ``(n,)`` row number of the image, ascending.
        ids: ``(n,)`` annotation id, or the row number of a prediction in its image.
        boxes: ``(n, 4)`` x1, y1, x2, y2 in image pixels.
        polygons: ``(n,)`` valid shapely polygons or multipolygons; object array.
        scores: ``(n,)`` confidence; 1 for annotations.
        crowd: ``(n,)`` whether the outline stands for several animals; false for predictions.
    """

    images: Integers
    ids: Integers
    boxes: Floats
    polygons: npt.NDArray[np.object_]
    scores: Floats
    crowd: Booleans

    def __len__(self) -> int:
        return len(self.images)

    @property
    def sizes(self) -> Floats:
        """``(n,)`` geometric mean of the sides of the box, in pixels."""
        sides = np.maximum(self.boxes[:, 2:] - self.boxes[:, :2], 0)
        return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]), np.float64)

    @property
    def areas(self) -> Floats:
        """``(n,)`` area of the outline in square pixels, holes left out."""
        return np.asarray(shapely.area(self.polygons), np.float64)

    def rows_by_image(self, count: int) -> Iterator[slice]:
        """Yield the rows of each of ``count`` images."""
        borders = np.searchsorted(self.images, np.arange(count + 1))
        for start, stop in pairwise(borders.tolist()):
            yield slice(start, stop)
