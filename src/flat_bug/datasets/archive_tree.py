"""The files of a tree that go into an archive: looked at, named, and refused where no archive should hold them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flat_bug.datasets.archive_names import clash, is_leftover, why_changed_by_unzip
from flat_bug.datasets.safe_names import why_unsafe
from flat_bug.errors import DatasetError
from flat_bug.files import printable


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of the tree, or a folder without files, whose ``name`` in the archive ends in ``/``."""

    path: Path
    name: str
    size: int = 0


def scan(tree: Path, *, follow_links: bool) -> tuple[list[SourceFile], int]:
    """Return the files of the tree and its folders without any, by name, and how many entries are left out."""
    found: list[SourceFile] = []
    left_out = 0
    folders = [(tree, f"{tree.name}/")]
    while folders:
        folder, prefix = folders.pop()
        before = len(found) + len(folders)
        for entry in _entries(folder):
            if is_leftover(entry.name):
                left_out += 1
            elif entry.is_dir(follow_symlinks=False):
                folders.append((Path(entry.path), f"{prefix}{entry.name}/"))
            else:
                _check_kind(entry, follow_links=follow_links)
                found.append(SourceFile(Path(entry.path), prefix + entry.name))
        if len(found) + len(folders) == before:
            found.append(SourceFile(folder, prefix))
    if all(source.name.endswith("/") for source in found):
        raise DatasetError("the tree holds no files", where=tree, mend="Give the folder that fb data prepare made.")
    # A name that is not UTF-8 is refused later, with all others of its kind.
    return sorted(found, key=lambda source: source.name), left_out


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise unreadable(folder, error) from error


def _check_kind(entry: os.DirEntry[str], *, follow_links: bool) -> None:
    """Refuse what is no file: a pipe may keep us waiting for ever, and a link may lead to what nobody meant to pack."""
    where = printable(entry.path)
    if entry.is_symlink():
        target = printable(str(Path(entry.path).readlink()))
        if not follow_links:
            mend = "Give --follow-links to pack the file that it leads to, or remove it."
            raise DatasetError(f"this is a symbolic link to {target}", where=where, mend=mend)
        if not _leads_to_file(entry):
            mend = "Put the folder or file itself in its place."
            raise DatasetError(f"this is a symbolic link to {target}, which is no file", where=where, mend=mend)
    elif not entry.is_file():
        raise DatasetError("this is neither a file nor a folder", where=where, mend="Remove it from the tree.")


def _leads_to_file(link: os.DirEntry[str]) -> bool:
    try:
        return link.is_file()
    except OSError as error:  # it leads to itself, or through a folder that may not be entered
        raise unreadable(Path(link.path), error) from error


def measure(sources: Sequence[SourceFile]) -> list[SourceFile]:
    """Return the files with their sizes."""
    try:
        return [SourceFile(source.path, source.name, _size(source)) for source in sources]
    except OSError as error:
        raise unreadable(Path(error.filename), error) from error


def _size(source: SourceFile) -> int:
    return 0 if source.name.endswith("/") else source.path.stat().st_size


def check_names(sources: Sequence[SourceFile]) -> None:
    """Refuse names that a node would refuse, that unzip would change, or of which two are one file somewhere.

    Raises:
        DatasetError: There is such a name.
    """
    for source in sources:
        name = source.name.removesuffix("/")
        if reason := why_unsafe(name) or why_changed_by_unzip(name):
            raise DatasetError(f"it cannot be packed: {reason}", where=printable(str(source.path)), mend="Rename it.")
    if two := clash(source.name for source in sources):
        what = f"{two[0]!r} and {two[1]!r} are one file where upper and lower case are not told apart"
        raise DatasetError(what, where=sources[0].path.parent, mend="Rename one of them.")


def unreadable(path: Path, error: OSError) -> DatasetError:
    """Return the error to raise for a file or folder of the tree that cannot be read."""
    mend = "Make it readable, or remove it from the tree."
    return DatasetError(f"cannot be read: {error.strerror}", where=printable(str(path)), mend=mend)
