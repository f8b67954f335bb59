"""The end of a cluster, whoever is left to bring it about: its own process, a keeper, or the next cluster."""

import contextlib
import shutil
import subprocess
import tempfile
from pathlib import Path

from flat_bug.cluster.rehearsal import daemons, hosts
from flat_bug.cluster.rehearsal.daemons import Process

PREFIX = "fb-slurm-"
OWNER = "owner.json"
"""In a state folder: the process whose end is the end of the cluster. Its presence makes a folder ours to remove."""


def usual_parent() -> Path:
    """Return the folder in which state folders are made. Paths of sockets may not be longer than 107 bytes."""
    usual = Path(tempfile.gettempdir()).resolve()
    return usual if len(str(usual)) <= 30 else Path("/tmp")  # noqa: S108 - mkdtemp makes a private folder in it


def end_cluster(state: Path, *, wipe: bool = True) -> None:
    """End every process of a cluster and, with ``wipe``, remove its folder. Nothing happens when it is gone."""
    if not (state / OWNER).is_file():
        return
    daemons.kill(lambda: daemons.marked(state))
    hosts.forget(state)
    _unmount_below(state)
    if wipe:
        shutil.rmtree(state, ignore_errors=True)


def is_in_use(state: Path) -> bool:
    """Return whether a cluster runs there that somebody may still want."""
    if not (state / OWNER).is_file():
        return False
    owner = daemons.noted(state / OWNER)
    return (owner is None or owner.is_alive()) and bool(daemons.marked(state))


def end_abandoned(parent: Path) -> None:
    """End the clusters whose owners ended without doing so."""
    for owner in parent.glob(f"{PREFIX}*/{OWNER}"):
        process = daemons.noted(owner)
        # One that was started by hand has no owner, and ends by hand.
        if process is not None and not process.is_alive() and _is_ours(owner):
            end_cluster(owner.parent)


def write_owner(state: Path, owner: Process | None) -> None:
    """Say whose end is the end of a cluster; nobody's when it is to be ended by hand."""
    if owner is None:
        (state / OWNER).write_text("null", encoding="ascii")
    else:
        daemons.note(owner, state / OWNER)


def _is_ours(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_uid == Path("/proc/self").stat().st_uid
    return False


def _unmount_below(state: Path) -> None:
    """Unmount what jobs or we have mounted; the last one first, since it may lie in another."""
    fields = [line.split() for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()]
    places = [field[4] for field in fields if Path(field[4]).is_relative_to(state)]
    for place in reversed(places):
        for command in (["umount", "-l", place], ["fusermount", "-u", "-z", place]):
            with contextlib.suppress(OSError):
                if subprocess.run(command, check=False, capture_output=True).returncode == 0:
                    break
