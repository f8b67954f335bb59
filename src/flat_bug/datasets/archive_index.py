"""What an archive says that it holds: read, and refused if it is broken or hostile, before anything is written.

Archives of ``fb data pack`` hold a member with the SHA-256 of each other one, in the format of ``sha256sum``. Archives
of ``zip -r`` do not, and their members may be deflated; of those the CRC of each member is known.
"""

import hashlib
import stat
import struct
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from flat_bug.datasets.archive_members import BUFFER, ENCRYPTED, Member, content, content_offset
from flat_bug.datasets.archive_names import clash, is_leftover
from flat_bug.datasets.safe_names import why_unsafe
from flat_bug.datasets.zip_records import LOCAL
from flat_bug.errors import DatasetError
from flat_bug.files import printable

MANIFEST = ".flat-bug-archive.sha256"
"""Name of the manifest, in the top folder."""

_UTF8_NAME = 1 << 11
# Deflate makes a byte out of no fewer than 1/1032.
_MOST_DEFLATED = 1032
_AGAIN = "Copy the archive again from its source, or pack the tree again."
_PACK_AGAIN = "Pack the tree again: fb data pack TREE."


@dataclass(frozen=True, slots=True)
class ArchiveManifest:
    """What an archive holds.

    Attributes:
        path: The archive.
        top: The one folder that holds everything else, such as ``fb_yolo``.
        identity: SHA-256 that names the content: archives of the same tree have the same.
        has_digests: Whether the SHA-256 of each member is known; otherwise the CRC is.
        members: The files, without what is no part of a dataset, in the order in which they lie in the archive.
        folders: Folders that have an entry of their own, such as empty ones, without a ``/`` at the end.
    """

    path: Path
    top: str
    identity: str
    has_digests: bool
    members: tuple[Member, ...]
    folders: tuple[str, ...]


def read_manifest(archive: Path) -> ArchiveManifest:
    """Read what an archive holds. Its members are not read.

    Raises:
        DatasetError: It is absent, no zip file, cut off, or has members that must not or cannot be taken out.
    """
    with opened(archive) as stream:
        return read_index(archive, stream)


@contextmanager
def opened(archive: Path) -> Iterator[BinaryIO]:
    """Open an archive.

    Raises:
        DatasetError: It cannot be opened.
    """
    try:
        stream = archive.open("rb")
    except OSError as error:
        mend = "Check the path; fb data pack makes archives."
        raise DatasetError(f"the archive cannot be read: {error.strerror}", where=archive, mend=mend) from error
    with stream:
        yield stream


def read_index(archive: Path, stream: BinaryIO) -> ArchiveManifest:
    """Read what an open archive holds; see ``read_manifest``."""
    entries, end = _entries(archive, stream)
    for entry in entries:
        if reason := _why_refused(entry):
            raise _refused(archive, entry.filename, reason)
    if two := clash(entry.filename for entry in entries):
        raise _refused(archive, two[1], f"it clashes with {printable(two[0])!r}")
    members = _members(archive, entries, end)
    top = _top(archive, entries)
    sums = next((member for member in members if member.name == f"{top}/{MANIFEST}"), None)
    if sums:
        text, members = _with_digests(archive, stream, sums, [member for member in members if member is not sums])
    else:
        text = "".join(f"{member.crc:08x} {member.size} {member.name}\n" for member in sorted(members, key=_by_name))
    inner = len(top) + 1
    folders = (entry.filename.rstrip("/") for entry in entries if _is_folder(entry))
    return ArchiveManifest(
        path=archive,
        top=top,
        identity=hashlib.sha256(text.encode()).hexdigest(),
        has_digests=sums is not None,
        members=tuple(member for member in members if not is_leftover(member.name[inner:])),
        folders=tuple(folder for folder in folders if not is_leftover(folder[inner:])),
    )


def _is_folder(entry: zipfile.ZipInfo) -> bool:
    return entry.filename.endswith("/")


def _by_name(member: Member) -> str:
    return member.name


def _entries(archive: Path, stream: BinaryIO) -> tuple[list[zipfile.ZipInfo], int]:
    """Return the entries of the directory in the order of their places, and where the last member ends at most."""
    try:
        parsed = zipfile.ZipFile(stream)
        entries = sorted(parsed.infolist(), key=lambda entry: entry.header_offset)
        for entry in entries:
            entry.filename = _name(entry)
    # A broken directory fails in any of these ways, whichever of its numbers is wrong.
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error, EOFError) as error:
        what = "this is no zip archive, or it is cut off or damaged at its end"
        raise DatasetError(f"{what}: {error}", where=archive, mend=_AGAIN) from error
    except OSError as error:
        what = f"the archive cannot be read: {error.strerror or error}"
        raise DatasetError(what, where=archive, mend=_AGAIN) from error
    if not any(not _is_folder(entry) for entry in entries):
        raise DatasetError("the archive holds no files", where=archive, mend=_PACK_AGAIN)
    return entries, parsed.start_dir


