"""Which pages of a file are images of their own: a pyramid keeps smaller copies of its first page behind it."""

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from flat_bug.imaging.opening import load, pages_in, usual_page
from flat_bug.vips import pyvips

REDUCED, MASK = 1, 4
"""Bits of the tag NewSubfileType of a TIFF."""
SUBFILE_TYPE, WIDTH, HEIGHT = 254, 256, 257
NUMBERS = {3: "H", 4: "I", 16: "Q"}
"""Types of whole numbers in a TIFF."""
MOST_TAGS = 4096
"""No directory of a TIFF has as many."""


@dataclass(frozen=True)
class Pages:
    """The pages of a file, counted from 1.

    Attributes:
        usual: The one that is opened unless another one is asked for.
        own: Those that are images of their own, and no smaller copies or masks of another one.
    """

    usual: int
    own: tuple[int, ...]


def pages_of(path: Path) -> Pages:
    """Return the pages of a file, from its headers.

    Raises:
        ImageError: The file is no image.
    """
    image = load(path)
    count, usual = pages_in(image), usual_page(image)
    if count == 1 or not str(image.get("vips-loader")).startswith("tiff"):
        return Pages(usual, tuple(range(1, count + 1)))
    if _description(image).startswith("Aperio"):
        return Pages(usual, (1,))  # the rest are levels, a thumbnail, and pictures of the slide's label
    directories = _directories(path)
    derived = {number for number, each in enumerate(directories, 1) if number > 1 and each.is_of(directories[0])}
    return Pages(usual, tuple(number for number in range(1, count + 1) if number not in derived))


@dataclass(frozen=True)
class _Directory:
    """What a TIFF says of a page."""

    subfile_type: int
    width: int
    height: int

    def is_of(self, first: "_Directory") -> bool:
        """Return whether this is a smaller copy or a mask of another page, and not an image of its own."""
        if self.subfile_type & (REDUCED | MASK):
            return True
        if not 0 < self.width < first.width:
            return False
        # Not every program marks the levels of its pyramid.
        halvings = round(math.log2(first.width / self.width))
        ideal = (first.width / 2**halvings, first.height / 2**halvings)
        return halvings > 0 and abs(self.width - ideal[0]) < 1 and abs(self.height - ideal[1]) < 1


def _description(image: pyvips.Image) -> str:
    return str(image.get("image-description")) if image.get_typeof("image-description") != 0 else ""


def _directories(path: Path) -> list[_Directory]:
    """Return what a TIFF says of its pages; up to where it is damaged."""
    found = []
    try:
        with path.open("rb") as file:
            # libvips tells nothing of what kind a page is.
            for each in _read_directories(file):
                found.append(each)
    except (OSError, ValueError, struct.error):  # a place that no file has is a ValueError
        pass
    return found


def _read_directories(file: BinaryIO) -> Iterator[_Directory]:
    order = "<" if file.read(2) == b"II" else ">"
    is_big = _number(file, order + "H") == 43
    at_type, count_type, size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    file.seek(8 if is_big else 4)
    seen: set[int] = set()
    while (at := _number(file, order + at_type)) and at not in seen:
        seen.add(at)
        file.seek(at)
        tags: dict[int, int] = {}
        for _ in range(min(_number(file, order + count_type), MOST_TAGS)):
            entry = file.read(size)
            tag, kind = struct.unpack_from(order + "HH", entry)
            if tag in (SUBFILE_TYPE, WIDTH, HEIGHT) and kind in NUMBERS:
                (tags[tag],) = struct.unpack_from(order + NUMBERS[kind], entry, 12 if is_big else 8)
        yield _Directory(tags.get(SUBFILE_TYPE, 0), tags.get(WIDTH, 0), tags.get(HEIGHT, 0))


def _number(file: BinaryIO, layout: str) -> int:
    return int(struct.unpack(layout, file.read(struct.calcsize(layout)))[0])
