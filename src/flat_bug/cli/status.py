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
from flat_bug.cluster.growth import CURES
from flat_bug.cluster.observe import Observation, observe
from flat_bug.cluster.states import JobState
from flat_bug.cluster.submission import finalisers, is_half_made, is_on_slurm, submissions
from flat_bug.errors import EXIT_INTERRUPTED, EXIT_ITEMS_FAILED, EXIT_OK, RunError, UsageError
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Task
from flat_bug.experiments.record import FailureKind
from flat_bug.experiments.results import Results, write_results
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus, number_of
from flat_bug.experiments.submitter import resume as resume_run
from flat_bug.experiments.submitter import to_repeat
from flat_bug.progress import waiting

LIVE = {TaskState.QUEUED, TaskState.RUNNING}
ENDED = {TaskState.DONE, TaskState.FAILED}
MENDS_SHOWN = 3


def status(
    run: Path,
    /,
    *,
    watch: Annotated[bool, Parameter(["--watch", "-w"])] = False,
    every: PositiveInt = 30,
    json: bool = False,
) -> int:
    """Show the state of every task of a run.

    Example: fb status runs/first --watch

    Args:
        run: The run folder, which -o named.
        watch: Show it again and again until nothing is queued or running, and the report is written.
        every: Seconds between looks, 30 by default. Each asks the scheduler once, and its accounting at most once.
        json: Print one machine-readable object; with --watch one for each look, on a line of its own.
    """
    folder = RunFolder.open(run)
    try:
        while _show_once(folder, run, watch=watch, json=json) and watch:
            sys.stdout.flush()
            time.sleep(every)
    except KeyboardInterrupt:
        return stopped_looking()
    return EXIT_OK


def _show_once(folder: RunFolder, run: Path, *, watch: bool, json: bool) -> bool:
    """Show the state of every task, and return whether anything is still to come by itself."""
    seen = look(folder)
    rows = [_row(found) for found in seen.statuses]
    tasks_live = is_live(folder, seen.statuses)
    goes_on = tasks_live or (seen.report_job is not None and not seen.report_job.is_held)
    if json:
        print_json({"run": str(run), "experiment": folder.plan.experiment, "tasks": rows, "notes": seen.notes})
        return goes_on
    if watch and sys.stdout.isatty():
        print("\033[2J\033[H", end="")
    _show_states(run, rows, seen.notes)
    lines = _where_the_report_is(folder, run, seen, tasks_live=tasks_live)
    for line in lines if watch and goes_on else [*lines, *how_to_go_on(folder, run, seen.statuses)]:
        print(line)
    return goes_on


def cancel(run: Path, /, *, json: bool = False) -> None:
    """Cancel the jobs of a run that was submitted to SLURM; what is finished is kept.

    Example: fb cancel runs/first

    Args:
        run: The run folder, which -o named.
        json: Print one machine-readable object.
    """
    from flat_bug.cluster.cancel import cancel_jobs  # noqa: PLC0415 - runs on this machine need no Slurm

    folder = RunFolder.open(run)
    with waiting("Waiting for the process that submits jobs of this run, and for the scheduler's answer"):
        cancelled = cancel_jobs(folder)
    if json:
        print_json({"run": str(run), "cancelled": cancelled})
        return
    print(f"Cancelled: {', '.join(cancelled) or 'nothing, no job is in the queue'}")
    if cancelled or to_repeat(folder.statuses()):
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
    show(write_results(folder, look(folder).statuses), run, json=json)


def look(folder: RunFolder) -> Observation:
    """Return the state of every task, of the job that writes the report, and what could not be found out."""
    if not is_on_slurm(folder):
        return Observation(tuple(folder.statuses()))
    with waiting("Waiting for the scheduler's answer"):
        return observe(folder, with_report=True)


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
    statuses = look(folder).statuses
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
    # Whole ones are enough for people; whoever wants more reads the JSON.
    table = table.with_columns(pl.col("seconds").cast(pl.Float64).round().cast(pl.Int64))
    columns = ["task", "state", "attempt", "seconds", "node", *(["job"] if any(table["job"]) else []), "reason"]
    print_table(table.select(columns), f"{run}: {_counts(rows)}")
    for note in notes:
        print(f"note: {note}")


