"""The run folder: what was asked, what each task has left, and the state of each that follows from it.

::

    RUN/plan.json                  what was asked; written once
    RUN/tasks/<id>/spec.json       one task
    RUN/tasks/<id>/attempt-1/…     log.txt, result.json, outputs; a new attempt never overwrites an old one
    RUN/report/                    results.csv, results.parquet, report.html
"""

import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path

from flat_bug import locks
from flat_bug.errors import OutputError, RunError, UsageError
from flat_bug.experiments.digests import Digest, digest_of, digest_of_archive, is_unchanged
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Plan, Task, read_plan
from flat_bug.experiments.record import Failure, Record, read_record
from flat_bug.experiments.registry import CALLS, check_calls
from flat_bug.files import cannot_write, write_text

PLAN_NAME = "plan.json"
SPEC_NAME = "spec.json"
LOG_NAME = "log.txt"
INNER_NAME = "run"
"""Where the run lies whose results go into a folder that may have others already, as ``fb predict`` does it."""
LOCK_NAME = ".lock"
ITEMS_IN_A_REASON = 3
LEFT_NO_RECORD = "it ended without a record: killed, out of memory, or the machine went down"


class TaskState(StrEnum):
    """The state of a task, from what lies in the run folder, and from the scheduler where there is one."""

    DONE = "done"
    FAILED = "failed"
    STALE = "stale"
    MISSING = "missing"
    QUEUED = "queued"
    RUNNING = "running"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class TaskStatus:
    """The state of a task, why it is so, and the attempt that says it.

    Attributes:
        task: The task.
        state: Its state.
        reason: Why; of a task that is done, which of its items failed.
        attempt: Folder of the attempt that decides, or nothing when the task was never started.
        record: The record of that attempt, if it has one.
        failure: Why it failed, from the record, or from what the scheduler knows of an attempt without one.
        job: The job of the scheduler that it belongs to: ``123_4``.
        node: Where it runs or ran.
        seconds: How long it has run.
    """

    task: Task
    state: TaskState
    reason: str = ""
    attempt: Path | None = None
    record: Record | None = None
    failure: Failure | None = None
    job: str = ""
    node: str = ""
    seconds: float | None = None

    @property
    def is_worth_repeating(self) -> bool:
        """Whether another attempt can end differently; the same bad input would fail again."""
        if self.state is TaskState.FAILED:
            return self.failure is None or self.failure.kind != "bad input"
        return self.state not in {TaskState.DONE, TaskState.QUEUED, TaskState.RUNNING}


