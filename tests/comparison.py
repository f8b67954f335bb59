"""A place with images, ground truth and networks that always answer the same, for runs that compare models."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pyvips
from onnx import TensorProto, helper, numpy_helper

from flat_bug.segmenters.base import ModelCard, card_path

SIDE = 64
ANIMAL = (12.0, 12.0, 52.0, 52.0)
ELSEWHERE = (0.0, 0.0, 40.0, 12.0)


def make_network(path: Path, box: Sequence[float], score: float = 0.9) -> None:
    """Write a network that finds one animal in ``box``, whatever it is shown, and its card."""
    detection = np.array([[[*box, score, 0, 1]]], np.float32)
    cells = np.arange(2, SIDE, 4)
    inside = [(cells > box[side]) & (cells < box[side + 2]) for side in (0, 1)]
    prototypes = np.where(np.outer(inside[1], inside[0]), 1, -1).astype(np.float32)[None, None]
    outputs = {"output0": detection, "output1": prototypes}
    graph = helper.make_graph(
        [helper.make_node("Constant", [], [name], value=numpy_helper.from_array(v)) for name, v in outputs.items()],
        "always-the-same",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, v.shape) for name, v in outputs.items()],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    # Animals as large as a tile were seen in training, so no coarser level is looked at.
    card_path(path).write_text(ModelCard(name=path.stem, tile=SIDE, largest_object=SIDE).model_dump_json())


def scores_of(run: Path) -> pl.DataFrame:
    """Return the table of results of a run, without when and with what it was scored, and what that took."""
    measured = ("seconds", "seconds_per_megapixel", "peak_memory_mb", "time", "version", "commit")
    return pl.read_csv(run / "report" / "results.csv").drop(measured)


def make_place(folder: Path) -> Path:
    """Make two datasets of one image each and a model that finds what is in them."""
    (folder / "images").mkdir()
    pixels = np.full((SIDE, SIDE, 3), 220, np.uint8)
    pixels[12:52, 12:52] = 40
    x1, y1, x2, y2 = ANIMAL
    outline = [x1, y1, x2, y1, x2, y2, x1, y2]
    images, annotations = [], []
    for number, dataset in enumerate(("forest", "meadow"), start=1):
        name = f"{dataset}_1.png"
        pyvips.Image.new_from_memory(pixels.tobytes(), SIDE, SIDE, 3, "uchar").write_to_file(folder / "images" / name)
        images.append({"id": number, "file_name": name, "width": SIDE, "height": SIDE, "dataset": dataset})
        annotations.append(
            {"id": number, "image_id": number, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1600}
            | {"segmentation": [outline], "iscrowd": 0}
        )
    categories = [{"id": 1, "name": "insect"}]
    document = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "truth.json").write_text(json.dumps(document))
    make_network(folder / "models" / "good" / "weights" / "best.onnx", ANIMAL)
    return folder
