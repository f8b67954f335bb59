"""What became of the tasks of a run: records first, then what the scheduler says, with one query for all jobs."""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.states import KINDS, JobState, ask_accounting, ask_queue, sign_in_log
from flat_bug.cluster.submission import (
    Ended,
    Jobs,
    Submission,
    Submitted,
    newest_of,
    read_settings,
    submissions,
)
from flat_bug.errors import OutputError
from flat_bug.experiments.record import Failure, FailureKind
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, number_of

VAGUE: set[FailureKind] = {"cancelled", "killed", "error"}
"""What a task says of its own end when it cannot know who ended it."""

WHAT: dict[FailureKind, tuple[str, str]] = {
    "cancelled": ("its job was cancelled", "Run it again: fb resume RUN"),
    "error": ("its job ended, and it left no record", "Look into the log: fb logs RUN"),
    "killed": ("it left no record: it was killed, or could not write one", "Run it again: fb resume RUN"),
    "node failure": ("its node went down", "Run it again: fb resume RUN"),
    "out of memory": ("it needed more memory than its job had", "Give it more: fb resume RUN --grow mem"),
    "preempted": ("its job made room for a more important one", "Run it again: fb resume RUN"),
    "setup failed": ("the setup of its job failed", "Look into the log: fb logs RUN"),
    "time limit": ("its job reached the time limit", "Give it more: fb resume RUN --grow time"),
}


@dataclass(frozen=True)
class Observation:
    """The state of every task.

    Attributes:
        statuses: In the order of the plan.
        notes: What could not be asked: one sentence each.
        queries: How many the scheduler had to answer.
    """

    statuses: tuple[TaskStatus, ...]
    notes: tuple[str, ...] = ()
    queries: int = 0


def observe(run: RunFolder) -> Observation:
    """Return what became of every task of a run that was submitted to SLURM.

    How jobs have ended is noted in the run folder, since a scheduler without accounting forgets it within minutes.

    Raises:
        RunError: A file of the run is broken.
    """
    found = submissions(run)
    newest = newest_of(found, (task.id for task in run.plan.tasks))
    statuses = run.statuses()
    unsettled = [status for status in statuses if _is_unsettled(status, newest.get(status.task.id))]
    asked = {newest[status.task.id].folder: newest[status.task.id] for status in unsettled}
    known, notes, queries = _ask(run, list(asked.values())) if asked else ({}, (), 0)
    ended = {folder: _note_ended(submitted, known) for folder, submitted in asked.items()}
    silent = bool(notes)
    settled = (
        _settled(status, submitted, known, ended[submitted.folder], silent=silent)
        if status in unsettled and (submitted := newest[status.task.id])
        else status
        for status in statuses
    )
    return Observation(tuple(settled), notes, queries)


def adopt(run: RunFolder, *, ask: bool = True) -> dict[str, JobState]:
    """Note the ids of jobs that were submitted by a process which ended before it could, and return what is known.

    Raises:
        SchedulerError: The scheduler does not answer, so nobody knows.
    """
    orphans = [submitted for submitted in submissions(run) if _is_orphan(submitted)]
    if not orphans or not ask:
        return {}
    states = ask_queue(None)
    for submitted in orphans:
        _adopt_one(submitted, states)
    return {state.job: state for state in states}


def _is_unsettled(status: TaskStatus, submitted: Submitted | None) -> bool:
    """Return whether only the scheduler knows more of a task than lies in the run folder."""
    if submitted is None or status.state is TaskState.DONE:
        return False
    mine = _belongs_to(status, submitted.submission)
    if status.record is None or not mine:
        return True
    return status.failure is not None and status.failure.kind in VAGUE


def _belongs_to(status: TaskStatus, submission: Submission) -> bool:
    """Return whether the newest attempt is one of this submission, and not of an earlier one."""
    first = submission.first_attempts.get(status.task.id, 1)
    return status.attempt is not None and number_of(status.attempt) >= first


def _ask(run: RunFolder, asked: Sequence[Submitted]) -> tuple[dict[str, JobState], tuple[str, ...], int]:
    """Return job → state of the jobs of these submissions; the controller first, then the accounting, if need be."""
    try:
        if any(_is_orphan(submitted) for submitted in asked):
            known = adopt(run)
        else:
            known = {state.job: state for state in ask_queue(_ids(asked))}
    except SchedulerError as error:
        return {}, (f"{error.what}; shown is what the tasks have left",), 1
    forgotten = [submitted for submitted in asked if any(job not in known for _, job in _open_jobs(submitted))]
    ids = _ids(forgotten)
    if not ids or not read_settings(run).profile.accounting:
        return known, (), 1
    since = min(submitted.submission.created for submitted in forgotten).partition("+")[0]
    try:
        ended = {state.job: state for state in ask_accounting(ids, since)}
    except SchedulerError as error:
        return known, (f"the accounting does not answer: {error.what}",), 2
    return ended | known, (), 2


def _ids(asked: Iterable[Submitted]) -> list[str]:
    return [job for submitted in asked for job in submitted.jobs.ids()]


