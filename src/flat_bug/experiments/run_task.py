"""Run one task: ``python -m flat_bug.experiments.run_task SPEC.json``.

It makes a new attempt folder beside the spec, sends everything printed to the log in it, calls the function, and leaves
a record whichever way the call ends. Submitters start nothing else.
"""

from flat_bug.experiments.stopping import STOPPING, hold_back, let_through

if __name__ == "__main__":
    # The imports below take a second, and a signal would end this process meanwhile.
    hold_back()

import argparse
import ctypes
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from flat_bug import locks
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_OK, DatasetError, FlatBugError
from flat_bug.experiments.digests import Digest, digest_of, stat_of
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Task, read_task
from flat_bug.experiments.record import (
    RECORD_NAME,
    Failure,
    Node,
    Outcome,
    OutOfTimeError,
    OutOfTimeStagingError,
    Record,
    StagingError,
    current_versions,
)
from flat_bug.experiments.registry import CALLS, load_call
from flat_bug.experiments.run_folder import LOCK_NAME, LOG_NAME, attempts_in, number_of
from flat_bug.files import cannot_write
from flat_bug.interruption import interrupt


def main(tokens: list[str] | None = None, calls: Mapping[str, str] = CALLS) -> int:
    """Run the task that the command line names and return 0 when it is done, 1 when it failed."""
    parser = argparse.ArgumentParser(prog="run_task", description="Run one task of an experiment.")
    parser.add_argument("spec", type=Path)
    parser.add_argument("--parent", type=int, help="end when this process, which started us, ends")
    parser.add_argument("--cpus", help="use these processors: 0,2,4")
    options = parser.parse_args(tokens)
    if options.parent is not None:
        _end_with(options.parent)
    if options.cpus and hasattr(os, "sched_setaffinity"):
        # Every part sizes its pool of threads by the processors that it may use.
        os.sched_setaffinity(0, [int(cpu) for cpu in options.cpus.split(",")])
    # A polite end leaves a record, as Ctrl-C does; so it comes when there is something to stop.
    hold_back()
    for number in STOPPING:
        signal.signal(number, _stop)
    try:
        record = run_task(options.spec, calls)
    except FlatBugError as error:
        print(error, file=sys.stderr)  # noqa: T201 - without an attempt folder there is no other place
        return error.exit_code
    return EXIT_OK if record.status == "ok" else EXIT_ITEMS_FAILED


def run_task(spec: Path, calls: Mapping[str, str] = CALLS) -> Record:
    """Run the task of a spec file in a new attempt folder and return its record.

    Standard output and standard error of this process go to the log from here on.

    Raises:
        RunError: The spec is broken, or the task is running already.
        OutputError: The attempt folder or the record cannot be written.
    """
    task = read_task(spec)
    with locks.hold(spec.parent / LOCK_NAME, f"task {task.id}"):
        attempt = _new_attempt(spec.parent)
        _send_output_to(attempt / LOG_NAME)
        record = _attempt(task, attempt, calls)
        record.write(attempt)
        return record


def _attempt(task: Task, attempt: Path, calls: Mapping[str, str]) -> Record:
    started, clock = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    inputs: dict[str, Digest] = {}
    outputs: dict[str, Digest] = {}
    outcome = Outcome()
    failure: Failure | None = None
    try:
        with let_through():
            inputs |= stage_for(task)
            _note_inputs(task, inputs)
            outcome = load_call(task.call, calls)(dict(task.args), attempt)
        outputs = _outputs_in(attempt)
    # Whatever goes wrong in a task, even Ctrl-C or an exit call in a part, belongs in its record.
    except BaseException as error:
        traceback.print_exc()
        failure = Failure.of(error)
    return Record(
        task=task.id,
        attempt=number_of(attempt),
        status="ok" if failure is None else "failed",
        started=started,
        seconds=round(time.monotonic() - clock, 3),
        peak_memory_mb=round(peak_memory_mb(), 1),
        inputs=inputs,
        outputs=outputs if failure is None else {},
        values=outcome.values,
        failed_items=outcome.failed_items,
        versions=current_versions(),
        node=Node.here(),
        failure=failure,
    )