def _name(entry: zipfile.ZipInfo) -> str:
    """Return the name as it stands in the archive; zip on Linux writes UTF-8 without saying so."""
    whole = entry.orig_filename  # zipfile cuts the other one at a NUL
    return whole if entry.flag_bits & _UTF8_NAME else whole.encode("cp437").decode("utf-8", "surrogateescape")


def _why_refused(entry: zipfile.ZipInfo) -> str:
    """Return why a member must not or cannot be taken out, or nothing."""
    packed, size = entry.compress_size, entry.file_size
    deflated = entry.compress_type == zipfile.ZIP_DEFLATED
    kind = stat.S_IFMT(entry.external_attr >> 16)
    is_folder = _is_folder(entry)
    reasons = {
        "it is encrypted": entry.flag_bits & ENCRYPTED,
        f"it is compressed by method {entry.compress_type}": not deflated and entry.compress_type != zipfile.ZIP_STORED,
        "it is a symbolic link": kind == stat.S_IFLNK,
        "it is neither a file nor a folder": kind not in (0, stat.S_IFLNK, stat.S_IFDIR if is_folder else stat.S_IFREG),
        "its sizes contradict each other": (size > packed * _MOST_DEFLATED) if deflated else packed != size,
        "it is a folder with content": is_folder and size,
    }
    unsafe = why_unsafe(entry.filename.removesuffix("/"))
    return unsafe or next((reason for reason, so in reasons.items() if so), "")


def _members(archive: Path, entries: Sequence[zipfile.ZipInfo], end: int) -> list[Member]:
    """Return the files; members that share bytes are refused, since a few bytes could so become very many."""
    members = []
    limits = [entry.header_offset for entry in entries[1:]] + [end]
    for entry, limit in zip(entries, limits, strict=True):
        least = LOCAL.size + len(entry.filename.encode()) + entry.compress_size
        if entry.header_offset < 0 or entry.header_offset + least > limit:
            raise _refused(archive, entry.filename, "it overlaps with another one")
        if not _is_folder(entry):
            deflated = entry.compress_type == zipfile.ZIP_DEFLATED
            sizes = (entry.header_offset, entry.compress_size, deflated, limit)
            members.append(Member(entry.filename, entry.file_size, entry.CRC, "", *sizes))
    return members


def _top(archive: Path, entries: Sequence[zipfile.ZipInfo]) -> str:
    tops = {entry.filename.split("/", 1)[0] for entry in entries}
    if len(tops) > 1 or any(entry.filename in tops for entry in entries):
        raise DatasetError(
            f"the archive does not hold one folder but {', '.join(map(repr, sorted(tops)[:3]))} at its top",
            where=archive,
            mend=_PACK_AGAIN,
        )
    return tops.pop()


def _with_digests(archive: Path, stream: BinaryIO, sums: Member, members: Sequence[Member]) -> tuple[str, list[Member]]:
    """Return the text of the manifest, and the other members with their digests from it."""
    prefix = sums.name.removesuffix(MANIFEST)
    names = [member.name.removeprefix(prefix) for member in members]
    # As long as it must be to name the members: so it is no way to fill the memory.
    if sums.size != sum(len(manifest_line("0" * 64, name).encode()) for name in names):
        raise _contradiction(archive)
    start = content_offset(archive, stream.fileno(), sums)
    pieces = content(archive, stream.fileno(), sums, start, memoryview(bytearray(BUFFER)))
    text = b"".join(bytes(piece) for piece in pieces).decode(errors="replace")
    rows = (line.partition("  ") for line in text.split("\n"))
    digests = {inner: digest for digest, _, inner in rows if inner}
    if digests.keys() != set(names):
        raise _contradiction(archive)
    return text, [replace(member, sha256=digests[name]) for member, name in zip(members, names, strict=True)]


def manifest_line(digest: str, inner: str) -> str:
    """Return the line of the manifest for a member, which is named from within the top folder."""
    return f"{digest}  {inner}\n"


def _contradiction(archive: Path) -> DatasetError:
    what = "the archive's manifest does not name what it holds"
    return DatasetError(what, where=archive, mend=_PACK_AGAIN)


def _refused(archive: Path, name: str, reason: str) -> DatasetError:
    return DatasetError(f"member {printable(name)!r} is refused: {reason}", where=archive, mend=_PACK_AGAIN)