def _open_jobs(submitted: Submitted) -> Iterator[tuple[int, str]]:
    """Yield index and job of those whose end nobody has seen yet."""
    jobs, ended = submitted.jobs, submitted.ended
    for index in range(len(submitted.submission.elements)):
        job = jobs.job_of(index)
        if job and index not in ended:
            yield index, job


def _note_ended(submitted: Submitted, known: dict[str, JobState]) -> dict[int, Ended]:
    """Note how jobs have ended, and return it for all that have."""
    new = {
        index: Ended(state=state.state, reason=state.reason, node=state.node, seconds=state.seconds)
        for index, job in _open_jobs(submitted)
        if (state := known.get(job)) is not None and state.task_state is None
    }
    if new:
        # Who looks may not be allowed to write here, or the disk may be full: then it is asked again next time.
        with suppress(OutputError):
            submitted.note_ended(new)
    return submitted.ended | new


def _settled(
    status: TaskStatus, submitted: Submitted, known: dict[str, JobState], ends: dict[int, Ended], *, silent: bool
) -> TaskStatus:
    """Return the status of a task with what the scheduler knows of its job."""
    index = submitted.submission.index_of(status.task.id)
    job = submitted.jobs.job_of(index) if index is not None else ""
    if index is None or not job:
        return status if status.record else replace(status, state=TaskState.MISSING, reason="not submitted yet")
    state, mine = known.get(job), _belongs_to(status, submitted.submission)
    if state is not None and state.task_state is not None:
        return _in_queue(status, state, mine=mine)
    ended = ends.get(index)
    if ended is None and silent:
        return replace(status, job=job)
    return _after_the_end(status, submitted, index, ended, mine=mine)


def _in_queue(status: TaskStatus, job: JobState, *, mine: bool) -> TaskStatus:
    own = status.attempt if mine else None
    if job.task_state is TaskState.RUNNING and status.record is not None and mine:
        return status
    begun = job.task_state is TaskState.RUNNING and own is not None
    waits = f"its turn in job {job.job}" if job.task_state is TaskState.RUNNING else job.reason
    return TaskStatus(
        status.task,
        TaskState.RUNNING if begun else TaskState.QUEUED,
        "" if begun else waits,
        own,
        job=job.job,
        node=job.node,
        seconds=job.seconds,
    )


def _after_the_end(
    status: TaskStatus, submitted: Submitted, index: int, ended: Ended | None, *, mine: bool
) -> TaskStatus:
    """Return the status of a task whose job has ended or is forgotten."""
    kind, detail = _why(submitted, index, ended)
    if status.record is not None and mine and (kind not in KINDS.values() or kind == "cancelled"):
        return status  # the task itself says more
    if status.state is TaskState.RUNNING:
        return status  # its lock is held: the scheduler was asked a moment too early
    what, mend = WHAT[kind]
    failure = Failure(kind=kind, what=detail or what, mend=mend)
    return replace(
        status,
        state=TaskState.FAILED,
        reason=failure.brief(),
        attempt=status.attempt if mine else None,
        record=status.record if mine else None,
        failure=failure,
        job=submitted.jobs.job_of(index),
        node=ended.node if ended else status.node,
        seconds=ended.seconds if ended else status.seconds,
    )


def _why(submitted: Submitted, index: int, ended: Ended | None) -> tuple[FailureKind, str]:
    """Return why a job ended without a record of its task, and the words of whoever said so."""
    setup = submitted.setup_failure_of(index)
    if setup.is_file():
        return "setup failed", f"the setup of its job failed: {setup.read_text(errors='replace').strip()}"
    known = KINDS.get(ended.state) if ended else None
    log = submitted.log_of(index)
    sign = sign_in_log(log)
    # Without cgroups Slurm calls a job that it ended for its memory failed, and says why in its log only.
    if known is not None and not (known == "cancelled" and sign is not None):
        return known, ""
    if sign is not None:
        return sign, ""
    if ended is not None:
        return "killed" if ended.state == "FAILED" else "error", ""
    if log is None:
        return (
            "cancelled",
            "its job never began, and the scheduler has forgotten it: it was cancelled, it seems",
        )
    return "killed", "it left no record, and the scheduler has forgotten its job: its node went down, or it was killed"


def _is_orphan(submitted: Submitted) -> bool:
    submission, jobs = submitted.submission, submitted.jobs
    return not jobs.array and len(jobs.single) < max(1, len(submission.elements))


def _adopt_one(submitted: Submitted, states: Sequence[JobState]) -> None:
    """Note the jobs that carry the token of a submission."""
    mine = [state.job for state in states if submitted.submission.token in state.comment]
    if not mine:
        return
    if submitted.submission.is_array:
        submitted.note_jobs(Jobs(array=mine[0].partition("_")[0]))
        return
    if not submitted.submission.elements:
        submitted.note_jobs(Jobs(single={0: mine[0]}))
        return
    # Jobs of their own carry their index behind the token.
    indexed = re.compile(rf"{re.escape(submitted.submission.token)}\.([0-9]+)")
    found = [(indexed.search(state.comment), state.job) for state in states]
    single = {int(match[1]): job for match, job in found if match is not None}
    submitted.note_jobs(Jobs(single=submitted.jobs.single | single))
