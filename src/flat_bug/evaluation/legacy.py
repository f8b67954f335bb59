"""The tables that flat-bug 1.x writes for its R script: one for each image, and one for all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from flat_bug.evaluation.names import file_stems
from flat_bug.evaluation.predictions import ImagePair
from flat_bug.files import atomic_path
from flat_bug.instances.metadata import largest_ring

COMBINED = "combined_results"
RESERVED = (COMBINED, "objects", "images", "scores")
ABSENT = -1
SCHEMA: dict[str, type[pl.DataType]] = {
    **dict.fromkeys(("idx_1", "idx_2"), pl.Int64),
    **dict.fromkeys(("conf1", "conf2"), pl.String),
    **dict.fromkeys(("IoU", "contourArea_1", "contourArea_2"), pl.Float64),
    **dict.fromkeys(("bbox_1", "bbox_2", "contour_1", "contour_2"), pl.String),
}


def write_legacy_tables(objects: pl.DataFrame, images: Sequence[ImagePair], output: Path) -> None:
    """Write ``<image stem>.csv`` for each image and ``combined_results.csv``, with ``;`` between columns.

    Group 1 is the ground truth, 2 the predictions. Objects that do not count are left out, as flat-bug 1.x leaves out
    what is below its least size. An outline is its largest part without holes.

    Args:
        objects: A row per annotation and per prediction without one.
        images: The annotated images, each with its predictions or None.
        output: The folder to write to.

    Raises:
        OutputError: The folder cannot be written to.
    """
    rows = objects.filter(~pl.col("ignored")).partition_by("dataset", "image", as_dict=True)
    stems = file_stems([truth.file_name for truth, _ in images], RESERVED)
    tables = [pl.DataFrame(schema={"image": pl.String, **SCHEMA})]
    for pair, stem in zip(images, stems, strict=True):
        key = (pair[0].dataset, pair[0].file_name)
        table = _table(rows.get(key, objects.clear()), pair)
        _write(table, output / f"{stem}.csv")
        tables.append(table.select(pl.lit(stem).alias("image"), pl.all()))
    _write(pl.concat(tables), output / f"{COMBINED}.csv")


def _table(objects: pl.DataFrame, pair: ImagePair) -> pl.DataFrame:
    truth, predicted = pair
    row_of = {number: row for row, number in enumerate(truth.annotation_ids.tolist())}
    mine = [row_of.get(number, ABSENT) for number in objects["gt_id"]]
    theirs = [ABSENT if row is None else row for row in objects["pred_id"]]
    found = np.empty(0, object) if predicted is None else predicted.polygons
    return pl.DataFrame(
        {
            "idx_1": mine,
            "idx_2": theirs,
            "conf1": ["NA"] * len(objects),
            "conf2": ["NA" if score is None else repr(score) for score in objects["score"]],
            "IoU": objects["iou"].fill_null(0.0),
            "contourArea_1": objects["gt_area"].fill_null(0.0),
            "contourArea_2": objects["pred_area"].fill_null(0.0),
            "bbox_1": [_box(box) for box in objects["gt_box"]],
            "bbox_2": [_box(box) for box in objects["pred_box"]],
            "contour_1": [_contour(truth.polygons, row) for row in mine],
            "contour_2": [_contour(found, row) for row in theirs],
        },
        schema=SCHEMA,
    )


def _contour(polygons: npt.NDArray[np.object_], row: int) -> str:
    return "[]" if row == ABSENT else str(largest_ring(polygons[row]).tolist())


def _box(box: pl.Series | None) -> str:
    return "[]" if box is None else str(box.to_list())


def _write(table: pl.DataFrame, path: Path) -> None:
    with atomic_path(path) as temporary:
        table.write_csv(temporary, separator=";")
