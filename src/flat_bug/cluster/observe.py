"""What became of the tasks of a run: records first, then what the scheduler says of all jobs at once."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from flat_bug.cluster.bootstrap import TIME_UP
from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.states import KINDS, JobState, ask_accounting, ask_queue, sign_in_log
from flat_bug.cluster.submission import (
    Ended,
    Jobs,
    Submission,
    Submitted,
    finalisers,
    newest_of,
    read_settings,
    submissions,
)
from flat_bug.errors import OutputError
from flat_bug.experiments.record import Failure, FailureKind, Record
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus, number_of

VAGUE: set[FailureKind] = {"cancelled", "killed", "error"}
"""What a task says of its own end when it cannot know who ended it."""

OF_JOBS_THAT_GO_ON: set[FailureKind] = {"time limit"}
"""What the tasks of a job say when it was stopped in time; it may be in the queue again, to go on."""

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
        queries: How many questions were asked: one of the controller for all jobs, and one of the accounting for
            those that the controller has forgotten.
        report_job: The finaliser, while it waits or runs; only where it was asked for.
    """

    statuses: tuple[TaskStatus, ...]
    notes: tuple[str, ...] = ()
    queries: int = 0
    report_job: JobState | None = None


@dataclass(frozen=True)
class _Answer:
    """What was asked and answered.

    Attributes:
        known: Job → its state.
        asked: Folder → submission, with the jobs that were found and not noted.
        notes: What could not be asked.
        queries: How many questions it took.
    """

    known: dict[str, JobState]
    asked: dict[Path, Submitted]
    notes: tuple[str, ...] = ()
    queries: int = 0


def observe(run: RunFolder, *, with_report: bool = False) -> Observation:
    """Return what became of every task of a run that was submitted to SLURM.

    How jobs have ended is noted in the run folder, since a scheduler without accounting forgets it within minutes.
    Nothing else is: whoever only looks must not get in the way of a process that submits.

    Args:
        run: The run.
        with_report: Also find out, with the same question, whether the finaliser waits or runs.

    Raises:
        RunError: A file of the run is broken.
    """
    submitted_so_far = submissions(run)
    newest = newest_of(submitted_so_far, (task.id for task in run.plan.tasks))
    statuses = {status.task.id: status for status in run.statuses()}
    unsettled = {name: newest[name] for name, status in statuses.items() if _is_unsettled(status, newest.get(name))}
    # Of a run whose tasks and report are there, nothing is asked: it may have been copied away from its cluster.
    is_open = with_report and (bool(unsettled) or not run.is_reported(statuses.values()))
    finaliser = _unended_finaliser(submitted_so_far) if is_open else None
    asked = [*unsettled.values(), *([finaliser] if finaliser else [])]
    answer = _ask(run, {submitted.folder: submitted for submitted in asked})
    ended = {folder: _note_ended(submitted, answer.known) for folder, submitted in answer.asked.items()}
    jobs = {folder: submitted.jobs for folder, submitted in answer.asked.items()}
    settled: dict[str, TaskStatus] = {}
    for name, submitted in unsettled.items():
        found, index = answer.asked[submitted.folder], submitted.submission.index_of(name)
        job = jobs[submitted.folder].job_of(index) if index is not None else ""
        settled[name] = _settled(statuses, name, found, answer, ended[submitted.folder], job=job)
    report_job = _report_job(finaliser, answer.known) if finaliser else None
    return Observation(tuple((statuses | settled).values()), answer.notes, answer.queries, report_job)


def adopt(run: RunFolder) -> None:
    """Note the ids of jobs that were submitted by a process which ended before it could.

    Only for who holds the lock of the run: another process may be about to note more.

    Raises:
        SchedulerError: The scheduler does not answer, so nobody knows.
    """
    orphans = [submitted for submitted in submissions(run) if is_orphan(submitted)]
    states = ask_queue(None) if orphans else []
    for submitted in orphans:
        found = with_found(submitted, states)
        if found.found.ids():
            submitted.note_jobs(found.jobs)


def is_orphan(submitted: Submitted) -> bool:
    """Return whether jobs of a submission may be in the queue whose ids nobody has noted."""
    submission, jobs = submitted.submission, submitted.jobs
    return not jobs.array and len(jobs.single) < max(1, len(submission.elements))


