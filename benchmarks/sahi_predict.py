"""Predict a dataset with SAHI, sliced at 1024 px, and write one COCO file; a peer of ``paired_predict.py``.

Run by the Python of a venv with sahi and ultralytics: ``python sahi_predict.py DATASET -w model.pt -o FOLDER``.
"""

import argparse
import json
from pathlib import Path

from sahi import AutoDetectionModel
from sahi.predict import get_sliced_prediction

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("-w", "--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    images = json.loads((options.dataset / "instances_default.json").read_text(encoding="utf-8"))["images"]
    model = AutoDetectionModel.from_pretrained(
        "ultralytics", str(options.weights), device="cpu", confidence_threshold=0.2, image_size=1024
    )
    annotations = []
    for image in images:
        found = get_sliced_prediction(
            str(options.dataset / image["file_name"]),
            model,
            slice_height=1024,
            slice_width=1024,
            overlap_height_ratio=0.2,
            overlap_width_ratio=0.2,
            verbose=0,
        )
        annotations += [
            {**one, "id": len(annotations) + number, "image_id": image["id"], "category_id": 1}
            for number, one in enumerate(found.to_coco_annotations(), start=1)
        ]
    options.output.mkdir(parents=True)
    categories = [{"id": 1, "name": "insect"}]
    result = {"images": images, "annotations": annotations, "categories": categories}
    (options.output / "coco_instances.json").write_text(json.dumps(result, default=float), encoding="utf-8")
