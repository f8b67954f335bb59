"""What is left of a task that ran: ``result.json``."""

import errno
import os
import platform
import socket
import subprocess
import sys
import traceback
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

import flat_bug
from flat_bug.errors import FlatBugError, MissingPartError, OutputError, RunError
from flat_bug.experiments.digests import Digest
from flat_bug.experiments.plan import Frozen, TaskId
from flat_bug.files import write_text

RECORD_NAME = "result.json"
PARTS = ("numpy", "onnxruntime", "openvino", "polars", "shapely", "torch", "ultralytics")
"""Parts that figures depend on; their versions are written into every record."""

FailureKind = Literal[
    "bad input",
    "cancelled",
    "cannot write",
    "error",
    "killed",
    "missing part",
    "node failure",
    "out of memory",
    "preempted",
    "setup failed",
    "time limit",
]


class OutOfTimeError(KeyboardInterrupt):
    """The scheduler will end the job soon: what is running stops as it does on Ctrl-C."""


class OutOfTimeStagingError(OutOfTimeError):
    """The same before all that a task reads is on its node: another attempt would begin with the same."""


class NoProgressError(RunError):
    """The time limit came near again, and nothing was gained since it did before: another attempt would not help."""


class StagingError(FlatBugError):
    """What a task reads could not be put on its node."""


KINDS: tuple[tuple[type[BaseException], FailureKind], ...] = (
    (OutOfTimeError, "time limit"),
    (NoProgressError, "time limit"),
    (StagingError, "setup failed"),
    (KeyboardInterrupt, "cancelled"),
)
"""Errors that say what kind of failure they are; the first that fits counts."""


class Failure(Frozen):
    """Why a task failed.

    Attributes:
        kind: The class of the failure. Only a bad input fails again for certain.
        what: What happened, one sentence.
        where: The file or place.
        mend: How to mend it.
        traceback: For the developer.
        goes_on: Whether it was stopped in time, so that another attempt of a task which can go on does so.
    """

    kind: FailureKind
    what: str
    where: str = ""
    mend: str = ""
    traceback: str = ""
    goes_on: bool = False

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """Return the failure that an exception stands for."""
        trace = "".join(traceback.format_exception(error))
        kind = _kind_of(error)
        if isinstance(error, FlatBugError):
            return cls(kind=kind, what=error.what, where=error.where, mend=error.mend, traceback=trace)
        if isinstance(error, OutOfTimeStagingError):
            what = "the time limit of its job came near while its data was staged"
            return cls(kind=kind, what=what, mend="Give it more time: fb resume RUN --grow time.", traceback=trace)
        if isinstance(error, OutOfTimeError):
            mend = "Another attempt goes on from there, or give it more time: fb resume RUN --grow time."
            what = "the time limit of its job came near"
            return cls(kind=kind, what=what, mend=mend, traceback=trace, goes_on=True)
        if isinstance(error, KeyboardInterrupt):
            return cls(kind=kind, what="stopped before it was finished", mend="Resume the run.", traceback=trace)
        return cls(kind=kind, what=f"{type(error).__name__}: {error}".strip(": "), traceback=trace)

    def brief(self) -> str:
        """Return the failure on one line, for a table."""
        return f"{self.kind}: {self.what} ({self.where})" if self.where else f"{self.kind}: {self.what}"


class Outcome(Frozen):
    """What the function of a task returns for the record; see ``Record``."""

    values: dict[str, JsonValue] = Field(default_factory=dict)
    failed_items: tuple[str, ...] = ()


class Node(Frozen):
    """Where a task ran.

    Attributes:
        host: The machine, as Slurm calls it where it does.
        pid: The process.
        system: The operating system.
        slurm_job: As squeue calls it: ``123_4``.
        interpreter: The Python that ran it; on a node, that of the environment made there.
    """

    host: str
    pid: int
    system: str
    slurm_job: str = ""
    interpreter: str = ""

    @classmethod
    def here(cls) -> Self:
        """Return this machine and process."""
        # What Slurm calls the node; several of its nodes can be one machine.
        host = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        return cls(
            host=host,
            pid=os.getpid(),
            system=platform.platform(),
            slurm_job=_slurm_job(),
            interpreter=sys.executable,
        )


class Record(Frozen):
    """How one attempt at a task ended. Success is a valid record whose outputs still match their digests.

    Attributes:
        task: Id of the task.
        attempt: Number of the attempt, from 1.
        status: Whether the function returned.
        started: ISO 8601 in UTC.
        seconds: Wall time of the function.
        peak_memory_mb: Most memory that the process held, in MiB.
        inputs: Argument name → what was read; without those that could not be read.
        outputs: Path in the attempt folder → what was written.
        values: What the function returned: small figures.
        failed_items: What failed while the rest was done, each with its reason.
        versions: Of flat-bug, Python and parts.
        node: Where it ran.
        failure: Why it failed.
    """

    schema_version: Literal[1] = 1
    task: TaskId
    attempt: int
    status: Literal["ok", "failed"]
    started: str
    seconds: float
    peak_memory_mb: float
    inputs: dict[str, Digest] = Field(default_factory=dict)
    outputs: dict[str, Digest] = Field(default_factory=dict)
    values: dict[str, JsonValue] = Field(default_factory=dict)
    failed_items: tuple[str, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    node: Node
    failure: Failure | None = None

    @model_validator(mode="after")
    def _says_why_it_failed(self) -> Self:
        if (self.status == "failed") != (self.failure is not None):
            raise ValueError("a record has a failure when, and only when, its status is 'failed'")
        return self

    def write(self, attempt: Path) -> None:
        """Write the record into its attempt folder, all of it or nothing."""
        write_text(attempt / RECORD_NAME, self.model_dump_json(indent=1) + "\n")


def read_record(attempt: Path) -> Record | None:
    """Return the record of an attempt, or nothing when it has none.

    Raises:
        RunError: There is one, and it is broken.
    """
    path = attempt / RECORD_NAME
    try:
        return Record.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise RunError("the record is broken", where=path, mend="Resume the run; the task is done again.") from error


def current_versions() -> dict[str, str]:
    """Return the versions of flat-bug, its commit when it runs from a checkout, Python, and the parts installed."""
    versions = {"flat-bug": flat_bug.__version__, "commit": _commit(), "python": platform.python_version()}
    for part in PARTS:
        try:
            versions[part] = version(part)
        except PackageNotFoundError:
            continue
    return versions


def _commit() -> str:
    checkout = Path(flat_bug.__file__).parents[2]
    if not (checkout / ".git").exists():
        return ""
    try:
        command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _slurm_job() -> str:
    """Return the job as squeue calls it: ``123``, or ``123_4`` of an array."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{index}" if array and index else os.environ.get("SLURM_JOB_ID", "")


def _kind_of(error: BaseException) -> FailureKind:
    for kind_of_error, kind in KINDS:
        if isinstance(error, kind_of_error):
            return kind
    # torch and onnxruntime have errors of their own, which cannot be imported here.
    if isinstance(error, MemoryError) or "out of memory" in str(error) or "Failed to allocate memory" in str(error):
        return "out of memory"
    if isinstance(error, OutputError) or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
        return "cannot write"
    if isinstance(error, MissingPartError):
        return "missing part"
    return "bad input" if isinstance(error, FlatBugError) else "error"
