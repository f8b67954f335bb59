"""``fb status``, ``fb resume`` and ``fb report``: what became of a run, going on with it, and its tables."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.errors import EXIT_INTERRUPTED, EXIT_ITEMS_FAILED, EXIT_OK
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.results import Results, write_results
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus, number_of
from flat_bug.experiments.submitter import resume as resume_run
from flat_bug.experiments.submitter import to_repeat


def status(run: Path, /, *, json: bool = False) -> None:
    """Show the state of every task of a run.

    Example: fb status runs/first

    Args:
        run: The run folder, which -o named.
        json: Print one machine-readable object.
    """
    folder = RunFolder.open(run)
    statuses = folder.statuses()
    rows = [_row(found) for found in statuses]
    if json:
        print_json({"run": str(run), "experiment": folder.plan.experiment, "tasks": rows})
        return
    table = pl.DataFrame(rows, infer_schema_length=None)
    print_table(table.select("task", "state", "attempt", "seconds", "node", "reason"), f"{run}: {_counts(rows)}")
    if to_repeat(statuses):
        print(f"Go on with it: fb resume {shlex.quote(str(run))}")


def resume(
    run: Path,
    /,
    *,
    jobs: Annotated[PositiveInt | None, Parameter(["--jobs", "-j"])] = None,
    retry_failed: bool = False,
    json: bool = False,
) -> int:
    """Run what is missing, interrupted or stale in a run; what is done stays as it is.

    Example: fb resume runs/first --jobs 2

    Args:
        run: The run folder, which -o named.
        jobs: Tasks at a time; by default one for every four processors, or one when they use a GPU.
        retry_failed: Also repeat the tasks that failed on an input which is still the same.
        json: Print one machine-readable object.
    """
    folder = RunFolder.open(run)
    try:
        tasks = resume_run(folder, LocalSubmitter(jobs=jobs), retry_failed)
    except KeyboardInterrupt:
        return interrupted(run)
    if not json:
        print(f"Tasks that were run: {len(tasks)} of {len(folder.plan.tasks)}")
    return show(write_results(folder), run, json=json)


def report(run: Path, /, *, json: bool = False) -> None:
    """Write the tables and the report of a run again, from what its tasks have left so far.

    Example: fb report runs/first

    Args:
        run: The run folder, which -o named.
        json: Print one machine-readable object.
    """
    show(write_results(RunFolder.open(run)), run, json=json)


def show(results: Results, run: Path, *, json: bool) -> int:
    """Print the results of a run, what failed and where things are; return the exit code."""
    open_tasks = [found for found in results.statuses if found.state is not TaskState.DONE]
    flawed = [found for found in results.statuses if found.state is TaskState.DONE and found.reason]
    if json:
        rows = [_row(found) for found in results.statuses]
        print_json({"run": str(run), "report": str(results.page), "tasks": rows, "results": results.table.to_dicts()})
    else:
        print_table(results.matrix(), "F1 of each model", verbatim=True)
        print(f"Tables: {results.page.parent}")
        print(f"Report: {results.page}")
    sys.stdout.flush()  # before what goes to standard error
    for found in [*open_tasks, *flawed]:
        mend = found.record.failure.mend if found.record and found.record.failure else ""
        log = f"See {found.attempt / LOG_NAME}" if found.attempt else ""
        print_lines([f"{found.task.id}: {found.state}: {found.reason}", *filter(None, [mend, log])])
    return EXIT_ITEMS_FAILED if open_tasks or flawed else EXIT_OK


def interrupted(run: Path) -> int:
    """Say how to go on after Ctrl-C and return the exit code."""
    print_lines(["interrupted", "What was finished is kept.", f"Go on with it: fb resume {shlex.quote(str(run))}"])
    return EXIT_INTERRUPTED


def _row(found: TaskStatus) -> dict[str, Any]:
    return {
        "task": found.task.id,
        "state": str(found.state),
        "attempt": number_of(found.attempt) if found.attempt else None,
        "seconds": found.record.seconds if found.record else None,
        "node": found.record.node.host if found.record else None,
        "reason": found.reason,
    }


def _counts(rows: list[dict[str, Any]]) -> str:
    states = [row["state"] for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in TaskState if state in states) or "no tasks"