def _where_the_report_is(folder: RunFolder, run: Path, seen: Observation, *, tasks_live: bool) -> list[str]:
    if tasks_live:
        jobs = [job for each in finalisers(submissions(folder)) for job in each.jobs.ids()]
        return [f"Report: written by job {jobs[-1]} when these have ended"] if jobs else []
    if seen.report_job is not None:
        return [_who_writes_the_report(seen.report_job)]
    again = f"fb report {shlex.quote(str(run))}"
    if not folder.page.is_file():
        return [f"Report: not written yet: {again}"]
    old = "" if folder.is_reported(seen.statuses) else f" (older than some results; write it again: {again})"
    return [f"Report: {folder.page}{old}"]


def _who_writes_the_report(job: JobState) -> str:
    if job.task_state is TaskState.RUNNING:
        return f"Report: being written by job {job.job}"
    release = f"; let it go on: scontrol release {job.job}" if job.reason == "JobHeldUser" else ""
    return f"Report: to be written by job {job.job}, which waits ({job.reason or job.state}){release}"


def how_to_go_on(folder: RunFolder, run: Path, statuses: Sequence[TaskStatus]) -> list[str]:
    """Return which command goes on with a run, and what comes before it; nothing where nothing is left to do."""
    resume = f"fb resume {shlex.quote(str(run))}"
    left = [found for found in statuses if found.is_worth_repeating]
    lacking = [what for what, kind in CURES.items() if any(_lacks(found, kind) for found in left)]
    if not is_on_slurm(folder):
        lacking = []
    lines = [f"Go on with it: {resume}{f' --grow {lacking[0]}' if lacking else ''}"] if left else []
    lines += [f"Then, after the {CURES[what]}: {resume} --grow {what}" for what in lacking[1:]]
    bad = [found for found in statuses if found.state is TaskState.FAILED and not found.is_worth_repeating]
    if bad:
        mends = dict.fromkeys(found.failure.mend for found in bad if found.failure and found.failure.mend)
        lines += [f"Mend it: {mend}" for mend in list(mends)[:MENDS_SHOWN]] or ["Mend what is named above."]
        retry = "" if all(_is_seen_from_here(found.task) for found in bad) else " --retry-failed"
        lines.append(f"then: {resume}{retry}")
    return lines


def _lacks(found: TaskStatus, kind: FailureKind) -> bool:
    """Return whether a task failed for want of something, and does not go on from where it was stopped."""
    failure = found.failure
    return failure is not None and failure.kind == kind and not (failure.goes_on and found.task.goes_on)


def _is_seen_from_here(task: Task) -> bool:
    """Return whether it is noticed here when an input is mended."""
    return all(NodePath(path).is_known_here() for path in task.input_paths().values())


def stopped_looking() -> int:
    """Say after Ctrl-C that only the look has ended, and return the exit code."""
    print_lines(["interrupted", "The jobs go on."])
    return EXIT_INTERRUPTED


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
        if found.state in LIVE:
            print(f"{found.task.id}: still {found.state}", file=sys.stderr)  # which is no error
            continue
        mend = found.failure.mend if found.failure else ""
        log = f"See {found.attempt / LOG_NAME}" if found.attempt else ""
        what = ": ".join(filter(None, [found.task.id, found.state, found.reason]))
        print_lines([what, *filter(None, [mend, log])])
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
    states = ["cancelled" if row["failure"] == "cancelled" else row["state"] for row in rows]
    named = [*TaskState, "cancelled"]
    return ", ".join(f"{states.count(state)} {state}" for state in named if state in states) or "no tasks"
