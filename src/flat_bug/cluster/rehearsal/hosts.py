"""The name of this machine, which must lead to the loopback: Slurm's daemons listen where it does."""

import contextlib
import fcntl
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flat_bug.errors import MissingPartError

HOSTS = Path("/etc/hosts")


SECOND_ADDRESS = "127.0.0.2/8"


def have_addresses() -> None:
    """Give the loopback a second address on a machine without any network, such as a container may be.

    With 127.0.0.1 alone the system finds no name's address for those who ask for addresses that can be reached, as
    Slurm does.

    Raises:
        MissingPartError: It is needed, and only root can do it.
    """
    if _is_found(socket.AI_ADDRCONFIG):
        return
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "addr", "add", SECOND_ADDRESS, "dev", "lo"]):
        with contextlib.suppress(OSError):
            subprocess.run(command, check=False, capture_output=True)
    if not _is_found(socket.AI_ADDRCONFIG):
        raise MissingPartError(
            "this machine has no network but the loopback, on which names are not found",
            where="lo",
            mend=f"As root: ip link set lo up; ip addr add {SECOND_ADDRESS} dev lo",
        )


def _is_found(flags: int) -> bool:
    try:
        return bool(socket.getaddrinfo("127.0.0.1", None, socket.AF_INET, flags=flags))
    except OSError:
        return False


def short_name() -> str:
    """Return the name of this machine, without its domain."""
    return socket.gethostname().partition(".")[0]


def lead_to_loopback(state: Path, hosts: Path = HOSTS) -> None:
    """Have the name of this machine lead to the loopback, by a marked line in ``/etc/hosts`` where it does not.

    Where another cluster has such a line, ours comes beside it: whichever ends first takes its own away.

    Raises:
        MissingPartError: The line is needed and the file cannot be written.
    """
    full = socket.gethostname()
    names = sorted({full, short_name()}, key=len, reverse=True)
    try:
        with _locked(hosts) as lines:
            if all(_is_loopback(name) for name in names) and not any(_mark("") in line for line in lines):
                return
            # In place, since the file may be mounted; and first, since the first line counts.
            hosts.write_text("".join([f"127.0.0.1 {' '.join(names)} {_mark(state)}\n", *lines]), encoding="utf-8")
    except OSError as error:
        raise MissingPartError(
            f"the name of this machine, {full}, does not lead to 127.0.0.1, and {error.strerror}",
            where=hosts,
            mend=f"Have an administrator add the line: 127.0.0.1 {' '.join(names)}",
        ) from error


def forget(state: Path, hosts: Path = HOSTS) -> None:
    """Take the line of a cluster away, if it has one."""
    if not os.access(hosts, os.W_OK):
        return
    with _locked(hosts) as lines:
        kept = [line for line in lines if not line.rstrip("\n").endswith(_mark(state))]
        if kept != lines:
            hosts.write_text("".join(kept), encoding="utf-8")


def _mark(state: Path | str) -> str:
    return f"# flat-bug throw-away Slurm {state}"


def _is_loopback(name: str) -> bool:
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET)
    except OSError:
        return False
    return str(found[0][4][0]).startswith("127.")


@contextmanager
def _locked(hosts: Path) -> Iterator[list[str]]:
    with hosts.open(encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.readlines()
