"""Failures that a rehearsal brings about on request, and puts right again as a person or a site would."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.running import RunningTask
from flat_bug.errors import MissingPartError
from flat_bug.experiments.record import RECORD_NAME
from flat_bug.experiments.run_folder import TaskState, TaskStatus

SECONDS_TO_THE_LIMIT = 45
"""Longer than the controller waits between two looks at the clock, so that it first warns the job."""
FULL_DISK_KB = 64


@dataclass
class Injection:
    """A failure that is brought about once.

    Attributes:
        done: What was done and when it met whom, in words; empty until then.
        task: The task that it was done to, if to a single one.
        harmless: Why nothing came of it, in words.
        frozen: The task that still stands still.
    """

    name: ClassVar[str] = ""
    needs_task: ClassVar[bool] = True
    done: str = ""
    task: str = ""
    harmless: str = ""
    frozen: RunningTask | None = None

    def before(self, cluster: LocalSlurm) -> None:
        """Prepare what must be there before anything is submitted."""

    def keeps_from(self, task: RunningTask) -> bool:
        """Return whether this failure is about to meet a task, which others therefore leave alone."""
        return False

    def strike(self, cluster: LocalSlurm, task: RunningTask) -> bool:
        """Bring it about while a task runs, and return whether it still did."""
        # A task that stands still cannot end before it is met.
        task.process.send(signal.SIGSTOP)
        try:
            if (task.attempt / RECORD_NAME).exists() or not task.process.is_alive():
                return False
            self.meet(cluster, task)
            return True
        finally:
            if self.frozen is None:
                task.process.send(signal.SIGCONT)

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """Bring it about; the task stands still meanwhile."""

    def look(self, cluster: LocalSlurm, statuses: Sequence[TaskStatus]) -> None:
        """Put it right when its time has come; called again and again."""

    def after(self, cluster: LocalSlurm) -> None:
        """Put right what still is not; called when no job is left."""


class KillTask(Injection):
    """The process of a task is killed, as by ``kill -9``."""

    name = "kill-task"

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """Kill it."""
        task.process.send(signal.SIGKILL)
        self.task, self.done = task.task, f"killed the process of {task.task} on {task.node}"


class CrashNode(Injection):
    """A node goes down with all that runs on it, and comes back when the controller has noticed."""

    name = "crash-node"
    node = ""

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """Crash the node of the task."""
        self.node = task.node
        cluster.crash_node(task.node)
        self.task, self.done = task.task, f"crashed {task.node} while {task.task} ran there"

    def look(self, cluster: LocalSlurm, statuses: Sequence[TaskStatus]) -> None:
        """Start the node again once the controller takes it for down."""
        if self.node and cluster.node_states().get(self.node) == "down":
            self.after(cluster)

    def after(self, cluster: LocalSlurm) -> None:
        """Start the node again."""
        if self.node:
            cluster.start_node(self.node, wait=False)
            self.node = ""


class DropAccounting(Injection):
    """The database of jobs goes down, and comes back when all jobs have ended."""

    name = "drop-accounting"
    down = False

    def before(self, cluster: LocalSlurm) -> None:
        """Nothing can go down that is not there."""
        if not cluster.shape.accounting:
            self.done, self.harmless = "there is no accounting on this cluster", "nothing to drop"

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """Stop the database."""
        cluster.stop_accounting()
        self.down, self.harmless = True, "no task took harm"
        self.done = f"stopped the accounting while {task.task} ran"

    def after(self, cluster: LocalSlurm) -> None:
        """Start the database."""
        if self.down:
            cluster.start_accounting()
            self.down = False


class FillDisk(Injection):
    """The disk of the first node is full, until a task has met that."""

    name = "fill-disk"
    needs_task = False
    disk: Path | None = None
    node = ""

    def before(self, cluster: LocalSlurm) -> None:
        """Mount a tiny full disk where the node has its own.

        Raises:
            MissingPartError: This user cannot mount anything.
        """
        if not cluster.shape.node_folder:
            self.done, self.harmless = "nodes have no SLURM_TMPDIR on this cluster", "no disk of the node is used"
            return
        self.node = cluster.node_names[0]
        disk = cluster.node_disk(self.node)
        options = f"size={FULL_DISK_KB}k,mode=0755,uid={os.getuid()}"
        command = ["mount", "-t", "tmpfs", "-o", options, "flat-bug-full-disk", str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MissingPartError(
                f"a full disk cannot be mounted: {done.stderr.strip()}",
                where="--fail fill-disk",
                mend="Only root can do that; leave it out.",
            )
        self.disk = disk
        with contextlib.suppress(OSError), (disk / "full").open("wb", buffering=0) as stream:
            stream.write(bytes(2 * 1024 * FULL_DISK_KB))
        self.done = f"filled the disk of {self.node}"
        self.harmless = f"no task wrote to the disk of {self.node}"

    def keeps_from(self, task: RunningTask) -> bool:
        """Return whether the task runs where the disk is full."""
        return self.disk is not None and task.node == self.node

    def look(self, cluster: LocalSlurm, statuses: Sequence[TaskStatus]) -> None:
        """Make room once a task has failed there."""
        met = [status for status in statuses if _is_for_want_of_room(status, self.node)]
        if met and self.disk is not None:
            self.task, self.harmless = met[0].task.id, ""
            self.done += f", which {self.task} met"
            self.after(cluster)

    def after(self, cluster: LocalSlurm) -> None:
        """Make room."""
        if self.disk is not None:
            command = ["umount", "-l", str(self.disk)]
            subprocess.run(command, capture_output=True, check=False)
            self.disk = None


@dataclass
class TimeLimit(Injection):
    """A task works until its time limit comes near.

    Attributes:
        job: Its job, while that still has the short limit.
        limit: The limit that it had.
    """

    name = "time-limit"
    job: str = ""
    limit: str = ""

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """Let the task stand still, and move the limit to it."""
        self.limit = cluster.ask("squeue", "-h", "-j", task.job, "-o", "%l").strip()
        cluster.end_time_in(task.job, SECONDS_TO_THE_LIMIT)
        self.frozen, self.job = task, task.job
        self.task, self.done = task.task, f"had the time limit of {task.task} reached (job {task.job})"

    def look(self, cluster: LocalSlurm, statuses: Sequence[TaskStatus]) -> None:
        """Let the task go on once it was told to stop; a job that is queued again gets its own limit back."""
        if self.frozen is not None and _is_signalled(self.frozen):
            self.after(cluster)
        state = cluster.ask("squeue", "-h", "-j", self.job, "-o", "%T", check=False) if self.job else ""
        if state.strip() == "PENDING":
            cluster.ask("scontrol", "update", f"JobId={self.job}", f"TimeLimit={self.limit}")
            self.job = ""

    def after(self, cluster: LocalSlurm) -> None:
        """Let the task go on."""
        if self.frozen is not None:
            self.frozen.process.send(signal.SIGCONT)
            self.frozen = None


class OutOfMemory(Injection):
    """A task needs more memory than its job has."""

    name = "out-of-memory"

    def meet(self, cluster: LocalSlurm, task: RunningTask) -> None:
        """End its job so."""
        cluster.out_of_memory(task.job)
        self.task, self.done = task.task, f"ended {task.task} for want of memory (job {task.job})"


KINDS: dict[str, type[Injection]] = {
    kind.name: kind for kind in (KillTask, CrashNode, DropAccounting, FillDisk, TimeLimit, OutOfMemory)
}


def _is_for_want_of_room(status: TaskStatus, node: str) -> bool:
    failure = status.failure if status.state is TaskState.FAILED else None
    return failure is not None and failure.kind in {"cannot write", "setup failed"} and status.node == node


def _is_signalled(task: RunningTask) -> bool:
    """Return whether a stopped process has a signal waiting that asks it to end, or has ended."""
    try:
        lines = Path(f"/proc/{task.process.pid}/status").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return True
    pending = next((int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:")), 0)
    asks = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)
    return any(pending >> (number - 1) & 1 for number in asks) or not task.process.is_alive()
