"""``fb evaluate``, also known as ``fb_evaluate``."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flat_bug.cli._support import print_json, print_table
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_OK
from flat_bug.evaluation.run import Evaluation
from flat_bug.evaluation.run import evaluate as run_evaluation
from flat_bug.evaluation.settings import EvaluationSettings

COLUMNS = ("dataset", "images", "gt", "predictions", "precision", "recall", "f1", "mean_iou", "ap50", "ap")
ALL_IMAGES = -1
"""What flat-bug 1.x takes for no limit."""


def evaluate(
    *,
    predictions: Annotated[Path, Parameter(["--predictions", "-p"])],
    ground_truth: Annotated[Path, Parameter(["--ground-truth", "-g"])],
    output: Annotated[Path, Parameter(["--output", "--output-directory", "-o"])],
    images: Annotated[Path | None, Parameter(["--images", "--image-directory", "-I"])] = None,
    config: Path | None = None,
    plot: Annotated[bool, Parameter(["--plot", "-P"])] = False,
    no_boxes: Annotated[bool, Parameter(["--no-boxes", "-b"])] = False,
    coco_predictions: Annotated[bool, Parameter(["--coco-predictions", "-c"])] = False,
    scale: Annotated[float | None, Parameter(["--scale", "-s"])] = None,
    max_images: Annotated[int | None, Parameter(["--max-images", "-n"])] = None,
    workers: int | None = None,
    combine: bool = False,
    iou_type: Literal["mask", "box"] | None = None,
    iou_threshold: float | None = None,
    min_size: float | None = None,
    rules: Literal["coco", "bench"] | None = None,
    score_threshold: float | None = None,
    datasets: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    json: bool = False,
) -> int:
    """Score predictions against ground truth.

    Precision, recall, F1, overlap and AP of each dataset and of all together, a
    table of every object, and with -P pictures of what was found and missed.

    Example: fb evaluate -p predictions -g truth.json -o evaluation -P

    Args:
        predictions: Output folder of `fb predict`, folder with JSON files of images, or COCO file.
        ground_truth: COCO file.
        output: Folder for the tables and overlays.
        images: Folder of the images; by default they are looked for beside the ground truth.
        config: Settings in YAML. Of a configuration for prediction only the score threshold is used.
        plot: Draw every image with what was matched, missed and spurious.
        no_boxes: Draw outlines only.
        coco_predictions: The predictions are a COCO file, whatever it is called.
        scale: Scale of the overlays, 0.5 by default.
        max_images: Use the first images only, by name.
        workers: Images that are compared at once, 8 by default.
        combine: Write the tables of flat-bug 1.x too, one for each image and one for all.
        iou_type: Compare outlines or boxes; outlines by default.
        iou_threshold: Least overlap of a prediction with its animal, 0.5 by default; flat-bug 1.x used 0.2.
        min_size: Smaller objects do not count; sqrt(width x height) of the box in pixels, 32 by default.
        rules: Matching as in COCO (the default), or as in flat-bug's own benchmark; docs/evaluate.md compares them.
        score_threshold: Predictions that score less do not count, except in AP; 0 by default.
        datasets: Names of datasets at the start of image names, where the ground truth does not say.
        json: Print one machine-readable object.
    """
    given = {
        "overlays": "all" if plot else None,
        "overlay_boxes": False if no_boxes else None,
        "overlay_scale": scale,
        "max_images": None if max_images == ALL_IMAGES else max_images,
        "workers": workers,
        "legacy_tables": combine or None,
        "iou_type": iou_type,
        "iou_threshold": iou_threshold,
        "min_size": min_size,
        "rules": rules,
        "score_threshold": score_threshold,
        "datasets": datasets,
    }
    base = EvaluationSettings.from_yaml(config) if config else EvaluationSettings()
    changed = {name: value for name, value in given.items() if value is not None}
    settings = EvaluationSettings.from_mapping({**base.model_dump(), **changed}, where="the command line")
    evaluation = run_evaluation(ground_truth, predictions, output, settings, images, coco=coco_predictions)
    if json:
        print_json(
            {
                "output": str(output),
                "scores": evaluation.scores.to_dicts(),
                "warnings": list(evaluation.warnings),
                "failures": list(evaluation.failures),
            }
        )
    else:
        _print(evaluation, output, settings)
    return EXIT_ITEMS_FAILED if evaluation.failures else EXIT_OK


def _print(evaluation: Evaluation, output: Path, settings: EvaluationSettings) -> None:
    rule = f"{settings.iou_type} IoU ≥ {settings.iou_threshold:g}, objects of {settings.min_size:g} pixels or more"
    table = evaluation.scores.select(COLUMNS).rename({"predictions": "predicted"})
    print_table(table, f"Matched at {rule}, score ≥ {settings.score_threshold:g}")
    for warning in evaluation.warnings:
        print(f"Note: {warning}")
    for failure in evaluation.failures:
        print(f"Not drawn: {failure}")
    print(f"Tables: {output}")
