"""A folder that an archive was staged into: its receipt, what of it is intact, and how it is changed.

The receipt is written before the files take their names, so each file is looked at; and what is to be removed stands in
it until that is done. So a process may end at any moment, and the next one knows what is left to do.
"""

import json
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flat_bug.datasets.safe_names import why_unsafe
from flat_bug.errors import OutputError

RECEIPT = ".flat-bug-staged.json"
"""Name of the receipt, in the top folder."""

Stamp = tuple[int, int]
"""Size of a file and when it was last changed, in nanoseconds."""


_FORMAT = 1


@dataclass(frozen=True)
class Receipt:
    """What was staged into a folder.

    Attributes:
        identity: Of the archive.
        archive: Its path, for people.
        parts: The parts that were asked for; none when it was everything.
        files: Name within the folder → its stamp.
        outdated: Files of an earlier archive that are still to be removed.
    """

    identity: str
    archive: str
    parts: tuple[str, ...]
    files: dict[str, Stamp]
    outdated: tuple[str, ...] = ()


def read_receipt(root: Path) -> Receipt | None:
    """Return the receipt of a folder, or nothing if the folder is absent or empty.

    Raises:
        OutputError: The folder is something else, or holds something that was not staged.
    """
    if not os.path.lexists(root):
        return None
    if root.is_symlink() or not root.is_dir():
        raise in_the_way(root, "this is no folder")
    path = root / RECEIPT
    try:
        receipt = None if path.is_symlink() else _parsed(json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        receipt = None
    # A receipt could have come out of a hostile archive by unzip, to make us remove what lies elsewhere.
    if receipt and not any(why_unsafe(name) for name in (*receipt.files, *receipt.outdated)):
        return receipt
    if any(root.iterdir()):
        raise in_the_way(root, "this folder was not made by fb data stage")
    return None


def _parsed(values: dict[str, Any]) -> Receipt | None:
    # By hand, since pydantic takes nearly as long to import as a folder that is complete takes to look at.
    if values["format"] != _FORMAT:
        return None
    return Receipt(
        identity=str(values["identity"]),
        archive=str(values["archive"]),
        parts=tuple(str(part) for part in values["parts"]),
        files={name: (int(size), int(changed)) for name, (size, changed) in values["files"].items()},
        outdated=tuple(str(name) for name in values["outdated"]),
    )


def intact(root: Path, files: dict[str, Stamp], names: Iterable[str]) -> set[str]:
    """Return which of the named files are as they were staged, judged by their stamps."""
    return {name for name in names if name in files and _stamp_at(f"{root}/{name}") == files[name]}


def _stamp_at(path: str) -> Stamp | None:
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if stat.S_ISREG(facts.st_mode) else None


def check_ways(root: Path, names: Iterable[str], outdated: set[str]) -> None:
    """Refuse to write or remove through a link, or anything else, that stands in the place of a folder.

    Args:
        root: The folder.
        names: Files in it that will be written.
        outdated: Files in it that will be removed before.

    Raises:
        OutputError: Something is in the way.
    """
    ways = {way for name in (*names, *outdated) for way in _above(name)}
    for way in ways - outdated:
        step = root / way
        if step.is_symlink() or (step.exists() and not step.is_dir()):
            raise in_the_way(step, "this is no folder")


def commit(receipt: Receipt, holder: Path, new: Path, root: Path) -> None:
    """Give the files in ``new`` their names in ``root``, remove what is outdated, and leave the receipt.

    Args:
        receipt: What is there then, and what is to be removed.
        holder: A folder on the same file system that is removed after whatever happens.
        new: The new files, in a folder within it.
        root: The folder.
    """
    if not (root / RECEIPT).exists():
        _write_receipt(receipt, holder, new)
        try:
            new.rename(root)
            return
        except OSError:
            # Where there are no locks, another process may have been a moment faster.
            if not (root / RECEIPT).exists():
                raise
    _write_receipt(receipt, holder, root)
    _remove(root, receipt.outdated)
    _merge(new, root)
    if receipt.outdated:
        _write_receipt(replace(receipt, outdated=()), holder, root)


def _write_receipt(receipt: Receipt, holder: Path, folder: Path) -> None:
    written = holder / RECEIPT
    written.write_text(json.dumps({"format": _FORMAT, **vars(receipt)}), encoding="utf-8")
    written.replace(folder / RECEIPT)


def _merge(new: Path, there: Path) -> None:
    """Move the content of a folder into another one; a folder that is not there yet takes its name in one step."""
    with os.scandir(new) as entries:
        for entry in list(entries):
            path, target = Path(entry.path), there / entry.name
            if not (entry.is_dir(follow_symlinks=False) and target.is_dir()):
                try:
                    path.replace(target)
                    continue
                except OSError:
                    # As above: in the meantime another process may have made the folder.
                    if not (path.is_dir() and target.is_dir()):
                        raise
            _merge(path, target)


def _remove(root: Path, names: Sequence[str]) -> None:
    for name in names:
        (root / name).unlink(missing_ok=True)
    ways = {way for name in names for way in _above(name)}
    for way in sorted(ways, key=len, reverse=True):
        folder = root / way
        # A folder that holds something else stays.
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _above(name: str) -> Iterable[str]:
    while name := name.rpartition("/")[0]:
        yield name


def in_the_way(path: Path, what: str) -> OutputError:
    """Return the error to raise for something that is neither ours to replace nor to write into."""
    return OutputError(what, where=path, mend="Remove it, or stage into another folder.")
