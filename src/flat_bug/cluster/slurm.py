"""The SLURM submitter: job arrays, each task once, and a finaliser behind them."""

import graphlib
import shutil
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

from flat_bug.cluster.batch_script import FINALISER
from flat_bug.cluster.files_of_jobs import write_files_of_jobs
from flat_bug.cluster.growth import CURES, Growing, grown_options
from flat_bug.cluster.observe import adopt, observe
from flat_bug.cluster.option_values import Value
from flat_bug.cluster.resources import finaliser_options, options_of
from flat_bug.cluster.sbatch import submit_jobs
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError, is_full
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import (
    SlurmSettings,
    Submission,
    Submitted,
    newest_of,
    next_number,
    read_settings,
    submissions,
    write_submission,
)
from flat_bug.experiments.plan import Task
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, attempts_in, number_of

Group = tuple[str, tuple[tuple[str, int], ...]]
"""Tasks of one array call the same function and have the same growth."""


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
        settings = read_settings(run)
        live = _live_jobs(run)
        if not tasks:
            if live and not _has_waiting_finaliser(run):
                self._finalise(run, settings, sorted(set(live.values())))
            return
        write_files_of_jobs(run, settings)
        grown = self._growth(run, tasks)
        room = _room(settings)
        jobs: list[str] = []
        for wave in waves(tasks):
            earlier = {live[name] for task in wave for name in task.after if name in live}
            before = (*jobs, *sorted(earlier))
            for group, members in _groups(wave, grown).items():
                for elements in _arrays(members, settings):
                    if room is not None and len(elements) > room:
                        elements = elements[: max(0, room)]  # noqa: PLW2901 - the rest waits for the finaliser
                    if not elements:
                        continue
                    try:
                        jobs += self._submit(run, settings, group, elements, before)
                    except SchedulerError as error:
                        if not jobs:
                            raise
                        if not is_full(error):
                            # What is in the queue gets its report all the same.
                            with suppress(SchedulerError):
                                self._finalise(run, settings, jobs)
                            raise
                        room = 0
                    room = None if room is None else room - len(elements)
        self._finalise(run, settings, [*jobs, *sorted(set(live.values()))])

    def _submit(
        self,
        run: RunFolder,
        settings: SlurmSettings,
        group: Group,
        elements: Sequence[tuple[Task, ...]],
        before: Sequence[str],
    ) -> list[str]:
        call, grown = group
        options = grown_options(options_of(settings, call), dict(grown))
        options.setdefault("job-name", run.plan.experiment)
        if before:
            options["dependency"] = ",".join(
                filter(None, [_text(options, "dependency"), f"afterany:{':'.join(before)}"])
            )
        tasks = [task for element in elements for task in element]
        submission = Submission(
            number=next_number(run),
            purpose="tasks",
            elements=tuple(tuple(task.id for task in element) for element in elements),
            first_attempts={task.id: _last_attempt(run, task) + 1 for task in tasks},
            options=options,
            is_array=settings.profile.arrays,
            grown=dict(grown),
            automatic=self.automatic,
        )
        return self._hand_over(run, settings, submission)

    def _finalise(self, run: RunFolder, settings: SlurmSettings, jobs: Sequence[str]) -> None:
        options = finaliser_options(settings)
        options["job-name"] = f"{run.plan.experiment}-report"
        options["dependency"] = f"afterany:{':'.join(jobs)}"
        submission = Submission(number=next_number(run), purpose=FINALISER, options=options, is_array=False)
        self._hand_over(run, settings, submission)

    def _hand_over(self, run: RunFolder, settings: SlurmSettings, submission: Submission) -> list[str]:
        """Submit, avoiding the nodes to avoid if that leaves any; what was refused leaves no trace."""
        avoided = ",".join(filter(None, [_text(submission.options, "exclude"), *sorted(self.avoid)]))
        if self.avoid and submission.purpose == "tasks":
            fussy = submission.model_copy(update={"options": {**submission.options, "exclude": avoided}})
            try:
                return self._hand_over_one(run, settings, fussy)
            except SchedulerSilentError:
                raise
            except SchedulerError as error:
                if is_full(error):
                    raise
        return self._hand_over_one(run, settings, submission)

    def _hand_over_one(self, run: RunFolder, settings: SlurmSettings, submission: Submission) -> list[str]:
        submitted = write_submission(run, submission)
        try:
            submit_jobs(run, submitted, settings.max_parallel or settings.profile.max_parallel)
        except SchedulerSilentError:
            raise
        except SchedulerError:
            if not submitted.jobs.ids():
                shutil.rmtree(submitted.folder, ignore_errors=True)
            raise
        return submitted.jobs.ids()

    def _growth(self, run: RunFolder, tasks: Sequence[Task]) -> dict[str, dict[str, int]]:
        """Return task → what is multiplied for it: what was before, and now more of what it lacked."""
        newest = newest_of(submissions(run), (task.id for task in tasks))
        grown = {name: dict(submitted.submission.grown) for name, submitted in newest.items()}
        if self.grow is None:
            return grown
        for status in observe(run).statuses:
            if status.failure is not None and status.failure.kind == CURES[self.grow]:
                mine = grown.setdefault(status.task.id, {})
                mine[self.grow] = mine.get(self.grow, 1) * 2
        return grown


