"""Pack a prepared tree into one archive: a zip file with stored members and a manifest of their digests.

Images do not shrink, so nothing is compressed. The place of each member follows from the sizes before it, so many
threads read, take digests and write at once. Plain ``unzip`` opens the archive, and ``sha256sum -c`` checks what it
made. The same tree gives the same bytes.
"""

import hashlib
import os
import stat
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flat_bug.datasets.archive_index import MANIFEST, ArchiveManifest, manifest_line, read_manifest
from flat_bug.datasets.archive_members import BUFFER, Member
from flat_bug.datasets.archive_tree import SourceFile, check_names, measure, scan, unreadable
from flat_bug.datasets.batches import work_through
from flat_bug.datasets.space import require_space
from flat_bug.datasets.zip_records import central_entry, end_records, local_header, local_header_size
from flat_bug.errors import DatasetError, OutputError, UsageError
from flat_bug.files import atomic_path
from flat_bug.processors import usable_processors
from flat_bug.progress import reporting

__all__ = ["ArchiveManifest", "Member", "Packed", "pack", "read_manifest"]

_BYTES_PER_ENTRY = 512
_MOST_THREADS = 16


@dataclass(frozen=True)
class Packed:
    """What was packed.

    Attributes:
        archive: The archive.
        files: Number of files of the tree in it.
        bytes: Its size.
        seconds: How long that took.
        sha256: Of its manifest, which names the content: the ``identity`` that ``read_manifest`` gives.
        left_out: Number of files and folders that are no part of a dataset: hidden, temporary, or training caches.
    """

    archive: Path
    files: int
    bytes: int
    seconds: float
    sha256: str
    left_out: int


@dataclass(frozen=True, slots=True)
class _Placed:
    source: SourceFile
    offset: int


@dataclass(frozen=True, slots=True)
class _Written:
    """A member that is in the archive."""

    name: str
    size: int
    crc: int
    sha256: str
    offset: int


def pack(
    tree: Path,
    archive: Path | None = None,
    *,
    force: bool = False,
    follow_links: bool = False,
    jobs: int | None = None,
) -> Packed:
    """Pack a folder into one archive, in which every path begins with the folder's name.

    Args:
        tree: The folder.
        archive: The archive to make; by default beside the folder, ``<folder>.zip``.
        force: Replace an existing archive.
        follow_links: Pack the files that symbolic links lead to, wherever these are; otherwise a link is an error.
        jobs: Number of threads; by default two for each processor.

    Raises:
        DatasetError: The folder is absent, holds no files, has a file that cannot be read or that changes meanwhile, or
            a name that no archive should hold.
        UsageError: The archive lies in the folder.
        OutputError: The archive exists or cannot be written.
        MissingPartError: There is not enough space.
    """
    started = time.monotonic()
    # More than processors: the file systems of clusters answer slowly to each of many small files.
    jobs = jobs or min(_MOST_THREADS, 2 * len(usable_processors()))
    tree = _named(tree)
    archive = archive or tree.with_name(f"{tree.name}.zip")
    _check_output(tree, archive, force=force)
    names, left_out = scan(tree, follow_links=follow_links)
    with reporting("Looking at files") as report:
        sources = work_through(names, measure, size=lambda _: 0, jobs=jobs, report=report)
    check_names(sources)
    total = sum(source.size for source in sources)
    require_space(archive.parent, total + _BYTES_PER_ENTRY * len(sources), 2)
    with atomic_path(archive) as temporary:
        sha256 = _write(temporary, tree.name, sources, jobs)
    files = sum(not source.name.endswith("/") for source in sources)
    seconds = time.monotonic() - started
    return Packed(archive, files, archive.stat().st_size, seconds, sha256, left_out)


def _named(tree: Path) -> Path:
    """Return the path of the folder with a last part that can be its name, which ``.`` is not."""
    if not tree.is_dir():
        what = "this is no folder" if tree.exists() else "there is no such folder"
        raise DatasetError(what, where=tree, mend="Give the folder that fb data prepare made.")
    named = tree.absolute()
    named = named.resolve() if ".." in named.parts else named
    if not named.name:
        raise DatasetError("this is the root of all files", where=tree, mend="Give the folder that is to be packed.")
    return named


