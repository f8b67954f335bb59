"""Which names in an archive are left out, which unzip would change, and which are one file somewhere."""

import re
from collections.abc import Iterable

from flat_bug.datasets.safe_names import folded

_VERSION = re.compile(r";[0-9]*\Z")


def why_changed_by_unzip(name: str) -> str:
    """Return why plain ``unzip`` would give a file another name, or nothing."""
    # For unzip, "a;1" is version 1 of "a", as on VMS.
    return "its name ends like a version number (;1), which unzip drops" if _VERSION.search(name) else ""


def is_leftover(inner: str) -> bool:
    """Return whether a name below the top folder is no part of a dataset: hidden, temporary, or a training cache.

    A ``.cache`` of ultralytics holds absolute paths, so it is of no use elsewhere, and it is a pickle, which nobody
    should open out of an archive.
    """
    return inner.endswith(".cache") or inner.startswith(".") or "/." in inner


def clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Return two names that are one file, at least where upper and lower case or accents are not told apart.

    Args:
        names: Names of files, and of folders with a ``/`` at the end.
    """
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in names:
        folder, _, last = name.rpartition("/")
        if last:
            key = folded(name)
            if key in files:
                return files[key], name
            files[key] = name
        if two := _enter(folder, folders):
            return two
    both = files.keys() & folders.keys()
    return next(((files[key], folders[key] + "/") for key in sorted(both)), None)


def _enter(folder: str, folders: dict[str, str]) -> tuple[str, str] | None:
    """Add a folder and those above it; return two spellings of one folder if there are."""
    while folder:
        key = folded(folder)
        if key in folders:  # and so are those above it
            return None if folders[key] == folder else (folders[key] + "/", folder + "/")
        folders[key] = folder
        folder = folder.rpartition("/")[0]
    return None
