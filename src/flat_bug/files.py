"""Files that are never found half-written, and their digests."""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from flat_bug.errors import OutputError

TEMPORARY = ".tmp-"
LEFTOVER = re.compile(re.escape(TEMPORARY) + r"[a-z0-9_]{8}")
"""What ``tempfile`` makes of the names of temporary folders."""
IN_LEFTOVER = re.compile(r"(new|old|tmp).*", re.DOTALL)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place when the block ends without an error.

    The temporary name keeps the suffix, since libraries choose a format by it. A block that makes a folder at the
    temporary path works too, unless ``path`` is a folder already.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Name lengths are limited to 255 bytes, so the temporary name does not repeat the final one.
        holder = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
        temporary = holder / f"new{path.suffix}"
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary.parent, ignore_errors=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside ``path`` that takes its place when the block ends without an error.

    A folder that was at ``path`` before is removed then, with all that is in it.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.mkdir()
        yield temporary
        if path.is_dir():
            path.rename(temporary.with_name("old"))  # removed with the folder that holds it


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary folders of processes that were killed; nobody else may be writing into the folder.

    What only has such a name, and holds something else, stays. So does what cannot be removed, which nothing reads.
    """
    try:
        found = [path for path in folder.iterdir() if LEFTOVER.fullmatch(path.name)]
    except OSError:  # it is absent, or about to be found unusable by who writes into it
        return
    for path in found:
        with suppress(OSError):
            if not path.is_symlink() and all(IN_LEFTOVER.fullmatch(each.name) for each in path.iterdir()):
                shutil.rmtree(path, ignore_errors=True)


def link_or_copy(source: str | Path, target: str | Path) -> None:
    """Have a second name for a file that is only ever replaced and never changed in place, or else a copy."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copy2(source, target)


def cannot_write(path: Path, error: OSError) -> OutputError:
    """Return the error to raise when the operating system refuses to write ``path``."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return OutputError(
        f"cannot write: {error.strerror or error}",
        where=path,
        mend="Free some space or choose another output folder." if full else "Choose a writable folder.",
    )


def remove(paths: Iterable[Path]) -> None:
    """Remove files, whether they are there or not.

    Raises:
        OutputError: One cannot be removed.
    """
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(path, error) from error


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text to ``path``, all of it or nothing."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write ``value`` as JSON to ``path``, all of it or nothing; floats keep all their digits."""
    # In JSON the escapes are valid and come back as the same name.
    write_text(path, printable(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)) + "\n")


def printable(text: str) -> str:
    """Return a text that UTF-8 can hold: the lone surrogates of a file name that is not UTF-8 become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
