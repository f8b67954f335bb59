"""The table of objects and the table of images: what is counted, before any ratio."""

import numpy as np
import polars as pl

from flat_bug.evaluation.match import NOBODY, Match
from flat_bug.evaluation.objects import Booleans, Floats, Integers, Objects

OBJECT_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "dataset": pl.String,
    "image": pl.String,
    "kind": pl.String,
    "gt_id": pl.Int64,
    "pred_id": pl.Int64,
    "score": pl.Float64,
    "iou": pl.Float64,
    "gt_area": pl.Float64,
    "pred_area": pl.Float64,
    "gt_size": pl.Float64,
    "pred_size": pl.Float64,
    "gt_box": pl.List(pl.Float64),
    "pred_box": pl.List(pl.Float64),
    "ignored": pl.Boolean,
}


def object_table(
    truth: Objects, predictions: Objects, matched: Match, images: pl.DataFrame, kept: Booleans
) -> pl.DataFrame:
    """Return a row per annotation and per prediction without one, with the columns of ``OBJECT_SCHEMA``.

    Args:
        truth: The annotations.
        predictions: The predictions.
        matched: Which is which.
        images: ``dataset`` and ``image`` of each image row.
        kept: ``(n predictions,)`` whether a prediction is in the table; the others take no annotation.
    """
    partner, spurious = _partners(len(truth), matched, predictions.scores, kept)
    rows = np.concatenate([np.arange(len(truth)), np.full(len(spurious), NOBODY)])
    others = np.concatenate([partner, spurious])
    image_of = np.concatenate([truth.images, predictions.images[spurious]])
    frame = pl.DataFrame(
        {
            "dataset": images["dataset"].gather(image_of),
            "image": images["image"].gather(image_of),
            "kind": np.where(rows == NOBODY, "spurious", np.where(others == NOBODY, "missed", "matched")),
            "gt_id": _column(truth.ids, rows),
            "pred_id": _column(predictions.ids, others),
            "score": _column(predictions.scores, others),
            "iou": _column(matched.iou, np.where(rows == NOBODY, NOBODY, others)),
            "gt_area": _column(truth.areas, rows),
            "pred_area": _column(predictions.areas, others),
            "gt_size": _column(truth.sizes, rows),
            "pred_size": _column(predictions.sizes, others),
            "gt_box": _column(truth.boxes, rows),
            "pred_box": _column(predictions.boxes, others),
            "ignored": np.concatenate([matched.ignored_truth, matched.ignored[spurious]]),
        },
        schema=OBJECT_SCHEMA,
    )
    return frame[np.argsort(image_of, kind="stable")] if len(frame) else frame


def image_table(objects: pl.DataFrame, images: pl.DataFrame) -> pl.DataFrame:
    """Return a row per image with the objects that count: ``gt``, ``predictions``, ``matched`` and ``iou_sum``.

    Args:
        objects: A table with the columns of ``OBJECT_SCHEMA``.
        images: ``dataset`` and ``image`` of every image, those without objects too.
    """
    matched = pl.col("kind") == "matched"
    counts = (
        objects.filter(~pl.col("ignored"))
        .group_by("dataset", "image")
        .agg(
            gt=(pl.col("kind") != "spurious").sum().cast(pl.Int64),
            predictions=(pl.col("kind") != "missed").sum().cast(pl.Int64),
            matched=matched.sum().cast(pl.Int64),
            iou_sum=pl.col("iou").filter(matched).sum(),
        )
    )
    return (
        images.select("dataset", "image")
        .join(counts, on=["dataset", "image"], how="left", maintain_order="left")
        .with_columns(pl.col("gt", "predictions", "matched").fill_null(0), pl.col("iou_sum").fill_null(0.0))
    )


def _partners(count: int, matched: Match, scores: Floats, kept: Booleans) -> tuple[Integers, Integers]:
    """Return the prediction of each annotation or -1, and the predictions without one."""
    partner = np.full(count, NOBODY)
    rows = np.flatnonzero(matched.truth != NOBODY)
    # Several predictions may lie in one crowd: its row shows the best of them, which is assigned last.
    best_last = rows[np.argsort(scores[rows], kind="stable")]
    partner[matched.truth[best_last]] = best_last
    shown = np.zeros(len(kept), np.bool_)
    shown[partner[partner != NOBODY]] = True
    return partner, np.flatnonzero(kept & ~shown)


def _column(values: Integers | Floats, rows: Integers) -> pl.Series:
    """Return the values of the rows, a box as a list; null where the row is -1."""
    chosen = pl.Series("row", rows).to_frame().select(pl.when(pl.col("row") >= 0).then("row")).to_series()
    column = pl.Series(values).gather(chosen)
    return column.cast(pl.List(pl.Float64)) if values.ndim == 2 else column
