"""Which names the members of an archive may have: none leads out of the folder, and no two are one file anywhere."""

import re
import unicodedata
from collections.abc import Iterable

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_VERSION = re.compile(r";[0-9]*\Z")
_LONGEST_PART = 255
_LONGEST_NAME = 4000


def why_unsafe(name: str) -> str:
    """Return why a member's name cannot be a path below a folder, or nothing; a folder is named without its ``/``."""
    try:
        encoded = name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    parts = name.split("/")
    reasons = {
        "its name holds a NUL": "\0" in name,
        "its name holds a backslash, which is a folder on some systems": "\\" in name,
        "its name is an absolute path": name.startswith("/") or _DRIVE.match(name) is not None,
        "its name leads out of the folder": ".." in parts,
        "its name has an empty part": "" in parts or "." in parts,
        "its name is too long": len(encoded) > _LONGEST_NAME or max(len(p.encode()) for p in parts) > _LONGEST_PART,
    }
    return next((reason for reason, so in reasons.items() if so), "")


def why_changed_by_unzip(name: str) -> str:
    """Return why plain ``unzip`` would give a file another name, or nothing."""
    if _CONTROL.search(name):
        return "its name holds a control character, which unzip drops"
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
            key = _folded(name)
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
        key = _folded(folder)
        if key in folders:  # and so are those above it
            return None if folders[key] == folder else (folders[key] + "/", folder + "/")
        folders[key] = folder
        folder = folder.rpartition("/")[0]
    return None


def _folded(name: str) -> str:
    return name.lower() if name.isascii() else unicodedata.normalize("NFC", name).casefold()
