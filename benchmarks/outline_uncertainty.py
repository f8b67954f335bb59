"""How often annotated sizes lie within the stated uncertainty of predicted ones.

Usage: ``python benchmarks/outline_uncertainty.py RESULTS DATASET... --grow 0.5``. ``RESULTS`` is what ``fb predict``
wrote for images of the datasets, each a folder with ``instances_default.json``. ``--grow`` moves annotated outlines
outwards by so many pixels: those that run through the centres of pixels lack half of one all round. Animals are
compared that overlap by half of their union. Of normal errors 68 % are within one standard deviation, 95 % within two.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from flat_bug.instances.metadata import read_metadata
from flat_bug.instances.table import Instances
from flat_bug.measurement import measured

SIZES = ("length_px", "width_px", "feret_max_px", "feret_min_px", "area_px2", "perimeter_px")


def annotated(dataset: Path, grow: float) -> dict[str, Any]:
    """Return the outlines of each image, by its name without suffix; boxes that stand for masks are left out."""
    coco = json.loads((dataset / "instances_default.json").read_text(encoding="utf-8"))
    names = {image["id"]: Path(image["file_name"]).stem for image in coco["images"]}
    found: dict[str, list[shapely.Geometry]] = {}
    for annotation in coco["annotations"]:
        if annotation.get("attributes", {}).get("auto_mask") is False:
            continue
        parts = [shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in annotation["segmentation"] if len(ring) >= 6]
        outline = shapely.union_all(shapely.make_valid(parts, method="structure", keep_collapsed=False))
        if outline.area > 0:
            found.setdefault(names[annotation["image_id"]], []).append(outline.buffer(grow, join_style="mitre"))
    return {name: np.array(outlines, object) for name, outlines in found.items()}


def pairs(truth: Any, found: Any) -> Iterator[tuple[int, int]]:
    """Yield rows of annotations and predictions that overlap by half of their union, the best pairs first."""
    rows, others = shapely.STRtree(found).query(truth, predicate="intersects")
    shared = shapely.area(shapely.intersection(truth[rows], found[others]))
    iou = shared / (shapely.area(truth[rows]) + shapely.area(found[others]) - shared)
    taken: set[tuple[str, int]] = set()
    for pair in np.argsort(-iou)[: int((iou >= 0.5).sum())]:
        ends = {("truth", int(rows[pair])), ("found", int(others[pair]))}
        if not ends & taken:
            taken |= ends
            yield int(rows[pair]), int(others[pair])


def errors(results: Path, datasets: list[Path], grow: float) -> dict[str, Any]:
    """Return by size: errors of all animals in standard deviations."""
    truth = {name: outlines for dataset in datasets for name, outlines in annotated(dataset, grow).items()}
    found: dict[str, list[float]] = {name: [] for name in SIZES}
    for path in sorted(results.glob("*/*.json")):
        metadata = read_metadata(path)
        outlines = truth.get(Path(metadata.image_path).stem)
        table = metadata.instances
        if outlines is None or len(table) == 0:
            continue
        size = {"width": table.width, "height": table.height}
        mine = measured(table).measurements
        theirs = measured(Instances.from_polygons(outlines, np.ones(len(outlines)), **size)).measurements
        for row, other in pairs(outlines, table.polygons):
            for name in SIZES:
                found[name].append(float((mine[name][other] - theirs[name][row]) / mine[f"{name}_sd"][other]))
    return {name: np.array(values) for name, values in found.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--grow", type=float, default=0.0)
    options = parser.parse_args()
    print("size           animals  within 1 sd  within 2 sd  median error")
    for name, values in errors(options.results, options.datasets, options.grow).items():
        shares = [np.mean(np.abs(values) <= limit) for limit in (1, 2)]
        print(f"{name:14} {len(values):7}  {shares[0]:11.0%}  {shares[1]:11.0%}  {np.median(values):+9.2f} sd")
