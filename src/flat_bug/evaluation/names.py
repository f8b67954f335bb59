"""File names for what is written about each image."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Collection, Sequence

LONGEST = 200
"""Bytes of a stem at most; file systems allow 255 with the ending."""

UNSAFE = re.compile(r'[\x00-\x1f<>:"|?*]')


def file_stems(names: Sequence[str], reserved: Collection[str] = ()) -> list[str]:
    """Return a stem for each image: that of its name, with its folders as ``folder__stem`` where it is not alone.

    Stems differ even where file systems take no notice of case, and hold no separators or control characters.

    Args:
        names: Different image names, which may hold folders.
        reserved: Stems that are not to be used.
    """
    parts = [
        [UNSAFE.sub("_", part) for part in re.split(r"[\\/]", name) if part not in ("", ".", "..")] for name in names
    ]
    plain = [_without_suffix(part[-1]) if part else "image" for part in parts]
    alike = Counter(stem.casefold() for stem in plain)
    taken = {stem.casefold() for stem in reserved}
    stems = []
    for name, part, stem in zip(names, parts, plain, strict=True):
        own = stem
        if alike[stem.casefold()] > 1 and len(part) > 1:
            own = "__".join([*part[:-1], stem])
        if own.casefold() in taken or len(os.fsencode(own)) > LONGEST:
            # The digest of the whole name tells apart what its readable part does not.
            mark = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:12]
            own = f"{os.fsencode(own)[: LONGEST - 14].decode(errors='ignore')}~{mark}"
        taken.add(own.casefold())
        stems.append(own)
    return stems


def _without_suffix(file_name: str) -> str:
    stem, suffix = os.path.splitext(file_name)  # noqa: PTH122 - Path would take a name such as "..jpg" for a folder
    return stem if suffix else file_name
