"""``fb status``, ``fb resume``, ``fb cancel`` and ``fb report``: what became of a run, and going on with it."""

import shlex
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import polars as pl
from cyclopts import Parameter
from cyclopts.types import PositiveInt

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.cluster.submission import is_half_made, is_on_slurm, submissions
from flat_bug.errors import EXIT_INTERRUPTED, EXIT_ITEMS_FAILED, EXIT_OK, RunError, UsageError
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.results import Results, write_results
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus, number_of
from flat_bug.experiments.submitter import resume as resume_run
from flat_bug.experiments.submitter import to_repeat
from flat_bug.progress import waiting

LIVE = {TaskState.QUEUED, TaskState.RUNNING}
ENDED = {TaskState.DONE, TaskState.FAILED}


def status(
    run: Path,
    /,
    *,
    watch: Annotated[bool, Parameter(["--watch", "-w"])] = False,
    every: PositiveInt = 30,
    json: bool = False,
) -> None:
    """Show the state of every task of a run.

    Example: fb status runs/first --watch

    Args:
        run: The run folder, which -o named.
        watch: Show it again and again until nothing is queued or running.
        every: Seconds between looks, 30 by default. Each asks the scheduler once, and its accounting at most once.
        json: Print one machine-readable object; with --watch one for each look, on a line of its own.
    """
    folder = RunFolder.open(run)
    while True:
        statuses, notes = look(folder)
        rows = [_row(found) for found in statuses]
        if watch and not json and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        if json:
            print_json({"run": str(run), "experiment": folder.plan.experiment, "tasks": rows, "notes": notes})
        else:
            _show_states(run, rows, notes)
        goes_on = is_live(folder, statuses)
        if not json:
            _say_where_the_report_is(folder, is_live=goes_on)
        if not watch or not goes_on:
            break
        sys.stdout.flush()
        time.sleep(every)
    if to_repeat(statuses) and not json:
        print(f"Go on with it: fb resume {shlex.quote(str(run))}")


def cancel(run: Path, /, *, json: bool = False) -> None:
    """Cancel the jobs of a run that was submitted to SLURM; what is finished is kept.

    Example: fb cancel runs/first

    Args:
        run: The run folder, which -o named.
        json: Print one machine-readable object.
    """
    from flat_bug.cluster.cancel import cancel_jobs  # noqa: PLC0415 - runs on this machine need no Slurm

    with waiting("Waiting for the process that submits jobs of this run, and for the scheduler's answer"):
        cancelled = cancel_jobs(RunFolder.open(run))
    if json:
        print_json({"run": str(run), "cancelled": cancelled})
        return
    print(f"Cancelled: {', '.join(cancelled) or 'nothing, no job is in the queue'}")
    print(f"Resume:    fb resume {shlex.quote(str(run))}")


def resume(
    run: Path,
    /,
    *,
    jobs: Annotated[PositiveInt | None, Parameter(["--jobs", "-j"])] = None,
    retry_failed: bool = False,
    grow: Literal["mem", "time"] | None = None,
    slurm: Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True)] = None,
    json: bool = False,
) -> int:
    """Run what is missing, interrupted or stale in a run; what is done stays as it is.

    A run that was submitted to SLURM goes on there, with the options that it
    was given, and others that --slurm names now.

    Example: fb resume runs/first --grow mem

    Args:
        run: The run folder, which -o named.
        jobs: Tasks at a time; by default one for every four processors, or one when they use a GPU.
        retry_failed: Also repeat the tasks that failed on an input which is still the same.
        grow: Twice as much memory (mem) or time for the tasks that failed for want of it.
        slurm: Options of sbatch that replace those of the run: mem=64G time=04:00:00.
        json: Print one machine-readable object.
    """
    folder = RunFolder.open(run)
    if is_on_slurm(folder):
        return _resume_on_slurm(folder, run, slurm or (), grow, retry_failed=retry_failed, json=json)
    if is_half_made(folder):  # its tasks are not for this machine
        mend = f"Nothing of it was submitted: remove {shlex.quote(str(run))} and give its command again."
        raise RunError("the run was ended before it could be submitted to SLURM", where=run, mend=mend)
    if slurm is not None or grow is not None:
        raise UsageError("this run was not submitted to SLURM", where=run, mend="Leave --slurm and --grow out.")
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
    folder = RunFolder.open(run)
    statuses, _ = look(folder)
    show(write_results(folder, statuses), run, json=json)


