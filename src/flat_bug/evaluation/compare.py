"""Compare predictions with ground truth, both in memory: match, count and score."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from flat_bug.datasets.coco import GroundTruthImage
from flat_bug.evaluation.average_precision import THRESHOLDS, average_precisions
from flat_bug.evaluation.match import match
from flat_bug.evaluation.objects import Objects
from flat_bug.evaluation.overlap import overlaps
from flat_bug.evaluation.predictions import ImagePair, PredictedImage
from flat_bug.evaluation.scores import score_table
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.evaluation.tables import image_table, object_table


@dataclass(frozen=True, eq=False)
class Comparison:
    """The tables of an evaluation.

    Attributes:
        objects: A row per annotation and per prediction without one (``tables.OBJECT_SCHEMA``).
        images: A row per image: ``dataset``, ``image``, ``gt``, ``predictions``, ``matched``, ``iou_sum``.
        scores: A row per dataset and one for all (``scores.SCORE_SCHEMA``).
    """

    objects: pl.DataFrame
    images: pl.DataFrame
    scores: pl.DataFrame


def compare(images: Sequence[ImagePair], settings: EvaluationSettings) -> Comparison:
    """Match and score predictions.

    Args:
        images: The annotated images, each with its predictions or None; no two of a dataset have the same file name.
        settings: How to match and to score.
    """
    truth = [annotated for annotated, _ in images]
    annotations, predictions = _annotations(truth), _predictions([predicted for _, predicted in images])
    names = pl.DataFrame(
        {"dataset": [image.dataset for image in truth], "image": [image.file_name for image in truth]},
        schema={"dataset": pl.String, "image": pl.String},
    )
    pairs = overlaps(
        annotations,
        predictions,
        len(truth),
        iou_type=settings.iou_type,
        floor=min(settings.iou_threshold, float(THRESHOLDS[0])),
        workers=settings.workers,
    )
    kept = predictions.scores >= settings.score_threshold
    matched = match(
        annotations,
        predictions,
        pairs[kept[pairs.prediction]],
        iou_threshold=settings.iou_threshold,
        min_size=settings.min_size,
        rules=settings.rules,
    )
    objects = object_table(annotations, predictions, matched, names, kept)
    counts = image_table(objects, names)
    precisions = average_precisions(annotations, predictions, pairs, names, min_size=settings.min_size)
    scores = score_table(counts, precisions, draws=settings.bootstrap_draws, seed=settings.seed)
    return Comparison(objects, counts, scores)


def _annotations(images: Sequence[GroundTruthImage]) -> Objects:
    return Objects(
        images=_image_rows(images),
        ids=_joined(images, lambda image: image.annotation_ids, np.empty(0, np.int64)),
        boxes=_joined(images, lambda image: image.boxes, np.empty((0, 4))),
        polygons=_joined(images, lambda image: image.polygons, np.empty(0, object)),
        scores=np.ones(sum(map(len, images))),
        crowd=_joined(images, lambda image: image.crowd, np.empty(0, np.bool_)),
    )


def _predictions(images: Sequence[PredictedImage | None]) -> Objects:
    present = [image if image is not None else PredictedImage.empty() for image in images]
    rows = _image_rows(present)
    return Objects(
        images=rows,
        ids=_joined(present, lambda image: np.arange(len(image)), np.empty(0, np.int64)),
        boxes=_joined(present, lambda image: image.boxes, np.empty((0, 4))),
        polygons=_joined(present, lambda image: image.polygons, np.empty(0, object)),
        scores=_joined(present, lambda image: image.scores, np.empty(0)),
        crowd=np.zeros(len(rows), np.bool_),
    )


def _image_rows(images: Sequence[Any]) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(images)), [len(image) for image in images])


def _joined(images: Sequence[Any], column: Callable[[Any], npt.NDArray[Any]], empty: npt.NDArray[Any]) -> Any:
    return np.concatenate([empty, *map(column, images)])