def _check_output(tree: Path, archive: Path, *, force: bool) -> None:
    if tree.resolve() in archive.absolute().resolve().parents:
        raise UsageError("the archive would lie in the tree", where=archive, mend="Choose another output.")
    if archive.is_dir():
        raise OutputError("the output is a folder", where=archive, mend=f"Give a file, such as {archive / 'a.zip'}.")
    if archive.exists() and not force:
        raise OutputError("the archive exists", where=archive, mend="Give --force (-f) to replace it.")


def _write(path: Path, top: str, sources: Sequence[SourceFile], jobs: int) -> str:
    """Write the archive and return the SHA-256 of its manifest."""
    placed = list(_places(sources))
    out = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with reporting("Packing") as report:
            written = work_through(
                placed,
                lambda batch: _write_batch(out, batch),
                size=lambda item: item.source.size,
                jobs=jobs,
                report=report,
            )
        lines = (
            manifest_line(member.sha256, member.name.removeprefix(f"{top}/")) for member in written if member.sha256
        )
        manifest = "".join(lines).encode()
        name = f"{top}/{MANIFEST}"
        end = _end(placed[-1])
        last = _Written(name, len(manifest), zlib.crc32(manifest), hashlib.sha256(manifest).hexdigest(), end)
        tail = local_header(name.encode(), last.size, last.crc) + manifest
        directory = b"".join(
            central_entry(member.name.encode(), member.size, member.crc, member.offset) for member in [*written, last]
        )
        tail += directory + end_records(len(written) + 1, end + len(tail), len(directory))
        _write_at(out, memoryview(tail), end)
    finally:
        os.close(out)
    return last.sha256


def _places(sources: Sequence[SourceFile]) -> Iterator[_Placed]:
    offset = 0
    for source in sources:
        placed = _Placed(source, offset)
        yield placed
        offset = _end(placed)


def _end(placed: _Placed) -> int:
    source = placed.source
    return placed.offset + local_header_size(source.name.encode(), source.size) + source.size


def _write_batch(out: int, batch: Sequence[_Placed]) -> list[_Written]:
    buffer = memoryview(bytearray(BUFFER))
    return [_write_member(out, placed, buffer) for placed in batch]


def _write_member(out: int, placed: _Placed, buffer: memoryview) -> _Written:
    source, name = placed.source, placed.source.name.encode()
    position = end = _end(placed)
    position -= source.size
    crc, digest = 0, hashlib.sha256()
    is_folder = source.name.endswith("/")
    for piece in () if is_folder else _pieces(source, buffer):
        if position + len(piece) > end:
            raise _changed(source)
        crc = zlib.crc32(piece, crc)
        digest.update(piece)
        _write_at(out, piece, position)
        position += len(piece)
    if position != end:
        raise _changed(source)
    _write_at(out, memoryview(local_header(name, source.size, crc)), placed.offset)
    return _Written(source.name, source.size, crc, "" if is_folder else digest.hexdigest(), placed.offset)


def _pieces(source: SourceFile, buffer: memoryview) -> Iterator[memoryview]:
    try:
        # A file that became a pipe since it was looked at must not be waited for.
        descriptor = os.open(source.path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _changed(source)
            while count := os.readv(descriptor, [buffer]):
                yield buffer[:count]
        finally:
            os.close(descriptor)
    except OSError as error:
        raise unreadable(source.path, error) from error


def _write_at(out: int, piece: memoryview, position: int) -> None:
    while piece:
        count = os.pwrite(out, piece, position)
        piece, position = piece[count:], position + count


def _changed(source: SourceFile) -> DatasetError:
    mend = "Wait until nothing writes to the tree, then pack it again."
    return DatasetError("the file changed while it was packed", where=source.path, mend=mend)
