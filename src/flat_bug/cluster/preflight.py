"""What is checked before anything is queued: cheap, and what would otherwise be found out after a night of waiting."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level
from flat_bug.cluster.checks.jobs import try_kind, try_report
from flat_bug.cluster.checks.visible import ITS_OWN
from flat_bug.cluster.doctor import examine
from flat_bug.cluster.scheduler import is_available
from flat_bug.cluster.site import check_alive
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.errors import MissingPartError
from flat_bug.experiments.plan import Plan


def preflight(settings: SlurmSettings, plan: Plan, run: Path | None = None) -> list[str]:
    """Check what can be checked within seconds, and return what the user should know: one sentence each.

    Args:
        settings: How the run is to be submitted.
        plan: Its tasks.
        run: Where it is to be made: Slurm is asked from there, since some sites take no jobs that start in a home.

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
    findings = examine(settings, plan.tasks, run, quick=True)
    _raise_red(findings)
    # Too many jobs in the queue is no choice of the user's, and what is submitted later is said behind.
    return list(notes(found for found in findings if found.level is Level.YELLOW))


def check_jobs(settings: SlurmSettings, calls: Iterable[str], run: Path | None = None) -> None:
    """Have Slurm say whether it would take the jobs whose tasks call these functions, and the report's.

    Raises:
        SchedulerError: It would refuse one, or does not answer.
    """
    case = Case(settings, run=run, is_quick=True)
    _raise_red([*(try_kind(case, call) for call in sorted(calls)), try_report(case)])


def notes(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield what the user should know, a sentence each; what only this machine may see is one of them."""
    here_only: list[str] = []
    for found in findings:
        if ITS_OWN in found.found:
            here_only.append(found.name)
        elif not found.name.startswith("jobs: "):
            yield found.note
    if here_only:
        names = ", ".join(dict.fromkeys(here_only))
        yield f"{names}: in a temporary folder, {ITS_OWN}; fine only where the nodes are this machine"


def _raise_red(findings: Iterable[Finding]) -> None:
    for found in findings:
        if found.level is Level.RED:
            raise found.error
