"""Which names from elsewhere may be paths below a folder: keys of a bucket and members of an archive."""

import re
import unicodedata

_DRIVE = re.compile(r"[A-Za-z]:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_LONGEST_PART = 255
_LONGEST_NAME = 3072
"""Bytes; systems allow 4095 with the folder that it lies in."""


def why_unsafe(name: str) -> str:
    """Return why a name cannot be a path below a folder, or nothing; a folder is named without its last ``/``."""
    parts = name.split("/")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    rules = (
        ("\0" in name, "its name holds a NUL"),
        (_CONTROL.search(name) is not None, "its name holds a control character"),
        ("\\" in name, "its name holds a backslash, which is a folder on some systems"),
        (name.startswith("/") or _DRIVE.match(name) is not None, "its name is an absolute path"),
        (".." in parts, "its name leads out of the folder"),
        ("" in parts or "." in parts, "its name has an empty part"),
        (max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_NAME, "its name is too long"),
    )
    return next((reason for broken, reason in rules if broken), "")


def folded(name: str) -> str:
    """Return a text that is the same for all names which some file system takes for one: by case, or by accents."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
