"""Evaluate predictions against ground truth: read both, compare them, and write the tables and overlays."""

import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import shapely

from flat_bug import __version__
from flat_bug.datasets.coco import CocoFile, GroundTruthImage, read_coco
from flat_bug.errors import DatasetError, UsageError
from flat_bug.evaluation.compare import Comparison, compare
from flat_bug.evaluation.legacy import write_legacy_tables
from flat_bug.evaluation.overlays import write_overlays
from flat_bug.evaluation.predictions import ImagePair, PredictedImage, pair_images, read_predictions
from flat_bug.evaluation.scores import POOLED, RATIOS
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.files import atomic_path, printable, remove, sha256_of, write_json

NAMES_IN_A_WARNING = 5


@dataclass(frozen=True, eq=False)
class Evaluation(Comparison):
    """What an evaluation found, beside its tables.

    Attributes:
        missing: Annotated images without any entry in the predictions; they count as images without detections.
        unknown: Predicted images that are not annotated; they do not count.
        warnings: What a reader of the scores should know.
        failures: Overlays that could not be drawn, with the reason; the scores do not depend on them.
    """

    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    failures: tuple[str, ...] = ()


def evaluate(
    ground_truth: Path,
    predictions: Path,
    output: Path,
    settings: EvaluationSettings | None = None,
    images: Path | None = None,
    *,
    coco: bool = False,
) -> Evaluation:
    """Score predictions against ground truth and write what was found.

    Writes ``objects.parquet``, ``objects.csv``, ``images.csv``, ``scores.csv``, overlays where they are asked for, and
    last of all ``evaluation.json``.

    Args:
        ground_truth: COCO file.
        predictions: Output folder of ``fb predict``, COCO file, or JSON files of images.
        output: Folder to write to.
        settings: How to match and to score; scorer v1 by default.
        images: Folder of the images, for overlays; by default they are looked for beside the ground truth.
        coco: Whether the predictions must be COCO.

    Raises:
        UsageError: There is no such folder of images.
        DatasetError: A file cannot be read, breaks its format, or does not fit the other.
        OutputError: The output cannot be written.
    """
    settings = settings or EvaluationSettings()
    if images is not None and not images.is_dir():
        raise UsageError("there is no such folder of images", where=images, mend="Check the path (-I).")
    annotated = read_coco(ground_truth, settings.datasets)
    found = read_predictions(predictions, coco=coco)
    truth = _sorted_images(annotated)
    partners = pair_images([image.file_name for image in truth], [image.name for image in found.images])
    predicted: dict[int, PredictedImage] = {other: found.images[row] for row, other in partners.items()}
    pairs = [(image, predicted.get(row)) for row, image in enumerate(truth)][: settings.max_images]
    comparison = compare(pairs, settings)
    missing = tuple(image.file_name for image, other in pairs if other is None)
    unknown = tuple(image.name for row, image in enumerate(found.images) if row not in partners)
    summary_file = output / "evaluation.json"
    # While it is not there, the tables may be those of different evaluations.
    remove([summary_file])
    write_tables(comparison, output)
    if settings.legacy_tables:
        write_legacy_tables(comparison.objects, pairs, output)
    evaluation = Evaluation(
        comparison.objects,
        comparison.images,
        comparison.scores,
        missing,
        unknown,
        _warnings(pairs, missing, unknown, settings),
        write_overlays(comparison.objects, pairs, _image_folders(ground_truth, images), output, settings),
    )
    digests = {"ground_truth": sha256_of(ground_truth), "predictions": found.sha256}
    write_json(summary_file, _summary(evaluation, settings, digests))
    return evaluation


def write_tables(comparison: Comparison, output: Path) -> None:
    """Write the tables of objects, images and scores into a folder.

    Raises:
        OutputError: The folder cannot be written to.
    """
    with atomic_path(output / "objects.parquet") as temporary:
        comparison.objects.write_parquet(temporary)
    boxes = pl.col("gt_box", "pred_box")
    # CSV has no lists: boxes are written as four numbers with spaces between them.
    flat = comparison.objects.with_columns(boxes.cast(pl.List(pl.String)).list.join(" "))
    for name, frame in (("objects", flat), ("images", comparison.images), ("scores", comparison.scores)):
        with atomic_path(output / f"{name}.csv") as temporary:
            frame.write_csv(temporary)


def _sorted_images(annotated: CocoFile) -> list[GroundTruthImage]:
    """Return the images by dataset and name; those of no known dataset belong to that of the file's folder.

    Raises:
        DatasetError: Two images have the same name.
    """
    fallback = annotated.path.resolve().parent.name
    images = [
        replace(image, dataset=printable(image.dataset or fallback), file_name=printable(image.file_name))
        for image in annotated.images
    ]
    twice = [name for name, count in Counter(image.file_name for image in images).items() if count > 1]
    if twice:
        raise DatasetError(
            f"two images have the name {twice[0]!r}",
            where=annotated.path,
            mend="Write the names with their folders, so that each is used once.",
        )
    return sorted(images, key=lambda image: (image.dataset, image.file_name))


def _image_folders(ground_truth: Path, images: Path | None) -> list[Path]:
    """Return where the images may be: as given, or beside the file, or where a prepared tree has them."""
    if images is not None:
        return [images]
    folder = ground_truth.resolve().parent
    return [folder, folder.parent.parent / "images" / folder.name]


def _warnings(
    pairs: Sequence[ImagePair], missing: Sequence[str], unknown: Sequence[str], settings: EvaluationSettings
) -> tuple[str, ...]:
    warnings = []
    if missing:
        warnings.append(f"{len(missing)} annotated images have no entry in the predictions: {_some(missing)}")
    if unknown:
        warnings.append(f"{len(unknown)} predicted images are not annotated and do not count: {_some(unknown)}")
    boxes = sum(int(image.box_only.sum()) for image, _ in pairs)
    if boxes and settings.iou_type == "mask":
        warnings.append(f"{boxes} annotations have no outline and are compared by their box")
    return tuple(warnings)


def _some(names: Sequence[str]) -> str:
    rest = len(names) - NAMES_IN_A_WARNING
    return ", ".join(names[:NAMES_IN_A_WARNING]) + (f" and {rest} more" if rest > 0 else "")


def _summary(evaluation: Evaluation, settings: EvaluationSettings, digests: dict[str, str]) -> dict[str, Any]:
    datasets = evaluation.scores.filter(pl.col("dataset") != POOLED)
    return {
        "settings": settings.model_dump(mode="json"),
        "sha256": digests,
        "versions": {
            "flat_bug": __version__,
            "python": platform.python_version(),
            "numpy": np.__version__,
            "shapely": shapely.__version__,
            "geos": shapely.geos_version_string,
            "polars": pl.__version__,
        },
        "scores": evaluation.scores.to_dicts(),
        # Every dataset counts alike, however many animals it has.
        "macro": {name: datasets[name].mean() for name in (*RATIOS, "mean_iou", "ap50", "ap")},
        "missing": list(evaluation.missing),
        "unknown": list(evaluation.unknown),
        "warnings": list(evaluation.warnings),
        "failures": list(evaluation.failures),
    }
