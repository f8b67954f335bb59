"""The daemons of one cluster: started, asked after by name, and ended."""

import contextlib
import os
import pwd
import signal
import subprocess
from collections.abc import Callable

from flat_bug.cluster.rehearsal import daemons
from flat_bug.cluster.rehearsal.daemons import MARK, Process, wait_until
from flat_bug.cluster.rehearsal.parts import SEARCH, find
from flat_bug.cluster.rehearsal.shape import Folders
from flat_bug.errors import MissingPartError

SECONDS_TO_START = 60.0
SECONDS_TO_STOP = 10.0
LINES_OF_A_LOG = 5


class DaemonSet:
    """The daemons of one cluster, by name: munged, slurmctld, node1, ….

    Args:
        folders: Where the files of the cluster are; which processes there are is written there, for other processes.
    """

    def __init__(self, folders: Folders) -> None:
        self._folders = folders
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, command: list[str], variables: dict[str, str] | None = None) -> None:
        """Start a daemon, unless it is alive.

        Args:
            name: What it is called here.
            command: Its command; the program is looked for where daemons are.
            variables: Environment variables that it alone has.
        """
        if self.is_alive(name):
            return
        program = find(command[0]) or command[0]
        environment = self.variables() | (variables or {})
        child = daemons.launch([program, *command[1:]], environment, self._folders.logs / f"{name}.out")
        self._children.append(child)
        if process := Process.of(child.pid):
            daemons.note(process, self._folders.run / f"{name}.json")

    def variables(self) -> dict[str, str]:
        """Return the environment of a daemon: nothing of the caller's, who may have secrets in theirs."""
        home = pwd.getpwuid(os.getuid()).pw_dir
        mark = {MARK: str(self._folders.state), "SLURM_CONF": str(self._folders.conf)}
        return {"PATH": SEARCH, "HOME": home, "LANG": "C.UTF-8", **mark}

    def is_alive(self, name: str) -> bool:
        """Return whether a daemon was started and has not ended."""
        process = self._noted(name)
        return process is not None and process.is_alive()

    def wait_for(self, name: str, serves: Callable[[], bool]) -> None:
        """Return when a daemon serves.

        Raises:
            MissingPartError: It has ended, or does not serve for a minute. The error holds the end of its log, which
                goes with the cluster.
        """
        if wait_until(lambda: serves() or not self.is_alive(name), SECONDS_TO_START) and serves():
            return
        lines: list[str] = []
        for suffix in ("out", "log"):
            with contextlib.suppress(OSError):
                text = (self._folders.logs / f"{name}.{suffix}").read_text("utf-8", errors="replace")
                lines += text.splitlines()[-LINES_OF_A_LOG:]
        state = "does not answer" if self.is_alive(name) else "has ended"
        raise MissingPartError(f"{name} of the throw-away Slurm {state}", where="; ".join(lines))

    def stop(self, name: str) -> None:
        """End a daemon as an administrator does: politely, then by force."""
        process = self._noted(name)
        if process is not None:
            process.send(signal.SIGTERM)
            if not process.wait_gone(SECONDS_TO_STOP):
                process.send(signal.SIGKILL)
                process.wait_gone(SECONDS_TO_STOP)
        self.reap()

    def reap(self) -> None:
        """Take note of those that have ended, so that the system forgets them."""
        self._children = [child for child in self._children if child.poll() is None]

    def wait(self) -> None:
        """Return when all that were started here have ended."""
        for child in self._children:
            child.wait()
        self._children.clear()

    def _noted(self, name: str) -> Process | None:
        return daemons.noted(self._folders.run / f"{name}.json")
