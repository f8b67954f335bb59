"""Write members of an archive into an empty folder, each verified while it is written."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from flat_bug.datasets.archive_members import BUFFER, Member, content, content_offset
from flat_bug.datasets.batches import work_through
from flat_bug.datasets.staged_folder import Stamp
from flat_bug.progress import reporting

Located = tuple[Member, int]
"""A member, and where its content begins."""


def locate(archive: Path, descriptor: int, members: Sequence[Member]) -> list[Located]:
    """Return the members with their places, once it is sure that none contradicts the directory.

    Raises:
        DatasetError: One does.
    """
    return [(member, content_offset(archive, descriptor, member)) for member in members]


def extract(archive: Path, descriptor: int, located: Sequence[Located], folder: Path, jobs: int) -> dict[str, Stamp]:
    """Write members into a folder, under their whole names; return name → stamp.

    Args:
        archive: The archive, for messages.
        descriptor: The open archive.
        located: The members, in the order in which they lie in it.
        folder: An empty folder.
        jobs: Number of threads.

    Raises:
        DatasetError: A member is damaged.
    """
    for way in sorted({member.name.rpartition("/")[0] for member, _ in located}):
        (folder / way).mkdir(parents=True, exist_ok=True)
    with reporting("Staging") as report:
        stamps = work_through(
            located,
            partial(_write_batch, archive, descriptor, folder),
            size=lambda item: item[0].size,
            jobs=jobs,
            report=report,
        )
    return {member.name: stamp for (member, _), stamp in zip(located, stamps, strict=True)}


def _write_batch(archive: Path, descriptor: int, folder: Path, batch: Sequence[Located]) -> list[Stamp]:
    buffer = memoryview(bytearray(BUFFER))
    stamps = []
    for member, start in batch:
        out = os.open(f"{folder}/{member.name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        try:
            for piece in content(archive, descriptor, member, start, buffer):
                _write(out, piece)
            facts = os.fstat(out)
        finally:
            os.close(out)
        stamps.append((facts.st_size, facts.st_mtime_ns))
    return stamps


def _write(out: int, piece: memoryview) -> None:
    while piece:
        piece = piece[os.write(out, piece) :]
