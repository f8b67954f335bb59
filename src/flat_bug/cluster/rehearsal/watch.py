"""Waiting for a rehearsed run, while failures are brought about and put right."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from flat_bug.cluster.observe import observe
from flat_bug.cluster.rehearsal.failures import Injection
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.running import running_tasks
from flat_bug.errors import UsageError
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus
from flat_bug.progress import Report

SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_BETWEEN_QUESTIONS = 2.0
SECONDS_WITHOUT_CHANGE = 300.0
"""So long nothing may run and nothing change in the queue before the rehearsal gives up."""

Say = Callable[[str], None]


@dataclass
class Watch:
    """Watches a run until no job of it is left.

    Attributes:
        cluster: Where it runs.
        run: The run.
        injections: Failures to bring about, in this order.
        say: Is told what happens.
        report: Is told how many tasks are done.
        seen: Task → the states that it was seen in, in words and in order.
    """

    cluster: LocalSlurm
    run: RunFolder
    injections: Sequence[Injection]
    say: Say
    report: Report
    seen: dict[str, list[str]] = field(default_factory=dict)
    struck: set[str] = field(default_factory=set)

    def until_done(self) -> Sequence[TaskStatus]:
        """Return the state of every task once no job is left, or nothing has changed for long."""
        last_queue, changed, asked = "", time.monotonic(), 0.0
        while True:
            self._strike()
            now = time.monotonic()
            if now - asked < SECONDS_BETWEEN_QUESTIONS:
                time.sleep(SECONDS_BETWEEN_LOOKS)
                continue
            queue = self._queue(last_queue)
            statuses = self._look()
            asked = time.monotonic()
            if not queue:
                return self._end()
            if queue != last_queue or " RUNNING" in queue:
                last_queue, changed = queue, now
            if now - changed > SECONDS_WITHOUT_CHANGE:
                self.say("nothing moves any more:\n" + queue.rstrip())
                return statuses

    def _queue(self, last: str) -> str:
        """Return what is in the queue, or what was when the controller is too busy to say."""
        try:
            return self.cluster.ask("squeue", "-h", "-r", "-o", "%i %T %r")
        except UsageError:
            return last or "unknown"

    def _strike(self) -> None:
        waiting = next((each for each in self.injections if each.needs_task and not each.done), None)
        if waiting is None:
            return
        running = running_tasks(self.cluster)
        if self.cluster.shape.nodes > 1 and len(self.run.plan.tasks) > 1:
            running = [task for task in running if not any(each.keeps_from(task) for each in self.injections)]
        unharmed = [task for task in running if task.task not in self.struck]
        nobody_left = len(self.struck) >= len(self.run.plan.tasks)
        for task in unharmed or (running if nobody_left else []):
            try:
                met = waiting.strike(self.cluster, task)
            except UsageError:  # its job has ended meanwhile
                continue
            if met:
                self.struck.add(task.task)
                self.say(f"! {waiting.name}: {waiting.done}")
                return

    def _look(self) -> Sequence[TaskStatus]:
        statuses = observe(self.run).statuses
        for injection in self.injections:
            injection.look(self.cluster, statuses)
        for status in statuses:
            words = _words(status)
            mine = self.seen.setdefault(status.task.id, [])
            if not mine or mine[-1] != words:
                mine.append(words)
                where = f" on {status.node}" if status.node else ""
                self.say(f"  {status.task.id}: {words}{where}{f' (job {status.job})' if status.job else ''}")
        if done := sum(status.state is TaskState.DONE for status in statuses):
            self.report(done, len(statuses))
        return statuses

    def _end(self) -> Sequence[TaskStatus]:
        for injection in self.injections:
            injection.after(self.cluster)
        return self._look()


def _words(status: TaskStatus) -> str:
    if status.failure is not None:
        return f"{status.state}: {status.failure.kind}"
    return str(status.state)
