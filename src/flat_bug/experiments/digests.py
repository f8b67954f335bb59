"""Digests of files and folders that are cheap to check again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from flat_bug.experiments.plan import Frozen
from flat_bug.files import sha256_of


class Digest(Frozen):
    """What a file or folder held.

    Attributes:
        sha256: Of the content; of a folder, of the names and contents of all files in it.
        stat: Of sizes and modification times. While it is the same, the content is not read again.
    """

    sha256: str
    stat: str


def digest_of(path: Path) -> Digest:
    """Return the digest of a file, or of a folder with everything in it.

    Raises:
        OSError: Something cannot be read.
    """
    stat = _stat_of(path)
    if path.is_dir():
        content = hashlib.sha256()
        for file in _files_in(path):
            content.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode(errors="surrogateescape"))
        return Digest(sha256=content.hexdigest(), stat=stat)
    return Digest(sha256=sha256_of(path), stat=stat)


def is_unchanged(path: Path, digest: Digest) -> bool:
    """Return whether ``path`` holds what it held when ``digest`` was made; an absent or unreadable path does not."""
    try:
        return _stat_of(path) == digest.stat or digest_of(path).sha256 == digest.sha256
    except OSError:
        return False


def _stat_of(path: Path) -> str:
    if path.is_dir():
        listing = hashlib.sha256()
        for file in _files_in(path):
            name = file.relative_to(path).as_posix()
            listing.update(f"{name}\0{_stat_of(file)}\n".encode(errors="surrogateescape"))
        return listing.hexdigest()
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