def with_found(submitted: Submitted, states: Sequence[JobState]) -> Submitted:
    """Return a submission with those jobs of the user's that carry its token."""
    token = submitted.submission.token
    mine = [state for state in states if token in state.comment]
    if not mine:
        return submitted
    if submitted.submission.is_array:
        return replace(submitted, found=Jobs(array=mine[0].job.partition("_")[0]))
    if not submitted.submission.elements:
        return replace(submitted, found=Jobs(single={0: mine[0].job}))
    # Jobs of their own carry their index behind the token.
    indexed = re.compile(rf"{re.escape(token)}\.([0-9]+)")
    matches = [(indexed.search(state.comment), state.job) for state in mine]
    return replace(submitted, found=Jobs(single={int(match[1]): job for match, job in matches if match is not None}))


def _is_unsettled(status: TaskStatus, submitted: Submitted | None) -> bool:
    """Return whether only the scheduler knows more of a task than lies in the run folder."""
    if submitted is None or status.state is TaskState.DONE:
        return False
    if status.record is None or not _belongs_to(status, submitted.submission):
        return True
    return status.failure is not None and status.failure.kind in VAGUE | OF_JOBS_THAT_GO_ON


def _goes_on(status: TaskStatus) -> bool:
    """Return whether a task was stopped in time, so that its job is queued again to go on with it."""
    return status.task.goes_on and status.failure is not None and status.failure.goes_on


def _belongs_to(status: TaskStatus, submission: Submission) -> bool:
    """Return whether the newest attempt is one of this submission, and not of an earlier one."""
    first = submission.first_attempts.get(status.task.id, 1)
    return status.attempt is not None and number_of(status.attempt) >= first


def _unended_finaliser(found: Sequence[Submitted]) -> Submitted | None:
    """Return the newest finaliser, unless it has no job or somebody has seen its end."""
    newest = next(reversed(finalisers(found)), None)
    return newest if newest and newest.jobs.ids() and not newest.ended else None


def _report_job(finaliser: Submitted, known: Mapping[str, JobState]) -> JobState | None:
    """Return the job of a finaliser if it waits or runs; note its end, so that nobody asks about it again."""
    state = known.get(finaliser.jobs.job_of(0))
    if state is None or state.task_state is not None:
        return state
    _note(finaliser, {0: _end_of(state)})
    return None


def _ask(run: RunFolder, asked: dict[Path, Submitted]) -> _Answer:
    """Return what is known of the jobs of submissions: the controller first, then the accounting, if need be."""
    if not asked:
        return _Answer({}, {})
    try:
        if any(is_orphan(submitted) for submitted in asked.values()):
            states = ask_queue(None)
            asked = {
                folder: with_found(submitted, states) if is_orphan(submitted) else submitted
                for folder, submitted in asked.items()
            }
        else:
            states = ask_queue(_ids(asked.values()))
    except SchedulerError as error:
        return _Answer({}, asked, (f"{error.what}; shown is what the tasks have left",), 1)
    known = {state.job: state for state in states}
    forgotten = [each for each in asked.values() if any(job not in known for _, job in _open_jobs(each))]
    ids = _ids(forgotten)
    if not ids or not read_settings(run).profile.accounting:
        return _Answer(known, asked, (), 1)
    try:
        ended = {state.job: state for state in ask_accounting(ids, _since(forgotten))}
    except SchedulerError as error:
        return _Answer(known, asked, (f"the accounting does not answer: {error.what}",), 2)
    return _Answer(ended | known, asked, (), 2)


def _since(asked: Sequence[Submitted]) -> str:
    """Return a time before all submissions as sacct reads it, in local time; a day more, as clocks may differ."""
    first = min(datetime.fromisoformat(submitted.submission.created) for submitted in asked)
    return (first.astimezone() - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S")


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
        index: _end_of(state)
        for index, job in _open_jobs(submitted)
        if (state := known.get(job)) is not None and state.task_state is None
    }
    if new:
        _note(submitted, new)
    return submitted.ended | new


def _note(submitted: Submitted, new: dict[int, Ended]) -> None:
    # Who looks may not be allowed to write here, or the disk may be full: then it is asked again next time.
    with suppress(OutputError):
        submitted.note_ended(new)


def _end_of(state: JobState) -> Ended:
    return Ended(state=state.state, reason=state.reason, node=state.node, seconds=state.seconds)