def _stop(number: int, frame: FrameType | None) -> None:
    # A scheduler signals every process of a job, and so does whoever passes it on; one of them is enough.
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    interrupt(OutOfTimeError if number == signal.SIGUSR1 else KeyboardInterrupt, frame)


def stage_for(task: Task) -> dict[str, Digest]:
    """Put on this node what the task reads, and return what the archives held.

    A no-op where another task of the node has done it.

    Raises:
        StagingError: An archive is absent or damaged, or there is no space.
        OutOfTimeStagingError: The time limit came near.
    """
    if not task.stage:
        return {}
    from flat_bug.datasets.stage import stage  # noqa: PLC0415 - few tasks need it

    found: dict[str, Digest] = {}
    for name, wanted in task.archives().items():
        archive = NodePath(wanted.archive).resolve()
        try:
            # Before: a task whose archive is replaced while it is staged is stale, and not wrong.
            stat = stat_of(archive) if archive.is_file() else ""
            staged = stage(archive, NodePath(wanted.into).resolve(), wanted.only)
        except FlatBugError as error:
            raise StagingError(error.what, where=error.where, mend=error.mend) from error
        except OSError as error:
            raise StagingError(f"cannot read: {error.strerror or error}", where=archive) from error
        except OutOfTimeError as error:
            raise OutOfTimeStagingError from error
        found[name] = Digest(sha256=staged.identity, stat=stat)
        how = "was there" if staged.was_there else f"{staged.bytes / 1e6:.0f} MB in {staged.seconds:.1f} s"
        print(f"staged {staged.root}: {how}", flush=True)  # noqa: T201 - into the log of the attempt
    return found


def _note_inputs(task: Task, inputs: dict[str, Digest]) -> None:
    """Note the digest of every input that can be read, and then complain of the first that cannot."""
    complaints: list[FlatBugError] = []
    for name, path in task.input_paths().items():
        try:
            inputs[name] = _digest_of_input(name, NodePath(path).resolve())
        except FlatBugError as error:
            complaints.append(error)
    if complaints:
        raise complaints[0]


def _digest_of_input(name: str, path: Path) -> Digest:
    try:
        return digest_of(path)
    except OSError as error:
        raise DatasetError(f"{name.replace('_', ' ')}: {error.strerror or error}", where=path) from error


def _outputs_in(attempt: Path) -> dict[str, Digest]:
    own = {attempt / LOG_NAME, attempt / RECORD_NAME}
    files = [path for path in sorted(attempt.rglob("*")) if path.is_file() and path not in own]
    return {path.relative_to(attempt).as_posix(): digest_of(path) for path in files}


def _new_attempt(folder: Path) -> Path:
    last = max((number_of(path) for path in attempts_in(folder)), default=0)
    attempt = folder / f"attempt-{last + 1}"
    try:
        attempt.mkdir()
    except OSError as error:
        raise cannot_write(attempt, error) from error
    return attempt


def _send_output_to(log: Path) -> None:
    """Send standard output and error to a file, those of libraries that are not Python's included."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError as error:
        raise cannot_write(log, error) from error
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def peak_memory_mb() -> float:
    """Return the most memory that this process has held, in MiB."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        # Where there is no /proc. On Linux this figure would include that of the process which started us.
        unit = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def _end_with(parent: int) -> None:
    """Have the system kill this process when its parent dies, as far as the system can.

    Where it cannot, the lock of the task still keeps it from being run twice.
    """
    if sys.platform == "linux":
        set_parent_death_signal: Callable[..., int] = ctypes.CDLL(None).prctl
        set_parent_death_signal(1, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        sys.exit(EXIT_ITEMS_FAILED)


if __name__ == "__main__":
    sys.exit(main())
