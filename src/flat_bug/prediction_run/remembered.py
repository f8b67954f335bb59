"""What an output folder remembers of the images that are done, so that skipping thousands of them takes seconds.

An image is not read again while its file is as it was: the same file (inode) of the same size, with the same time of
its content and the same time of its last change of any kind (ctime). Nobody can set the last one, so a file is noticed
that was replaced by one of the same size and date. Where a time is too young to tell two changes apart, nothing is
remembered. What is remembered only saves work: where anything differs, contents are compared.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from flat_bug.files import write_json
from flat_bug.prediction_run.inputs import DONE_NAME

SECONDS_TO_SETTLE = 10.0
"""Clocks of file servers differ, and some file systems count in steps of two seconds."""
Stamp = tuple[int, int, int, int]
"""Inode, size, time of the content and of the last change, in nanoseconds."""


@dataclass(frozen=True)
class Remembered:
    """What is remembered of one image that is done.

    Attributes:
        image: Stamp of its file, before it was read.
        made_of: Digest of all else that its results depend on.
        identifier: Part of the names of its results.
        metadata: Stamp of the JSON.
        names: Digest of the names of its results.
        instances: How many animals there are.
        width: Of the image, in pixels.
        height: In pixels.
    """

    image: Stamp
    made_of: str
    identifier: str
    metadata: Stamp
    names: str
    instances: int
    width: int
    height: int


@dataclass(frozen=True)
class Memory:
    """What an output folder remembers.

    Attributes:
        images: Name of each image → what is remembered of it.
        compiled: Digest of all that the files of all images were made of.
        files: Name of each of these files or folders → digest of how it was left.
    """

    images: dict[str, Remembered] = field(default_factory=dict)
    compiled: str = ""
    files: dict[str, str] = field(default_factory=dict)


_MEMORY = TypeAdapter(Memory)


def read_memory(output: Path) -> Memory:
    """Return what an output folder remembers; what is absent or broken is nothing."""
    try:
        return _MEMORY.validate_python(json.loads((output / DONE_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, ValidationError, RecursionError):
        return Memory()


def write_memory(output: Path, memory: Memory) -> None:
    """Write what an output folder remembers.

    Raises:
        OutputError: It cannot be written.
    """
    # Not with asdict, which copies each number of each of many images.
    values = vars(memory) | {"images": {name: vars(each) for name, each in memory.images.items()}}
    write_json(output / DONE_NAME, values, indent=None)


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file, as it is on the server and not as this machine has seen it last.

    Raises:
        OSError: It cannot be opened.
    """
    # Opening is what makes a network file system ask the server.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    try:
        return _stamp(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def is_settled(stamp: Stamp, at: float) -> bool:
    """Return whether a file would have another stamp if it had been changed after ``at``, seconds since 1970."""
    return max(stamp[2:]) < (at - SECONDS_TO_SETTLE) * 1e9


def digest_of_names(paths: Iterable[Path]) -> str:
    """Return a digest of the names of files in some folders, in whichever order."""
    names = sorted(f"{path.parent.name}/{path.name}" for path in paths)
    return digest_of_text("\0".join(names))


def digest_of_text(text: str) -> str:
    """Return a digest of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def look_of(path: Path) -> str:
    """Return a digest of how a file, or everything in a folder, looks without being read; empty when it is absent."""
    if not path.exists():
        return ""
    try:
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        looks = [f"{file.relative_to(path)} {_stamp(file.stat())}" for file in files if file.is_file()]
    except OSError:
        return ""
    return digest_of_text("\n".join(looks))


def _stamp(found: os.stat_result) -> Stamp:
    return (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