@dataclass(frozen=True)
class RunFolder:
    """A run folder and the plan in it."""

    path: Path
    plan: Plan

    @classmethod
    @contextmanager
    def create(cls, path: Path, plan: Plan, calls: Mapping[str, str] = CALLS) -> Iterator["RunFolder"]:
        """Make a run folder and hold its lock during the block.

        Raises:
            RunError: There is a run already, or a task calls something unknown.
            OutputError: The folder holds something else, or cannot be written.
        """
        check_calls(plan, calls)
        check_is_free(path)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error
        with locks.hold(path / LOCK_NAME, "the run"):
            # Again, since another process may have made its run before we held the lock.
            check_is_free(path)
            write_text(path / PLAN_NAME, plan.model_dump_json(indent=1) + "\n")
            yield cls(path, plan)

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """Open a run folder, or the one inside a folder of predictions.

        Raises:
            RunError: It is absent, is not a run, or its plan is broken.
        """
        if not path.is_dir():
            raise RunError("there is no such run folder", where=path, mend="Give the folder that -o named.")
        if not (path / PLAN_NAME).is_file() and (path / INNER_NAME / PLAN_NAME).is_file():
            path = path / INNER_NAME
        if not (path / PLAN_NAME).is_file():
            raise RunError("this folder is not a run: it has no plan.json", where=path, mend="Give the folder of -o.")
        return cls(path, read_plan(path / PLAN_NAME))

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the lock of the run during the block, so that nobody else starts its tasks.

        Raises:
            RunError: Another process holds it.
        """
        with locks.hold(self.path / LOCK_NAME, "the run"):
            yield

    def wait_until_free(self) -> None:
        """Return when no process holds the lock of the run any more."""
        locks.wait_until_free(self.path / LOCK_NAME)

    @property
    def is_in_use(self) -> bool:
        """Whether a process holds the lock of the run: it runs or submits its tasks."""
        return locks.is_held(self.path / LOCK_NAME)

    @property
    def report(self) -> Path:
        """Return the folder of the report."""
        return self.path / "report"

    @property
    def page(self) -> Path:
        """Return the report, for a browser."""
        return self.report / "report.html"

    def is_reported(self, statuses: Iterable["TaskStatus"]) -> bool:
        """Return whether the report was written after all that the tasks have left."""
        try:
            written = self.page.stat().st_mtime
        except FileNotFoundError:
            return False
        # By what the records say, since the files of a copied run are of any time.
        records = [found.record for found in statuses if found.record]
        return all(datetime.fromisoformat(each.started).timestamp() + each.seconds <= written for each in records)

    def task_folder(self, task: Task) -> Path:
        """Return the folder of a task."""
        return self.path / "tasks" / task.id

    def write_spec(self, task: Task) -> Path:
        """Write ``spec.json`` of a task, unless it is there, and return its path."""
        path = self.task_folder(task) / SPEC_NAME
        if not path.exists():
            write_text(path, task.model_dump_json(indent=1) + "\n")
        return path

    def statuses(self) -> list[TaskStatus]:
        """Return the state of every task, in the order of the plan."""
        return [self.status(task) for task in self.plan.tasks]

    def status(self, task: Task) -> TaskStatus:
        """Return the state of one task.

        A finished attempt whose inputs and outputs are as they were decides, however many others were begun after it;
        without one, the newest attempt does.
        """
        folder = self.task_folder(task)
        newest: TaskStatus | None = None
        for attempt in reversed(attempts_in(folder)):
            found = _status_of_attempt(task, attempt)
            if found.state is TaskState.DONE:
                return found
            newest = newest or found
        newest = newest or TaskStatus(task, TaskState.MISSING, "not started yet")
        if not locks.is_held(folder / LOCK_NAME):
            # It may have ended since its attempt was looked at; once the lock is free, the attempt stays as it is.
            return _status_of_attempt(task, newest.attempt) if newest.attempt else newest
        return TaskStatus(task, TaskState.RUNNING, "", newest.attempt)

    def wait_for_running(self) -> None:
        """Return when no task is running any more."""
        for task in self.plan.tasks:
            locks.wait_until_free(self.task_folder(task) / LOCK_NAME)


def check_is_free(path: Path) -> None:
    """Check that a run can be made in ``path``: it is absent, or empty.

    Raises:
        RunError: There is a run already.
        OutputError: The folder holds something else.
    """
    if (path / PLAN_NAME).exists():
        raise RunError("there is a run already", where=path, mend=f"Go on with it: fb resume {shlex.quote(str(path))}")
    try:
        # Our own lock and temporary files may be left of a run that was killed while it was made.
        others = [entry.name for entry in os.scandir(path) if not _is_ours(entry.name)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    if others:
        raise OutputError("the output folder is not empty", where=path, mend="Give a new folder as the output.")


def _is_ours(name: str) -> bool:
    return name == LOCK_NAME or name.startswith(".tmp-")


def attempts_in(folder: Path) -> list[Path]:
    """Return the attempt folders of a task, oldest first."""
    numbered = [(number_of(path), path) for path in folder.glob("attempt-*")]
    return [path for number, path in sorted(numbered) if number]


def number_of(attempt: Path) -> int:
    """Return the number of an attempt folder, 0 when it is none."""
    match = re.fullmatch(r"attempt-([0-9]+)", attempt.name)
    return int(match[1]) if match else 0


def _status_of_attempt(task: Task, attempt: Path) -> TaskStatus:
    try:
        record = read_record(attempt)
    except RunError as error:
        return TaskStatus(task, TaskState.FAILED, error.brief(), attempt)
    if record is None:
        return TaskStatus(task, TaskState.INTERRUPTED, LEFT_NO_RECORD, attempt)
    state, reason = _state_of_record(task, attempt, record)
    return TaskStatus(
        task,
        state,
        reason,
        attempt,
        record,
        failure=record.failure,
        job=record.node.slurm_job,
        node=record.node.host,
        seconds=record.seconds,
    )


def _state_of_record(task: Task, attempt: Path, record: Record) -> tuple[TaskState, str]:
    """Return the state that a record stands for now, and why."""
    read = task.input_paths()
    if record.failure is not None and record.failure.kind != "bad input":
        # It may have ended before it read all; only what it found bad can be readable now and was not then.
        read = {name: path for name, path in read.items() if name in record.inputs}
    changed = [name for name, path in read.items() if _is_changed(path, record.inputs.get(name))]
    changed += [
        name
        for name, stage in task.archives().items()
        if name in record.inputs and _is_changed(stage.archive, record.inputs[name], digest_of_archive)
    ]
    if changed:
        return TaskState.STALE, f"changed since: {', '.join(changed)}"
    if record.failure is not None:
        return TaskState.FAILED, record.failure.brief()
    damaged = [name for name, digest in record.outputs.items() if not is_unchanged(attempt / name, digest)]
    if damaged:
        return TaskState.STALE, f"its output was changed: {damaged[0]}"
    return TaskState.DONE, _failed_items(record)


def _failed_items(record: Record) -> str:
    count = len(record.failed_items)
    named = "; ".join(record.failed_items[:ITEMS_IN_A_REASON])
    return f"{count} failed: {named}{'; …' if count > ITEMS_IN_A_REASON else ''}" if count else ""


def _is_changed(path: str, then: Digest | None, digest_now: Callable[[Path], Digest] = digest_of) -> bool:
    """Return whether an input is not what it was. One that cannot be seen from here is taken to be the same."""
    try:
        resolved = NodePath(path).resolve()
    except UsageError:
        return False
    if not resolved.exists():
        return False
    return then is None or not is_unchanged(resolved, then, digest_now)
