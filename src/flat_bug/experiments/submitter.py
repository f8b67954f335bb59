"""What a submitter is, and how a run is carried out through one."""

from collections.abc import Callable, Sequence
from typing import Protocol

from flat_bug.experiments.plan import Task
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus


class Submitter(Protocol):
    """Has tasks run by ``python -m flat_bug.experiments.run_task SPEC.json``, here or elsewhere.

    A submitter decides where and when. What became of a task is read from its record, never from the submitter.
    """

    def settle(self, run: RunFolder) -> None:
        """Wait for what an earlier submitter has left behind and cannot be told from a task that is running."""

    def statuses(self, run: RunFolder) -> Sequence[TaskStatus]:
        """Return the state of every task, as far as this submitter can tell."""

    def submit(self, run: RunFolder, tasks: Sequence[Task]) -> None:
        """Start the tasks, each after those that it names in ``after``; may return before they have ended.

        The caller holds the lock of the run.
        """


def to_repeat(statuses: Sequence[TaskStatus], retry_failed: bool = False) -> list[Task]:
    """Return the tasks that ``resume`` runs: all that are neither done nor running.

    A task that failed on its input is left out while the input is the same, unless ``retry_failed``.
    """
    return [
        status.task
        for status in statuses
        if status.is_worth_repeating or (retry_failed and status.state is TaskState.FAILED)
    ]


def resume(
    run: RunFolder, submitter: Submitter, retry_failed: bool = False, first: Callable[[], None] | None = None
) -> list[Task]:
    """Run what a run still lacks and return the tasks that were submitted; nothing finished is done again.

    Args:
        run: The run.
        submitter: Who runs the tasks.
        retry_failed: Also repeat the tasks that failed on an input which is still the same.
        first: Is called once the run is ours: what it changes, no other process uses half of.

    Raises:
        RunError: Another process is running its tasks.
    """
    with run.lock():
        if first is not None:
            first()
        submitter.settle(run)
        tasks = to_repeat(submitter.statuses(run), retry_failed)
        submitter.submit(run, tasks)
        return tasks
