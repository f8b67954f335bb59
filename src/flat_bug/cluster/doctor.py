"""The doctor: looks at everything that a run on SLURM needs, and says what to do about what is wrong."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level
from flat_bug.cluster.checks.jobs import check_account, check_jobs, check_limits, check_variables
from flat_bug.cluster.checks.nodes import check_environment_of, check_modules_and_python
from flat_bug.cluster.checks.places import check_inputs
from flat_bug.cluster.checks.space import check_space
from flat_bug.cluster.checks.time_limit import check_time
from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.site import read_site
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.experiments.plan import Task
from flat_bug.progress import track

Check = Callable[[Case], Iterable[Finding]]

QUICK: tuple[Check, ...] = (
    lambda case: [check_account(case)],
    lambda case: [check_environment_of(case)],
    check_jobs,
    check_inputs,
)
"""What takes no time and needs no more of Slurm than a word on each kind of job."""


def examine(
    settings: SlurmSettings, tasks: Sequence[Task] = (), run: Path | None = None, *, quick: bool = False
) -> list[Finding]:
    """Look at what a run needs.

    Args:
        settings: How the run is or would be submitted.
        tasks: Its tasks; without any, only the cluster is looked at.
        run: Its folder, which may not be there yet.
        quick: Make the checks of ``QUICK``, as before each submission; all of them take some seconds.
    """
    case = Case(settings, tuple(tasks), run, is_quick=quick)
    if quick:
        return [finding for check in QUICK for finding in check(case)]
    case, first = _with_site(case)
    checks = list(_all(case))
    return [first, *(finding for check in track(checks, "Examining", len(checks)) for finding in check(case))]


def _with_site(case: Case) -> tuple[Case, Finding]:
    """Return the case with what the cluster says of itself, and whether it says anything."""
    profile = case.settings.profile
    try:
        site = read_site()
    except SchedulerError as error:
        mend = f"{error.mend} What else depends on it was not looked at."
        return case, Finding("scheduler", Level.RED, error.brief(), mend)
    text = f"Slurm {site.version}, cluster {site.name}, profile {profile.name}"
    if site.has_accounting != profile.accounting:
        what = "has" if site.has_accounting else "has no"
        mend = f"Write `accounting: {str(site.has_accounting).lower()}` into the profile {profile.name}."
        return replace(case, site=site), Finding("scheduler", Level.YELLOW, f"{text}; it {what} accounting", mend)
    return replace(case, site=site), Finding("scheduler", Level.GREEN, text)


def _all(case: Case) -> Iterator[Check]:
    yield lambda case: [check_account(case)]
    yield lambda _: check_variables()
    if case.site is not None:
        yield check_jobs
        yield check_limits
    yield check_modules_and_python
    yield lambda case: [check_environment_of(case)]
    yield check_inputs
    yield check_space
    yield check_time
