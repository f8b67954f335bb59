"""What was handed to the scheduler: one submission is one job array, or one job where there are no arrays.

::

    RUN/bootstrap.sh                        what each job does first
    RUN/slurm/settings.json                 options, profile and environment, so that resuming repeats none of them
    RUN/slurm/submission-1/submission.json  which tasks, written before anything is submitted
    RUN/slurm/submission-1/jobs.json        the ids of its jobs, once there are any
    RUN/slurm/submission-1/ended.json       how its jobs ended, as soon as somebody has asked the scheduler
    RUN/slurm/submission-1/123_0.log        what the first job printed
"""

import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypeVar

from pydantic import Field, ValidationError

from flat_bug.cluster.profile import ClusterProfile
from flat_bug.errors import RunError
from flat_bug.experiments.plan import Frozen, TaskId
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.files import write_text

FOLDER = "slurm"
FINALISER: Final = "finaliser"
"""Purpose of the job that combines what the tasks have left and writes the report."""
SETTINGS = "settings.json"
SUBMISSION = "submission.json"
JOBS = "jobs.json"
ENDED = "ended.json"
SETUP = "setup.sh"
DEFAULT_RETRIES = 2

OptionValue = str | Literal[True]
Kind = TypeVar("Kind", bound=Frozen)


class SlurmSettings(Frozen):
    """How a run is submitted; see ``options.SlurmRequest``.

    Attributes:
        profile: The cluster.
        options: Options of sbatch that the user gave; they take precedence over the profile's.
        without: Flags of the profile that the user turned off.
        environment: Folder that ``fb env build`` made; without one, nodes use the interpreter that submits.
        python: That interpreter.
        has_setup: Whether the user's own script, ``RUN/slurm/setup.sh``, makes the environment.
        max_parallel: Most tasks at a time.
        tasks_per_job: Tasks that share an allocation, one after the other.
        retries: How often the finaliser submits again what failed for want of luck.
    """

    profile: ClusterProfile
    options: dict[str, OptionValue] = Field(default_factory=dict)
    without: tuple[str, ...] = ()
    environment: str | None = None
    python: str
    has_setup: bool = False
    max_parallel: int | None = None
    tasks_per_job: int = 1
    retries: int = DEFAULT_RETRIES


class Submission(Frozen):
    """One array, or one job.

    Attributes:
        number: Of the submission in its run, from 1.
        purpose: Whether it runs tasks or combines what they have left.
        token: Written into the comment of its jobs, by which they are found when nobody noted their ids.
        created: ISO 8601 in UTC.
        elements: The tasks of each job; the position is the index in the array.
        first_attempts: Task → number of the first attempt that belongs to this submission or a later one.
        options: Of sbatch.
        is_array: Whether it is a job array.
        grown: ``mem`` or ``time`` → by what the options of the run were multiplied.
        automatic: Whether a finaliser submitted it again, nobody having asked for it.
    """

    number: int
    purpose: Literal["tasks", "finaliser"]
    token: str = Field(default_factory=lambda: f"flat-bug:{secrets.token_hex(8)}")
    created: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    elements: tuple[tuple[TaskId, ...], ...] = ()
    first_attempts: dict[TaskId, int] = Field(default_factory=dict)
    options: dict[str, OptionValue] = Field(default_factory=dict)
    is_array: bool = True
    grown: dict[str, int] = Field(default_factory=dict)
    automatic: bool = False

    def index_of(self, task: str) -> int | None:
        """Return the index of the job that runs a task, or None."""
        return next((index for index, tasks in enumerate(self.elements) if task in tasks), None)


class Jobs(Frozen):
    """Ids that the scheduler gave: of the array, or index → id where each job is one of its own."""

    array: str | None = None
    single: dict[int, str] = Field(default_factory=dict)

    def ids(self) -> list[str]:
        """Return the ids to ask the scheduler for."""
        return [self.array] if self.array else list(self.single.values())

    def job_of(self, index: int) -> str:
        """Return the job of an index as squeue calls it, or nothing when it was never submitted."""
        return f"{self.array}_{index}" if self.array else self.single.get(index, "")


class Ended(Frozen):
    """How a job ended.

    Attributes:
        state: As Slurm calls it: ``TIMEOUT``.
        reason: As Slurm says it.
        node: Where it ran.
        seconds: How long.
    """

    state: str
    reason: str = ""
    node: str = ""
    seconds: float | None = None


class EndedJobs(Frozen):
    """Index → how the job ended."""

    jobs: dict[int, Ended] = Field(default_factory=dict)


