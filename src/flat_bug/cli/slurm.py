"""What commands share that submit to SLURM: checking, submitting, and saying how to go on."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from flat_bug.cli._support import print_json, print_lines
from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.bootstrap import BOOTSTRAP, bootstrap_script
from flat_bug.cluster.files_of_jobs import begin, check_name, settings_of
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.resources import options_of
from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.slurm import SlurmSubmitter, submitted_since
from flat_bug.cluster.submission import SlurmSettings, Submission, Submitted, newest_of, submissions
from flat_bug.errors import EXIT_OK
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.run_folder import RunFolder


def submit(made: Plan, output: Path, words: Sequence[str], *, dry_run: bool, json: bool) -> int:
    """Submit a plan to SLURM, or show what would be submitted; return the exit code."""
    check_name(output)
    request = parse_slurm(words)
    settings = settings_of(request)
    if dry_run:
        _show(made, output, settings, request.setup, json=json)
        return EXIT_OK
    for note in preflight(settings, made):
        print_lines([note])
    with RunFolder.create(output, made) as folder:
        begin(folder, settings, request.setup)
        try:
            SlurmSubmitter().submit(folder, made.tasks)
        except SchedulerError as error:
            go_on = f"Then go on with the run: fb resume {shlex.quote(str(output))}"
            raise type(error)(
                error.what, where=error.where, mend=" ".join(filter(None, [error.mend, go_on]))
            ) from error
    say_submitted(folder, output, submitted_since(folder, 1), json=json)
    return EXIT_OK


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
    print(f"Submitted: {len(names)} tasks as job {', '.join(ids)}; the report follows as job {', '.join(reports)}")
    waiting = len(run.plan.tasks) - len(newest_of(submissions(run), (task.id for task in run.plan.tasks)))
    if waiting:
        print(f"More:      {waiting} tasks are submitted when these have ended, since the queue has no room for them")
    print(f"Follow:    fb status {where} --watch     (or: squeue --me)")
    print(f"Logs:      fb logs {where}")
    print(f"Resume:    fb resume {where}")
    print(f"Cancel:    fb cancel {where}")


def _show(made: Plan, output: Path, settings: SlurmSettings, setup: Path | None, *, json: bool) -> None:
    """Show the header of the batch script and ``bootstrap.sh``, exactly as they would be submitted."""
    scripts = _scripts(made, settings)
    text = bootstrap_script(settings.profile, has_setup=settings.has_setup)
    if json:
        # A rehearsal reads from it what the jobs ask for.
        asked = {"plan": made.model_dump(mode="json"), "settings": settings.model_dump(mode="json")}
        script = "" if setup is None else setup.read_text(encoding="utf-8")
        print_json({**asked, "setup": script, "scripts": scripts, BOOTSTRAP: text})
        return
    print(f"{output} would be made, tasks: {len(made.tasks)} ({', '.join(task.id for task in made.tasks[:10])})")
    for script in scripts:
        print(f"\n# ---- what sbatch is given ----\n{script}", end="")
    print(f"\n# ---- {BOOTSTRAP} ----\n{text}", end="")


def _scripts(made: Plan, settings: SlurmSettings) -> list[str]:
    scripts: list[str] = []
    for call in dict.fromkeys(task.call for task in made.tasks):
        tasks = [task.id for task in made.tasks if task.call == call]
        each = settings.tasks_per_job
        elements = tuple(tuple(tasks[start : start + each]) for start in range(0, len(tasks), each))
        submission = Submission(
            number=len(scripts) + 1,
            purpose="tasks",
            token="flat-bug:0123456789abcdef",  # noqa: S106 - another one is drawn for each submission
            elements=elements[: settings.profile.max_array_size],
            options={"job-name": made.experiment, **options_of(settings, call)},
            is_array=settings.profile.arrays,
        )
        index = None if submission.is_array else 0
        scripts.append(batch_script(submission, index, max_parallel=settings.max_parallel))
    return scripts
