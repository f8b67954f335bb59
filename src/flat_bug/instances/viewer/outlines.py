"""Outlines as the viewer's page reads them: whole numbers, each the step from the one before."""

from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.instances.table import Instances

STEPS_PER_PIXEL = 100
"""Coordinates are rounded to a hundredth of a pixel, less than a screen shows at any zoom that is of use."""


def encode_outlines(table: Instances) -> dict[str, Any]:
    """Return the outlines, with all holes and parts, and the boxes.

    Returns:
        ``rings``: how many rings each animal has; ``sizes``: how many points each ring has, without the closing one;
        ``steps``: x and y of all points in turn, in hundredths of a pixel, each as the difference from the point
        before; ``boxes``: x1, y1, x2, y2 of all animals in turn, in hundredths of a pixel. Inside is what an odd number
        of rings surrounds.
    """
    parts, owner_of_part = shapely.get_parts(table.polygons, return_index=True)
    rings, part_of_ring = shapely.get_rings(parts, return_index=True)
    points, ring_of_point = shapely.get_coordinates(rings, return_index=True)
    # The last point of a ring is the first one again.
    last = np.append(ring_of_point[1:] != ring_of_point[:-1], True)[: len(points)]
    kept = _whole(points[~last])
    return {
        "rings": np.bincount(owner_of_part[part_of_ring], minlength=len(table)).tolist(),
        "sizes": np.bincount(ring_of_point[~last], minlength=len(rings)).tolist(),
        "steps": np.diff(kept, axis=0, prepend=np.zeros((1, 2), np.int64)).ravel().tolist(),
        "boxes": _whole(np.nan_to_num(table.boxes)).ravel().tolist(),
    }


def _whole(coordinates: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    whole: npt.NDArray[np.int64] = np.rint(coordinates * STEPS_PER_PIXEL).astype(np.int64)
    return whole
