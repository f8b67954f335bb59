"""What Slurm says of jobs, in our words: one query for all jobs of a run."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, run_command
from flat_bug.experiments.record import FailureKind
from flat_bug.experiments.run_folder import TaskState

WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}
RUNNING = {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING"}
KINDS: dict[str, FailureKind] = {
    "TIMEOUT": "time limit",
    "DEADLINE": "time limit",
    "OUT_OF_MEMORY": "out of memory",
    "NODE_FAIL": "node failure",
    "BOOT_FAIL": "node failure",
    "PREEMPTED": "preempted",
    "CANCELLED": "cancelled",
}
"""State of a job that has ended → why its task has failed."""

SIGNS: tuple[tuple[re.Pattern[str], FailureKind], ...] = (
    (re.compile(r"DUE TO TIME LIMIT"), "time limit"),
    (
        # The job is cancelled for it in the next line.
        re.compile(
            r"(?:oom.?kill|exceeded memory limit|out of memory)(?:.*\n.*job memory limit)*"
            r"(?:.*\n.*\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT)?",
            re.IGNORECASE,
        ),
        "out of memory",
    ),
    (re.compile(r"DUE TO NODE FAILURE"), "node failure"),
    (re.compile(r"DUE TO PREEMPTION"), "preempted"),
    (re.compile(r"\*\*\* (?:JOB|STEP) \S+ ON \S+ CANCELLED AT(?!.*DUE TO JOB REQUEUE)"), "cancelled"),
)
"""What Slurm prints into the log of a job that it ends; the last sign counts."""

TAIL_BYTES = 64 << 10


@dataclass(frozen=True)
class JobState:
    """One job, or one element of an array, as the scheduler sees it.

    Attributes:
        job: ``123`` or ``123_4``.
        state: As Slurm calls it.
        reason: Why it waits, or why it ended.
        node: Where it runs or ran.
        seconds: How long it has run.
        comment: Of the job.
        began: When it began to run, the last time if it was queued again.
    """

    job: str
    state: str
    reason: str = ""
    node: str = ""
    seconds: float | None = None
    comment: str = ""
    began: datetime | None = None

    @property
    def is_held(self) -> bool:
        """Return whether it waits until somebody does something about it."""
        return self.state in WAITING and (
            self.reason.startswith("JobHeld") or self.reason == "DependencyNeverSatisfied"
        )

    @property
    def task_state(self) -> TaskState | None:
        """Return the state of a task whose job this is, or None when the job has ended."""
        if self.state in WAITING:
            return TaskState.QUEUED
        return TaskState.RUNNING if self.state in RUNNING else None


def ask_queue(ids: Sequence[str] | None) -> list[JobState]:
    """Return what the controller knows of jobs, those that ended lately included.

    Args:
        ids: Jobs and arrays; None for all of the user's jobs.

    Raises:
        SchedulerSilentError: It does not answer.
    """
    who = ["--me"] if ids is None else [f"--jobs={','.join(ids)}"]
    try:
        answer = run_command(["squeue", "--noheader", "--array", "--states=all", *who, "--format=%i|%T|%r|%N|%M|%S|%k"])
    except SchedulerSilentError:
        raise
    except SchedulerError as error:
        if "invalid job id" in error.what.lower():  # it has forgotten all of them
            return []
        raise
    return [_of_queue(line.split("|", 6)) for line in answer.splitlines() if line.count("|") >= 6]


def ask_accounting(ids: Sequence[str], since: str) -> list[JobState]:
    """Return what the accounting knows of jobs that the controller has forgotten.

    Args:
        ids: Jobs and arrays.
        since: ISO 8601 in local time; numbers of jobs come again after years.

    Raises:
        SchedulerError: There is no accounting, or it does not answer.
    """
    fields = "JobID,State,Reason,NodeList,ElapsedRaw"
    command = ["sacct", "--allocations", "--noheader", "--parsable2", "--duplicates", f"--jobs={','.join(ids)}"]
    answer = run_command([*command, f"--starttime={since}", f"--format={fields}"])
    # Of an element that was requeued there is a row for each time; the last one counts.
    rows = (line.split("|") for line in answer.splitlines() if line.count("|") >= 4)
    return [state for row in rows for state in _of_accounting(row)]


def sign_in_log(log: Path | None) -> FailureKind | None:
    """Return why Slurm ended a job, from what it printed into its log."""
    if log is None:
        return None
    with log.open("rb") as stream:
        stream.seek(max(0, log.stat().st_size - TAIL_BYTES))
        text = stream.read().decode("utf-8", "replace")
    found = [(match.end(), kind) for pattern, kind in SIGNS for match in pattern.finditer(text)]
    return max(found, key=lambda sign: sign[0])[1] if found else None


def seconds_of_elapsed(text: str) -> float | None:
    """Return the seconds of ``D-HH:MM:SS`` or ``MM:SS`` as squeue prints it."""
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)


def _time(text: str) -> datetime | None:
    """Return a time as squeue prints it, which is the local one; None where a job has none yet."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except ValueError:  # N/A
        return None


def _of_queue(cells: list[str]) -> JobState:
    job, state, reason, node, elapsed, began, comment = (cell.strip() for cell in cells)
    return JobState(
        job=job,
        state=state,
        reason="" if reason in {"None", "(null)"} else reason,
        node=node.replace("(null)", ""),
        seconds=seconds_of_elapsed(elapsed),
        comment=comment,
        began=_time(began),
    )


def _of_accounting(cells: list[str]) -> Iterator[JobState]:
    job, state, reason, node, elapsed = cells[:5]
    for name in expand(job):
        yield JobState(
            job=name,
            state=state.split()[0] if state else "",  # CANCELLED by 1000
            reason="" if reason == "None" else reason,
            node="" if node == "None assigned" else node,
            seconds=float(elapsed) if elapsed.isdecimal() else None,
        )


def expand(job: str) -> list[str]:
    """Return the elements of ``12_[0-2,5%3]``, as Slurm writes those that never started; of ``12_3`` itself."""
    match = re.fullmatch(r"(\d+)_\[([\d,-]+)(?:%\d+)?\]", job)
    if match is None:
        return [job]
    names = []
    for part in match[2].split(","):
        first, _, last = part.partition("-")
        names += [f"{match[1]}_{number}" for number in range(int(first), int(last or first) + 1)]
    return names
