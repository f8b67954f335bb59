"""Lay images of one dataset out on a grid: a large image with known ground truth.

Usage: ``python benchmarks/mosaic.py DATASET OUTPUT --columns 5 --rows 3 [--emptiest 3]``. ``OUTPUT`` becomes a dataset
folder with one image and its ``instances_default.json``. Images that do not have the commonest size are left out. With
``--emptiest``, only so many images are used, those with the fewest animals, and mirrored copies of them: a large sparse
image.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyvips


def shifted(annotation: dict[str, Any], x: int, y: int) -> dict[str, Any]:
    """Return a polygon annotation moved by (x, y) pixels."""
    parts = [[v + (y if i % 2 else x) for i, v in enumerate(part)] for part in annotation["segmentation"]]
    left, top, width, height = annotation["bbox"]
    return {**annotation, "segmentation": parts, "bbox": [left + x, top + y, width, height]}


def mirrored(annotation: dict[str, Any], width: int, height: int, *, across: bool, down: bool) -> dict[str, Any]:
    """Return a polygon annotation of an image that was mirrored."""
    parts = []
    for part in annotation["segmentation"]:
        xs = [width - x for x in part[::2]] if across else part[::2]
        ys = [height - y for y in part[1::2]] if down else part[1::2]
        parts.append([value for point in zip(xs, ys, strict=True) for value in point])
    x, y, wide, high = annotation["bbox"]
    box = [width - x - wide if across else x, height - y - high if down else y, wide, high]
    return {**annotation, "segmentation": parts, "bbox": box}


def make_mosaic(dataset: Path, output: Path, columns: int, rows: int, emptiest: int | None = None) -> Path:
    """Write the mosaic and its ground truth; return the path of its image."""
    coco = json.loads((dataset / "instances_default.json").read_text(encoding="utf-8"))
    (width, height), _ = Counter((i["width"], i["height"]) for i in coco["images"]).most_common(1)[0]
    chosen = [i for i in coco["images"] if (i["width"], i["height"]) == (width, height)]
    if emptiest is not None:
        animals = Counter(annotation["image_id"] for annotation in coco["annotations"])
        chosen = sorted(chosen, key=lambda entry: animals[entry["id"]])[:emptiest] * 4
    chosen = chosen[: columns * rows]
    if len(chosen) < columns * rows:
        raise SystemExit(f"{dataset} has {len(chosen)} images of {width} x {height}, not {columns * rows}")
    tiles, annotations = [], []
    for place, entry in enumerate(chosen):
        copy = 0 if emptiest is None else place // emptiest
        across, down = bool(copy & 1), bool(copy & 2)
        tile = pyvips.Image.new_from_file(str(dataset / entry["file_name"])).autorot()
        tile = tile.fliphor() if across else tile
        tiles.append(tile.flipver() if down else tile)
        x, y = place % columns * width, place // columns * height
        for annotation in (a for a in coco["annotations"] if a["image_id"] == entry["id"]):
            annotations.append(shifted(mirrored(annotation, width, height, across=across, down=down), x, y))
    output.mkdir(parents=True)
    name = f"{dataset.name}-{columns}x{rows}.jpg"
    pyvips.Image.arrayjoin(tiles, across=columns).jpegsave(str(output / name), Q=95)
    image = {"id": 1, "file_name": name, "width": width * columns, "height": height * rows}
    numbered = [{**a, "id": i, "image_id": 1} for i, a in enumerate(annotations, start=1)]
    truth = {**coco, "images": [image], "annotations": numbered}
    (output / "instances_default.json").write_text(json.dumps(truth), encoding="utf-8")
    return output / name


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--columns", type=int, default=5)
    parser.add_argument("--rows", type=int, default=3)
    parser.add_argument("--emptiest", type=int, metavar="N")
    options = parser.parse_args()
    print(make_mosaic(options.dataset, options.output, options.columns, options.rows, options.emptiest))
