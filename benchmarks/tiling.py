"""Tell what moving the tiles does to detections and outlines, with a real network on real images.

Usage::

    python benchmarks/tiling.py IMAGE [IMAGE …] --ours model.onnx [--ours-option exhaustive=true] \
        [--peers model.pt --peer-python VENV/bin/python] --output FOLDER

Each image is predicted as it is, and again with each change: tiles that are moved or overlap more, batches of another
size, and pixels cut off its left and top, which moves the tiles of any program. ``VENV`` holds flat-bug 1.2.0.
Detections before and after a change are matched one to one, at an overlap of their outlines (IoU) of 0.5 or more.
Prints, and writes to ``FOLDER/tiling.json``, a row per program and change:

- for several margins, how many detections score above the threshold by more than that, and how many of those have no
  counterpart after the change, or before it;
- of those that have, by how much scores differ (median, 95th percentile), and how well outlines agree (median, 5th
  percentile of the IoU).
"""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips
import shapely
import yaml
from scipy.optimize import linear_sum_assignment

from flat_bug.config import PredictSettings
from flat_bug.predict import Predictor

THRESHOLD = 0.2
MARGINS = (0.0, 0.1, 0.2)
SAME = 0.5
MOST_PIXELS = 4_000_000
NEAR_CUT = 64
"""What lies nearer to pixels that were cut off may have lost a part of itself, and is not counted."""
CROPS = ((37, 91),)
CHANGES: dict[str, dict[str, Any]] = {
    "moved by 37, 91": {"grid_shift": (37, 91)},
    "moved by 300, 211": {"grid_shift": (300, 211)},
    "moved by 511, 450": {"grid_shift": (511, 450)},
    "overlap 200": {"minimum_tile_overlap": 200},
    "batches of 16": {"batch_size": 16},
}

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Found:
    """What a program found in an image: outlines ``(n,)`` in its pixels, and their scores ``(n,)``."""

    polygons: npt.NDArray[np.object_]
    scores: Floats

    def moved(self, x: int, y: int) -> "Found":
        """Return the same, with other coordinates."""
        return Found(shapely.transform(self.polygons, lambda points: points + np.array([x, y])), self.scores)


@dataclass(frozen=True)
class Matched:
    """Detections before a change and after it.

    Attributes:
        scores: ``(n,)`` the higher of the two of a pair, or the only one.
        differences: ``(n,)`` of the scores of a pair; not a number for what has no counterpart.
        overlaps: ``(n,)`` IoU of the outlines of a pair.
    """

    scores: Floats
    differences: Floats
    overlaps: Floats


def match(before: Found, after: Found, cut: tuple[int, int] = (0, 0)) -> Matched:
    """Pair the detections of one image, the best overlaps in all; what lies in or near a cut is not counted."""
    first, second = shapely.STRtree(after.polygons).query(before.polygons, predicate="intersects")
    ones, others = before.polygons[first], after.polygons[second]
    shared = shapely.area(shapely.intersection(ones, others))
    overlap = np.zeros((len(before.scores), len(after.scores)))
    overlap[first, second] = shared / (shapely.area(ones) + shapely.area(others) - shared)
    rows, columns = linear_sum_assignment(np.where(overlap >= SAME, overlap, 0), maximize=True)
    paired = overlap[rows, columns] >= SAME
    rows, columns = rows[paired], columns[paired]
    lost = np.setdiff1d(np.arange(len(before.scores)), rows)
    new = np.setdiff1d(np.arange(len(after.scores)), columns)
    polygons = np.concatenate([before.polygons[rows], before.polygons[lost], after.polygons[new]])
    limits = np.array(cut) + NEAR_CUT * (np.array(cut) > 0)
    counted = (shapely.bounds(polygons).reshape(-1, 4)[:, :2] >= limits).all(axis=1)
    alone = np.full(len(lost) + len(new), np.nan)
    return Matched(
        np.concatenate(
            [np.maximum(before.scores[rows], after.scores[columns]), before.scores[lost], after.scores[new]]
        )[counted],
        np.concatenate([np.abs(before.scores[rows] - after.scores[columns]), alone])[counted],
        np.concatenate([overlap[rows, columns], alone])[counted],
    )


def summary(images: Sequence[Matched]) -> dict[str, Any]:
    """Return the figures of one change over all images."""
    scores, differences, overlaps = (
        np.concatenate([getattr(image, name) for image in images]) for name in ("scores", "differences", "overlaps")
    )
    row: dict[str, Any] = {}
    for margin in MARGINS:
        clear = scores > THRESHOLD + margin
        row[f"clear by {margin:g}"] = int(clear.sum())
        row[f"without counterpart, clear by {margin:g}"] = int(np.isnan(overlaps[clear]).sum())
    row["score difference, median, 95 %"] = [round(float(np.nanpercentile(differences, at)), 4) for at in (50, 95)]
    row["IoU, median, 5 %, least"] = [round(float(np.nanpercentile(overlaps, at)), 4) for at in (50, 5, 0)]
    return row


