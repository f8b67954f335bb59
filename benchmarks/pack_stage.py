"""Pack a tree and stage it on a node: the guide's ``zip -r`` and ``unzip`` beside ours.

Usage: ``python benchmarks/pack_stage.py FOLDER [--node FOLDER] [--images 5000] [--rounds 3]``. ``FOLDER`` takes the
tree and the archives, ``--node`` what is staged; try both a disk and ``/dev/shm``. Whole processes are timed, from the
command to its end, in turn, each one into a folder of its own: seconds that passed, and seconds that processors worked,
which say more on a busy machine. Nothing is removed before the end, since file systems are slow to make files just
after many were removed.
"""

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ONLY = "images/val,labels/val"
VALIDATION = 0.15
MEDIAN_BYTES = 230_000
POOL_BYTES = 64 << 20


def make_tree(tree: Path, images: int) -> dict[str, int]:
    """Write a tree as fb data prepare does, with noise for pictures, since JPEGs do not shrink; return its size."""
    rng = random.Random(1)  # noqa: S311 - makes file names and sizes
    pool = os.urandom(POOL_BYTES)
    size = 0
    for split in ("train", "val"):
        (tree / "insects/images" / split).mkdir(parents=True)
        (tree / "insects/labels" / split).mkdir(parents=True)
    for number in range(images):
        split = "val" if rng.random() < VALIDATION else "train"
        length = int(MEDIAN_BYTES * rng.lognormvariate(0, 0.2))
        start = rng.randrange(POOL_BYTES - length)
        (tree / f"insects/images/{split}/moths_{number:06}.jpg").write_bytes(pool[start : start + length])
        rows = "".join(f"0 {' '.join(f'{rng.random():.9f}' for _ in range(40))}\n" for _ in range(rng.randrange(8)))
        (tree / f"insects/labels/{split}/moths_{number:06}.txt").write_text(rows, encoding="utf-8")
        size += length + len(rows)
    (tree / "data.yaml").write_text("train: insects/images/train\nval: insects/images/val\n", encoding="utf-8")
    return {"images": images, "files": 2 * images + 1, "bytes": size}


def timed(command: Sequence[object], where: Path) -> tuple[float, float]:
    """Return the seconds that a command took, and those of processors; what came before is on the disk by then."""
    os.sync()
    before, started = os.times(), time.perf_counter()
    subprocess.run([str(word) for word in command], cwd=where, check=True, stdout=subprocess.DEVNULL)
    passed, after = time.perf_counter() - started, os.times()
    worked = after.children_user + after.children_system - before.children_user - before.children_system
    return passed, worked


def one_round(folder: Path, node: Path, fb: Path) -> dict[str, tuple[float, float]]:
    """Pack and stage once in each way."""
    theirs, ours = folder / "guide.zip", folder / "ours.zip"
    for archive in (theirs, ours):
        archive.unlink(missing_ok=True)
    unzip, whole, part = node / "unzip", node / "whole", node / "part"
    return {
        "zip -r": timed(["zip", "-q", "-r", theirs, "fb_yolo"], folder),
        "pack": timed([fb, "data", "pack", "fb_yolo", "-o", ours], folder),
        "unzip": timed(["unzip", "-q", theirs, "-d", unzip], folder),
        "stage": timed([fb, "data", "stage", ours, whole], folder),
        "stage --only": timed([fb, "data", "stage", ours, part, "--only", ONLY], folder),
        "stage again": timed([fb, "data", "stage", ours, part, "--only", ONLY], folder),
    }


def check(folder: Path, node: Path) -> int:
    """Make sure that both made the same, and return the bytes that were staged of a part."""
    for made in (node / "unzip", node / "whole"):
        different = ["diff", "-rq", "-x", ".flat-bug-*", folder / "fb_yolo", made / "fb_yolo"]
        subprocess.run([str(word) for word in different], check=True)
    return sum(path.stat().st_size for path in (node / "part").rglob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--node", type=Path)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    fb = Path(sys.executable).with_name("fb")
    folder = Path(tempfile.mkdtemp(prefix="pack-stage-", dir=options.folder))
    nodes = Path(tempfile.mkdtemp(prefix="pack-stage-node-", dir=options.node or options.folder))
    try:
        tree = make_tree(folder / "fb_yolo", options.images)
        rounds = []
        for number in range(options.rounds):
            node = nodes / str(number)
            node.mkdir()
            rounds.append(one_round(folder, node, fb))
            part_bytes = check(folder, node)
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(nodes)
    figures = {}
    for place, kind in enumerate(("seconds", "processor_seconds")):
        medians = {name: statistics.median(each[name][place] for each in rounds) for name in rounds[0]}
        figures[kind] = {name: round(value, 2) for name, value in medians.items()}
        figures[f"{kind}_ratios"] = {name: round(value, 2) for name, value in ratios(medians).items()}
    print(json.dumps({**tree, "part_bytes": part_bytes, **figures}, indent=1))


def ratios(medians: dict[str, float]) -> dict[str, float]:
    """Return how many times faster ours are than the guide's."""
    guide = medians["zip -r"] + medians["unzip"]
    return {
        "pack": medians["zip -r"] / medians["pack"],
        "stage": medians["unzip"] / medians["stage"],
        "stage --only": medians["unzip"] / medians["stage --only"],
        "pack and stage": guide / (medians["pack"] + medians["stage"]),
        "pack and stage --only": guide / (medians["pack"] + medians["stage --only"]),
    }


if __name__ == "__main__":
    main()
