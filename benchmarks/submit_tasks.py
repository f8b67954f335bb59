"""Submit many tasks to a throw-away Slurm: ours beside one ``sbatch`` for each, which is what scripts do.

Usage: ``python benchmarks/submit_tasks.py [--tasks 200] [--rounds 3]``. The jobs are held, so that only submitting and
asking are measured. Prints medians: seconds to check and submit, seconds of ``fb status``'s look, and how often the
scheduler was asked for it.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flat_bug.cluster.files_of_jobs import begin, settings_of
from flat_bug.cluster.observe import observe
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.plan import Plan, Task
from flat_bug.experiments.run_folder import RunFolder

PROFILE = "name: here\nresources:\n  all: {cpus_per_task: 1, mem: 100M, time: 00:10:00}\nmax_array_size: %d\n"


def one_by_one(count: int) -> float:
    """Return the seconds that a loop over sbatch takes."""
    started = time.perf_counter()
    for number in range(count):
        words = ["sbatch", "--hold", "-o/dev/null", "--mem=100M", f"--job-name=t{number}", "--wrap=true"]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def as_arrays(folder: Path, count: int, longest: int) -> dict[str, float]:
    """Return what submitting a run and looking at it takes."""
    profile = folder.with_suffix(".yaml")
    profile.write_text(PROFILE % longest, encoding="utf-8")
    args = {"model": "m", "weights": "w.onnx", "images": "images", "ground_truth": "truth.json"}
    tasks = tuple(Task(id=f"t{number:04}", call="score-model", args=args) for number in range(count))
    plan = Plan(experiment="benchmark", tasks=tasks)
    started = time.perf_counter()
    settings = settings_of(parse_slurm([f"profile={profile}", "hold=true"]))
    preflight(settings, plan, folder)
    checked = time.perf_counter() - started
    with RunFolder.create(folder, plan) as run:
        begin(run, settings, None)
        SlurmSubmitter().submit(run, tasks)
    submitted = time.perf_counter() - started
    started = time.perf_counter()
    seen = observe(run)
    looked = time.perf_counter() - started
    if len(seen.statuses) != count or any(status.state != "queued" for status in seen.statuses):
        raise SystemExit("not all tasks are in the queue")
    jobs = len(submissions(run))
    return {
        "submit_seconds": submitted,
        "of_them_checks": checked,
        "submissions": jobs,
        "status_seconds": looked,
        "status_queries": seen.queries,
    }


def main(tokens: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(tokens)
    results: dict[str, list[dict[str, float]]] = {"one array": [], "arrays of 50": [], "sbatch for each": []}
    with LocalSlurm(ClusterShape(nodes=1, accounting=False)) as cluster, tempfile.TemporaryDirectory() as folder:
        os.environ.update(cluster.environment())
        for turn in range(options.rounds):
            results["one array"].append(as_arrays(Path(folder, f"one-{turn}"), options.tasks, 1001))
            results["arrays of 50"].append(as_arrays(Path(folder, f"fifty-{turn}"), options.tasks, 50))
            results["sbatch for each"].append({"submit_seconds": one_by_one(options.tasks)})
            cluster.cancel_all()
    medians = {
        way: {name: round(statistics.median(each[name] for each in rounds), 3) for name in rounds[0]}
        for way, rounds in results.items()
    }
    peer = medians["sbatch for each"]["submit_seconds"]
    ratio = {way: round(peer / found["submit_seconds"], 1) for way, found in medians.items()}
    print(json.dumps({"tasks": options.tasks, "medians": medians, "times as fast": ratio}, indent=1))


if __name__ == "__main__":
    main()
