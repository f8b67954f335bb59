"""What a job does once its environment is there: ``python -m flat_bug.cluster.job SUBMISSION INDEX``.

It starts in the run folder and runs the tasks of its index one after the other, each in a process of its own. Where a
task dies without a record, it writes one. INDEX ``finaliser`` combines what all tasks have left.
"""

from flat_bug.experiments.stopping import STOPPING, held_back, hold_back, let_through

if __name__ == "__main__":
    # The imports below take a second, and a signal would end this process meanwhile.
    hold_back()

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from flat_bug import locks
from flat_bug.cluster.scheduler import SchedulerError, run_command
from flat_bug.cluster.submission import FINALISER, Submitted, newest_of, read_submission, submissions
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_OK, FlatBugError, OutputError, RunError
from flat_bug.experiments.plan import Task
from flat_bug.experiments.record import (
    Failure,
    FailureKind,
    Node,
    Record,
    StagingError,
    current_versions,
    read_record,
)
from flat_bug.experiments.run_folder import LOCK_NAME, RunFolder, TaskState, attempts_in, number_of
from flat_bug.experiments.run_task import stage_for
from flat_bug.files import cannot_write

WORKER = (sys.executable, "-m", "flat_bug.experiments.run_task")
MOST_REQUEUES = 100


@dataclass
class Supervisor:
    """Runs the tasks of one job and hands on the signals of the scheduler.

    Attributes:
        run: The run.
        submitted: The submission that this job is part of.
        worker: The command that runs a task, before the path of its spec.
    """

    run: RunFolder
    submitted: Submitted
    worker: tuple[str, ...] = WORKER
    child: "subprocess.Popen[bytes] | None" = None
    stopped_by: signal.Signals | None = None

    def run_tasks(self, tasks: list[Task]) -> int:
        """Run the tasks and return 0 when all are done."""
        for number in STOPPING:
            signal.signal(number, self._hand_on)
        with let_through():
            for task in tasks:
                try:
                    self._deal_with(task)
                except OutputError as error:  # another task may need less room
                    print(f"{task.id}: {error.brief()}", flush=True)  # noqa: T201 - into the log of the job
        if self.stopped_by is signal.SIGUSR1 and any(self._goes_on(task) for task in tasks):
            self._requeue()
        done = [self.run.status(task).state is TaskState.DONE for task in tasks]
        return EXIT_OK if all(done) else EXIT_ITEMS_FAILED

    def _deal_with(self, task: Task) -> None:
        if not self._is_to_run(task):
            return
        if self.stopped_by is None:
            self._run_one(task)
        else:
            self._explain(task, "its job ended before its turn")

    def _is_to_run(self, task: Task) -> bool:
        index = self.submitted.submission.index_of(task.id)
        own, noted = Node.here().slurm_job, self.submitted.jobs.job_of(index) if index is not None else ""
        if own and noted and own != noted:
            # sbatch was given it twice, since its first answer was lost.
            print(f"{task.id}: left to job {noted}", flush=True)  # noqa: T201
            return False
        newest = newest_of(submissions(self.run), [task.id])[task.id]
        if newest.submission.number != self.submitted.submission.number:
            print(f"{task.id}: left to submission {newest.submission.number}", flush=True)  # noqa: T201
            return False
        if self.run.status(task).state is TaskState.DONE:
            print(f"{task.id}: done already", flush=True)  # noqa: T201
            return False
        every = {other.id: other for other in self.run.plan.tasks}
        lacking = [name for name in task.after if self.run.status(every[name]).state is not TaskState.DONE]
        if lacking:
            self._explain(task, f"it comes after {lacking[0]}, which is not done", kind="missing part")
        return not lacking

    def _run_one(self, task: Task) -> None:
        print(f"{task.id}: begins", flush=True)  # noqa: T201 - into the log of the job
        started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
        killed_before, last = killed_for_memory(), self._last_attempt(task)
        command = [*self.worker, str(self.run.write_spec(task)), "--parent", str(os.getpid())]
        with held_back():  # so are they in the new process, until it can leave a record
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        if self.stopped_by is not None:  # a signal came just before
            self.child.send_signal(self.stopped_by)
        code = self.child.wait()
        print(f"{task.id}: exit code {code}", flush=True)  # noqa: T201
        own = [attempt for attempt in attempts_in(self.run.task_folder(task)) if number_of(attempt) > last]
        # Where it was refused since another process is at the task, what is new belongs to that one.
        if not own or _record_of(own[-1]) is not None or locks.is_held(self.run.task_folder(task) / LOCK_NAME):
            return
        failure = self._failure_of(task, code, for_memory=killed_for_memory() > killed_before)
        self._write(own[-1], task, failure, started, time.monotonic() - clock)

    def _last_attempt(self, task: Task) -> int:
        return max(map(number_of, attempts_in(self.run.task_folder(task))), default=0)

    def _failure_of(self, task: Task, code: int, *, for_memory: bool) -> Failure:
        """Return why a task has left no record."""
        if for_memory:
            return Failure(kind="out of memory", what="it was killed for its memory")
        if self.stopped_by is not None and code == -self.stopped_by:
            in_time = self.stopped_by is signal.SIGUSR1
            return Failure(kind=self._kind_of_end(), what=_what_of(code), goes_on=in_time and task.goes_on)
        return Failure(kind="killed", what=_what_of(code))

    def _kind_of_end(self) -> FailureKind:
        return "time limit" if self.stopped_by is signal.SIGUSR1 else "cancelled"

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or signal.Signals(number)
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)

    def _explain(self, task: Task, what: str, *, kind: FailureKind | None = None) -> None:
        """Leave a record of a task that is not begun."""
        attempt = self.run.task_folder(task) / f"attempt-{self._last_attempt(task) + 1}"
        self.run.write_spec(task)
        try:
            attempt.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(attempt, error) from error
        failure = Failure(kind=kind or self._kind_of_end(), what=what)
        self._write(attempt, task, failure, datetime.now(UTC).isoformat(timespec="seconds"), 0.0)

    def _write(self, attempt: Path, task: Task, failure: Failure, started: str, seconds: float) -> None:
        Record(
            task=task.id,
            attempt=number_of(attempt),
            status="failed",
            started=started,
            seconds=round(seconds, 3),
            peak_memory_mb=0.0,
            versions=current_versions(),
            node=Node.here(),
            failure=failure,
        ).write(attempt)

    def _goes_on(self, task: Task) -> bool:
        """Return whether another attempt would go on where the last one was stopped in time."""
        attempts = attempts_in(self.run.task_folder(task))
        record = _record_of(attempts[-1]) if task.goes_on and attempts else None
        return record is not None and record.failure is not None and record.failure.goes_on

    def _requeue(self) -> None:
        """Have the job run again, to go on where it stopped."""
        job = Node.here().slurm_job
        if int(os.environ.get("SLURM_RESTART_COUNT") or 0) >= MOST_REQUEUES:
            return
        try:
            run_command(["scontrol", "requeue", job])
        except SchedulerError as error:
            print(f"the job cannot be queued again: {error.what}", flush=True)  # noqa: T201


