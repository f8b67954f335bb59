"""Pictures of known animals, and the viewer of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips
import shapely

from flat_bug.files import sha256_of
from flat_bug.imaging import open_image
from flat_bug.instances.table import Instances
from flat_bug.instances.viewer import Viewed


def disc(x: float, y: float, radius: float, hole: float = 0) -> shapely.Polygon:
    """Return a disc, or a ring."""
    whole = shapely.Point(x, y).buffer(radius, quad_segs=32)
    return whole.difference(shapely.Point(x, y).buffer(hole, quad_segs=32)) if hole else whole


def picture_of(polygons: npt.NDArray[np.object_], width: int, height: int) -> npt.NDArray[np.uint8]:
    """Return a light picture whose pixels are black where their centres lie in a polygon."""
    picture = np.full((height, width, 3), 235, np.uint8)
    for polygon in polygons:
        left, top, right, bottom = (round(value) for value in shapely.bounds(polygon))
        rows, columns = slice(max(0, top - 1), bottom + 1), slice(max(0, left - 1), right + 1)
        part = picture[rows, columns]
        y, x = np.mgrid[rows.start : rows.start + part.shape[0], columns.start : columns.start + part.shape[1]] + 0.5
        part[shapely.contains_xy(polygon, x, y)] = 0
    return picture


def viewed(
    folder: Path,
    title: str,
    polygons: list[shapely.Geometry],
    scores: list[float],
    *,
    size: tuple[int, int] = (1600, 1200),
    measurements: Mapping[str, Any] | None = None,
    **others: Any,
) -> Viewed:
    """Draw animals, save the picture, and return it with its true outlines."""
    column = np.empty(len(polygons), object)
    column[:] = polygons
    path = folder / f"{len(list(folder.iterdir()))}.png"
    pyvips.Image.new_from_array(picture_of(column, *size)).pngsave(str(path), compression=1)
    table = Instances.from_polygons(column, np.array(scores, float), width=size[0], height=size[1], **others)
    name = title.rpartition(".")[0] or title
    return Viewed(name, title, table, lambda: open_image(path), sha256_of(path), measurements)
