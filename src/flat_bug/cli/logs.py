"""``fb logs``: what the tasks of a run, and the jobs around them, have printed."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli.status import look
from flat_bug.cluster.submission import is_on_slurm, newest_of, submissions
from flat_bug.errors import UsageError
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus

LINES = 20
SECONDS_BETWEEN_LOOKS = 1.0


def logs(
    run: Path,
    task: str | None = None,
    /,
    *,
    follow: Annotated[bool, Parameter(["--follow", "-f"])] = False,
    lines: Annotated[PositiveInt | None, Parameter(["--lines", "-n"])] = None,
) -> None:
    """Show what a task and its job have printed; without a task, the last lines of those that are not done.

    Example: fb logs runs/first best-model -f

    Args:
        run: The run folder, which -o named.
        task: A task of it; `fb status` names them.
        follow: Go on showing what is printed until the task has ended.
        lines: Only the last so many lines of each log; 20 by default without a task.
    """
    folder = RunFolder.open(run)
    statuses, _ = look(folder)
    wanted = [found for found in statuses if task in (None, found.task.id)]
    if not wanted:
        names = ", ".join(found.task.id for found in statuses[:10])
        raise UsageError("there is no such task", where=str(task), mend=f"Tasks: {names}")
    if task is None and len(wanted) > 1:
        wanted = [found for found in wanted if found.state is not TaskState.DONE] or wanted
        lines = lines or LINES
    for found in wanted:
        for path in logs_of(folder, found):
            print(f"==> {path} <==")
            _print_last(path, lines)
    if follow:
        _follow(folder, [found.task.id for found in wanted])


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


def _print_last(path: Path, lines: int | None) -> None:
    text = path.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(text[-lines:] if lines else text))


def _follow(folder: RunFolder, names: Sequence[str]) -> None:
    """Print what is added to the logs until all tasks have ended; the scheduler is not asked again and again."""
    every = {task.id: task for task in folder.plan.tasks}
    shown = {path: path.stat().st_size for name in names for path in logs_of(folder, folder.status(every[name]))}
    while True:
        statuses = [folder.status(every[name]) for name in names]
        for path in [path for found in statuses for path in logs_of(folder, found)]:
            with path.open("rb") as stream:
                stream.seek(shown.get(path, 0))
                sys.stdout.write(stream.read().decode("utf-8", "replace"))
                shown[path] = stream.tell()
        sys.stdout.flush()
        if all(found.state in {TaskState.DONE, TaskState.FAILED} for found in statuses):
            return
        time.sleep(SECONDS_BETWEEN_LOOKS)
