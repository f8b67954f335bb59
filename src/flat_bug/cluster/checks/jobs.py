"""Whether Slurm takes the jobs: account, partition, resources, limits."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.checks.finding import Case, Finding, Level, some
from flat_bug.cluster.option_values import Value, megabytes_of, seconds_of_time
from flat_bug.cluster.profile import ACCOUNT_VARIABLES
from flat_bug.cluster.resources import finaliser_options, options_of
from flat_bug.cluster.room import lacks_room, most_jobs
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, try_submission
from flat_bug.cluster.site import Partition
from flat_bug.cluster.submission import FINALISER, SlurmSettings, Submission
from flat_bug.errors import FlatBugError, UsageError


def check_account(case: Case) -> Finding:
    """Look at the account that jobs are charged to."""
    account = _account(case)
    known = case.site.associations if case.site else None
    names = list(dict.fromkeys(association.short_name for association in known or ()))
    choose = f"Give account=NAME after --slurm, or put it into the profile.{f' Yours: {some(names)}.' if names else ''}"
    if account is None:
        if case.settings.profile.account_required:
            cause = UsageError(f"jobs on {case.settings.profile.name} need an account", where="--slurm", mend=choose)
            return Finding("account", Level.RED, "none is named, and jobs without one are refused", choose, cause)
        default = next((association.account for association in known or () if association.is_default), None)
        return Finding("account", Level.GREEN, f"your default one, {default}" if default else "none is named")
    is_mine = any(association.is_meant_by(account) for association in known or ())
    if known is not None and not is_mine and case.site is not None and case.site.enforces_accounts:
        return Finding("account", Level.RED, f"{account} is not one of yours", choose)
    if known is not None and not is_mine:
        return Finding("account", Level.YELLOW, f"{account} is not one of yours, which is not enforced here", choose)
    others = {os.environ[name] for name in ACCOUNT_VARIABLES if os.environ.get(name)} - {account}
    if others:
        mend = f"It is charged to {account}; give account={min(others)} if you mean that."
        return Finding("account", Level.YELLOW, f"{account}, while your login shell says {min(others)}", mend)
    return Finding("account", Level.GREEN, account)


def _account(case: Case) -> str | None:
    return _named(options_of(case.settings, case.kinds[0]))


def _named(options: Mapping[str, Value]) -> str | None:
    account = options.get("account")
    return account if isinstance(account, str) else None


def check_variables(environment: Mapping[str, str] | None = None) -> Iterator[Finding]:
    """Look for variables that sbatch would obey, and which do not count here."""
    values = os.environ if environment is None else environment
    names = sorted(name for name in values if name.startswith("SBATCH_") and name not in ACCOUNT_VARIABLES)
    if names and "SLURM_JOB_ID" not in values:
        mend = "Give these options after --slurm instead."
        yield Finding("variables", Level.YELLOW, f"{some(names)} of your login shell do not count", mend)


def check_jobs(case: Case) -> Iterator[Finding]:
    """Have Slurm say whether it would take each kind of job, with the very header that is submitted."""
    for kind in case.kinds:
        yield try_kind(case, kind)
    yield try_report(case)


def try_kind(case: Case, kind: str) -> Finding:
    """Have Slurm say whether it would take the jobs of one kind of task."""
    profile = case.settings.profile
    # No more than are submitted at once.
    most = min(profile.max_array_size, (profile.max_submit_jobs or profile.max_array_size + 1) - 1)
    return _try(case, f"jobs: {kind}", options_of(case.settings, kind), elements=max(1, min(case.jobs, most)))


def try_report(case: Case) -> Finding:
    """Have Slurm say whether it would take the job that writes the report."""
    return _try(case, "jobs: report", finaliser_options(case.settings), elements=0)


def ask_slurm(settings: SlurmSettings, options: Mapping[str, Value], *, elements: int, run: Path | None) -> str:
    """Ask Slurm whether it would take a job, and return when it could start.

    Args:
        settings: How the run is submitted.
        options: Of this job.
        elements: Length of its array; 0 for the job that writes the report.
        run: The run folder, which may not be there yet.

    Raises:
        SchedulerSilentError: Slurm is not here, or does not answer.
        SchedulerError: Slurm would refuse the job.
    """
    is_array = settings.profile.arrays and elements > 0
    submission = Submission(
        number=1,
        purpose="tasks" if elements else FINALISER,
        elements=((),) * elements,
        # It may name jobs that nobody has submitted yet.
        options={name: value for name, value in options.items() if name != "dependency"},
        is_array=is_array,
    )
    most = settings.max_parallel or settings.profile.max_parallel
    return try_submission(batch_script(submission, None if is_array else 0, max_parallel=most), start=_start(run))


def _try(case: Case, name: str, options: Mapping[str, Value], *, elements: int) -> Finding:
    try:
        answer = ask_slurm(case.settings, options, elements=elements, run=case.run)
    except SchedulerError as error:
        jobs = elements if case.settings.profile.arrays else 1
        if lacks_room(error, case.settings, max(1, jobs), _named(options), case.site):
            mend = "They are submitted later, or wait until others have ended."
            return Finding(name, Level.YELLOW, f"too many jobs are queued: {error.what}", mend)
        return Finding(
            name, Level.RED, f"Slurm refuses: {error.what}", _cure(case, options, error), _refusal(options, error)
        )
    return Finding(name, Level.GREEN, re.sub(r"^Job [0-9]+ to start", "could start", answer))


def _refusal(options: Mapping[str, Value], error: SchedulerError) -> SchedulerError:
    if isinstance(error, SchedulerSilentError):
        return error
    return type(error)(
        f"Slurm would refuse the job: {error.what}",
        where=", ".join(f"{name}={value}" for name, value in options.items()),
        mend="Correct the options after --slurm, or the profile; `fb doctor` looks into each.",
    )


def _start(run: Path | None) -> Path | None:
    """Return the nearest folder that is there already: some sites refuse jobs that start in a home."""
    if run is None:
        return None
    return next(path for path in (run, *run.absolute().parents) if path.is_dir())


def _cure(case: Case, options: Mapping[str, Value], error: FlatBugError) -> str:
    """Return what to do about a job that Slurm refuses."""
    said = error.what.lower()
    if "account" in said and case.site and case.site.associations is not None:
        names = dict.fromkeys(association.short_name for association in case.site.associations)
        return f"Your accounts: {some(names)}. Give account=NAME."
    wanted = options.get("partition")
    partition = case.partition(str(wanted) if wanted else None)
    if case.site and partition is None:
        return f"Give partition=NAME; there are: {some(p.name for p in case.site.partitions)}."
    wrong = _too_much(options, partition) if partition else []
    if wrong and partition:
        return f"Partition {partition.name}: {'; '.join(wrong)}. Change it after --slurm, or in the profile."
    if "/home" in said or "director" in said:
        return "Put the run folder (-o) under your scratch."
    if "array" in said:
        return "The profile does not fit the cluster: fb cluster probe"
    return "Change that option after --slurm, or in the resources of the profile."


def _too_much(options: Mapping[str, Value], partition: Partition) -> list[str]:
    """Return what is asked for and no node of a partition has."""
    wrong = []
    time = options.get("time")
    if isinstance(time, str) and seconds_of_time(time) > partition.seconds:
        wrong.append(f"time={time} is more than the {partition.time_limit} it allows")
    memory = options.get("mem")
    if isinstance(memory, str) and megabytes_of(memory) > partition.memory_mb > 0:
        wrong.append(f"mem={memory} is more than the {partition.memory_mb} MB of its nodes")
    cpus = options.get("cpus-per-task")
    if isinstance(cpus, str) and int(cpus) > partition.cpus > 0:
        wrong.append(f"cpus_per_task={cpus} is more than the {partition.cpus} of its nodes")
    gres = options.get("gres")
    if isinstance(gres, str):
        wrong += [
            f"its nodes have {_all(partition)}, not {name}" for name in gres.split(",") if not _has(partition, name)
        ]
    return wrong


def _all(partition: Partition) -> str:
    return some(partition.gres) or "no GPU"


def _has(partition: Partition, wanted: str) -> bool:
    """Return whether nodes have a generic resource: ``gpu``, ``gpu:2``, ``gpu:t4`` or ``gpu:t4:2``."""
    name, kind, count = _parts(wanted)
    return any(
        name == there and kind in {"", sort} and count <= most
        for there, sort, most in (_parts(known) for known in partition.gres)
    )


def _parts(gres: str) -> tuple[str, str, int]:
    name, *rest = gres.split(":")
    count = int(rest.pop()) if rest and rest[-1].isdecimal() else 1
    return name, rest[0] if rest else "", count


def check_limits(case: Case) -> Iterator[Finding]:
    """Compare what the profile says of the cluster's limits with the cluster, and with the number of jobs."""
    profile, site = case.settings.profile, case.site
    if site is None:
        return
    wrong = []
    if profile.arrays and not site.has_arrays:
        wrong.append("there are no job arrays, so arrays must be false")
    elif profile.arrays and profile.max_array_size > site.max_array_size:
        wrong.append(f"MaxArraySize is {site.max_array_size}, not {profile.max_array_size} (max_array_size)")
    if wrong:
        mend = f"Correct it in the profile {profile.name}, or let fb cluster probe write one."
        yield Finding("limits", Level.RED, f"the profile is wrong: {'; '.join(wrong)}", mend)
        return
    yield _check_queue(case)


def _check_queue(case: Case) -> Finding:
    profile = case.settings.profile
    limit = most_jobs(case.site, _account(case)) if case.site else None
    text = f"arrays of up to {profile.max_array_size} jobs" if profile.arrays else "no arrays: each job by itself"
    if limit is not None and (profile.max_submit_jobs or limit + 1) > limit:
        found = f"you may have {limit} jobs in the queue, which the profile does not say"
        return Finding("limits", Level.YELLOW, found, f"Put it into the profile: max_submit_jobs: {limit}")
    most = profile.max_submit_jobs
    if most is not None and case.jobs + 1 > most:
        found = f"{case.jobs} jobs, and {most} may be in the queue at a time"
        mend = "The rest is submitted when these have ended; tasks_per_job=N makes fewer jobs."
        return Finding("limits", Level.YELLOW, found, mend)
    return Finding("limits", Level.GREEN, f"{text}, {f'{most} in the queue' if most else 'any number in the queue'}")