def look(folder: RunFolder) -> tuple[Sequence[TaskStatus], Sequence[str]]:
    """Return the state of every task, and what could not be found out."""
    if not is_on_slurm(folder):
        return folder.statuses(), ()
    from flat_bug.cluster.observe import observe  # noqa: PLC0415 - runs on this machine need no Slurm

    with waiting("Waiting for the scheduler's answer"):
        seen = observe(folder)
    return seen.statuses, seen.notes


def is_live(folder: RunFolder, statuses: Sequence[TaskStatus]) -> bool:
    """Return whether tasks wait or run, be it for the process that starts one after the other."""
    if any(found.state in LIVE for found in statuses):
        return True
    return any(found.state not in ENDED for found in statuses) and folder.is_in_use


def _resume_on_slurm(
    folder: RunFolder,
    run: Path,
    words: Sequence[str],
    grow: Literal["mem", "time"] | None,
    *,
    retry_failed: bool,
    json: bool,
) -> int:
    from flat_bug.cli.slurm import interrupted_on_slurm, say_submitted  # noqa: PLC0415 - runs on this machine need no Slurm
    from flat_bug.cluster.change import change_options  # noqa: PLC0415
    from flat_bug.cluster.options import parse_slurm  # noqa: PLC0415
    from flat_bug.cluster.slurm import SlurmSubmitter, submitted_since  # noqa: PLC0415
    from flat_bug.cluster.submission import next_number  # noqa: PLC0415

    request = parse_slurm(words) if words else None
    change = partial(change_options, folder, request) if request else None
    first = next_number(folder)
    try:
        tasks = resume_run(folder, SlurmSubmitter(grow=grow), retry_failed, change)
    except KeyboardInterrupt:
        return interrupted_on_slurm(run)
    if tasks:
        say_submitted(folder, run, submitted_since(folder, first), json=json)
        return EXIT_OK
    statuses, _ = look(folder)
    if any(found.state in LIVE for found in statuses):
        if json:
            print_json({"run": str(run), "jobs": [], "report_jobs": [], "tasks": []})
        else:
            where = shlex.quote(str(run))
            print(f"Nothing to submit: what is not done is queued or running. Follow: fb status {where}")
        return EXIT_OK
    return show(write_results(folder, statuses), run, json=json)


def _show_states(run: Path, rows: list[dict[str, Any]], notes: Sequence[str]) -> None:
    table = pl.DataFrame(rows, infer_schema_length=None)
    columns = ["task", "state", "attempt", "seconds", "node", *(["job"] if any(table["job"]) else []), "reason"]
    print_table(table.select(columns), f"{run}: {_counts(rows)}")
    for note in notes:
        print(f"note: {note}")


def _say_where_the_report_is(run: RunFolder, *, is_live: bool) -> None:
    if not is_live and run.page.is_file():
        print(f"Report: {run.page}")
    if is_live and is_on_slurm(run):
        found = [submitted for submitted in submissions(run) if submitted.submission.purpose == "finaliser"]
        jobs = found[-1].jobs.ids() if found else []
        if jobs:
            print(f"Report: written by job {jobs[0]} when these have ended")


def show(results: Results, run: Path, *, json: bool) -> int:
    """Print the results of a run, what failed and where things are; return the exit code."""
    open_tasks = [found for found in results.statuses if found.state is not TaskState.DONE]
    flawed = [found for found in results.statuses if found.state is TaskState.DONE and found.reason]
    if json:
        rows = [_row(found) for found in results.statuses]
        print_json({"run": str(run), "report": str(results.page), "tasks": rows, "results": results.table.to_dicts()})
    else:
        if results.are_scores:
            print_table(results.matrix(), "F1 of each model", verbatim=True)
        else:
            print_table(results.table, f"Tasks of {run}")
        print(f"Tables: {results.page.parent}")
        print(f"Report: {results.page}")
    sys.stdout.flush()  # before what goes to standard error
    for found in [*open_tasks, *flawed]:
        mend = found.failure.mend if found.failure else ""
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
        "seconds": found.seconds,
        "node": found.node or None,
        "job": found.job or None,
        "reason": found.reason,
        "failure": found.failure.kind if found.failure else None,
    }


def _counts(rows: list[dict[str, Any]]) -> str:
    states = [row["state"] for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in TaskState if state in states) or "no tasks"
