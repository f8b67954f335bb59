"""What is known of a pulled folder, in the folder itself: a manifest of digests that survives ``kill -9``.

Each file that is finished adds a line to a journal. A run begins with the manifest and whatever lines an earlier run
left, and ends by writing a new manifest in one step and removing the journal.
"""

import errno
import fcntl
import itertools
import json
import os
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from flat_bug.datasets.pull_keys import STATE_FOLDER, why_unsafe
from flat_bug.datasets.s3 import RemoteObject
from flat_bug.datasets.s3_digests import Checked
from flat_bug.errors import RunError, UsageError
from flat_bug.files import cannot_write, write_text


class Entry(BaseModel):
    """A file that was pulled: the object that it was, and the file that it became."""

    model_config = ConfigDict(frozen=True)

    etag: str
    size: int
    modified: float
    sha256: str
    checked: Checked
    mtime_ns: int

    def is_of(self, remote: RemoteObject) -> bool:
        """Return whether the file was pulled from the object as it is now."""
        same = (self.etag, self.size) == (remote.etag, remote.size)
        # A server without ETags has nothing but the time to tell versions apart.
        return same and (bool(self.etag) or self.modified == remote.modified)

    def is_untouched(self, found: os.stat_result) -> bool:
        """Return whether a file still has the size and the time that it was given."""
        return (self.size, self.mtime_ns) == (found.st_size, found.st_mtime_ns)


class Manifest(BaseModel):
    """All files that were pulled into a folder and are there still, as far as is known."""

    format: Literal[1] = 1
    source: str
    endpoint: str
    files: dict[str, Entry] = {}


class Line(BaseModel):
    """A line of the journal: a file that was pulled, or removed."""

    path: str
    entry: Entry | None


class PullState:
    """The state of a pulled folder. `record` and `forget` may be called from several threads.

    Args:
        folder: The folder that is pulled into.
        source: Where it is pulled from.
        endpoint: The server.
    """

    def __init__(self, folder: Path, source: str, endpoint: str) -> None:
        self.root = folder / STATE_FOLDER
        self.manifest_path = self.root / "manifest.json"
        self.note = ""
        self._folder = folder
        self._journal_path = self.root / "journal.jsonl"
        self._descriptor: int | None = None
        self._guard = threading.Lock()
        self._numbers = itertools.count(1)
        self._run = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        self._manifest, self._changed = self._load(source, endpoint)
        self.files = self._manifest.files

    @contextmanager
    def working(self) -> Iterator[Self]:
        """Keep other pulls out of the folder, clear what a killed one left, and write the manifest at the end.

        Raises:
            RunError: Another process pulls into this folder.
            OutputError: The folder cannot be written to.
        """
        try:
            self._temporary.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise cannot_write(self.root, error) from error
        try:
            _lock(lock, self._folder)
            # What another pull has finished in the meantime.
            self._manifest, self._changed = self._load(self._manifest.source, self._manifest.endpoint)
            self.files = self._manifest.files
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(exist_ok=True)
            try:
                yield self
            finally:
                shutil.rmtree(self._temporary, ignore_errors=True)
            # After an error the journal stays: on a full disk there is no room for a manifest.
            self._finish()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None
            os.close(lock)

    def record(self, path: str, entry: Entry) -> None:
        """Note a file that is complete under its final name."""
        self._append(Line(path=path, entry=entry))
        self.files[path] = entry

    def forget(self, path: str) -> None:
        """Note that a file was removed."""
        self._append(Line(path=path, entry=None))
        self.files.pop(path, None)

    def temporary(self) -> Path:
        """Return a path for a file that is not complete."""
        return self._temporary / str(next(self._numbers))

    def kept(self, path: str) -> Path:
        """Return where a file of the user's is kept that makes room for an object."""
        return self.root / "kept" / self._run / path

    @property
    def _temporary(self) -> Path:
        return self.root / "tmp"

    def _append(self, line: Line) -> None:
        text = line.model_dump_json().encode() + b"\n"
        with self._guard:
            if self._descriptor is None:
                self._descriptor = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            # One write, which a kill cannot cut. What a full disk has cut is passed over when the journal is read.
            os.write(self._descriptor, text)
            self._changed = True

    def _load(self, source: str, endpoint: str) -> tuple[Manifest, bool]:
        """Return what is known, and whether the manifest has to be written anew."""
        manifest = Manifest(source=source, endpoint=endpoint)
        try:
            manifest = Manifest.model_validate_json(self.manifest_path.read_bytes())
        except FileNotFoundError:
            pass
        except (OSError, ValidationError):
            self.note = f"{self.manifest_path} cannot be read: all files are compared with the bucket byte by byte"
        if manifest.source != source:
            raise UsageError(
                f"the folder was pulled from {manifest.source}, not from {source}",
                where=self._folder,
                mend=f"Pull into another folder, or remove {self.root}; files that are right are not fetched again.",
            )
        lines = self._read_journal()
        for line in lines:
            if line.entry is None:
                manifest.files.pop(line.path, None)
            else:
                manifest.files[line.path] = line.entry
        # Files are removed by what stands here, and anyone who can write to the folder can write here.
        files = {path: entry for path, entry in manifest.files.items() if not why_unsafe(path)}
        changed = bool(lines) or manifest.endpoint != endpoint or len(files) < len(manifest.files)
        return Manifest(source=source, endpoint=endpoint, files=files), changed

    def _read_journal(self) -> list[Line]:
        lines = []
        with suppress(OSError):
            for text in self._journal_path.read_bytes().splitlines():
                # A line that a full disk or a power failure has cut: its file is compared like an unknown one.
                with suppress(ValidationError):
                    lines.append(Line.model_validate_json(text))
        return lines

    def _finish(self) -> None:
        if self._changed or not self.manifest_path.exists():
            document = self._manifest.model_dump(mode="json") | {"files": {}}
            # A file to a line, so that `diff` and `grep` are of use.
            rows = [f"{json.dumps(path)}: {entry.model_dump_json()}" for path, entry in sorted(self.files.items())]
            text = json.dumps(document, indent=1)
            body = "{\n  " + ",\n  ".join(rows) + "\n }" if rows else "{}"
            write_text(self.manifest_path, text.removesuffix("{}\n}") + body + "\n}\n")
        self._journal_path.unlink(missing_ok=True)


def _lock(descriptor: int, folder: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunError(
            f"another process pulls into the folder: {os.pread(descriptor, 200, 0).decode(errors='replace')}",
            where=folder,
            mend="Wait until it has ended, or end it; what is finished is kept.",
        ) from error
    except OSError as error:
        # Some parallel file systems are mounted without locks.
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            return
        raise cannot_write(folder, error) from error
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
