"""Digests of files and folders that are cheap to check again."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from flat_bug.datasets.archive_index import read_manifest
from flat_bug.errors import FlatBugError
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


def digest_of(path: Path, known: Iterable[Digest] = ()) -> Digest:
    """Return the digest of a file, or of a folder with everything in it.

    Args:
        path: A file or a folder.
        known: Earlier digests of it. One with the same sizes and times is returned, and the content is not read.

    Raises:
        OSError: Something cannot be read.
    """
    stat = stat_of(path)
    for digest in known:
        if digest.stat == stat:
            return digest
    if path.is_dir():
        content = hashlib.sha256()
        for file in _files_in(path):
            content.update(f"{file.relative_to(path).as_posix()}\0{sha256_of(file)}\n".encode(errors="surrogateescape"))
        return Digest(sha256=content.hexdigest(), stat=stat)
    return Digest(sha256=sha256_of(path), stat=stat)


def digest_of_archive(path: Path) -> Digest:
    """Return the digest of what an archive holds, for which only its index is read.

    Raises:
        DatasetError: It is absent or broken.
    """
    # The index says what is wrong with a file that is absent.
    stat = stat_of(path) if path.is_file() else ""
    return Digest(sha256=_identity_of(path, stat), stat=stat)


def is_unchanged(path: Path, digest: Digest, digest_now: Callable[[Path], Digest] = digest_of) -> bool:
    """Return whether ``path`` holds what it held when ``digest`` was made; an absent or unreadable path does not.

    Args:
        path: A file or a folder.
        digest: What it held.
        digest_now: How to read it: ``digest_of_archive`` for an archive.
    """
    try:
        return stat_of(path) == digest.stat or digest_now(path).sha256 == digest.sha256
    except (OSError, FlatBugError):
        return False


@lru_cache(maxsize=8)
def _identity_of(archive: Path, stat: str) -> str:
    # All tasks of a run read the same archive, and hundreds of them may be looked at.
    return read_manifest(archive).identity


def stat_of(path: Path) -> str:
    """Return sizes and modification times of a file, or of all files in a folder, in a form to compare.

    Raises:
        OSError: Something cannot be looked at.
    """
    if path.is_dir():
        listing = hashlib.sha256()
        for file in _files_in(path):
            name = file.relative_to(path).as_posix()
            listing.update(f"{name}\0{stat_of(file)}\n".encode(errors="surrogateescape"))
        return listing.hexdigest()
    stat = path.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _files_in(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
