"""Objects of an evaluation as vector outlines over a part of their image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import shapely

from flat_bug.datasets.coco import read_coco
from flat_bug.errors import FlatBugError
from flat_bug.evaluation.marks import MARKS
from flat_bug.evaluation.predictions import pair_images, read_predictions

SHAPES_AT_MOST = 400
TOLERANCE = 0.4
"""Outlines are simplified by this, in pixels of the picture: less than the width of the line."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Window:
    """The part of an image that is shown, in image pixels, and the scale at which it is shown."""

    x: int
    y: int
    width: int
    height: int
    scale: float


@dataclass(frozen=True)
class Shape:
    """An outline as an SVG path in picture pixels, with a note for pointing at it.

    Attributes:
        kind: ``matched``, ``truth`` (the annotation of a matched one), ``missed``, ``spurious`` or ``ignored``.
        path: The ``d`` of an SVG path.
        note: What it is, in words.
    """

    kind: str
    path: str
    note: str


@dataclass(frozen=True)
class ImageOutlines:
    """Outlines of an image: annotations by id, predictions by row; where one is absent, its box is drawn."""

    truth: Mapping[int, shapely.Geometry] = field(default_factory=dict)
    predictions: Mapping[int, shapely.Geometry] = field(default_factory=dict)


def read_outlines(
    ground_truth: Path | None, predictions: Path | None, names: Sequence[str]
) -> dict[str, ImageOutlines]:
    """Read the outlines of some images, by their names in the ground truth.

    A file that is absent or cannot be read leaves boxes to be drawn: the scores do not depend on it.
    """
    truth: dict[str, dict[int, Any]] = {}
    predicted: dict[str, dict[int, Any]] = {}
    try:
        if ground_truth is not None:
            for image in read_coco(ground_truth).images:
                truth[image.file_name] = dict(zip(image.annotation_ids.tolist(), image.polygons, strict=True))
    except FlatBugError:
        truth = {}
    try:
        if predictions is not None:
            images = read_predictions(predictions).images
            pairs = pair_images(names, [image.name for image in images])
            predicted = {names[row]: dict(enumerate(images[other].polygons)) for other, row in pairs.items()}
    except FlatBugError:
        predicted = {}
    return {name: ImageOutlines(truth.get(name, {}), predicted.get(name, {})) for name in names}


def object_boxes(objects: pl.DataFrame) -> Floats:
    """Return ``(n, 4)``: the annotated box of each object, or the predicted one where there is no annotation."""
    boxes = objects.select(pl.coalesce("gt_box", "pred_box").alias("box"))["box"].to_list()
    return np.array(boxes, np.float64).reshape(-1, 4)


def draw_shapes(objects: pl.DataFrame, outlines: ImageOutlines, window: Window) -> tuple[Shape, ...]:
    """Return the outlines of the objects that reach into the window, those to be seen best last.

    Args:
        objects: Rows of one image in a per-object table.
        outlines: Their outlines, where known.
        window: The part of the image that is shown.
    """
    boxes = object_boxes(objects)
    low, high = np.array([window.x, window.y]), np.array([window.x + window.width, window.y + window.height])
    inside = (boxes[:, :2] < high).all(axis=1) & (boxes[:, 2:] > low).all(axis=1)
    shapes: list[Shape] = []
    for row in objects.filter(pl.Series(inside, dtype=pl.Boolean)).head(SHAPES_AT_MOST).iter_rows(named=True):
        shapes += _shapes_of(row, outlines, window)
    order = list(MARKS)
    return tuple(sorted(shapes, key=lambda shape: order.index(shape.kind)))


def _shapes_of(row: Mapping[str, Any], outlines: ImageOutlines, window: Window) -> list[Shape]:
    truth = _path(outlines.truth.get(row["gt_id"]), row["gt_box"], window)
    prediction = _path(outlines.predictions.get(row["pred_id"]), row["pred_box"], window)
    note = _note(row)
    if row["ignored"]:
        return [Shape("ignored", prediction or truth, f"does not count: {note}")]
    if row["kind"] == "missed":
        return [Shape("missed", truth, f"missed: {note}")]
    if row["kind"] == "spurious":
        return [Shape("spurious", prediction, f"no animal: {note}")]
    return [Shape("truth", truth, ""), Shape("matched", prediction, f"found: {note}")]


def _note(row: Mapping[str, Any]) -> str:
    size = row["gt_size"] if row["gt_size"] is not None else row["pred_size"]
    parts = [] if size is None else [f"{size:.0f} px"]
    parts += [f"{name} {row[key]:.2f}" for key, name in (("score", "score"), ("iou", "IoU")) if row[key] is not None]
    return ", ".join(parts)


def _path(outline: shapely.Geometry | None, box: Sequence[float] | None, window: Window) -> str:
    if outline is None or outline.is_empty:
        if box is None:
            return ""
        outline = shapely.box(*box)
    moved = shapely.transform(outline, lambda points: (points - (window.x, window.y)) * window.scale)
    rings = shapely.get_rings(shapely.get_parts(shapely.simplify(moved, TOLERANCE)))
    return "".join(_ring(shapely.get_coordinates(ring)[:-1]) for ring in rings)


def _ring(points: Floats) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z"
