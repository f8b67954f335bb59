"""Which files of this machine nodes see: those that do not lie on its own disks."""

import re
from pathlib import Path

from flat_bug.cluster.site import Site

OWN_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm", "/run")  # noqa: S108 - nothing is written there
"""Folders that each machine has for itself."""
OWN_KINDS = frozenset({"btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs", "zfs"})
"""File systems of local disks. One may be exported from here, so this is no proof."""
MOUNTS = Path("/proc/self/mounts")
ITS_OWN = "which each machine has for itself"


def hidden(path: Path, site: Site | None) -> str:
    """Return why nodes do not see a file, or nothing where they may; without a site they may all the same."""
    if site is not None and site.is_this_machine:
        return ""
    real = path.resolve()
    # Not $TMPDIR: some sites have it on a file system that all machines share.
    inside = next((folder for folder in OWN_FOLDERS if real.is_relative_to(Path(folder).resolve())), None)
    return f"lies in {inside}, {ITS_OWN}" if inside else ""


def is_doubtful(path: Path, site: Site | None) -> bool:
    """Return whether a file lies on a local disk, which nodes see only if this machine exports it.

    Without a site nobody knows whether the nodes are this machine.
    """
    if site is None or site.is_this_machine:
        return False
    return kind_of_file_system(path) in OWN_KINDS


def kind_of_file_system(path: Path) -> str:
    """Return the kind of the file system that holds a path, such as ``nfs4``; empty where nobody says."""
    real = path.resolve()
    mounts = [(place, kind) for place, kind in _mounts() if real.is_relative_to(place)]
    # The last one of the same place hides those before it.
    return max(enumerate(mounts), key=lambda item: (len(item[1][0]), item[0]), default=(0, ("", "")))[1][1]


def _mounts() -> tuple[tuple[str, str], ...]:
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ()
    cells = [line.split(" ") for line in lines]
    return tuple((_plain(row[1]), row[2]) for row in cells if len(row) > 2)


def _plain(text: str) -> str:
    # Spaces in names are written as octal numbers.
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
