"""What commands share that submit to SLURM: checking, submitting, and saying how to go on."""

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from flat_bug.cli._support import print_json, print_lines
from flat_bug.cluster.arrays import foreseen
from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.bootstrap import BOOTSTRAP, bootstrap_script
from flat_bug.cluster.files_of_jobs import begin, check_name, settings_of
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.slurm import SlurmSubmitter, submitted_since
from flat_bug.cluster.submission import SlurmSettings, Submission, Submitted, newest_of, submissions
from flat_bug.errors import EXIT_INTERRUPTED, EXIT_OK, FlatBugError
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.run_folder import RunFolder


def submit(
    made: Plan,
    output: Path,
    words: Sequence[str],
    *,
    dry_run: bool,
    json: bool,
    prepare: Callable[[RunFolder], object] | None = None,
) -> int:
    """Submit a plan to SLURM, or show what would be submitted; return the exit code.

    Args:
        made: The plan.
        output: The run folder.
        words: What follows ``--slurm``.
        dry_run: Show what would be submitted, and do nothing.
        json: Print one machine-readable object.
        prepare: Called with the run once it is made: what else its tasks read is written then.
    """
    check_name(output)
    request = parse_slurm(words)
    settings = settings_of(request)
    if dry_run:
        _show(made, output, settings, request.setup, json=json)
        return EXIT_OK
    for note in preflight(settings, made, output):
        print(f"note: {note}", file=sys.stderr)
    try:
        with RunFolder.create(output, made) as folder:
            if prepare is not None:
                prepare(folder)
            begin(folder, settings, request.setup)
            _hand_over(folder, output)
    except KeyboardInterrupt:
        return interrupted_on_slurm(output)
    say_submitted(folder, output, submitted_since(folder, 1), json=json)
    return EXIT_OK


def _hand_over(folder: RunFolder, output: Path) -> None:
    try:
        SlurmSubmitter().submit(folder, folder.plan.tasks)
    except FlatBugError as error:
        go_on = f"Then go on with the run: fb resume {shlex.quote(str(output))}"
        raise type(error)(error.what, where=error.where, mend=" ".join(filter(None, [error.mend, go_on]))) from error


def interrupted_on_slurm(run: Path) -> int:
    """Say what may be in the queue after Ctrl-C and return the exit code."""
    where = shlex.quote(str(run))
    go_on = f"See: fb status {where}. Submit the rest: fb resume {where}. Cancel: fb cancel {where}"
    print_lines(["interrupted", "Jobs may be in the queue; no task is submitted twice.", go_on])
    return EXIT_INTERRUPTED


def say_submitted(run: RunFolder, output: Path, found: Sequence[Submitted], *, json: bool) -> None:
    """Say which jobs there are, and how to follow, resume and cancel them."""
    tasks = [submitted for submitted in found if submitted.submission.purpose == "tasks"]
    last = [submitted for submitted in found if submitted.submission.purpose != "tasks"]
    ids = [job for submitted in tasks for job in submitted.jobs.ids()]
    reports = [job for submitted in last for job in submitted.jobs.ids()]
    names = {name for submitted in tasks for element in submitted.submission.elements for name in element}
    if json:
        print_json({"run": str(output), "jobs": ids, "report_jobs": reports, "tasks": sorted(names)})
        return
    where = shlex.quote(str(output))
    count = "1 task" if len(names) == 1 else f"{len(names)} tasks"
    print(f"Submitted: {count} as job {', '.join(ids)}; the report follows as job {', '.join(reports)}")
    waiting = len(run.plan.tasks) - len(newest_of(submissions(run), (task.id for task in run.plan.tasks)))
    if waiting:
        print(f"More:      {waiting} tasks are submitted when these have ended, since the queue has no room for them")
    print(f"Follow:    fb status {where} --watch     (or: squeue --me)")
    print(f"Logs:      fb logs {where}")
    print(f"Resume:    fb resume {where}")
    print(f"Cancel:    fb cancel {where}")


def _show(made: Plan, output: Path, settings: SlurmSettings, setup: Path | None, *, json: bool) -> None:
    """Show the batch scripts and ``bootstrap.sh``, exactly as they would be submitted into an empty queue."""
    expected = foreseen(made, settings)
    scripts = [_script(submission, settings) for submission in expected]
    text = bootstrap_script(settings.profile, has_setup=settings.has_setup)
    if json:
        # A rehearsal reads from it what the jobs ask for.
        asked = {"plan": made.model_dump(mode="json"), "settings": settings.model_dump(mode="json")}
        script = "" if setup is None else setup.read_text(encoding="utf-8")
        print_json({**asked, "setup": script, "scripts": scripts, BOOTSTRAP: text})
        return
    print(f"{output} would be made, tasks: {len(made.tasks)} ({', '.join(task.id for task in made.tasks[:10])})")
    waiting = len(made.tasks) - sum(len(tasks) for submission in expected for tasks in submission.elements)
    if waiting:
        print(f"{waiting} tasks would be submitted when these have ended, since the queue has no room for them")
    for submission, script in zip(expected, scripts, strict=True):
        print(f"\n# ---- what sbatch is given{_how_often(submission)} ----\n{script}", end="")
    print(f"\n# ---- {BOOTSTRAP} ----\n{text}", end="")


def _script(submission: Submission, settings: SlurmSettings) -> str:
    # Another token is drawn for each submission.
    shown = submission.model_copy(update={"token": "flat-bug:0123456789abcdef"})
    index = 0 if submission.elements and not submission.is_array else None
    return batch_script(shown, index, max_parallel=settings.max_parallel or settings.profile.max_parallel)


def _how_often(submission: Submission) -> str:
    jobs = 1 if submission.is_array else len(submission.elements)
    return f", for the first of {jobs} jobs" if jobs > 1 else ""
