"""``fb logs``: what the tasks of a run, and the jobs around them, have printed."""

import shlex
import sys
import time
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli.status import is_live, look, stopped_looking
from flat_bug.cluster.submission import finalisers, is_on_slurm, newest_of, submissions
from flat_bug.errors import EXIT_OK, RunError, UsageError
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus

REPORT = "report"
LINES = 20
NAMES_SHOWN = 10
SECONDS_BETWEEN_LOOKS = 1.0
SECONDS_BETWEEN_QUESTIONS = 30.0


def logs(
    run: Path,
    task: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(["--follow", "-f"])] = False,
    lines: Annotated[PositiveInt | None, Parameter(["--lines", "-n"])] = None,
) -> int:
    """Show what a task and its job have printed; without a task, the last lines of those that are not done.

    `report` stands for the job that writes the report of a run on SLURM.

    Example: fb logs runs/first best-model -f

    Args:
        run: The run folder, which -o named.
        task: A task of it, as `fb status` names them, or `report`.
        follow: Go on showing what is printed until the task has ended.
        lines: Only the last so many lines of each log; 20 by default without a task.
    """
    folder = RunFolder.open(run)
    try:
        _show(folder, task, follow=follow, lines=lines)
    except KeyboardInterrupt:
        return stopped_looking()
    return EXIT_OK


def _show(folder: RunFolder, task: str | None, *, follow: bool, lines: int | None) -> None:
    statuses = look(folder).statuses
    wanted = [found for found in statuses if task in (None, found.task.id)]
    if task == REPORT and not wanted and is_on_slurm(folder):
        _show_report(folder, follow=follow, lines=lines)
        return
    if not wanted:
        names = [found.task.id for found in statuses[:NAMES_SHOWN]]
        names += ["…"] if len(statuses) > NAMES_SHOWN else []
        names += [REPORT] if is_on_slurm(folder) else []
        raise UsageError("there is no such task", where=str(task), mend=f"Tasks: {', '.join(names)}")
    if task is None and len(wanted) > 1:
        wanted = [found for found in wanted if found.state is not TaskState.DONE] or wanted
        lines = lines or LINES
    shown: dict[Path, int] = {}
    for found in wanted:
        for path in logs_of(folder, found):
            shown[path] = _print_last(path, lines)
    for path in _logs_of_report(folder) if task is None else []:
        _print_last(path, lines or LINES)
    if follow:
        _follow(folder, {found.task.id for found in wanted}, shown)


def logs_of(folder: RunFolder, found: TaskStatus) -> list[Path]:
    """Return the logs of a task: of its job, where there is one, and of its newest attempt."""
    paths: list[Path] = []
    if is_on_slurm(folder):
        submitted = newest_of(submissions(folder), [found.task.id]).get(found.task.id)
        index = submitted.submission.index_of(found.task.id) if submitted else None
        job_log = submitted.log_of(index) if submitted and index is not None else None
        paths += [job_log] if job_log else []
    log = found.attempt / LOG_NAME if found.attempt else None
    return [*paths, log] if log and log.is_file() else paths


def _logs_of_report(folder: RunFolder) -> list[Path]:
    """Return the log of the newest job that was to write the report, if it has begun."""
    newest = finalisers(submissions(folder))[-1:]
    return [log for each in newest if (log := each.log_of(0)) is not None]


def _show_report(folder: RunFolder, *, follow: bool, lines: int | None) -> None:
    """Print the log of the job that writes the report, and with ``follow`` what is added to it until it has ended.

    Raises:
        RunError: It has printed nothing yet, and is not to be followed.
    """
    shown = {path: _print_last(path, lines) for path in _logs_of_report(folder)}
    if not shown and not follow:
        mend = f"See: fb status {shlex.quote(str(folder.path))}"
        raise RunError("the job that writes the report has printed nothing yet", where=folder.path, mend=mend)
    asked, ended = -SECONDS_BETWEEN_QUESTIONS, not follow
    while not ended:
        if time.monotonic() - asked >= SECONDS_BETWEEN_QUESTIONS:
            asked, seen = time.monotonic(), look(folder)
            waits_or_runs = seen.report_job is not None and not seen.report_job.is_held
            ended = not (seen.notes or waits_or_runs or is_live(folder, seen.statuses))
        for path in _logs_of_report(folder):
            _print_new(path, shown)
        sys.stdout.flush()
        time.sleep(0 if ended else SECONDS_BETWEEN_LOOKS)


def _print_last(path: Path, lines: int | None) -> int:
    """Print a log under its name, and return up to where."""
    content = path.read_bytes()
    text = content.decode("utf-8", "replace").splitlines()
    print(f"==> {path} <==")
    print("\n".join(text[-lines:] if lines else text))
    return len(content)


def _follow(folder: RunFolder, names: Set[str], shown: dict[Path, int]) -> None:
    """Print what is added to the logs until none of the tasks waits or runs any more.

    Args:
        folder: The run.
        names: The tasks.
        shown: Log → up to where it was printed.
    """
    tasks = [task for task in folder.plan.tasks if task.id in names]
    asked = -SECONDS_BETWEEN_QUESTIONS
    while True:
        # Before the logs are read: what a task that has ended by then has printed is in them.
        statuses: Sequence[TaskStatus] = [folder.status(task) for task in tasks]
        ended = all(found.state is TaskState.DONE for found in statuses)
        runs = any(found.state is TaskState.RUNNING for found in statuses)
        if not ended and not runs and time.monotonic() - asked >= SECONDS_BETWEEN_QUESTIONS:
            # The run folder alone does not tell a task that waits from one whose job is gone.
            asked = time.monotonic()
            seen = look(folder)
            statuses = [found for found in seen.statuses if found.task.id in names]
            ended = not seen.notes and not is_live(folder, statuses)
        for path in [path for found in statuses for path in logs_of(folder, found)]:
            _print_new(path, shown)
        sys.stdout.flush()
        if ended:
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _print_new(path: Path, shown: dict[Path, int]) -> None:
    if path not in shown:
        print(f"==> {path} <==")
    with path.open("rb") as stream:
        stream.seek(shown.get(path, 0))
        sys.stdout.write(stream.read().decode("utf-8", "replace"))
        shown[path] = stream.tell()
