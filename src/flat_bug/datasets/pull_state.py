"""What is known of a pulled folder, in the folder itself: a manifest of digests that survives ``kill -9``.

Each file that is finished adds a line to a journal. A run begins with the manifest and whatever lines an earlier run
left, and ends by writing a new manifest in one step and removing the journal.
"""

import json
import os
import secrets
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from flat_bug.datasets.pull_keys import STATE_FOLDER, why_refused
from flat_bug.datasets.s3 import RemoteObject
from flat_bug.datasets.s3_digests import Checked
from flat_bug.errors import OutputError, UsageError
from flat_bug.files import cannot_write, remove, write_text
from flat_bug.locks import hold

FORMAT = 1


class Entry(NamedTuple):
    """A file that was pulled: the object that it was, and the file that it became."""

    etag: str
    size: int
    modified: float
    sha256: str
    checked: Checked
    mtime_ns: int

    @classmethod
    def read(cls, value: Mapping[str, Any]) -> Self:
        """Return an entry from what a JSON file holds.

        Raises:
            LookupError: A member is missing.
            TypeError: A member is of another kind.
            ValueError: A member has an impossible value.
        """
        # Not by pydantic, whose import would be a fifth of a pull that finds nothing to do.
        members = [value[name] for name in cls._fields]
        if tuple(map(type, members)) not in KINDS:
            raise TypeError("no entry of a manifest")
        etag, size, modified, sha256, checked, mtime_ns = members
        return cls(etag, size, modified, sha256, Checked(checked), mtime_ns)

    def is_of(self, remote: RemoteObject) -> bool:
        """Return whether the file was pulled from the object as it is now."""
        same = (self.etag, self.size) == (remote.etag, remote.size)
        # A server without ETags has nothing but the time to tell versions apart.
        return same and (bool(self.etag) or self.modified == remote.modified)

    def is_untouched(self, found: os.stat_result) -> bool:
        """Return whether a file still has the size and the time that it was given."""
        return (self.size, self.mtime_ns) == (found.st_size, found.st_mtime_ns)


KINDS = {(str, int, kind, str, str, int) for kind in (int, float)}
"""Types of the members of an entry; a time without a fraction may come back as a whole number."""

Files = dict[str, Entry]


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
        self._run = datetime.now().astimezone().strftime("%Y%m%d-%H%M%S")
        self._source, self._endpoint = source, endpoint
        self._changed = False
        self._stamp: tuple[int, ...] | None = None
        self.files: Files = {}
        self._load()

    @contextmanager
    def working(self) -> Iterator[Self]:
        """Keep other pulls out of the folder, clear what a killed one left, and write the manifest at the end.

        A first pull writes one at its beginning too: even if it is killed, the folder is known to belong to its source.

        Raises:
            RunError: Another process pulls into this folder.
            OutputError: The folder cannot be written to, or its state is elsewhere.
        """
        if self.root.is_symlink():
            raise OutputError("what is known of the folder is behind a link", where=self.root, mend="Remove the link.")
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.root, error) from error
        with hold(self.root / "lock", f"the folder {self._folder}"):
            # What another pull has finished in the meantime.
            self._load()
            if not self.manifest_path.exists():
                self._write_manifest()
            try:
                with self._holding_temporary_files():
                    yield self
                # After an error the journal stays: on a full disk there is no room for a manifest.
                self._finish()
            finally:
                if self._descriptor is not None:
                    os.close(self._descriptor)
                    self._descriptor = None

    @contextmanager
    def _holding_temporary_files(self) -> Iterator[None]:
        shutil.rmtree(self._temporary, ignore_errors=True)
        try:
            self._temporary.mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self._temporary, error) from error
        try:
            yield
        finally:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def record(self, path: str, entry: Entry) -> None:
        """Note a file that is complete under its final name."""
        self._append({"path": path, "entry": entry._asdict()})
        self.files[path] = entry

    def forget(self, path: str) -> None:
        """Note that a file was removed."""
        self._append({"path": path, "entry": None})
        self.files.pop(path, None)

    def gone(self, listed: Collection[str]) -> list[str]:
        """Return the files that were pulled and are not among those that are listed now."""
        # Files are removed by what this says, and anyone who can write to the folder can write to the manifest.
        return [path for path in self.files if path not in listed and not why_refused(path)]

    def temporary(self) -> Path:
        """Return a path for a file that is not complete."""
        # By chance, since a thread that an interrupted pull has left behind may still remove its own.
        return self._temporary / secrets.token_hex(8)

    def kept(self, path: str) -> Path:
        """Return where a file of the user's is kept that makes room for an object."""
        return self.root / "kept" / self._run / path

    @property
    def _temporary(self) -> Path:
        return self.root / "tmp"

    def _append(self, line: dict[str, Any]) -> None:
        text = json.dumps(line).encode() + b"\n"
        with self._guard:
            if self._descriptor is None:
                self._descriptor = os.open(self._journal_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            # One write, which a kill cannot cut. What a full disk has cut is passed over when the journal is read.
            os.write(self._descriptor, text)
            self._changed = True

    def _load(self) -> None:
        """Read what is known, unless it is as it was when it was read before."""
        stamp = _stamp_of(self.manifest_path) + _stamp_of(self._journal_path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        source, endpoint, files = self._read_manifest()
        if source != self._source:
            raise UsageError(
                f"the folder was pulled from {source}, not from {self._source}",
                where=self._folder,
                mend=f"Pull into another folder, or remove {self.root}; files that are right are not fetched again.",
            )
        lines = self._read_journal()
        for path, entry in lines:
            if entry is None:
                files.pop(path, None)
            else:
                files[path] = entry
        self.files = files
        self._changed = bool(lines) or endpoint != self._endpoint

    def _read_manifest(self) -> tuple[str, str, Files]:
        try:
            document = json.loads(self.manifest_path.read_bytes())
            if document["format"] == FORMAT:
                files = {str(path): Entry.read(value) for path, value in document["files"].items()}
                return document["source"], document["endpoint"], files
        except FileNotFoundError:
            return self._source, self._endpoint, {}
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass  # not JSON, or JSON of another form
        self.note = f"{self.manifest_path} cannot be read: all files are compared with the bucket byte by byte"
        return self._source, "", {}

    def _read_journal(self) -> list[tuple[str, Entry | None]]:
        lines = []
        with suppress(OSError):
            for text in self._journal_path.read_bytes().splitlines():
                # A line that a full disk or a power failure has cut: its file is compared like an unknown one.
                with suppress(ValueError, LookupError, TypeError):
                    value = json.loads(text)
                    lines.append((str(value["path"]), value["entry"] and Entry.read(value["entry"])))
        return lines

    def _finish(self) -> None:
        if self._changed:
            self._write_manifest()
        remove([self._journal_path])

    def _write_manifest(self) -> None:
        head = json.dumps({"format": FORMAT, "source": self._source, "endpoint": self._endpoint}, indent=1)
        # A file to a line, so that `diff` and `grep` are of use.
        rows = [f"  {json.dumps(path)}: {json.dumps(entry._asdict())}" for path, entry in sorted(self.files.items())]
        body = "{\n" + ",\n".join(rows) + "\n }" if rows else "{}"
        write_text(self.manifest_path, head.removesuffix("\n}") + f',\n "files": {body}\n}}\n')


def _stamp_of(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
