"""The local submitter: a process for each task, several at a time."""

import graphlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flat_bug.experiments.plan import Task
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus
from flat_bug.experiments.stopping import held_back
from flat_bug.processors import share_cpus, usable_processors
from flat_bug.progress import track

WORKER = (sys.executable, "-m", "flat_bug.experiments.run_task")
CPUS_PER_TASK = 4
"""By default there are as many tasks at a time as have this many processors each."""
SECONDS_BETWEEN_LOOKS = 0.05
SECONDS_TO_END = 5.0


@dataclass(frozen=True)
class LocalSubmitter:
    """Runs tasks on this machine and returns when all have ended.

    The processes end when this one does, even by ``kill -9``.

    Attributes:
        jobs: Tasks at a time; by default as the processors allow, and one when they use a GPU.
        worker: The command that runs a task, before the path of its spec.
    """

    jobs: int | None = None
    worker: tuple[str, ...] = WORKER

    def settle(self, run: RunFolder) -> None:
        """Wait until the processes of a submitter that was killed are gone; where the system kills them, at once."""
        run.wait_for_running()

    def statuses(self, run: RunFolder) -> Sequence[TaskStatus]:
        """Return the state of every task, as the run folder tells it."""
        return run.statuses()

    def submit(self, run: RunFolder, tasks: Sequence[Task]) -> None:
        """Run the tasks, each when those it comes after are done; it is left out when one of them is not."""
        jobs = min(self.jobs or default_jobs(tasks), max(1, len(tasks)))
        with _node_folder(tasks) as environment:
            children = _Children(run, self.worker, environment, free=deque(share_cpus(usable_processors(), jobs)))
            try:
                for _ in track(_run(children, run, tasks), "Running tasks", total=len(tasks)):
                    pass
            finally:
                children.end()


def default_jobs(tasks: Sequence[Task]) -> int:
    """Return how many tasks to run at a time on this machine."""
    if any(task.resources.gpus for task in tasks) and any(Path("/dev").glob("nvidia[0-9]*")):
        return 1
    return max(1, len(usable_processors()) // CPUS_PER_TASK)


@contextmanager
def _node_folder(tasks: Sequence[Task]) -> Iterator[dict[str, str]]:
    """Yield the environment of the tasks; what they stage has a folder of its own where no scheduler gives one."""
    if os.environ.get("SLURM_TMPDIR") or not any(task.stage for task in tasks):
        yield dict(os.environ)
        return
    with tempfile.TemporaryDirectory(prefix="flat-bug-") as folder:
        yield {**os.environ, "SLURM_TMPDIR": folder}


def _run(children: "_Children", run: RunFolder, tasks: Sequence[Task]) -> Iterator[str]:
    """Run the tasks and yield the id of each as it ends or is left out."""
    wanted = {task.id: task for task in tasks}
    every = {task.id: task for task in run.plan.tasks}
    order = graphlib.TopologicalSorter({task.id: wanted.keys() & set(task.after) for task in tasks})
    order.prepare()
    ready: deque[str] = deque()
    while order.is_active():
        ready.extend(order.get_ready())
        ended = []
        while ready and children.free:
            task = wanted[ready.popleft()]
            if all(run.status(every[other]).state is TaskState.DONE for other in task.after):
                children.start(task)
            else:
                ended.append(task.id)
        ended += children.ended()
        if not ended:
            time.sleep(SECONDS_BETWEEN_LOOKS)
        for name in ended:
            order.done(name)
            yield name


@dataclass
class _Children:
    """The processes of the tasks that are running, and the processors that wait for a task."""

    run: RunFolder
    worker: tuple[str, ...]
    environment: dict[str, str]
    free: deque[list[int]]
    running: dict[str, tuple[subprocess.Popen[bytes], list[int]]] = field(default_factory=dict)

    def start(self, task: Task) -> None:
        cpus = self.free.popleft()
        command = [*self.worker, str(self.run.write_spec(task)), "--parent", str(os.getpid())]
        command += ["--cpus", ",".join(map(str, cpus))]
        # A session of its own: Ctrl-C in the terminal reaches us alone, and we end the children.
        with held_back():  # so are signals in the new process, until it can leave a record
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, env=self.environment)
        self.running[task.id] = process, cpus

    def ended(self) -> list[str]:
        """Return the tasks that have ended since the last look."""
        names = [name for name, (process, _) in self.running.items() if process.poll() is not None]
        for name in names:
            _, cpus = self.running.pop(name)
            self.free.append(cpus)
        return names

    def end(self) -> None:
        """End what is still running: politely, so that it leaves a record, then by force."""
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + SECONDS_TO_END
        while self.running and time.monotonic() < deadline:
            self.ended()
            time.sleep(SECONDS_BETWEEN_LOOKS)
        self._signal(signal.SIGKILL)
        for process, _ in self.running.values():
            process.wait()

    def _signal(self, number: signal.Signals) -> None:
        for process, _ in self.running.values():
            if process.poll() is None:  # its group lives at least as long as it is not waited for
                os.killpg(process.pid, number)
