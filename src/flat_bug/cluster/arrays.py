"""What a run submits: its tasks as job arrays, in the order that they need, and a finaliser behind them."""

import graphlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from flat_bug.cluster.growth import grown_options
from flat_bug.cluster.option_values import Value
from flat_bug.cluster.resources import finaliser_options, options_of
from flat_bug.cluster.submission import FINALISER, SlurmSettings, Submission
from flat_bug.experiments.plan import Plan, Task

Grown = Mapping[str, Mapping[str, int]]
"""Task → what is multiplied for it."""


@dataclass(frozen=True)
class Part:
    """Tasks of one submission.

    Attributes:
        call: The function that they call.
        elements: The tasks of each job.
        grown: ``mem`` or ``time`` → by what the options of the run are multiplied for all of them.
    """

    call: str
    elements: tuple[tuple[Task, ...], ...]
    grown: dict[str, int] = field(default_factory=dict)

    @property
    def tasks(self) -> list[Task]:
        """Return its tasks."""
        return [task for element in self.elements for task in element]

    def first(self, count: int | None) -> "Part":
        """Return as many of its jobs, the first ones; None for all."""
        return replace(self, elements=self.elements[:count])


class Taken(NamedTuple):
    """What became of a part: the ids of its jobs, and how many of its elements they run."""

    jobs: Sequence[str]
    elements: int


def submit_parts(
    waves: Iterable[Sequence[Part]], room: int | None, submit: Callable[[Part, Sequence[str]], Taken]
) -> list[str]:
    """Submit the tasks, each wave behind those before it, as far as there is room, and return the ids of the jobs.

    Args:
        waves: From ``parts``.
        room: How many jobs there is room for; None where there is no limit.
        submit: Submits a part behind some jobs; it may find that there is no room for all of it.
    """
    jobs: list[str] = []
    for wave in waves:
        before = tuple(jobs)
        for whole in wave:
            part = whole.first(room)
            if not part.elements:
                continue
            taken = submit(part, before)
            jobs += taken.jobs
            if taken.elements < len(part.elements):
                room = 0
            elif room is not None:
                room -= taken.elements
    return jobs


def parts(tasks: Sequence[Task], settings: SlurmSettings, grown: Grown | None = None) -> Iterator[list[Part]]:
    """Yield the parts of each wave: those of one function and growth, none longer than an array may be."""
    each, longest = settings.tasks_per_job, settings.profile.max_array_size
    for wave in waves(tasks):
        made = []
        for (call, more), members in _groups(wave, grown or {}).items():
            elements = [tuple(members[start : start + each]) for start in range(0, len(members), each)]
            made += [
                Part(call, tuple(elements[start : start + longest]), dict(more))
                for start in range(0, len(elements), longest)
            ]
        yield made


def waves(tasks: Sequence[Task]) -> Iterator[list[Task]]:
    """Yield the tasks in groups, each of which comes after those before it."""
    wanted = {task.id: task for task in tasks}
    order = graphlib.TopologicalSorter({task.id: wanted.keys() & set(task.after) for task in tasks})
    order.prepare()
    while order.is_active():
        ready = set(order.get_ready())
        order.done(*ready)
        yield [task for task in tasks if task.id in ready]


def _groups(tasks: Sequence[Task], grown: Grown) -> dict[tuple[str, tuple[tuple[str, int], ...]], list[Task]]:
    groups: dict[tuple[str, tuple[tuple[str, int], ...]], list[Task]] = defaultdict(list)
    for task in tasks:
        groups[task.call, tuple(sorted(grown.get(task.id, {}).items()))].append(task)
    return groups


def of_tasks(part: Part, settings: SlurmSettings, experiment: str, number: int, before: Sequence[str]) -> Submission:
    """Return the submission of a part.

    Args:
        part: The tasks.
        settings: How the run is submitted.
        experiment: Its name, which the jobs get unless the user has named them.
        number: Of the submission.
        before: The jobs that it waits for.

    Raises:
        UsageError: The profile asks for something impossible, or nothing says what is to grow.
    """
    options = grown_options(options_of(settings, part.call), part.grown)
    options.setdefault("job-name", experiment)
    return Submission(
        number=number,
        purpose="tasks",
        elements=tuple(tuple(task.id for task in element) for element in part.elements),
        options=_behind(options, before),
        is_array=settings.profile.arrays,
        grown=part.grown,
    )


def of_finaliser(settings: SlurmSettings, experiment: str, number: int, before: Sequence[str]) -> Submission:
    """Return the submission of the job that combines what the tasks behind ``before`` have left.

    Raises:
        UsageError: The profile asks for something impossible.
    """
    options = {**finaliser_options(settings), "job-name": f"{experiment}-report"}
    # Only behind the tasks: what these wait for themselves is no matter of its.
    options.pop("dependency", None)
    return Submission(number=number, purpose=FINALISER, options=_behind(options, before), is_array=False)


def _behind(options: dict[str, Value], before: Sequence[str]) -> dict[str, Value]:
    if not before:
        return options
    given = options.get("dependency")
    return {**options, "dependency": ",".join([*([given] if isinstance(given, str) else []), after(before)])}


def after(jobs: Sequence[str]) -> str:
    """Return the dependency of a job that begins when others have ended, however they did."""
    return f"afterany:{':'.join(jobs)}"


def first_of(submission: Submission, count: int) -> Submission:
    """Return a submission with as many of its jobs, the first ones."""
    elements = submission.elements[:count]
    kept = {task for element in elements for task in element}
    attempts = {task: number for task, number in submission.first_attempts.items() if task in kept}
    return submission.model_copy(update={"elements": elements, "first_attempts": attempts})


def foreseen(plan: Plan, settings: SlurmSettings) -> list[Submission]:
    """Return what a plan makes Slurm submit while its queue is empty; ``JOB1`` stands for the jobs of submission 1.

    Raises:
        UsageError: The profile asks for something impossible.
    """
    made: list[Submission] = []

    def submit(part: Part, before: Sequence[str]) -> Taken:
        made.append(of_tasks(part, settings, plan.experiment, len(made) + 1, before))
        return Taken([f"JOB{len(made)}"], len(part.elements))

    limit = settings.profile.max_submit_jobs
    room = None if limit is None else max(1, limit - 1)
    jobs = submit_parts(parts(plan.tasks, settings), room, submit)
    return [*made, of_finaliser(settings, plan.experiment, len(made) + 1, jobs)]
