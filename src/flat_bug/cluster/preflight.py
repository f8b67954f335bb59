"""What is checked before anything is queued: cheap, and what would otherwise be found out after a night of waiting."""

import os
import tempfile
from pathlib import Path

from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.resources import check_account, finaliser_options, options_of
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, is_available, try_submission
from flat_bug.cluster.submission import SlurmSettings, Submission
from flat_bug.errors import MissingPartError
from flat_bug.experiments.plan import Plan

EXTRA_OF_WEIGHTS = {".pt": "train"}
"""Weight files that need an extra of flat-bug on the node."""
EXTRA_OF_CALLS = {"train-model": "train"}
"""Tasks that need one."""


def preflight(settings: SlurmSettings, plan: Plan) -> list[str]:
    """Check what can be checked within seconds, and return what the user should know: one sentence each.

    Raises:
        MissingPartError: There is no Slurm here, it would refuse the jobs, or the environment is not complete.
        UsageError: An account is missing.
    """
    if not is_available():
        raise MissingPartError(
            "Slurm's command sbatch is not here",
            where="--slurm",
            mend="Run this on a login node of the cluster, or leave --slurm out to run the tasks on this machine.",
        )
    check_account(settings)
    _check_environment(settings, plan)
    for call in sorted({task.call for task in plan.tasks}):
        _try(settings, Submission(number=1, purpose="tasks", elements=((),), options=options_of(settings, call)))
    _try(settings, Submission(number=1, purpose="finaliser", is_array=False, options=finaliser_options(settings)))
    return _notes(settings, plan)


def _try(settings: SlurmSettings, submission: Submission) -> None:
    options = {name: value for name, value in submission.options.items() if name != "dependency"}
    index = None if settings.profile.arrays and submission.is_array else 0
    wanted = submission.model_copy(update={"options": options, "is_array": index is None})
    try:
        try_submission(batch_script(wanted, index))
    except SchedulerSilentError:
        raise
    except SchedulerError as error:
        if error.where and "submit limit" in error.what.lower():
            return  # a matter of waiting
        raise type(error)(
            f"Slurm would refuse the job: {error.what}",
            where=", ".join(f"{name}={value}" for name, value in options.items()),
            mend="Correct the options after --slurm, or the profile; `fb doctor` looks into each.",
        ) from error


def _check_environment(settings: SlurmSettings, plan: Plan) -> None:
    if settings.environment is None:
        return
    from flat_bug.cluster.environment.check import check_environment  # noqa: PLC0415 - takes a resolver

    suffixes = {Path(str(task.args.get("weights", ""))).suffix for task in plan.tasks}
    extras = {EXTRA_OF_WEIGHTS[suffix] for suffix in suffixes & EXTRA_OF_WEIGHTS.keys()}
    extras |= {EXTRA_OF_CALLS[task.call] for task in plan.tasks if task.call in EXTRA_OF_CALLS}
    found = check_environment(Path(settings.environment), settings.profile, sorted(extras), thorough=False)
    if not found.is_good:
        raise found.error()


def _notes(settings: SlurmSettings, plan: Plan) -> list[str]:
    local = (tempfile.gettempdir(), "/tmp", "/dev/shm", "/run")  # noqa: S108 - nothing is written there
    paths = {path for task in plan.tasks for path in task.input_paths().values()}
    hidden = sorted(path for path in paths if path.startswith(tuple(f"{folder}{os.sep}" for folder in local)))
    notes = [f"nodes may not see files in a temporary folder of this one, such as {hidden[0]}"] if hidden else []
    if settings.environment is None and not settings.has_setup:
        notes.append(f"no environment is named, so nodes use {settings.python}; they must see it (fb env build)")
    return notes
