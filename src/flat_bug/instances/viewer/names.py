"""Names of folders that need no escape in an address, whatever the image is called."""

import hashlib
import os
import re

LONGEST = 60
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)?", re.IGNORECASE)
"""Names that Windows keeps for its devices, and no name at all."""


def slug_of(name: str) -> str:
    """Return a name of ASCII letters, digits, ``-`` and ``_`` for an image: its own if it is such a name.

    Any other name is followed by a digest of it, so that two names never share a slug. Names that differ in case only
    stay as alike as they are.
    """
    plain = re.sub(r"[^A-Za-z0-9_]+", "-", name)[:LONGEST].strip("-")
    if plain == name and not RESERVED.fullmatch(plain):
        return plain
    return f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:10]}".lstrip("-")
