"""Whether bytes are those of an object, by the digests that a bucket has of it."""

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # hashlib has no public name for the type of its objects.
    from hashlib import _Hash

    from flat_bug.datasets.s3 import Facts

MIB = 2**20
USUAL_PART_SIZES = (
    *(size * MIB for size in (5, 8, 10, 15, 16, 20, 25, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1024, 5120)),
    *(size * 10**6 for size in (5, 8, 10, 16, 25, 50, 64, 100, 128, 250, 500)),
)
"""Bytes in a part, as the usual clients choose it: all parts but the last are equally large."""


class Checked(StrEnum):
    """By what bytes were found to be those of the object."""

    MD5 = "md5"
    PARTS = "md5 of parts"
    SHA256 = "sha256"
    TWICE = "fetched twice"
    SIZE = "size"


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Attributes:
        checked: By what the bytes were found right; None when they are wrong.
        sha256: SHA-256 of the bytes, in hexadecimal.
    """

    checked: Checked | None
    sha256: str


class Digests:
    """Takes in the bytes of an object and compares them with its size and ETag.

    Args:
        size: Bytes of the object.
        etag: Its ETag, without quotes.
        part_size: Bytes in a part, where it is known; otherwise the usual sizes are tried.
    """

    def __init__(self, size: int, etag: str, part_size: int | None = None) -> None:
        self.size = size
        self.etag = etag
        self.taken = 0
        self._sha256 = hashlib.sha256()
        plain = re.fullmatch(r"[0-9a-f]{32}", etag)
        self._md5 = hashlib.md5(usedforsecurity=False) if plain else None
        self._parts = [_PartDigests(each) for each in part_sizes(size, parts_of(etag), part_size)]

    def update(self, chunk: bytes) -> None:
        """Take in the next bytes."""
        self.taken += len(chunk)
        self._sha256.update(chunk)
        if self._md5 is not None:
            self._md5.update(chunk)
        for parts in self._parts:
            parts.update(chunk)

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, in hexadecimal."""
        return self._sha256.hexdigest()

    def matched(self) -> Checked | None:
        """Return by what the bytes are those of the object, or None if the ETag does not tell so."""
        if self.taken != self.size:
            return None
        if self._md5 is not None:
            return Checked.MD5 if self._md5.hexdigest() == self.etag else None
        return Checked.PARTS if any(parts.etag() == self.etag for parts in self._parts) else None


class _PartDigests:
    """MD5 of the MD5s of parts of one size."""

    def __init__(self, part_size: int) -> None:
        self._part_size = part_size
        self._room = part_size
        self._part = hashlib.md5(usedforsecurity=False)
        self._done: list[_Hash] = []

    def update(self, chunk: bytes) -> None:
        view = memoryview(chunk)
        while view:
            piece, view = view[: self._room], view[self._room :]
            self._part.update(piece)
            self._room -= len(piece)
            if not self._room:
                self._done.append(self._part)
                self._part, self._room = hashlib.md5(usedforsecurity=False), self._part_size

    def etag(self) -> str:
        begun = [self._part] if self._room < self._part_size or not self._done else []
        parts = [*self._done, *begun]
        whole = hashlib.md5(b"".join(part.digest() for part in parts), usedforsecurity=False)
        return f"{whole.hexdigest()}-{len(parts)}"


def parts_of(etag: str) -> int:
    """Return in how many parts an object was uploaded, or 0 for one that was uploaded whole."""
    match = re.fullmatch(r"[0-9a-f]{32}-(\d{1,5})", etag)
    return int(match[1]) if match else 0


def part_sizes(size: int, parts: int, known: int | None = None) -> list[int]:
    """Return the part sizes that cut ``size`` bytes into that many parts: the known one, or the usual ones.

    A part of an unusual size is often the number of whole MiB that just suffices, so that one is tried too.
    """
    if not parts:
        return []
    just_enough = max(1, -(-size // parts) + MIB - 1) // MIB * MIB
    candidates = [known] if known else sorted({*USUAL_PART_SIZES, just_enough})
    return [each for each in candidates if each and max(1, -(-size // each)) == parts]


def judge(digests: Digests, facts: "Facts", content: Iterable[bytes]) -> Verdict:
    """Decide about bytes of which the ETag alone does not tell that they are right.

    Args:
        digests: What was found of the bytes.
        facts: What the server knows of the object.
        content: The bytes once more.
    """
    wrong = Verdict(None, digests.sha256)
    if digests.taken != digests.size:
        return wrong
    if facts.sha256 and not re.search(r"-\d+$", facts.sha256):
        right = base64.b64encode(bytes.fromhex(digests.sha256)).decode() == facts.sha256
        return Verdict(Checked.SHA256, digests.sha256) if right else wrong
    # A size of the first part that does not lead to the number of parts belongs to parts of different sizes.
    again = Digests(digests.size, digests.etag, facts.part_size)
    md5 = hashlib.md5(usedforsecurity=False)
    for chunk in content:
        again.update(chunk)
        md5.update(chunk)
    if again.sha256 != digests.sha256:
        return wrong
    if facts.md5:
        right = base64.b64encode(md5.digest()).decode() == facts.md5
        return Verdict(Checked.MD5, digests.sha256) if right else wrong
    matched = again.matched()
    if matched is not None:
        return Verdict(matched, digests.sha256)
    parts = parts_of(digests.etag)
    told = bool(part_sizes(digests.size, parts, facts.part_size)) if facts.part_size else False
    whole = bool(re.fullmatch(r"[0-9a-f]{32}", digests.etag))
    return wrong if (told or whole) and not facts.encrypted else Verdict(Checked.SIZE, digests.sha256)
