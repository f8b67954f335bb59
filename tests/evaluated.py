"""Small evaluations for tests of what is shown: real files, made by the same code as in a run."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from flat_bug.evaluation.report import ReportModel
from flat_bug.evaluation.run import evaluate

WIDTH, HEIGHT = 640, 480


@dataclass(frozen=True)
class GroundTruth:
    """A ground truth file and the folder of its images."""

    path: Path
    images: Path


def make_ground_truth(
    folder: Path, datasets: Sequence[str] = ("forest", "meadow"), *, images: int = 3, animals: int = 6, seed: int = 0
) -> GroundTruth:
    """Write dark ellipses on light paper as images, and their outlines as COCO."""
    generator = np.random.default_rng(seed)
    document: dict[str, Any] = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "insect"}]}
    pictures = folder / "images"
    pictures.mkdir(parents=True)
    for number, dataset in enumerate(datasets):
        for index in range(images):
            name = f"{number}-{index}.jpg"
            image_id = len(document["images"]) + 1
            document["images"].append(
                {"id": image_id, "file_name": name, "width": WIDTH, "height": HEIGHT, "dataset": dataset}
            )
            outlines = [_ellipse(generator, cell) for cell in range(animals)]
            document["annotations"] += [
                _annotation(len(document["annotations"]) + 1 + row, image_id, outline)
                for row, outline in enumerate(outlines)
            ]
            _write_picture(pictures / name, outlines)
    path = folder / "instances_default.json"
    path.write_text(json.dumps(document))
    return GroundTruth(path, pictures)


def make_model(
    folder: Path, truth: GroundTruth, name: str, *, recall: float = 0.8, spurious: int = 1, seed: int = 1, **others: Any
) -> ReportModel:
    """Write predictions that find a share of the animals and some that are none, and evaluate them."""
    generator = np.random.default_rng(seed)
    document = json.loads(truth.path.read_text())
    found = [entry for entry in document["annotations"] if generator.random() < recall]
    for image in document["images"]:
        found += [_annotation(0, image["id"], _ellipse(generator, cell) * 0.5) for cell in range(spurious)]
    document["annotations"] = [
        {**entry, "id": row, "score": float(generator.uniform(0.3, 1))} for row, entry in enumerate(found, start=1)
    ]
    predictions = folder / "predictions"
    predictions.mkdir(parents=True)
    (predictions / "coco_instances.json").write_text(json.dumps(document))
    evaluate(truth.path, predictions, folder / "evaluation")
    return ReportModel(
        name=name,
        weights=f"{name}.onnx",
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        evaluation=folder / "evaluation",
        predictions=predictions,
        ground_truth=truth.path,
        images=truth.images,
        **others,
    )


def _ellipse(generator: np.random.Generator, cell: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the outline of an ellipse in its own cell of the image, so that no two overlap."""
    across = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    centre = np.array([80 + 160 * (cell % 4), 80 + 160 * (cell // 4 % 3)])
    radii = generator.uniform(18, 70, 2)
    outline: np.ndarray[Any, np.dtype[np.float64]] = centre + radii * np.stack([np.cos(across), np.sin(across)], axis=1)
    return outline


def _annotation(number: int, image_id: int, outline: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, Any]:
    low, high = outline.min(axis=0), outline.max(axis=0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(np.prod(high - low)),
        "segmentation": [outline.ravel().tolist()],
    }


def _write_picture(path: Path, outlines: Sequence[np.ndarray[Any, np.dtype[np.float64]]]) -> None:
    canvas = np.full((HEIGHT, WIDTH, 3), 235, np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for outline in outlines:
        centre = (outline.min(axis=0) + outline.max(axis=0)) / 2
        radii = (outline.max(axis=0) - outline.min(axis=0)) / 2
        canvas[((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 < 1] = (60, 45, 30)
    pyvips.Image.new_from_array(canvas).write_to_file(str(path))
