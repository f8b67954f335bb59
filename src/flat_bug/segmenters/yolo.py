"""Turn what a YOLO segmentation network puts out into boxes and box-local mask logits."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.errors import WeightsError
from flat_bug.segmenters.base import ModelCard, TileInstances
from flat_bug.segmenters.outlines import reach
from flat_bug.suppression import keep_best

BOX_OVERLAP = 0.7
"""Boxes of one class that overlap more than this (IoU) are one animal; less, since animals touch, may be two."""
BLOCK = 1000
"""So many boxes are compared at once: a network that sees animals everywhere would fill the memory with pairs."""

MOST_STREAMS = 4
"""So many tiles are worked on at the same time, of those that are handed over at once; each takes some 150 MB."""

Floats32 = npt.NDArray[np.float32]


class YoloSegmenter:
    """A YOLO segmentation network, whatever library runs it.

    Args:
        card: Card of the weights.
        run: Takes ``float32 (n, 3, T, T)`` and returns, in any order, the predictions ``(n, …, …)`` and the prototypes
            ``(n, coefficients, h, w)``.
        batch: Number of tiles in one call; by default any.
        streams: So many calls may run at the same time.
    """

    def __init__(
        self,
        card: ModelCard,
        run: Callable[[Floats32], Sequence[Floats32]],
        batch: int | None = None,
        streams: int = 1,
    ) -> None:
        self.card = card
        self._run = run
        self._batch = batch
        self._streams = streams

    def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
        """Segment a batch of tiles; see ``Segmenter``."""
        step = self._batch or max(1, len(tiles))
        calls = [tiles[start : start + step] for start in range(0, len(tiles), step)]

        def call(some: npt.NDArray[np.uint8]) -> list[TileInstances]:
            return [decode(*outputs, self.card, score_threshold) for outputs in self._outputs(some)]

        with ThreadPoolExecutor(self._streams) as pool:
            return list(chain.from_iterable(pool.map(call, calls)))

    def _outputs(self, tiles: npt.NDArray[np.uint8]) -> list[tuple[Floats32, Floats32]]:
        batch = normalised(tiles, self.card)
        missing = (self._batch or len(tiles)) - len(tiles)
        if missing:
            batch = np.concatenate([batch, np.zeros((missing, *batch.shape[1:]), np.float32)])
        predictions, prototypes = sorted(self._run(batch), key=np.ndim)
        check_output(predictions, prototypes, self.card)
        return list(zip(predictions, prototypes, strict=True))[: len(tiles)]


def streams_of(processors: int) -> int:
    """Return how many tiles are worked on at the same time, the processors shared by all of them.

    A processor for each tile does more than all for one tile; but each tile takes memory of its own. Each is a call of
    its own: a processor gains nothing from larger batches than a graph insists on.
    """
    return min(processors, MOST_STREAMS)


def normalised(tiles: npt.NDArray[np.uint8], card: ModelCard) -> npt.NDArray[np.float32]:
    """Return tiles ``(n, T, T, 3)`` as the float32 ``(n, 3, T, T)`` that the network was trained with."""
    factor = 1 / (255 * np.array(card.std, np.float32))
    offset = np.array(card.mean, np.float32) / np.array(card.std, np.float32)
    # Plane by plane first: arithmetic on every third byte takes five times as long.
    planes = np.ascontiguousarray(tiles.transpose(0, 3, 1, 2))
    batch = np.multiply(planes, factor[:, None, None], dtype=np.float32)
    if offset.any():
        batch -= offset[:, None, None]
    return batch


def check_output(predictions: Floats32, prototypes: Floats32, card: ModelCard) -> None:
    """Refuse what is not the output of the network that a card describes: it would be decoded to nonsense.

    Raises:
        WeightsError: The number of classes is another, or there are values that are not finite.
    """
    # What is not a number is above no threshold: animals would be lost without a word.
    if not (np.isfinite(predictions).all() and np.isfinite(prototypes).all()):
        raise WeightsError(
            "the network puts out values that are not finite", where=card.name, mend="Export it again, in float32."
        )
    coefficients, named = prototypes.shape[1], len(card.classes)
    if _is_end_to_end(predictions[0], coefficients):
        seen = int(predictions[..., 5].max(initial=0)) + 1
        fits = seen <= named
    else:
        seen = predictions.shape[1] - 4 - coefficients
        fits = seen == named
    if not fits:
        raise WeightsError(
            f"the network has {seen} classes, its card names {named}",
            where=card.name,
            mend="Give the weights their own card.",
        )


def decode(predictions: Floats32, prototypes: Floats32, card: ModelCard, score_threshold: float) -> TileInstances:
    """Decode the output for one tile.

    Args:
        predictions: ``(4 + classes + coefficients, anchors)``: centre x, centre y, width, height in tile pixels, class
            scores, mask coefficients. Or, from a network that suppresses duplicates itself, ``(detections, 6 +
            coefficients)``: x1, y1, x2, y2, score, class, mask coefficients; told apart by its shape.
        prototypes: ``(coefficients, h, w)``, which cover the tile.
        card: Card of the network.
        score_threshold: Candidates at or below this are left out.
    """
    coefficients_per_mask = len(prototypes)
    if _is_end_to_end(predictions, coefficients_per_mask):
        boxes, scores, classes, coefficients = _end_to_end(predictions, score_threshold)
    else:
        boxes, scores, classes, coefficients = _one_per_anchor(predictions, coefficients_per_mask, score_threshold)
    boxes = np.clip(boxes, 0, card.tile)
    best = np.argsort(-scores, kind="stable")
    best = best[(boxes[best, 2] > boxes[best, 0]) & (boxes[best, 3] > boxes[best, 1])]
    kept = best[_best_boxes(boxes[best], classes[best], card.max_detections)]
    frames, masks = _box_masks(boxes[kept], coefficients[kept], prototypes, card.tile)
    # Fast sigmoids leave 0–1 by an ulp.
    confidences = np.clip(scores[kept].astype(np.float64), 0, 1)
    return TileInstances(boxes[kept], confidences, classes[kept], masks, frames)


_Candidates = tuple[npt.NDArray[np.float64], Floats32, npt.NDArray[np.int64], Floats32]


def _is_end_to_end(predictions: Floats32, coefficients: int) -> bool:
    return bool(predictions.shape[1] == 6 + coefficients)


def _end_to_end(predictions: Floats32, score_threshold: float) -> _Candidates:
    rows = predictions[predictions[:, 4] > score_threshold]
    return rows[:, :4].astype(np.float64), rows[:, 4], rows[:, 5].astype(np.int64), rows[:, 6:]


def _one_per_anchor(predictions: Floats32, coefficients: int, score_threshold: float) -> _Candidates:
    class_scores = predictions[4 : len(predictions) - coefficients]
    found = np.flatnonzero(class_scores.max(axis=0) > score_threshold)
    rows = predictions[:, found].T
    class_rows = rows[:, 4 : rows.shape[1] - coefficients]
    classes = class_rows.argmax(axis=1)
    scores = np.take_along_axis(class_rows, classes[:, None], axis=1)[:, 0]
    centres, halves = rows[:, :2].astype(np.float64), rows[:, 2:4].astype(np.float64) / 2
    return np.hstack([centres - halves, centres + halves]), scores, classes, rows[:, rows.shape[1] - coefficients :]


def _best_boxes(boxes: npt.NDArray[np.float64], classes: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """Return the rows of the boxes to keep, at most so many, of boxes that come best first."""
    kept = np.empty(0, np.int64)
    for start in range(0, len(boxes), BLOCK):
        # What is kept already comes first, so that it stays and suppresses what follows.
        rows = np.concatenate([kept, np.arange(start, min(start + BLOCK, len(boxes)))])
        kept = rows[_without_duplicates(boxes[rows], classes[rows])][:most]
        if len(kept) == most:
            break
    return kept


def _without_duplicates(boxes: npt.NDArray[np.float64], classes: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Return which boxes, best first, no better kept box of their class overlaps."""
    first, second = shapely.STRtree(shapely.box(*boxes.T)).query(shapely.box(*boxes.T))
    pairs = (first < second) & (classes[first] == classes[second])
    first, second = first[pairs], second[pairs]
    low, high = np.maximum(boxes[first, :2], boxes[second, :2]), np.minimum(boxes[first, 2:], boxes[second, 2:])
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    shared = np.prod(high - low, axis=1)
    same = shared > BOX_OVERLAP * (areas[first] + areas[second] - shared)
    return keep_best(len(boxes), first[same], second[same])


def _box_masks(
    boxes: npt.NDArray[np.float64], coefficients: Floats32, prototypes: Floats32, tile: int
) -> tuple[npt.NDArray[np.float64], tuple[Floats32, ...]]:
    """Return the frames ``(n, 4)`` in tile pixels and the mask logits inside them."""
    _, rows, columns = prototypes.shape
    cell = np.array([tile / columns, tile / rows] * 2)
    limits = reach(boxes, cell) / cell
    # A cell more on each side, so that the outline can be interpolated up to its limits.
    first = np.maximum(np.floor(limits[:, :2]).astype(np.int64) - 1, 0)
    last = np.minimum(np.ceil(limits[:, 2:]).astype(np.int64) + 1, [columns, rows])
    masks = tuple(
        np.tensordot(weights, prototypes[:, y1:y2, x1:x2], axes=1)
        for weights, (x1, y1), (x2, y2) in zip(coefficients, first, last, strict=True)
    )
    return np.hstack([first, last]) * cell, masks
