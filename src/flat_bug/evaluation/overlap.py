"""Intersection over union of all pairs of objects that may match, from exact geometry."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import shapely

from flat_bug.evaluation.objects import Booleans, Floats, Integers, Objects
from flat_bug.progress import track


@dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of an annotation and a prediction in the same image, with their overlap.

    Attributes:
        truth: ``(k,)`` row of the annotation.
        prediction: ``(k,)`` row of the prediction.
        iou: ``(k,)`` intersection over union; over the area of the prediction where the annotation is a crowd.
    """

    truth: Integers
    prediction: Integers
    iou: Floats

    def __getitem__(self, rows: Integers | Booleans) -> "Pairs":
        """Return the chosen pairs."""
        return Pairs(self.truth[rows], self.prediction[rows], self.iou[rows])


def overlaps(
    truth: Objects,
    predictions: Objects,
    image_count: int,
    *,
    iou_type: Literal["mask", "box"] = "mask",
    floor: float = 0.5,
    workers: int = 1,
) -> Pairs:
    """Return all pairs of the same image that overlap by ``floor`` or more.

    Args:
        truth: The annotations.
        predictions: The predictions.
        image_count: Number of images that the rows of both tables refer to.
        iou_type: Compare the outlines or the boxes.
        floor: Least intersection over union of a pair, above 0; fewer pairs need exact geometry when it is high.
        workers: Images that are compared at once.
    """
    compare: Callable[[Objects, slice, Objects, slice, float], Pairs]
    compare = _mask_pairs if iou_type == "mask" else _box_pairs
    rows = [
        (here, there)
        for here, there in zip(truth.rows_by_image(image_count), predictions.rows_by_image(image_count), strict=True)
        if here.start < here.stop and there.start < there.stop
    ]
    # The geometry library lets go of the interpreter's lock, so that threads are enough.
    with ThreadPoolExecutor(workers) as pool:
        compared = pool.map(lambda pair: compare(truth, pair[0], predictions, pair[1], floor), rows)
        found = list(track(compared, "Comparing images", len(rows)))
    return Pairs(
        np.concatenate([np.empty(0, np.int64), *(pairs.truth for pairs in found)]),
        np.concatenate([np.empty(0, np.int64), *(pairs.prediction for pairs in found)]),
        np.concatenate([np.empty(0), *(pairs.iou for pairs in found)]),
    )


def _box_pairs(truth: Objects, here: slice, predictions: Objects, there: slice, floor: float) -> Pairs:
    mine, theirs = truth.boxes[here], predictions.boxes[there]
    found, near = shapely.STRtree(shapely.box(*mine.T)).query(shapely.box(*theirs.T))
    shared = _shared_box_area(mine[near], theirs[found])
    iou = _ratio(shared, _box_areas(mine)[near], _box_areas(theirs)[found], truth.crowd[here][near])
    return _at_least(floor, near + here.start, found + there.start, iou)


def _mask_pairs(truth: Objects, here: slice, predictions: Objects, there: slice, floor: float) -> Pairs:
    mine, theirs = truth.polygons[here], predictions.polygons[there]
    found, near = shapely.STRtree(mine).query(theirs)
    crowd = truth.crowd[here][near]
    my_area, their_area = shapely.area(mine)[near], shapely.area(theirs)[found]
    # Most neighbours are ruled out by the little that their boxes share, without the exact intersection.
    bounds = _shared_box_area(shapely.bounds(mine)[near], shapely.bounds(theirs)[found])
    most = np.minimum(np.minimum(my_area, their_area), bounds)
    close = np.flatnonzero(_ratio(most, my_area, their_area, crowd) >= floor * (1 - 1e-9))
    found, near = found[close], near[close]
    shared = shapely.area(shapely.intersection(mine[near], theirs[found]))
    iou = _ratio(shared, my_area[close], their_area[close], crowd[close])
    return _at_least(floor, near + here.start, found + there.start, iou)


def _at_least(floor: float, truth: Integers, prediction: Integers, iou: Floats) -> Pairs:
    return Pairs(truth, prediction, iou)[reaches(iou, floor)]


def reaches(iou: Floats, threshold: float) -> Booleans:
    """Return which overlaps reach a threshold; 1 is reached in spite of rounding."""
    return iou >= min(threshold, 1 - 1e-10)


def _box_areas(boxes: Floats) -> Floats:
    return np.asarray(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1), np.float64)


def _shared_box_area(mine: Floats, theirs: Floats) -> Floats:
    return _box_areas(np.hstack([np.maximum(mine[:, :2], theirs[:, :2]), np.minimum(mine[:, 2:], theirs[:, 2:])]))


def _ratio(shared: Floats, mine: Floats, theirs: Floats, crowd: Booleans) -> Floats:
    whole = np.where(crowd, theirs, mine + theirs - shared)
    ratio = np.divide(shared, whole, out=np.zeros_like(shared), where=whole > 0)
    # The intersection of an outline with itself can come out larger than the outline, by rounding.
    return np.minimum(ratio, 1.0)
