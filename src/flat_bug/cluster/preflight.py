"""What is checked before anything is queued: cheap, and what would otherwise be found out after a night of waiting."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from flat_bug.cluster.checks.jobs import ask_slurm
from flat_bug.cluster.checks.nodes import extras_needed
from flat_bug.cluster.checks.visible import hidden
from flat_bug.cluster.option_values import Value
from flat_bug.cluster.resources import check_account, finaliser_options, options_of
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, is_available, is_full
from flat_bug.cluster.site import check_alive
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.errors import MissingPartError
from flat_bug.experiments.plan import Plan


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
    check_alive()
    check_account(settings)
    _check_environment(settings, plan)
    for call in sorted({task.call for task in plan.tasks}):
        _try(settings, options_of(settings, call), elements=1)
    _try(settings, finaliser_options(settings), elements=0)
    return list(_notes(settings, plan))


def _try(settings: SlurmSettings, options: Mapping[str, Value], *, elements: int) -> None:
    try:
        ask_slurm(settings, options, elements=elements, run=None)
    except SchedulerSilentError:
        raise
    except SchedulerError as error:
        if is_full(error):
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

    # Not every digest: nodes check those, and a large environment takes a minute.
    needed = extras_needed(plan.tasks)
    found = check_environment(Path(settings.environment), settings.profile, needed, thorough=False)
    if not found.is_good:
        raise found.error()


def _notes(settings: SlurmSettings, plan: Plan) -> Iterator[str]:
    paths = sorted({path for task in plan.tasks for path in task.input_paths().values()})
    found = next(((path, why) for path in paths if (why := hidden(Path(path), None))), None)
    if found is not None:
        yield f"nodes may not see {found[0]}: it {found[1]}"
    if settings.environment is None and not settings.has_setup:
        yield f"no environment is named, so nodes use {settings.python}; they must see it (fb env build)"
