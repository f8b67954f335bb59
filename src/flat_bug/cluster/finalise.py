"""The finaliser: after all tasks of a run it combines what there is, and tries again what failed for want of luck."""

from collections.abc import Sequence

from flat_bug.cluster.observe import observe
from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.submission import read_settings, submissions
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_OK, FlatBugError
from flat_bug.experiments.record import FailureKind
from flat_bug.experiments.results import write_results
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus

BAD_LUCK: set[FailureKind] = {"cannot write", "killed", "node failure", "preempted", "setup failed"}
"""Failures that another node, or another hour, may not have."""

OF_THE_NODE: set[FailureKind] = BAD_LUCK - {"preempted"}


def finalise(run: RunFolder) -> int:
    """Submit again what may go better now, write tables and report, and name what is missing; return the exit code.

    Raises:
        OutputError: The report cannot be written.
    """
    statuses = observe(run).statuses
    again = to_try_again(run, statuses)
    if again:
        _submit_again(run, again)
    results = write_results(run, statuses)
    lacking = [status for status in statuses if status.state is not TaskState.DONE]
    for status in lacking:
        print(f"{status.task.id}: {status.state}: {status.reason}")  # noqa: T201 - into the log of the job
    print(f"Report: {results.page}")  # noqa: T201
    return EXIT_ITEMS_FAILED if lacking else EXIT_OK


def to_try_again(run: RunFolder, statuses: Sequence[TaskStatus]) -> list[TaskStatus]:
    """Return what a finaliser submits: what never was, what had bad luck, and what could not begin because of that.

    Bad luck is tried again as often as the run allows.
    """
    most, found = read_settings(run).retries, submissions(run)
    again = []
    for status in statuses:
        mine = [each.submission for each in found if each.submission.index_of(status.task.id) is not None]
        repeats = sum(submission.automatic for submission in mine[1:])
        unlucky = status.failure is not None and status.failure.kind in BAD_LUCK
        if not mine or (status.state is TaskState.FAILED and unlucky and repeats < most):
            again.append(status)
    names = {status.task.id for status in again}
    waiting = [status for status in statuses if status.failure is not None and status.failure.kind == "missing part"]
    while more := [each for each in waiting if each.task.id not in names and names & set(each.task.after)]:
        again += more
        names |= {status.task.id for status in more}
    return again


def _submit_again(run: RunFolder, again: Sequence[TaskStatus]) -> None:
    avoid = {status.node for status in again if status.node and status.failure and status.failure.kind in OF_THE_NODE}
    submitter = SlurmSubmitter(avoid=frozenset(avoid), automatic=True)
    try:
        with run.lock():
            submitter.submit(run, [status.task for status in again])
    except SchedulerError as error:
        print(f"nothing can be submitted from here: {error.what}\nGo on from a login node: fb resume")  # noqa: T201
    except FlatBugError as error:
        print(error)  # noqa: T201 - somebody resumes the run already
    else:
        print(f"submitted again: {', '.join(status.task.id for status in again)}")  # noqa: T201