def _settled(
    statuses: Mapping[str, TaskStatus],
    name: str,
    submitted: Submitted,
    answer: _Answer,
    ends: Mapping[int, Ended],
    *,
    job: str,
) -> TaskStatus:
    """Return the status of a task with what the scheduler knows of its job."""
    status, index = statuses[name], submitted.submission.index_of(name)
    if index is None or not job:
        return status if status.record else replace(status, state=TaskState.MISSING, reason="not submitted yet")
    state, mine = answer.known.get(job), _belongs_to(status, submitted.submission)
    if state is not None and state.task_state is not None:
        return _in_queue(status, state, mine=mine)
    ended = ends.get(index)
    if ended is None and answer.notes:
        return replace(status, job=job)
    return _after_the_end(status, submitted, index, ended, is_last=_is_last(statuses, name, submitted, index))


def _in_queue(status: TaskStatus, job: JobState, *, mine: bool) -> TaskStatus:
    """Return the status of a task whose job waits or runs."""
    own = status.attempt if mine else None
    runs = job.task_state is TaskState.RUNNING
    if runs and status.record is not None and mine and not _runs_again(status, status.record, job):
        return status
    begun = runs and own is not None and status.record is None
    waits = f"its turn in job {job.job}" if runs else job.reason
    return TaskStatus(
        status.task,
        TaskState.RUNNING if begun else TaskState.QUEUED,
        "" if begun else waits,
        own,
        job=job.job,
        node=job.node,
        seconds=job.seconds,
    )


def _runs_again(status: TaskStatus, record: Record, job: JobState) -> bool:
    """Return whether a record is from before its job was queued again, so that the job comes to the task once more."""
    ended = datetime.fromisoformat(record.started) + timedelta(seconds=record.seconds)
    return _goes_on(status) or (job.began is not None and ended < job.began)


def _is_last(statuses: Mapping[str, TaskStatus], name: str, submitted: Submitted, index: int) -> bool:
    """Return whether no other task of a job began after this one, which therefore was there when the job ended."""

    def begun(position: int, status: TaskStatus) -> tuple[bool, str, int]:
        # An attempt without a record is the one that was running.
        return status.record is None, status.record.started if status.record else "", position

    element = [statuses[other] for other in submitted.submission.elements[index] if other in statuses]
    ran = {
        status.task.id: begun(position, status)
        for position, status in enumerate(element)
        if _belongs_to(status, submitted.submission) and status.attempt and (status.attempt / LOG_NAME).exists()
    }
    # Of one that never had its turn there is a record, and no log.
    return name not in ran or ran[name] == max(ran.values())


def _after_the_end(
    status: TaskStatus, submitted: Submitted, index: int, ended: Ended | None, *, is_last: bool
) -> TaskStatus:
    """Return the status of a task whose job has ended or is forgotten."""
    kind, detail = _why(submitted, index, ended)
    mine = _belongs_to(status, submitted.submission)
    if status.record is not None and mine and not (is_last and _is_overruled(status, kind)):
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


def _is_overruled(status: TaskStatus, kind: FailureKind) -> bool:
    """Return whether what is known of a job counts for more than the record of the task that was there last."""
    if status.failure is None or kind in {status.failure.kind, "cancelled"}:
        return False
    # A setup that failed did so when the job had been queued again: otherwise there would be no record.
    return (status.failure.kind in VAGUE or _goes_on(status)) and kind in {*KINDS.values(), "setup failed"}


def _why(submitted: Submitted, index: int, ended: Ended | None) -> tuple[FailureKind, str]:
    """Return why a job ended without a record of its task, and the words of whoever said so."""
    known = KINDS.get(ended.state) if ended else None
    log = submitted.log_of(index)
    sign = sign_in_log(log)
    if known is not None:
        # A job that Slurm itself has cancelled says why in its log only.
        return sign if known == "cancelled" and sign is not None else known, ""
    # After the state: a job that is ended in its setup leaves that file too.
    setup = submitted.setup_failure_of(index)
    if setup.is_file():
        return _in_setup(setup.read_text(errors="replace").strip())
    # Without cgroups Slurm calls a job that it ended for its memory failed, and says why in its log only.
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


def _in_setup(note: str) -> tuple[FailureKind, str]:
    """Return why a job ended in its setup: neither its step nor its node is to blame when the time limit came near."""
    if TIME_UP in note:
        return "time limit", f"its time, of which the setup takes a part, ended before it began: {note}"
    return "setup failed", f"the setup of its job failed: {note}"
