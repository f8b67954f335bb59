"""How much of its area a shape of known area keeps as an outline, beside flat-bug 1.2.0.

Usage: ``python benchmarks/outline_area.py [--peer-python VENV/bin/python]``

A perfect network sees each shape on a tile of 1024 px, in mask cells of 4 px whose logits are the distance from the
outline; both programs are given the same logits. ``VENV`` holds flat-bug 1.2.0 from PyPI, whose steps from masks to
outlines are called as its predictor calls them. Prints the error of the area in per cent: the mean, and the worst, over
places and turns.
"""

import argparse
import pickle
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import shapely
from shapely.affinity import rotate, translate

from flat_bug.segmenters.base import TileInstances
from flat_bug.segmenters.outlines import trace

TILE, CELL, PLACES = 1024, 4, 20
BODY = shapely.Point(0, 0).buffer(30, 64)
SHAPES = {
    "disc of 40 px": shapely.Point(0, 0).buffer(20, 64),
    "disc of 120 px": shapely.Point(0, 0).buffer(60, 64),
    "square of 40 px": shapely.box(-20, -20, 20, 20),
    "rectangle of 80 × 120 px": shapely.box(-40, -60, 40, 60),
    "ring of 120 px with a hole of 60 px": shapely.Point(0, 0).buffer(60, 64) - shapely.Point(0, 0).buffer(30, 64),
    "leg of 160 × 10 px": shapely.box(-80, -5, 80, 5),
    "leg of 160 × 7 px": shapely.box(-80, -3.5, 80, 3.5),
    "body with a detached part": BODY | shapely.box(45, -15, 75, 15),
}
PEER = """
import pickle, sys
import numpy as np, torch
from flat_bug.geometric import find_contours, resize_masks, poly_area
areas = []
for mask in pickle.load(open(sys.argv[1], "rb")):
    outline = find_contours(resize_masks(torch.from_numpy(mask), [256 * 3, 256 * 3]), True) * (1024 / 256) / 3
    outline = (outline + torch.roll(outline, -1, 0)) / 2
    areas.append(float(poly_area(outline)))
print(*areas)
"""

Logits = npt.NDArray[np.float32]


def logits_of(shape: shapely.Geometry) -> Logits:
    """Return ``(TILE / CELL, TILE / CELL)``: the distance of cell centres from the outline, positive inside."""
    centres = (np.arange(TILE // CELL) + 0.5) * CELL
    points = shapely.points(*np.meshgrid(centres, centres))
    distance = shapely.distance(points, shapely.boundary(shape))
    return np.asarray(np.where(shapely.contains(shape, points), distance, -distance), np.float32)


def area_of(logits: Logits, shape: shapely.Geometry) -> float:
    """Return the area of our outline."""
    frame = np.array([[0.0, 0.0, TILE, TILE]])
    box = np.array([shape.bounds])
    (outline,) = trace(TileInstances(box, np.ones(1), np.zeros(1, np.int64), (logits,), frame))
    return float(outline.area)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", type=Path, help="python of the venv with flat-bug 1.2.0")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    for name, shape in SHAPES.items():
        middles = rng.uniform(500, 504, (PLACES, 2))
        turns = [0, 90, *rng.uniform(0, 180, PLACES - 2)]
        placed = [translate(rotate(shape, turn), *middle) for turn, middle in zip(turns, middles, strict=True)]
        logits = [logits_of(one) for one in placed]
        areas = {"ours": [area_of(seen, one) for seen, one in zip(logits, placed, strict=True)]}
        if options.peer_python:
            with TemporaryDirectory() as folder:
                handed = Path(folder) / "masks.pickle"
                handed.write_bytes(pickle.dumps([seen > 0 for seen in logits]))
                words = [str(options.peer_python), "-c", PEER, str(handed)]
                told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
            areas["1.2.0"] = [float(word) for word in told[-PLACES:]]
        errors = {who: 100 * (np.array(found) / shape.area - 1) for who, found in areas.items()}
        print(name, *(f"| {who} {e.mean():+.1f} ({e[abs(e).argmax()]:+.1f})" for who, e in errors.items()), flush=True)


if __name__ == "__main__":
    main()
