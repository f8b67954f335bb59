"""Time ``fb predict`` against flat-bug's ``fb_predict`` on the same images with the same weights, in turn.

Usage::

    python benchmarks/paired_predict.py --ours model.onnx --peer-python VENV/bin/python --peers model.pt \
        --dataset DATASET [--dataset DATASET …] --rounds 3 --output FOLDER

``VENV`` holds flat-bug 1.2.0 from PyPI. A dataset is a folder with images and ``instances_default.json``. Both outputs
are scored by ``fb evaluate``. Prints, and writes to ``FOLDER/paired_predict.json``, a row per dataset: wall seconds and
peak memory (medians over rounds, whole process), detections, F1, and the peer's figures over ours.
"""

import argparse
import json
import os
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


def compare(dataset: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run both programs in turn on one dataset and return its row."""
    work = options.output / dataset.name
    peer_fb = options.peer_python.with_name("fb_predict")
    costs: dict[str, list[Cost]] = {"ours": [], "peer": []}
    work.mkdir(parents=True, exist_ok=True)
    for _ in range(options.rounds):
        for who, spent in costs.items():
            folder = work / who
            shutil.rmtree(folder, ignore_errors=True)
            if who == "ours":
                command = [str(FB), "predict", "-i", str(dataset), "-o", str(folder), "-w", str(options.ours)]
            else:
                command = [str(peer_fb), "-i", str(dataset), "-o", str(folder), "-w", str(options.peers)]
                command += ["--gpu", "cpu", "--dtype", "float32"]
            spent.append(measure(command, work / f"{who}.log"))
    row: dict[str, Any] = {"dataset": dataset.name, "rounds": options.rounds}
    for who, spent in costs.items():
        row[f"{who}_seconds"] = statistics.median(cost.seconds for cost in spent)
        row[f"{who}_peak_mb"] = statistics.median(cost.peak_mb for cost in spent)
        row |= {f"{who}_{name}": value for name, value in score(dataset, work / who, work / f"{who}-scores").items()}
    pairs = zip(costs["peer"], costs["ours"], strict=True)
    row["times_faster"] = statistics.median(peer.seconds / ours.seconds for peer, ours in pairs)
    row["memory_ratio"] = row["ours_peak_mb"] / row["peer_peak_mb"]
    return row


def main() -> None:
    """Compare on every dataset, and write and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=Path, required=True, help="ONNX weights")
    parser.add_argument("--peers", type=Path, required=True, help="the same weights as .pt")
    parser.add_argument("--peer-python", type=Path, required=True, help="python of the venv with flat-bug 1.2.0")
    parser.add_argument("--dataset", type=Path, action="append", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    rows = [compare(dataset, options) for dataset in options.dataset]
    (options.output / "paired_predict.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    for row in rows:
        print(json.dumps(row, indent=1))


if __name__ == "__main__":
    main()
