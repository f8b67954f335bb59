"""Which members of an archive a task needs."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flat_bug.datasets.archive_index import ArchiveManifest
from flat_bug.datasets.archive_members import Member
from flat_bug.errors import UsageError

BESIDE_LIMIT = 64 << 20
"""A file beside the folders that a part lies in is taken too up to this size, such as ``data.yaml``."""
_MOST_NAMED = 12


@dataclass(frozen=True)
class Selection:
    """What is taken out of an archive.

    Attributes:
        parts: The parts that were asked for, or none for everything.
        members: The files.
        folders: Folders that have an entry of their own.
    """

    parts: tuple[str, ...]
    members: tuple[Member, ...]
    folders: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(member.size for member in self.members)


def select(manifest: ArchiveManifest, only: Sequence[str]) -> Selection:
    """Return the members that lie in the parts asked for, and the small files beside the folders that lead to them.

    ``images/val`` is the folder ``val`` in a folder ``images``, wherever that is below the top; a part may also name a
    file. The files directly in the top folder, and in each folder on the way to ``val``, are taken too.

    Args:
        manifest: What there is.
        only: The parts, which may end in ``/``. Everything when there are none.

    Raises:
        UsageError: A part is in the archive nowhere, or has no name.
    """
    parts = tuple(dict.fromkeys(part.strip("/") for part in only))
    if "" in parts:
        raise UsageError("a part has no name", where="--only", mend="Give folders, such as images/val,labels/val.")
    if not parts:
        return Selection((), manifest.members, manifest.folders)
    start = len(manifest.top)
    chosen: set[str] = set()
    folders: set[str] = set()
    beside = {"/"}
    for part in parts:
        middle = f"/{part}/"
        members = [member for member in manifest.members if middle in f"{member.name[start:]}/"]
        inside = [folder for folder in manifest.folders if middle in f"{folder[start:]}/"]
        if not members and not inside:
            raise _absent(manifest, part)
        chosen.update(member.name for member in members)
        folders.update(inside)
        last = f"/{part.rpartition('/')[2]}"
        # A part that names a file has no files beside it: they would be the whole folder.
        for folder in {member.name[start:].rpartition("/")[0] + "/" for member in members}:
            before, found, _ = folder.partition(middle)
            beside.update(_and_above(f"{before}/{part}".removesuffix(last)) if found else ())
    chosen.update(
        member.name
        for member in manifest.members
        if member.size <= BESIDE_LIMIT and member.name[start:].rpartition("/")[0] + "/" in beside
    )
    members = [member for member in manifest.members if member.name in chosen]
    return Selection(parts, tuple(members), tuple(folder for folder in manifest.folders if folder in folders))


def _and_above(folder: str) -> Iterable[str]:
    """Yield a folder and those above it, each with a ``/`` at both ends."""
    while folder:
        yield f"{folder}/"
        folder = folder.rpartition("/")[0]


def _absent(manifest: ArchiveManifest, part: str) -> UsageError:
    start = len(manifest.top) + 1
    names = {member.name[start:].rpartition("/")[0] for member in manifest.members}
    names |= {folder[start:] for folder in manifest.folders}
    known = sorted(names - {""})
    more = f" and {len(known) - _MOST_NAMED} more" if len(known) > _MOST_NAMED else ""
    mend = f"There are: {', '.join(known[:_MOST_NAMED])}{more}." if known else "It has no folders: stage it whole."
    return UsageError(f"the archive has no part {part!r}", where=manifest.path, mend=mend)
