"""Time the stitching of many fragments, beside flat-bug's suppression of polygons on the same outlines.

Usage: ``python benchmarks/stitching.py --fragments 20000 [--peer-python VENV/bin/python] --rounds 5``

Animals of many sizes are scattered over a large image. What each tile of each level shows of them, drawn a little
differently each time as networks do, is stitched. ``VENV`` holds flat-bug 1.2.0 from PyPI, which only suppresses: it
joins nothing. Prints seconds, medians over rounds in turn.
"""

import argparse
import json
import pickle
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.pyramid.fragments import Fragments, concatenate
from flat_bug.pyramid.stitch import stitch
from flat_bug.pyramid.tiling import Level, levels, tiles

SIDE, OVERLAP, MARGIN = 1024, 64, 16
SMALLEST, LARGEST = 8, 320
"""Animals of a smaller or larger diameter, in level pixels, are not seen."""
VERTICES = 32
"""The mean of real outlines, on sticky cards."""
PER_FRAGMENT = 40_000
"""So many pixels of the image per fragment: as dense as a moth sheet."""

PEER = """
import pickle, sys, time
import numpy as np, torch
from flat_bug.nms import nms_polygons
outlines, boxes, scores = pickle.load(open(sys.argv[1], "rb"))
outlines = [torch.from_numpy(outline) for outline in outlines]
boxes, scores = torch.from_numpy(boxes), torch.from_numpy(scores)
start = time.perf_counter()
kept = nms_polygons(outlines, scores, overlap_threshold=0.2, return_indices=True, boxes=boxes)
print(time.perf_counter() - start, len(kept))
"""

Floats = npt.NDArray[np.float64]


def animals(count: int, width: float, height: float, rng: np.random.Generator) -> Floats:
    """Return the points ``(count, VERTICES, 2)`` of outlines: bodies with bulges, 10–600 px long, mostly short."""
    angles = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
    lengths = np.exp(rng.uniform(np.log(10), np.log(600), count)) / 2
    shape = 1 + 0.2 * np.sin(5 * angles + rng.uniform(0, 2 * np.pi, (count, 1)))
    x, y = lengths[:, None] * shape * np.cos(angles), lengths[:, None] * 0.5 * shape * np.sin(angles)
    turn = rng.uniform(0, np.pi, (count, 1))
    middles = rng.uniform(0, [width, height], (count, 2))
    points = np.stack([x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)], axis=2)
    return np.asarray(points + middles[:, None])


def fragments_of_level(shapes: Floats, level: Level, first_tile: int, rng: np.random.Generator) -> Fragments:
    """Return what all tiles of a level show of animals."""
    places = np.array([(t.x, t.y, t.x + t.width, t.y + t.height) for t in tiles(level, SIDE, OVERLAP)], np.float64)
    factors = np.tile(level.native_per_level, 2)
    inner = np.hstack([places[:, :2] > 0, places[:, 2:] < [level.width, level.height]])
    drawn = shapely.buffer(shapely.polygons(shapes + rng.normal(0, 0.3 / level.scale, shapes.shape)), 0)
    diameters = np.sqrt(shapely.area(drawn)) * level.scale
    drawn = drawn[(diameters > SMALLEST) & (diameters < LARGEST)]
    tile, row = shapely.STRtree(drawn).query(shapely.box(*(places * factors).T), predicate="intersects")
    parts = shapely.intersection(drawn[row], shapely.box(*(places * factors)[tile].T))
    seen = np.sqrt(shapely.area(parts)) * level.scale > SMALLEST
    parts, tile = parts[seen], tile[seen]
    bounds = shapely.bounds(parts) / factors
    near = np.hstack([bounds[:, :2] < places[tile, :2] + MARGIN, bounds[:, 2:] > places[tile, 2:] - MARGIN])
    return Fragments(
        polygons=parts,
        scores=rng.uniform(0.1, 0.9, len(parts)),
        classes=np.zeros(len(parts), np.int64),
        levels=np.full(len(parts), level.scale),
        tiles=first_tile + tile,
        windows=(places * factors)[tile],
        cut=near & inner[tile],
    )


def scene(wanted: int, seed: int = 0) -> tuple[Fragments, int]:
    """Return about as many fragments as wanted, and the number of levels."""
    rng = np.random.default_rng(seed)
    height = round((wanted * PER_FRAGMENT / 1.5) ** 0.5)
    width = round(1.5 * height)
    found = levels(width, height, LARGEST)
    shapes = animals(wanted // 4, width, height, rng)
    parts = [fragments_of_level(shapes, level, number << 20, rng) for number, level in enumerate(found)]
    return concatenate(parts), len(found)


def peer_input(fragments: Fragments, path: Path) -> None:
    """Write outlines, boxes and scores for the peer, which knows neither holes nor several parts."""
    outlines = [np.asarray(shapely.get_coordinates(polygon), np.float32) for polygon in fragments.polygons]
    boxes = shapely.bounds(fragments.polygons).astype(np.float32)
    path.write_bytes(pickle.dumps((outlines, boxes, fragments.scores.astype(np.float32))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fragments", type=int, default=20_000)
    parser.add_argument("--peer-python", type=Path, help="python of the venv with flat-bug 1.2.0")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    fragments, count = scene(options.fragments)
    seconds, peers, kept, peers_kept = [], [], 0, 0
    with TemporaryDirectory() as folder:
        handed = Path(folder) / "fragments.pickle"
        peer_input(fragments, handed)
        for _ in range(options.rounds):
            start = time.perf_counter()
            kept = len(stitch(fragments, levels=count, margin=MARGIN, score_threshold=0.2, overlap_threshold=0.2))
            seconds.append(time.perf_counter() - start)
            if options.peer_python:
                words = [str(options.peer_python), "-c", PEER, str(handed)]
                told = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
                peers.append(float(told[0]))
                peers_kept = int(told[1])
    row = {"fragments": len(fragments), "cut": int(fragments.cut.any(axis=1).sum()), "animals": kept}
    row |= {"seconds": round(statistics.median(seconds), 3)}
    if peers:
        row |= {"seconds of 1.2.0": round(statistics.median(peers), 2), "animals of 1.2.0": peers_kept}
    print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
