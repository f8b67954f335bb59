"""Whether a folder has room for what is about to be written."""

import os
from pathlib import Path

from flat_bug.errors import MissingPartError


def require_space(folder: Path, size: int, files: int) -> None:
    """Refuse to begin what would fill the disk.

    Quotas do not show here; one that is full is an error of the first write beyond it.

    Args:
        folder: The folder to write to, which may not be there yet.
        size: Bytes to write.
        files: Number of files and folders to make.

    Raises:
        MissingPartError: There are not as many bytes or inodes free.
    """
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    state = os.statvfs(there)
    # The last block of each file is filled by half, on average.
    needed, free = size + files * state.f_frsize // 2, state.f_bavail * state.f_frsize
    if needed > free:
        raise MissingPartError(
            f"not enough space: {readable(needed)} needed, {readable(free)} free",
            where=folder,
            mend="Free some space, or choose another folder.",
        )
    # File systems that make inodes as they go say that there are none at all.
    if state.f_files and files > state.f_favail:
        raise MissingPartError(
            f"not enough inodes: {files:,} files and folders to write, {state.f_favail:,} more are possible",
            where=folder,
            mend="Remove some files, or choose another folder.",
        )


def readable(size: int) -> str:
    """Return a number of bytes as people write it."""
    for power, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= power:
            return f"{size / power:.2f} {unit}"
    return f"{size} bytes"
