"""Predict an image of 30000 × 30000 px in each format that may be so large, and print seconds and peak memory.

Usage: ``python benchmarks/large_image.py DATASET FOLDER -w model.onnx [--side 30000] [--exhaustive]``. A dozen images
of the dataset lie scattered on grainy paper, so that the image is sparse.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

import pyvips
from paired_predict import measure

FORMATS = {
    "jpeg": lambda image, path: image.jpegsave(str(path.with_suffix(".jpg")), Q=92),
    "tiff": lambda image, path: image.tiffsave(str(path.with_suffix(".tif")), tile=True, compression="jpeg", Q=92),
    "bigtiff": lambda image, path: image.tiffsave(str(path.with_suffix(".tif")), tile=True, bigtiff=True),
    "strips": lambda image, path: image.tiffsave(str(path.with_suffix(".tif")), compression="lzw"),
}
PLACES = [(x, y) for y in range(3) for x in range(4)]


def sparse_image(dataset: Path, side: int) -> pyvips.Image:
    """Return a square image with some images of a dataset scattered on it."""
    paper = (pyvips.Image.gaussnoise(side, side, mean=225, sigma=4, seed=1)).cast("uchar")
    image = paper.bandjoin([paper, paper]).copy(interpretation="srgb")
    for (column, row), path in zip(PLACES, sorted(dataset.glob("*.jpg")), strict=False):
        part = pyvips.Image.new_from_file(str(path))
        image = image.insert(part, column * side // 4 + 137, row * side // 3 + 211)
    return image.crop(0, 0, side, side)


def main() -> None:
    """Write, predict and remove one file after another."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-w", "--weights", type=Path, required=True)
    parser.add_argument("--side", type=int, default=30_000)
    parser.add_argument("--format", choices=FORMATS, action="append", help="by default all")
    parser.add_argument("--exhaustive", action="store_true")
    options = parser.parse_args()
    image = sparse_image(options.dataset, options.side)
    for name in options.format or FORMATS:
        work = options.folder / name
        work.mkdir(parents=True)
        FORMATS[name](image, work / "large")
        fb = str(Path(sys.executable).with_name("fb"))
        command = [fb, "predict", "-i", str(work), "-o", str(work / "out"), "-w", str(options.weights)]
        cost = measure([*command, *(["--exhaustive"] if options.exhaustive else [])], options.folder / f"{name}.log")
        found = json.loads((work / "out" / "coco_instances.json").read_text(encoding="utf-8"))["annotations"]
        row = {"format": name, "side": options.side, "seconds": cost.seconds, "peak_mb": cost.peak_mb}
        print(json.dumps(row | {"animals": len(found)}), flush=True)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