def middle(path: Path) -> Pixels:
    """Return the pixels of an image, or the middle of it where it is large."""
    image = pyvips.Image.new_from_file(str(path)).autorot().colourspace("srgb")
    width = min(image.width, int((MOST_PIXELS * image.width / image.height) ** 0.5))
    height = min(image.height, MOST_PIXELS // width)
    part = image.crop((image.width - width) // 2, (image.height - height) // 2, width, height)
    return np.asarray(part.numpy()[..., :3])


def ours(weights: Path, settings: PredictSettings) -> Callable[[Pixels], Found]:
    """Return what finds animals with this version."""
    predictor = Predictor(weights, settings)

    def find(pixels: Pixels) -> Found:
        instances = predictor(np.ascontiguousarray(pixels))
        return Found(instances.polygons, instances.scores)

    return find


def peer(python: Path, weights: Path, images: Sequence[Pixels], folder: Path) -> list[Found]:
    """Return what flat-bug 1.2.0 finds in images."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "images").mkdir(parents=True)
    for number, pixels in enumerate(images):
        pyvips.Image.new_from_array(pixels, interpretation="srgb").pngsave(
            str(folder / "images" / f"{number}.png"), compression=1
        )
    command = [str(python.with_name("fb_predict")), "-i", str(folder / "images"), "-w", str(weights)]
    command += ["-o", str(folder / "found"), "--gpu", "cpu", "--dtype", "float32"]
    with (folder / "log").open("wb") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)
    coco = json.loads((folder / "found" / "coco_instances.json").read_text(encoding="utf-8"))
    name_of = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    rows: dict[str, list[dict[str, Any]]] = {str(number): [] for number in range(len(images))}
    for annotation in coco["annotations"]:
        rows[name_of[annotation["image_id"]]].append(annotation)
    return [
        Found(
            np.array([outline(one["segmentation"]) for one in rows[str(number)]], object),
            np.array([one["conf"] for one in rows[str(number)]], np.float64),
        )
        for number in range(len(images))
    ]


def outline(segmentation: list[list[float]]) -> shapely.Geometry:
    """Return a COCO segmentation as a valid polygon."""
    return shapely.union_all([shapely.Polygon(np.reshape(ring, (-1, 2))).buffer(0) for ring in segmentation])


def cropped(images: Sequence[Pixels], crop: tuple[int, int]) -> list[Pixels]:
    """Return the images without so many columns on their left and rows on their top."""
    return [pixels[crop[1] :, crop[0] :] for pixels in images]


def measure_ours(images: Sequence[Pixels], weights: Path, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return a row per change for this version."""
    find = ours(weights, PredictSettings(**settings))
    before = [find(pixels) for pixels in images]
    rows = {}
    for name, change in CHANGES.items():
        changed = ours(weights, PredictSettings(**(settings | change)))
        rows[name] = summary([match(was, changed(pixels)) for was, pixels in zip(before, images, strict=True)])
        print(name, json.dumps(rows[name]), flush=True)
    for crop in CROPS:
        after = [find(pixels).moved(*crop) for pixels in cropped(images, crop)]
        rows[f"cut off {crop[0]}, {crop[1]}"] = summary(
            [match(was, now, crop) for was, now in zip(before, after, strict=True)]
        )
        print(f"cut off {crop}", json.dumps(rows[f"cut off {crop[0]}, {crop[1]}"]), flush=True)
    return rows


def measure_peer(images: Sequence[Pixels], weights: Path, python: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Return a row per crop for flat-bug 1.2.0, of which nothing else can be changed."""
    before = peer(python, weights, images, folder)
    rows = {}
    for crop in CROPS:
        after = [found.moved(*crop) for found in peer(python, weights, cropped(images, crop), folder)]
        rows[f"cut off {crop[0]}, {crop[1]}"] = summary(
            [match(was, now, crop) for was, now in zip(before, after, strict=True)]
        )
        print(f"1.2.0: cut off {crop}", json.dumps(rows[f"cut off {crop[0]}, {crop[1]}"]), flush=True)
    return rows


def main() -> None:
    """Measure, and write and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="+")
    parser.add_argument("--ours", type=Path, required=True, help="ONNX weights")
    parser.add_argument("--ours-option", action="append", default=[], help="a setting of PredictSettings, NAME=VALUE")
    parser.add_argument("--peers", type=Path, help="the same weights as .pt")
    parser.add_argument("--peer-python", type=Path, help="python of the venv with flat-bug 1.2.0")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    images = [middle(path) for path in options.images]
    chosen = {name: yaml.safe_load(value) for name, value in (word.split("=", 1) for word in options.ours_option)}
    result = {"ours": measure_ours(images, options.ours, {"score_threshold": THRESHOLD} | chosen)}
    if options.peer_python:
        result["1.2.0"] = measure_peer(images, options.peers, options.peer_python, options.output / "peer")
    (options.output / "tiling.json").write_text(json.dumps(result, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
