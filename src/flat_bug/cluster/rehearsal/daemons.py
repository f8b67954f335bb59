"""Processes known by pid and start time, and those that carry the mark of a cluster."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

MARK = "FLAT_BUG_LOCAL_SLURM"
"""Variable in the environment of every process of a cluster, its jobs included; its value is the state folder."""
NODE = "SLURMD_NODENAME"
"""Variable in the environment of every process of a node."""
TITLED = ("slurmstepd", "slurmscriptd")
"""Daemons that write their title over the mark; of them the variable SLURM_CONF, which comes later, is left."""
SECONDS_BETWEEN_LOOKS = 0.02
MOST_SWEEPS = 50


@dataclass(frozen=True)
class Process:
    """A process. A pid is used again after its end; together with the start time it is not.

    Attributes:
        pid: Its number.
        started: When it started, in clock ticks since the machine did.
    """

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        """Return the process that has this pid now, or nothing when there is none or it has ended."""
        fields = _stat(pid)
        return cls(pid, int(fields[19])) if fields and fields[0] != "Z" else None

    def is_alive(self) -> bool:
        """Return whether it has not ended; one that waits for its parent to notice its end has."""
        return Process.of(self.pid) == self

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this very process; nothing happens when it has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            # The descriptor keeps the number from going to another process between the check and the signal.
            if self.is_alive():
                signal.pidfd_send_signal(descriptor, number)
        except OSError:
            pass  # it has ended meanwhile
        finally:
            os.close(descriptor)

    def wait_gone(self, seconds: float) -> bool:
        """Return whether it ends within some seconds."""
        return wait_until(lambda: not self.is_alive(), seconds)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Return whether a condition comes true within some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return True


def launch(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a daemon that has nothing of ours: no terminal, open files, working folder or environment."""
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            start_new_session=True,
        )


def note(process: Process, path: Path) -> None:
    """Write down a process, for others who end it."""
    path.write_text(json.dumps(asdict(process)), encoding="ascii")


def noted(path: Path) -> Process | None:
    """Return the process that was written down, or nothing when there is none."""
    try:
        return Process(**json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError):
        return None


def marked(state: Path, node: str | None = None) -> set[Process]:
    """Return the processes of a cluster, or of one of its nodes, with all their descendants."""
    ours, conf = f"{MARK}={state}".encode(), f"SLURM_CONF={state}/etc/slurm.conf".encode()
    of_node = {f"{NODE}={node}".encode()} if node else set()
    parents: dict[int, int] = {}
    found: set[int] = set()
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        fields = _stat(pid)
        if fields:
            parents[pid] = int(fields[1])
            variables = _environment(pid)
            if (ours in variables or (conf in variables and _program(pid) in TITLED)) and of_node <= variables:
                found.add(pid)
    found |= {pid for pid in parents if _descends(pid, parents, found)}
    # Whoever looks may itself run in a job.
    return {process for pid in found - {os.getpid()} if (process := Process.of(pid))}


def kill(find: Callable[[], Iterable[Process]]) -> None:
    """End all processes that ``find`` returns, at once: none of them gets to say anything about it."""
    for _ in range(MOST_SWEEPS):
        alive = list(find())
        if not alive:
            return
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for process in alive:
                process.send(number)
        for process in alive:
            process.wait_gone(1)


def _stat(pid: int) -> list[str]:
    """Return the fields of ``/proc/PID/stat`` from the third one on, the state; nothing when there is no process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    # The name of the program, in parentheses, may hold anything.
    return text.rpartition(")")[2].split()


def _program(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _environment(pid: int) -> set[bytes]:
    try:
        return set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"))
    except OSError:
        return set()


def _descends(pid: int, parents: Mapping[int, int], ancestors: set[int]) -> bool:
    while pid in parents:
        pid = parents[pid]
        if pid in ancestors:
            return True
    return False
