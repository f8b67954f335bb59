"""Whether the time limit of a job covers staging and work; an estimate, which says what it assumes."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level
from flat_bug.cluster.option_values import Value, seconds_of_time
from flat_bug.cluster.resources import options_of
from flat_bug.datasets.archive_index import read_manifest
from flat_bug.datasets.archive_parts import select
from flat_bug.errors import FlatBugError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Task
from flat_bug.experiments.record import Record
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.prediction_run.inputs import DEFAULT_PATTERN

SCORING = "score-model"
SECONDS_TO_START = 60
"""Modules, environment, network: until the first image is read."""
STAGED_PER_SECOND = 50e6
BYTES_PER_MEGAPIXEL = 0.35e6
"""Of a JPEG of animals on a plain ground."""
WEIGHTS_BYTES = 12e6
"""Of the weights that come with flat-bug; the time of a network is in proportion to its size."""
MEGAPIXELS_PER_SECOND_OF_PROCESSOR = 0.25
MEGAPIXELS_PER_SECOND_OF_GPU = 10.0
MOST_PROCESSORS = 8
"""More of them do not make one network faster."""
ENOUGH = 0.5
"""An estimate is off by a factor of two on a good day."""


@dataclass(frozen=True)
class Work:
    """What a task has to do.

    Attributes:
        bytes_to_stage: What is copied to the node.
        images: Number of images; nothing when nobody knows.
        megapixels: Of all of them.
    """

    bytes_to_stage: int
    images: int | None
    megapixels: float


def check_time(case: Case) -> Iterator[Finding]:
    """Compare the time limit with an estimate, for the tasks whose work is known."""
    tasks = [task for task in case.tasks if task.call == SCORING]
    if not tasks:
        return
    options = options_of(case.settings, SCORING)
    limit = options.get("time")
    if not isinstance(limit, str):
        yield Finding("time", Level.YELLOW, "no time limit is asked for", "Give time=HH:MM:SS after --slurm.")
        return
    work = _work(tasks[0])
    if work.images is None:
        found = f"{limit}; nobody here knows how many images there are"
        yield Finding("time", Level.YELLOW, found, "With -a ARCHIVE the time is estimated.")
        return
    yield _compare(case, tasks, work, limit, options)


def _compare(case: Case, tasks: list[Task], work: Work, limit: str, options: Mapping[str, Value]) -> Finding:
    measured = measured_rate(case.run)
    has_gpu = any(name.startswith("gpus") for name in options) or "gpu" in str(options.get("gres", ""))
    processors = min(int(str(options.get("cpus-per-task", "1"))), MOST_PROCESSORS)
    usual = MEGAPIXELS_PER_SECOND_OF_GPU if has_gpu else MEGAPIXELS_PER_SECOND_OF_PROCESSOR * processors
    slowest = max(_size(task) for task in tasks) / WEIGHTS_BYTES
    rate = measured or usual / max(slowest, 1.0)
    each = work.megapixels / rate
    staging = work.bytes_to_stage / STAGED_PER_SECOND
    together = min(case.settings.tasks_per_job, len(tasks))
    seconds = SECONDS_TO_START + staging + together * each
    where = "GPU" if has_gpu else "CPU"
    how = "as measured in this run" if measured else f"assuming {rate:.2g} megapixels a second on a {where}"
    by = f" by {together} models" if together > 1 else ""
    text = (
        f"{limit} for about {_readable(seconds)}: {_readable(staging)} staging at {STAGED_PER_SECOND / 1e6:.0f} MB/s, "
        f"{work.images:,} images{by}, {work.megapixels:,.0f} megapixels, {how}"
    )
    allowed = seconds_of_time(limit)
    if seconds > allowed:
        return Finding("time", Level.RED, text, f"Ask for more: time={_limit(seconds * 2)}")
    if seconds > ENOUGH * allowed:
        return Finding("time", Level.YELLOW, text, f"To be on the safe side: time={_limit(seconds * 2)}")
    return Finding("time", Level.GREEN, text)


def measured_rate(run: Path | None) -> float | None:
    """Return the megapixels a second of the slowest task of a run that has already ended, if any has."""
    if run is None or not (run / "plan.json").is_file():
        return None
    try:
        records = [status.record for status in RunFolder.open(run).statuses() if status.record]
    except FlatBugError:
        return None
    pairs = [(_number(record, "megapixels"), _number(record, "predict_seconds")) for record in records]
    return min((pixels / seconds for pixels, seconds in pairs if pixels > 0 and seconds > 0), default=None)


def _number(record: Record, name: str) -> float:
    value = record.values.get(name)
    return float(value) if isinstance(value, int | float) else 0.0


def _work(task: Task) -> Work:
    staged = 0
    images: list[int] = []
    wanted = re.compile(str(task.args.get("input_pattern") or DEFAULT_PATTERN), re.IGNORECASE)
    folder = NodePath(str(task.args.get("images", "")) or ".")
    for stage in task.stage:
        try:
            members = select(read_manifest(NodePath(stage.archive).resolve()), stage.only).members
        except FlatBugError:
            continue
        staged += sum(member.size for member in members)
        images += [member.size for member in members if wanted.search(member.name)]
    if not images and folder.is_known_here() and folder.resolve().is_dir():
        files = (path for path in folder.resolve().rglob("*") if wanted.search(path.name))
        images = [path.stat().st_size for path in files if path.is_file()]
    return Work(staged, len(images) or None, sum(images) / BYTES_PER_MEGAPIXEL)


def _size(task: Task) -> float:
    path = NodePath(str(task.args.get("weights", "")) or ".")
    if path.is_known_here() and path.resolve().is_file():
        return path.resolve().stat().st_size
    return WEIGHTS_BYTES


def _readable(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _limit(seconds: float) -> str:
    minutes = max(15, -(-int(seconds) // 60))
    days, hours = divmod(minutes // 60, 24)
    return f"{f'{days}-' if days else ''}{hours:02}:{minutes % 60:02}:00"