def waves(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Yield the tasks in groups, each of which comes after those before it."""
    wanted = {task.id: task for task in tasks}
    order = graphlib.TopologicalSorter({task.id: wanted.keys() & set(task.after) for task in tasks})
    order.prepare()
    while order.is_active():
        ready = set(order.get_ready())
        order.done(*ready)
        yield [task for task in tasks if task.id in ready]


def submitted_since(run: RunFolder, number: int) -> list[Submitted]:
    """Return the submissions from a number on."""
    return [submitted for submitted in submissions(run) if submitted.submission.number >= number]


def _live_jobs(run: RunFolder) -> dict[str, str]:
    """Return task → the job or array in the queue that runs it."""
    states = {TaskState.QUEUED, TaskState.RUNNING}
    found = (status for status in observe(run).statuses if status.state in states and status.job)
    return {status.task.id: status.job.partition("_")[0] for status in found}


def _has_waiting_finaliser(run: RunFolder) -> bool:
    found = (submitted for submitted in submissions(run) if submitted.submission.purpose == FINALISER)
    ids = [job for submitted in found for job in submitted.jobs.ids()]
    return bool(ids) and any(job.task_state is TaskState.QUEUED for job in ask_queue(ids))


def _groups(tasks: Sequence[Task], grown: dict[str, dict[str, int]]) -> dict[Group, list[Task]]:
    groups: dict[Group, list[Task]] = defaultdict(list)
    for task in tasks:
        groups[task.call, tuple(sorted(grown.get(task.id, {}).items()))].append(task)
    return groups


def _arrays(tasks: Sequence[Task], settings: SlurmSettings) -> Iterator[list[tuple[Task, ...]]]:
    """Yield arrays of jobs, each a tuple of tasks; an array is no longer than the cluster allows."""
    each, longest = settings.tasks_per_job, settings.profile.max_array_size
    elements = [tuple(tasks[start : start + each]) for start in range(0, len(tasks), each)]
    for start in range(0, len(elements), longest):
        yield elements[start : start + longest]


def _room(settings: SlurmSettings) -> int | None:
    """Return how many jobs may be submitted now, without the finaliser; None where there is no limit.

    Raises:
        SchedulerError: The queue is full already, or the scheduler does not answer.
    """
    limit = settings.profile.max_submit_jobs
    if limit is None:
        return None
    queued = sum(job.task_state is not None for job in ask_queue(None))
    room = limit - queued - 1
    if room < 1:
        raise SchedulerError(
            f"the queue holds {queued} of your jobs, and {limit} are allowed",
            mend="Wait until some have ended, then: fb resume RUN",
        )
    return room


def _text(options: dict[str, Value], name: str) -> str:
    value = options.get(name)
    return value if isinstance(value, str) else ""


def _last_attempt(run: RunFolder, task: Task) -> int:
    return max((number_of(attempt) for attempt in attempts_in(run.task_folder(task))), default=0)