@dataclass(frozen=True)
class Submitted:
    """A submission and its folder.

    Attributes:
        folder: The folder.
        submission: What was handed over.
        found: Jobs that were found in the queue, and which nobody has noted.
    """

    folder: Path
    submission: Submission
    found: Jobs = field(default_factory=Jobs)

    @property
    def jobs(self) -> Jobs:
        """Return the ids of its jobs, as far as they were noted or found."""
        noted = _read_if_there(Jobs, self.folder / JOBS) or Jobs()
        return Jobs(array=noted.array or self.found.array, single=self.found.single | noted.single)

    def note_jobs(self, jobs: Jobs) -> None:
        """Note the ids of its jobs; only who holds the lock of the run may, since jobs may be added one by one."""
        write_text(self.folder / JOBS, jobs.model_dump_json() + "\n")

    @property
    def ended(self) -> dict[int, Ended]:
        """Return index → how the job ended, as far as somebody has seen it."""
        found = _read_if_there(EndedJobs, self.folder / ENDED)
        return found.jobs if found else {}

    def note_ended(self, ended: dict[int, Ended]) -> None:
        """Note how jobs ended: a scheduler without accounting forgets it soon."""
        write_text(self.folder / ENDED, EndedJobs(jobs=self.ended | ended).model_dump_json() + "\n")

    def log_of(self, index: int) -> Path | None:
        """Return the newest log of a job, or None when it has none."""
        job = self.jobs.job_of(index)
        log = self.folder / f"{job}.log"
        return log if job and log.is_file() else None

    def setup_failure_of(self, index: int) -> Path:
        """Return the file in which ``bootstrap.sh`` leaves the step that failed."""
        return self.folder / f"setup-failed-{index}"


def slurm_folder(run: RunFolder) -> Path:
    """Return the folder of everything that concerns the scheduler."""
    return run.path / FOLDER


def is_on_slurm(run: RunFolder) -> bool:
    """Return whether a run was submitted to SLURM."""
    return (slurm_folder(run) / SETTINGS).is_file()


def is_half_made(run: RunFolder) -> bool:
    """Return whether a run was to be submitted to SLURM, and its process ended before it could write how."""
    asked = any(word == "--slurm" or word.startswith("--slurm=") for word in run.plan.command)
    return not is_on_slurm(run) and (asked or slurm_folder(run).is_dir())


def read_settings(run: RunFolder) -> SlurmSettings:
    """Return how a run is submitted.

    Raises:
        RunError: The run was not submitted to SLURM, or its settings are broken.
    """
    return _read(SlurmSettings, slurm_folder(run) / SETTINGS)


def write_settings(run: RunFolder, settings: SlurmSettings) -> None:
    """Write how a run is submitted."""
    write_text(slurm_folder(run) / SETTINGS, settings.model_dump_json(indent=1) + "\n")


def submissions(run: RunFolder) -> list[Submitted]:
    """Return all submissions of a run, oldest first.

    Raises:
        RunError: One is broken.
    """
    # Who submits removes what is refused, maybe at this moment.
    found = ((folder, _read_if_there(Submission, folder / SUBMISSION)) for folder in _folders(run))
    return [Submitted(folder, submission) for folder, submission in found if submission is not None]


def read_submission(run: RunFolder, number: int) -> Submitted:
    """Return one submission.

    Raises:
        RunError: It is absent or broken.
    """
    folder = slurm_folder(run) / f"submission-{number}"
    return Submitted(folder, _read(Submission, folder / SUBMISSION))


def next_number(run: RunFolder) -> int:
    """Return the number of the next submission."""
    return 1 + max((_number_of(folder) for folder in slurm_folder(run).glob("submission-*")), default=0)


def write_submission(run: RunFolder, submission: Submission) -> Submitted:
    """Write what is about to be submitted; without job ids nobody knows yet whether it was."""
    folder = slurm_folder(run) / f"submission-{submission.number}"
    write_text(folder / SUBMISSION, submission.model_dump_json(indent=1) + "\n")
    return Submitted(folder, submission)


def newest_of(found: Sequence[Submitted], tasks: Iterable[str]) -> dict[str, Submitted]:
    """Return task → the last submission that runs it: the only one whose jobs may do so."""
    wanted = set(tasks)
    newest: dict[str, Submitted] = {}
    for submitted in found:
        for task in _tasks_in(submitted.submission):
            if task in wanted:
                newest[task] = submitted
    return newest


def finalisers(found: Iterable[Submitted]) -> list[Submitted]:
    """Return those of some submissions that write the report, in the same order."""
    return [submitted for submitted in found if submitted.submission.purpose == FINALISER]


def _tasks_in(submission: Submission) -> Iterator[str]:
    return (task for tasks in submission.elements for task in tasks)


def _folders(run: RunFolder) -> list[Path]:
    # A folder without its file is what a kill leaves before anything was submitted.
    found = [folder for folder in slurm_folder(run).glob("submission-*") if (folder / SUBMISSION).is_file()]
    return sorted(found, key=_number_of)


def _number_of(folder: Path) -> int:
    match = re.fullmatch(r"submission-([0-9]+)", folder.name)
    return int(match[1]) if match else 0


def _read_if_there(kind: type[Kind], path: Path) -> Kind | None:
    try:
        return _read(kind, path)
    except RunError:
        if path.exists():
            raise
        return None


def _read(kind: type[Kind], path: Path) -> Kind:
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"cannot read: {error.strerror}", where=path) from error
    except ValidationError as error:
        raise RunError(f"the file is broken: {error.errors()[0]['msg']}", where=path) from error
