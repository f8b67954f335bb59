"""The finaliser: after all tasks of a run it combines what there is, and tries again what failed for want of luck."""

import shlex
import time
from collections.abc import Sequence

from flat_bug.cluster.observe import Observation, observe
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
QUESTIONS = 4
SECONDS_BETWEEN_QUESTIONS = 15.0
"""How often, and after what pause, a scheduler that does not answer is asked; each question takes it half a minute."""


def finalise(run: RunFolder) -> int:
    """Submit again what may go better now, write tables and report, and name what is missing; return the exit code.

    Raises:
        OutputError: The report cannot be written.
    """
    statuses = _go_on(run)
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


def _go_on(run: RunFolder) -> Sequence[TaskStatus]:
    """Submit again what may go better now, and return the state that every task had before.

    Nobody else may submit between the look and the submission, or tasks would be in the queue twice.
    """
    try:
        with run.lock():
            seen = _look(run)
            if seen.notes:
                _say_unknown(run, seen)
            elif again := to_try_again(run, seen.statuses):
                _submit_again(run, again)
            return seen.statuses
    except FlatBugError as error:
        print(error)  # noqa: T201 - somebody resumes or cancels the run, or nothing can be written
        return observe(run).statuses


def _look(run: RunFolder) -> Observation:
    """Return what became of the tasks; a scheduler that does not answer is asked some times more."""
    for _ in range(QUESTIONS - 1):
        seen = observe(run)
        if not seen.notes:
            return seen
        time.sleep(SECONDS_BETWEEN_QUESTIONS)
    return observe(run)


def _say_unknown(run: RunFolder, seen: Observation) -> None:
    """Say what is not tried again, since nobody knows how its job has ended, or whether it has."""
    left = [status.task.id for status in seen.statuses if status.is_worth_repeating]
    print(*seen.notes, sep="\n")  # noqa: T201
    if left:
        print(f"not tried again, as nobody knows what became of their jobs: {', '.join(left)}")  # noqa: T201
        print(f"Go on with them: fb resume {shlex.quote(str(run.path.resolve()))}")  # noqa: T201


def _submit_again(run: RunFolder, again: Sequence[TaskStatus]) -> None:
    avoid = {status.node for status in again if status.node and status.failure and status.failure.kind in OF_THE_NODE}
    submitter = SlurmSubmitter(avoid=frozenset(avoid), automatic=True)
    try:
        submitter.submit(run, [status.task for status in again])
    except SchedulerError as error:
        where = shlex.quote(str(run.path.resolve()))
        print(f"nothing can be submitted from here: {error.what}\nGo on from a login node: fb resume {where}")  # noqa: T201
    except FlatBugError as error:
        print(error)  # noqa: T201
    else:
        print(f"submitted again: {', '.join(status.task.id for status in again)}")  # noqa: T201