def killed_for_memory(groups: Path = Path("/proc/self/cgroup"), tree: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many processes of this job the kernel has killed for their memory, as far as it tells.

    Args:
        groups: Says in which control groups this process is.
        tree: Where control groups are mounted.
    """
    total = 0
    for line in _lines(groups):
        if line.count(":") < 2:
            continue
        controllers, path = line.split(":", 2)[1:]
        root = tree / ("memory" if controllers else "") / path.lstrip("/")
        if controllers and "memory" not in controllers.split(","):
            continue
        for name in ("memory.events", "memory.oom_control"):
            words = [entry.split() for entry in _lines(root / name)]
            total += sum(int(word[1]) for word in words if len(word) == 2 and word[0] == "oom_kill")
    return total


def main(tokens: list[str] | None = None) -> int:
    """Do what a job is for and return its exit code."""
    parser = argparse.ArgumentParser(prog="job", description="Run the tasks of one job.")
    parser.add_argument("submission", type=int)
    parser.add_argument("index")
    parser.add_argument("--stage-only", action="store_true", help="only put on this node what the tasks read")
    options = parser.parse_args(tokens)
    try:
        run = RunFolder.open(Path.cwd())
        submitted = read_submission(run, options.submission)
        if not _is_wanted(submitted, 0 if options.index == FINALISER else int(options.index)):
            return EXIT_OK
        if options.index == FINALISER:
            from flat_bug.cluster.finalise import finalise  # noqa: PLC0415 - tasks do not need what it imports

            with let_through():
                return finalise(run)
        names = submitted.submission.elements[int(options.index)]
        tasks = [task for task in run.plan.tasks if task.id in names]
        if options.stage_only:
            with let_through():
                return _stage(submitted.setup_failure_of(int(options.index)), tasks)
        return Supervisor(run, submitted).run_tasks(tasks)
    except FlatBugError as error:
        print(error, file=sys.stderr)  # noqa: T201 - into the log of the job
        return error.exit_code


def _is_wanted(submitted: Submitted, index: int) -> bool:
    """Return whether this job is the one for an index.

    Slurm may have taken two, since it was slow to answer; or the job was given up to make room for the finaliser.
    """
    here, noted = Node.here().slurm_job, submitted.jobs.job_of(index)
    is_given_up = submitted.submission.purpose == "tasks" and index >= len(submitted.submission.elements)
    if is_given_up or (here and noted and here != noted):
        print(f"nothing to do here: {'given up' if is_given_up else f'left to job {noted}'}", flush=True)  # noqa: T201
        return False
    return True


def _stage(note: Path, tasks: list[Task]) -> int:
    """Put on this node what the tasks read; what goes wrong is noted for ``fb status``, unless another node was first.

    Args:
        note: Where ``bootstrap.sh`` notes what failed.
        tasks: The tasks.
    """
    try:
        for task in tasks:
            stage_for(task)
    except StagingError as error:
        print(error, file=sys.stderr)  # noqa: T201 - into the log of the job
        with suppress(OSError), note.open("x", encoding="utf-8") as stream:
            stream.write(f"staging: {error.brief()} (node {Node.here().host})\n")
        return error.exit_code
    return EXIT_OK


def _record_of(attempt: Path) -> Record | None:
    """Return the record of an attempt; one that is broken says nothing."""
    try:
        return read_record(attempt)
    except RunError:
        return None


def _what_of(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code} and left no record"
    return f"its process was killed ({signal.Signals(-code).name})"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


if __name__ == "__main__":
    sys.exit(main())
