"""A file in an archive: where it lies, and its content, verified while it is read."""

import hashlib
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from flat_bug.datasets.zip_records import ELSEWHERE, LOCAL, LOCAL_SIGNATURE
from flat_bug.errors import DatasetError
from flat_bug.files import printable

BUFFER = 1 << 20
ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13
"""Bits that mark an encrypted member."""
_SIZES_FOLLOW = 1 << 3
_STORED, _DEFLATED = 0, 8


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive.

    Attributes:
        name: Its path, the top folder included.
        size: Its bytes.
        crc: Its CRC-32.
        sha256: Its SHA-256 in hexadecimal, or nothing where the archive has no manifest.
        offset: Where its local header begins.
        stored_size: Its bytes in the archive.
        deflated: Whether these are compressed.
        limit: Where the next member begins, or the directory.
    """

    name: str
    size: int
    crc: int
    sha256: str
    offset: int
    stored_size: int
    deflated: bool
    limit: int


def content_offset(archive: Path, descriptor: int, member: Member) -> int:
    """Return where a member's content begins.

    Raises:
        DatasetError: What stands there is not what the directory says, or reaches into the next member.
    """
    name = member.name.encode()
    record = _read_at(archive, descriptor, memoryview(bytearray(LOCAL.size + len(name))), member.offset)
    if len(record) < LOCAL.size + len(name):
        raise damaged(archive, member, "the archive ends before it")
    signature, _, flags, method, _, _, crc, stored_size, size, length, extra = LOCAL.unpack(record[: LOCAL.size])
    same = signature == LOCAL_SIGNATURE and method == (_DEFLATED if member.deflated else _STORED)
    same = same and not flags & ENCRYPTED and length == len(name) and record[LOCAL.size :] == name
    if not flags & _SIZES_FOLLOW:
        same = same and crc == member.crc
        # The larger sizes of Zip64 stand elsewhere; those of the directory are what counts.
        same = same and all(
            here in (there, ELSEWHERE) for here, there in ((stored_size, member.stored_size), (size, member.size))
        )
    start: int = member.offset + LOCAL.size + length + extra
    if not same or start + member.stored_size > member.limit:
        raise damaged(archive, member, "its header contradicts the directory")
    return start


def content(archive: Path, descriptor: int, member: Member, start: int, buffer: memoryview) -> Iterator[memoryview]:
    """Yield the content of a member piece by piece; the pieces are right only if the last one is reached.

    Args:
        archive: The archive, for messages.
        descriptor: The open archive, whose position is neither used nor moved.
        member: The member.
        start: Where its content begins, as ``content_offset`` says.
        buffer: What is read into; a piece is good until the next one is asked for.

    Raises:
        DatasetError: The content is not what the archive says.
    """
    stored = _stored(archive, descriptor, member, start, buffer)
    # One of the two, since the digest was taken of the same bytes as the CRC and tells more.
    crc, digest, size = 0, hashlib.sha256(), 0
    for piece in _inflated(archive, member, stored) if member.deflated else stored:
        if member.sha256:
            digest.update(piece)
        else:
            crc = zlib.crc32(piece, crc)
        size += len(piece)
        if size > member.size:
            raise damaged(archive, member, "it is longer than it should be")
        yield piece
    right = digest.hexdigest() == member.sha256 if member.sha256 else crc == member.crc
    if size != member.size or not right:
        raise damaged(archive, member, "its content is not what was packed")


def damaged(archive: Path, member: Member, how: str) -> DatasetError:
    """Return the error to raise for a member that cannot be read as it was written."""
    return DatasetError(
        f"the archive is damaged at {printable(member.name)!r}: {how}",
        where=archive,
        mend="Copy the archive again from its source, or pack the tree again.",
    )


def _stored(archive: Path, descriptor: int, member: Member, start: int, buffer: memoryview) -> Iterator[memoryview]:
    position, end = start, start + member.stored_size
    while position < end:
        piece = _read_at(archive, descriptor, buffer[: end - position], position)
        if not piece:
            raise damaged(archive, member, "the archive ends in it")
        position += len(piece)
        yield piece


def _inflated(archive: Path, member: Member, pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    # Pieces of a bounded size, so that a member that lies about its own size fills no memory.
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for piece in pieces:
            rest: memoryview | bytes = piece
            while rest and not inflate.eof:
                yield memoryview(inflate.decompress(rest, BUFFER))
                rest = inflate.unconsumed_tail
        while not inflate.eof and (last := inflate.decompress(inflate.unconsumed_tail, BUFFER)):
            yield memoryview(last)
    except zlib.error as error:
        raise damaged(archive, member, "it cannot be inflated") from error
    if not inflate.eof or inflate.unused_data:
        raise damaged(archive, member, "its compressed content does not end where it should")


def _read_at(archive: Path, descriptor: int, buffer: memoryview, position: int) -> memoryview:
    try:
        return buffer[: os.preadv(descriptor, [buffer], position)]
    except OSError as error:
        raise DatasetError(f"the archive cannot be read: {error.strerror}", where=archive) from error
