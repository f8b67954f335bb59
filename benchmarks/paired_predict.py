"""Time ``fb predict`` against flat-bug's ``fb_predict`` on the same images with the same weights, in turn.

Usage::

    python benchmarks/paired_predict.py --ours model.onnx --peer-python VENV/bin/python --peers model.pt \
        --dataset DATASET [--dataset DATASET …] --variant= --variant=--exhaustive --rounds 3 --output FOLDER

``VENV`` holds flat-bug 1.2.0 from PyPI, and SAHI for ``--sahi``. A dataset is a folder with images and
``instances_default.json``. A variant is more words for ``fb predict``. All outputs are scored by ``fb evaluate``.
Prints, and writes to ``FOLDER/paired_predict.json``, a row per dataset and program: wall seconds and peak memory
(medians over rounds, whole process), seconds per megapixel, detections, F1, and the peer's figures over ours.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FB = Path(sys.executable).with_name("fb")
OBJECT_SIZES = (32, 16)
IOU_TYPES = ("box", "mask")
PEER = "flat-bug 1.2.0"


@dataclass(frozen=True)
class Cost:
    """What one process took."""

    seconds: float
    peak_mb: float


def measure(command: list[str], log: Path) -> Cost:
    """Run a command to its end; its output goes to a log.

    Raises:
        SystemExit: It failed; the message names the log.
    """
    start = time.perf_counter()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}: see {log}")
    return Cost(seconds, usage.ru_maxrss / 1024)


def score(dataset: Path, predictions: Path, output: Path) -> dict[str, Any]:
    """Return detections and F1 by IoU type and least object size."""
    truth = dataset / "instances_default.json"
    found = json.loads((predictions / "coco_instances.json").read_text(encoding="utf-8"))["annotations"]
    row: dict[str, Any] = {"detections": len(found)}
    for iou_type in IOU_TYPES:
        for size in OBJECT_SIZES:
            folder = output / f"{iou_type}-{size}"
            words = ["evaluate", "-p", str(predictions / "coco_instances.json"), "-c", "-g", str(truth)]
            words += ["-o", str(folder), "--iou-type", iou_type, "--min-size", str(size)]
            subprocess.run([str(FB), *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            scores = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["scores"]
            pooled = next(line for line in scores if line["dataset"] == "(all)")
            row[f"f1_{iou_type}_{size}"] = pooled["f1"]
            row[f"iou_{iou_type}_{size}"] = pooled["mean_iou"]
    return row


def compare(dataset: Path, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run the peer and every variant of ours in turn on one dataset and return their rows."""
    work = options.output / dataset.name
    peer_fb = options.peer_python.with_name("fb_predict")
    ours = [str(FB), "predict", "-i", str(dataset), "-w", str(options.ours)]
    commands = {f"fb predict {words}".strip(): [*ours, *shlex.split(words)] for words in options.variant}
    commands[PEER] = [str(peer_fb), "-i", str(dataset), "-w", str(options.peers), "--gpu", "cpu", "--dtype", "float32"]
    if options.sahi:
        sahi = [str(options.peer_python), str(Path(__file__).with_name("sahi_predict.py")), str(dataset)]
        commands["SAHI"] = [*sahi, "-w", str(options.peers)]
    folders = {who: work / str(number) for number, who in enumerate(commands)}
    costs: dict[str, list[Cost]] = {who: [] for who in commands}
    work.mkdir(parents=True, exist_ok=True)
    for _ in range(options.rounds):
        for who, command in commands.items():
            shutil.rmtree(folders[who], ignore_errors=True)
            costs[who].append(measure([*command, "-o", str(folders[who])], folders[who].with_suffix(".log")))
    return [row_of(who, costs[who], costs[PEER], dataset, folders[who]) for who in commands]


def row_of(who: str, costs: list[Cost], peers: list[Cost], dataset: Path, folder: Path) -> dict[str, Any]:
    """Return what one program cost and found."""
    seconds = statistics.median(cost.seconds for cost in costs)
    return {
        "dataset": dataset.name,
        "program": who,
        "rounds": len(costs),
        "seconds": seconds,
        "seconds_per_megapixel": seconds / megapixels(dataset),
        "peak_mb": statistics.median(cost.peak_mb for cost in costs),
        "times_faster": statistics.median(peer.seconds / cost.seconds for peer, cost in zip(peers, costs, strict=True)),
        "memory_ratio": statistics.median(cost.peak_mb / peer.peak_mb for peer, cost in zip(peers, costs, strict=True)),
    } | score(dataset, folder, folder.with_name(f"{folder.name}-scores"))


def megapixels(dataset: Path) -> float:
    """Return the millions of pixels of all images of a dataset."""
    images = json.loads((dataset / "instances_default.json").read_text(encoding="utf-8"))["images"]
    return float(sum(image["width"] * image["height"] for image in images)) / 1e6


def main() -> None:
    """Compare on every dataset, and write and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, required=True, help="ONNX weights")
    parser.add_argument("--peers", type=Path, required=True, help="the same weights as .pt")
    parser.add_argument("--peer-python", type=Path, required=True, help="python of the venv with flat-bug 1.2.0")
    parser.add_argument("--dataset", type=Path, action="append", required=True)
    parser.add_argument("--variant", action="append", required=True, help="more words for fb predict")
    parser.add_argument("--sahi", action="store_true", help="time SAHI too, which that venv has as well")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = [row for dataset in options.dataset for row in compare(dataset, options)]
    (options.output / "paired_predict.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for row in rows:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
