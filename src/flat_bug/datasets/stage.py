"""Stage an archive: the parts of it that a task reads, verified, into a folder near the processors.

Everything is written into a hidden folder first and takes its name when all of it is right. One process stages into a
folder at a time; others wait, and then find it there.
"""

import os
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flat_bug.datasets.archive_index import ArchiveManifest, opened, read_index
from flat_bug.datasets.archive_members import Member
from flat_bug.datasets.archive_parts import Selection, select
from flat_bug.datasets.extract import extract, locate
from flat_bug.datasets.space import require_space
from flat_bug.datasets.staged_folder import Receipt, check_ways, commit, intact, read_receipt
from flat_bug.files import cannot_write, printable
from flat_bug.locks import hold_when_free
from flat_bug.processors import usable_processors

LOCK = ".flat-bug-stage.lock"
UNFINISHED = ".tmp-flat-bug-stage"
"""What is being staged; one that is found by the holder of the lock was left by a process that was killed. Where the
file system has no locks, random digits follow, and what is left by such a process stays."""
_BYTES_PER_ROW = 128
_MOST_THREADS = 8


@dataclass(frozen=True)
class Staged:
    """What was staged.

    Attributes:
        root: The folder, ``DEST/fb_yolo``.
        identity: Of the archive's content; see ``ArchiveManifest``.
        files: Number of files that were asked for.
        bytes: Their size.
        written_files: Number of those that were not there yet.
        written_bytes: Their size.
        seconds: How long that took.
        was_there: Whether all of it was there already.
        verified: How: ``sha256``, or ``crc32`` where the archive has no manifest.
    """

    root: Path
    identity: str
    files: int
    bytes: int
    written_files: int
    written_bytes: int
    seconds: float
    was_there: bool
    verified: str


def stage(archive: Path, destination: Path, only: Sequence[str] = (), *, jobs: int | None = None) -> Staged:
    """Take an archive, or parts of it, out into ``destination/<top folder>``.

    What is there from the same archive is kept, what is damaged or missing is written again, and what was staged from
    another archive under the same name is replaced.

    Args:
        archive: Made by ``pack``, or by ``zip -r`` in the folder above.
        destination: The folder that will hold the archive's top folder.
        only: Parts, such as ``images/val``; see ``select``. Everything by default.
        jobs: Number of threads; by default one for each processor, at most 8.

    Raises:
        DatasetError: The archive is absent, broken or hostile; nothing is changed then.
        UsageError: It has no such part.
        MissingPartError: There is not enough space, or there are not enough inodes.
        OutputError: The folder cannot be written to, or holds something else under that name.
    """
    started = time.monotonic()
    # More of them wait for each other in the folder that all of them make files in.
    jobs = jobs or max(2, min(_MOST_THREADS, len(usable_processors())))
    with opened(archive) as stream:
        manifest = read_index(archive, stream)
        selection = select(manifest, only)
        root = destination / manifest.top
        try:
            destination.mkdir(parents=True, exist_ok=True)
            with hold_when_free(destination / LOCK, f"the folder {printable(str(destination))}") as held:
                holder = destination / (UNFINISHED if held else f"{UNFINISHED}-{secrets.token_hex(8)}")
                written = _stage(manifest, selection, stream.fileno(), holder, jobs)
        except OSError as error:
            raise cannot_write(Path(error.filename2 or error.filename or root), error) from error
    return Staged(
        root=root,
        identity=manifest.identity,
        files=len(selection.members),
        bytes=selection.bytes,
        written_files=len(written),
        written_bytes=sum(member.size for member in written),
        seconds=time.monotonic() - started,
        was_there=not written,
        verified="sha256" if manifest.has_digests else "crc32",
    )


def _stage(
    manifest: ArchiveManifest, selection: Selection, descriptor: int, holder: Path, jobs: int
) -> Sequence[Member]:
    """Bring the folder to hold the selection, through a hidden one; return the members that were not there."""
    root = holder.parent / manifest.top
    if os.path.lexists(holder):
        shutil.rmtree(holder)  # a link is an error: it would lead elsewhere
    earlier = read_receipt(root)
    same = earlier if earlier and earlier.identity == manifest.identity else None
    start = len(manifest.top) + 1
    names = {member.name[start:] for member in selection.members}
    folders = [folder[start:] for folder in selection.folders]
    outdated = _outdated(earlier, same, names)
    check_ways(root, [*names, *(f"{folder}/" for folder in folders)], outdated)
    files = {name: stamp for name, stamp in same.files.items() if name not in outdated} if same else {}
    kept = intact(root, files, names)
    missing = [member for member in selection.members if member.name[start:] not in kept]
    if earlier and not missing and not outdated and all((root / folder).is_dir() for folder in folders):
        return ()
    _check_room(root, missing, folders)
    located = locate(manifest.path, descriptor, missing)
    try:
        new = holder / manifest.top
        new.mkdir(parents=True)
        stamps = extract(manifest.path, descriptor, located, holder, jobs)
        for folder in folders:
            (new / folder).mkdir(parents=True, exist_ok=True)
        receipt = Receipt(
            identity=manifest.identity,
            archive=printable(str(manifest.path.absolute())),
            parts=_all_parts(same, selection),
            files=files | {name[start:]: stamp for name, stamp in stamps.items()},
            outdated=tuple(sorted(outdated)),
        )
        commit(receipt, holder, new, root)
    finally:
        shutil.rmtree(holder, ignore_errors=True)
    return missing


def _outdated(earlier: Receipt | None, same: Receipt | None, names: set[str]) -> set[str]:
    """Return the files of another archive that are to be removed, those included that come again from this one."""
    if earlier is None:
        return set()
    # Of what a killed process has left to do, what is asked for now may be done already: its stamp tells.
    return set(same.outdated) - names if same else {*earlier.files, *earlier.outdated}


def _check_room(root: Path, missing: Sequence[Member], folders: Sequence[str]) -> None:
    size = sum(member.size + _BYTES_PER_ROW for member in missing)
    ways = {member.name.rpartition("/")[0] for member in missing} | set(folders)
    # Each folder may need those above it; the receipt and the hidden folder come on top.
    require_space(root.parent, size, len(missing) + 2 * len(ways) + 4)


def _all_parts(same: Receipt | None, selection: Selection) -> tuple[str, ...]:
    """Return the parts that are there then, or none when that is everything."""
    if not selection.parts or (same and not same.parts):
        return ()
    return tuple(sorted({*selection.parts, *(same.parts if same else ())}))
