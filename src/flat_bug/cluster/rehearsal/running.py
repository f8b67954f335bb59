"""The tasks that run on a throw-away cluster right now, seen in the processes and not by asking Slurm."""

from dataclasses import dataclass
from pathlib import Path

from flat_bug import locks
from flat_bug.cluster.rehearsal.daemons import NODE, Process, marked
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.experiments.record import RECORD_NAME
from flat_bug.experiments.run_folder import LOCK_NAME, SPEC_NAME, attempts_in

WORKER = "flat_bug.experiments.run_task"


@dataclass(frozen=True)
class RunningTask:
    """A task that has begun.

    Attributes:
        task: Its id.
        attempt: Its attempt folder.
        process: Its process.
        node: Where it runs.
        job: Its job as squeue calls it: ``12``, or ``12_3`` of an array.
    """

    task: str
    attempt: Path
    process: Process
    node: str
    job: str


def running_tasks(cluster: LocalSlurm) -> list[RunningTask]:
    """Return the tasks that have begun and not ended, in the order of their processes."""
    processes = sorted(marked(cluster.folders.state), key=lambda process: process.pid)
    return [task for process in processes if (task := _task_of(process)) is not None]


def _task_of(process: Process) -> RunningTask | None:
    words = _strings(process, "cmdline")
    if WORKER not in words:
        return None
    spec = next((Path(word) for word in words if word.endswith(f"/{SPEC_NAME}")), None)
    variables = dict(text.partition("=")[::2] for text in _strings(process, "environ"))
    if spec is None or not locks.is_held(spec.parent / LOCK_NAME):
        return None
    attempts = attempts_in(spec.parent)
    if not attempts or (attempts[-1] / RECORD_NAME).exists():
        return None
    array, index = variables.get("SLURM_ARRAY_JOB_ID"), variables.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{index}" if array and index else variables.get("SLURM_JOB_ID", "")
    return RunningTask(spec.parent.name, attempts[-1], process, variables.get(NODE, ""), job)


def _strings(process: Process, file: str) -> list[str]:
    try:
        content = Path(f"/proc/{process.pid}/{file}").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in content.split(b"\0")]
