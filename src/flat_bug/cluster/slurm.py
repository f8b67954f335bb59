"""The SLURM submitter: job arrays, each task once, and a finaliser behind them."""

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from flat_bug.cluster.arrays import Part, Taken, first_of, of_finaliser, of_tasks, parts, submit_parts
from flat_bug.cluster.files_of_jobs import write_files_of_jobs
from flat_bug.cluster.growth import CURES, FACTOR, Growing
from flat_bug.cluster.observe import adopt, observe
from flat_bug.cluster.option_values import Value
from flat_bug.cluster.room import lacks_room, room_left
from flat_bug.cluster.sbatch import submit_jobs
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, run_command
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import (
    SlurmSettings,
    Submission,
    Submitted,
    finalisers,
    newest_of,
    next_number,
    read_settings,
    submissions,
    write_submission,
)
from flat_bug.errors import FlatBugError
from flat_bug.experiments.plan import Task
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, attempts_in, number_of


@dataclass(frozen=True)
class SlurmSubmitter:
    """Submits tasks as job arrays and returns at once; what the run asked for is read from its settings.

    Attributes:
        grow: Multiply this for the tasks that failed for want of it.
        avoid: Nodes that are not to be used.
        automatic: Whether a finaliser submits, and no person.
    """

    grow: Growing | None = None
    avoid: frozenset[str] = frozenset()
    automatic: bool = False

    def settle(self, run: RunFolder) -> None:
        """Note the jobs of a process that was killed between submitting them and noting them.

        Raises:
            SchedulerError: The scheduler does not answer.
        """
        adopt(run)

    def statuses(self, run: RunFolder) -> Sequence[TaskStatus]:
        """Return the state of every task, queued ones included.

        Raises:
            SchedulerSilentError: The scheduler does not answer, so nobody knows what is in its queue.
        """
        seen = observe(run)
        if seen.notes:
            raise SchedulerSilentError(seen.notes[0], mend="Nothing was submitted; try again in some minutes.")
        return seen.statuses

    def submit(self, run: RunFolder, tasks: Sequence[Task]) -> None:
        """Submit the tasks, those that come after others behind them, and a finaliser behind all.

        Where the queue has no room for all, the finaliser submits the rest. Without tasks, it is submitted where jobs
        are in the queue and none waits for them, as a process leaves it that was killed while it submitted.

        Raises:
            SchedulerError: The scheduler refuses, or does not answer.
        """
        now = _Round(run, read_settings(run), _live_jobs(run), next_number(run))
        if not tasks:
            if now.live and not _has_waiting_finaliser(run):
                _finalise(now)
            return
        write_files_of_jobs(run, now.settings)
        try:
            waves = parts(tasks, now.settings, self._growth(run, tasks))
            submit_parts(waves, room_left(now.settings), lambda part, before: self._submit(now, part, before))
        except FlatBugError:
            if now.jobs():  # what is in the queue gets its report all the same
                with suppress(FlatBugError):
                    _finalise(now)
            raise
        _finalise(now)

    def _submit(self, now: "_Round", part: Part, before: Sequence[str]) -> Taken:
        """Submit a part, or as much of it as the queue has room for.

        Raises:
            SchedulerError: There is no room for any job of the run, or another reason to refuse this one.
        """
        earlier = {now.live[name] for task in part.tasks for name in task.after if name in now.live}
        while True:
            submission = self._submission(now, part, [*before, *sorted(earlier)])
            try:
                submitted = self._hand_over(now, submission)
                return Taken(submitted.jobs.ids(), len(submitted.submission.elements))
            except SchedulerError as error:
                if not now.lacks_room(error, submission):
                    raise
                if not submission.is_array or len(part.elements) == 1:
                    if not now.jobs():
                        raise
                    return Taken([], 0)
            # An array is taken as a whole or not at all, and nobody has said how many jobs there may be.
            part = part.first(len(part.elements) // 2)

    def _submission(self, now: "_Round", part: Part, before: Sequence[str]) -> Submission:
        made = of_tasks(part, now.settings, now.run.plan.experiment, next_number(now.run), before)
        attempts = {task.id: _last_attempt(now.run, task) + 1 for task in part.tasks}
        return made.model_copy(update={"first_attempts": attempts, "automatic": self.automatic})

    def _hand_over(self, now: "_Round", submission: Submission) -> Submitted:
        """Submit tasks, avoiding the nodes to avoid if that leaves any."""
        if not self.avoid:
            return _hand_over(now, submission)
        avoided = ",".join(filter(None, [_text(submission.options, "exclude"), *sorted(self.avoid)]))
        fussy = submission.model_copy(update={"options": {**submission.options, "exclude": avoided}})
        try:
            return _hand_over(now, fussy)
        except SchedulerSilentError:
            raise
        except SchedulerError as error:
            # With some jobs taken, its folder stays, and its number is not free.
            if now.lacks_room(error, submission) or next_number(now.run) != submission.number:
                raise
        return _hand_over(now, submission)

    def _growth(self, run: RunFolder, tasks: Sequence[Task]) -> dict[str, dict[str, int]]:
        """Return task → what is multiplied for it: what was before, and now more of what it lacked."""
        newest = newest_of(submissions(run), (task.id for task in tasks))
        grown = {name: dict(submitted.submission.grown) for name, submitted in newest.items()}
        if self.grow is None:
            return grown
        for status in observe(run).statuses:
            if status.failure is not None and status.failure.kind == CURES[self.grow]:
                mine = grown.setdefault(status.task.id, {})
                mine[self.grow] = mine.get(self.grow, 1) * FACTOR
        return grown


def submitted_since(run: RunFolder, number: int) -> list[Submitted]:
    """Return the submissions from a number on."""
    return [submitted for submitted in submissions(run) if submitted.submission.number >= number]


def _live_jobs(run: RunFolder) -> dict[str, str]:
    """Return task → the job or array in the queue that runs it."""
    states = {TaskState.QUEUED, TaskState.RUNNING}
    found = (status for status in observe(run).statuses if status.state in states and status.job)
    return {status.task.id: status.job.partition("_")[0] for status in found}


def _has_waiting_finaliser(run: RunFolder) -> bool:
    ids = [job for submitted in finalisers(submissions(run)) for job in submitted.jobs.ids()]
    return bool(ids) and any(job.task_state is TaskState.QUEUED for job in ask_queue(ids))


@dataclass(frozen=True)
class _Round:
    """One round of submitting.

    Attributes:
        run: The run.
        settings: How it is submitted.
        live: Task → its job that was in the queue before.
        first: Number of the first submission of this round.
    """

    run: RunFolder
    settings: SlurmSettings
    live: dict[str, str]
    first: int

    def submitted(self) -> list[Submitted]:
        """Return what was submitted so far, without the finaliser."""
        found = submitted_since(self.run, self.first)
        return [submitted for submitted in found if submitted.submission.purpose == "tasks"]

    def jobs(self) -> list[str]:
        """Return the ids of its jobs."""
        return [job for submitted in self.submitted() for job in submitted.jobs.ids()]

    def lacks_room(self, error: SchedulerError, submission: Submission) -> bool:
        """Return whether a submission is refused since the queue is full."""
        jobs = len(submission.elements) if submission.is_array else 1
        return lacks_room(error, self.settings, jobs, _text(submission.options, "account") or None)


def _hand_over(now: _Round, submission: Submission) -> Submitted:
    """Submit, and return what was submitted; a submission that is refused leaves no trace.

    Where each job is one of its own, those that the queue has no room for are left out.

    Raises:
        SchedulerError: Slurm takes no job, or refuses one for another reason.
    """
    submitted = write_submission(now.run, submission)
    try:
        submit_jobs(now.run, submitted, now.settings.max_parallel or now.settings.profile.max_parallel)
    except SchedulerSilentError:
        raise
    except SchedulerError as error:
        taken = len(submitted.jobs.ids())
        if not taken:
            shutil.rmtree(submitted.folder, ignore_errors=True)
            raise
        # Otherwise the rest would count as submitted, and the finaliser would leave it out.
        submitted = write_submission(now.run, first_of(submission, taken))
        if not now.lacks_room(error, submission):
            raise
    return submitted


def _finalise(now: _Round) -> None:
    """Submit a finaliser behind this round and what else is in the queue; it submits what has found no room.

    Raises:
        SchedulerError: There is room for one job only, or another reason to refuse it.
    """
    while True:
        before = [*now.jobs(), *sorted(set(now.live.values()))]
        submission = of_finaliser(now.settings, now.run.plan.experiment, next_number(now.run), before)
        try:
            _hand_over(now, submission)
        except SchedulerError as error:
            if not now.lacks_room(error, submission) or not _leave_out_last(now):
                raise
        else:
            return


def _leave_out_last(now: _Round) -> bool:
    """Cancel the last job of this round, to make room; return False where it is the only one."""
    found = now.submitted()
    if sum(len(submitted.submission.elements) for submitted in found) < 2:
        return False
    last, jobs = found[-1], found[-1].jobs
    rest = len(last.submission.elements) - 1
    # First of all, so that its task counts as not submitted, and not as cancelled.
    if rest:
        write_submission(now.run, first_of(last.submission, rest))
        last.note_jobs(jobs.model_copy(update={"single": {k: job for k, job in jobs.single.items() if k < rest}}))
    else:
        shutil.rmtree(last.folder, ignore_errors=True)
    run_command(["scancel", jobs.job_of(rest)])
    return True


def _text(options: dict[str, Value], name: str) -> str:
    value = options.get(name)
    return value if isinstance(value, str) else ""


def _last_attempt(run: RunFolder, task: Task) -> int:
    return max((number_of(attempt) for attempt in attempts_in(run.task_folder(task))), default=0)
