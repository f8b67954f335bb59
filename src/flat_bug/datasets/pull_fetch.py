"""One object becomes one file: compared or fetched, checked, and put under its name when it is right."""

import os
import stat
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flat_bug.datasets.pull_plan import Folder, Step, Why
from flat_bug.datasets.pull_state import Entry, PullState
from flat_bug.datasets.s3 import CHUNK, Bucket, RemoteObject, TransferError
from flat_bug.datasets.s3_digests import Checked, Digests, Verdict, judge, parts_of
from flat_bug.errors import ConfigError, DatasetError, MissingPartError

ATTEMPTS = 3
SECONDS_BEFORE_AGAIN = 0.5

OnBytes = Callable[[int], None]


class StoppedError(Exception):
    """The work was ended from outside: by Ctrl-C, a full disk or a server that is gone."""


@dataclass(frozen=True)
class Fetched:
    """A file that is complete.

    Attributes:
        size: Its bytes.
        checked: By what they were found right.
        kept: Where the file is that was in its place and may be the user's; None if there was none.
    """

    size: int
    checked: Checked
    kept: Path | None


class Fetcher:
    """Compares and fetches files of one folder; its methods may be called from several threads.

    Args:
        bucket: Where the objects are.
        folder: Where the files are.
        state: What is known of the folder.
    """

    def __init__(self, bucket: Bucket, folder: Folder, state: PullState) -> None:
        self.stopped = threading.Event()
        self.unreachable = threading.Event()
        self._bucket = bucket
        self._folder = folder
        self._state = state
        self._probing = threading.Lock()

    def compare(self, step: Step, on_bytes: OnBytes) -> bool:
        """Return whether the file that is there has the bytes of the object; if so, that is noted.

        Raises:
            ConfigError: The credentials are no longer accepted.
            DatasetError: The file cannot be read.
            StoppedError: The work was ended.
        """
        path, remote = step.wanted.path, step.wanted.remote
        file = self._folder.root / path
        try:
            found = file.stat()
            if not stat.S_ISREG(found.st_mode) or found.st_size != remote.size:
                on_bytes(remote.size)
                return False
            digests = self._take(_chunks(file), remote, on_bytes)
            checked = self._compared(step, digests, file)
        except FileNotFoundError:
            on_bytes(remote.size)  # a link to nothing
            return False
        except TransferError:
            # Whether the server still answers decides about fetching, too, and that is tried more than once.
            self._leave_if_unreachable()
            checked = None
        except OSError as error:
            raise DatasetError(f"{file} cannot be read: {error.strerror or error}") from error
        if checked is None:
            return False
        self._note(path, remote, digests.sha256, checked, file.lstat())
        return True

    def _compared(self, step: Step, digests: Digests, file: Path) -> Checked | None:
        """Return by what the file that is there has the bytes of the object, or None if it has others."""
        entry, remote = step.entry, step.wanted.remote
        known = entry if entry and entry.is_of(remote) else None
        if known:
            if digests.sha256 != known.sha256:
                return None
            if not (step.why is Why.VERIFY and known.checked is Checked.SIZE):
                return known.checked
        verdict = self._verdict(digests, remote, file)
        if verdict.checked is Checked.SIZE:
            # Equal size alone is no reason to take a file for an object from which it was not pulled, and no digest
            # that would last: who wants to verify what was pulled has it fetched once more.
            return self._fetched_again(remote, digests.sha256) if known else None
        return verdict.checked

    def fetch(self, step: Step, on_bytes: OnBytes) -> Fetched:
        """Fetch an object into its file.

        Raises:
            ConfigError: The credentials are no longer accepted.
            DatasetError: The object cannot be fetched, or its bytes are not right.
            OSError: The file cannot be written.
            StoppedError: The work was ended, or the server is gone.
        """
        remote, problem = step.wanted.remote, ""
        for attempt in range(ATTEMPTS):
            if self.stopped.wait(SECONDS_BEFORE_AGAIN * 2**attempt if attempt else 0):
                raise StoppedError
            temporary = self._state.temporary()
            try:
                verdict = self._download(step, remote, temporary, on_bytes)
                if verdict.checked is not None:
                    return self._place(step, remote, temporary, verdict)
                problem = "its bytes are not those that the bucket has a digest of"
                remote = self._again(remote)
            except TransferError as error:
                problem = error.what
                self._leave_if_unreachable()
            except ConfigError:
                self.stopped.set()  # every other object would be refused too
                raise
            finally:
                temporary.unlink(missing_ok=True)
        raise DatasetError(f"{problem}, {ATTEMPTS} times")

    def _download(self, step: Step, remote: RemoteObject, temporary: Path, on_bytes: OnBytes) -> Verdict:
        with temporary.open("wb") as stream:
            digests = self._take(_written(self._bucket.read(remote.key), stream.write), remote, on_bytes)
        verdict = self._verdict(digests, remote, temporary)
        # In parts there is a digest, and nobody knows of which parts; and who verifies wants more than the size.
        if verdict.checked is Checked.SIZE and (parts_of(remote.etag) or step.why is Why.VERIFY):
            checked = self._fetched_again(remote, verdict.sha256)
            if checked is None:
                raise TransferError("its bytes were others when they were fetched once more")
            return Verdict(checked, verdict.sha256)
        return verdict

    def _fetched_again(self, remote: RemoteObject, sha256: str) -> Checked | None:
        """Fetch an object once more, into nothing, and return whether it has the bytes that it had before."""
        again = self._take(self._bucket.read(remote.key), remote, lambda _: None)
        return Checked.TWICE if again.sha256 == sha256 else None

    def _take(self, content: Iterator[bytes], remote: RemoteObject, on_bytes: OnBytes) -> Digests:
        """Take in all bytes, or as many as show that there are too many."""
        digests = Digests(remote.size, remote.etag)
        for chunk in content:
            if self.stopped.is_set():
                raise StoppedError
            digests.update(chunk)
            on_bytes(len(chunk))
            if digests.taken > remote.size:
                break
        return digests

    def _verdict(self, digests: Digests, remote: RemoteObject, file: Path) -> Verdict:
        matched = digests.matched()
        if matched is not None or digests.taken != remote.size:
            return Verdict(matched, digests.sha256)
        facts = self._bucket.facts(remote.key, parts=parts_of(remote.etag) > 0)
        return judge(digests, facts, _chunks(file))

    def _again(self, remote: RemoteObject) -> RemoteObject:
        """Return the object as it is now: it may have been written since it was listed."""
        try:
            found = self._bucket.find(remote.key)
        except MissingPartError:
            return remote
        if found is None:
            raise DatasetError("it is no longer in the bucket")
        return found

    def _place(self, step: Step, remote: RemoteObject, temporary: Path, verdict: Verdict) -> Fetched:
        path = step.wanted.path
        target = self._folder.root / path
        if self.stopped.is_set():
            raise StoppedError  # nobody may wait for this thread any more
        modified = int(remote.modified * 1e9)
        os.utime(temporary, ns=(modified, modified))
        target.parent.mkdir(parents=True, exist_ok=True)
        kept = self._keep(step) if step.replaces else None
        temporary.replace(target)
        assert verdict.checked is not None  # noqa: S101 - only right bytes are placed
        self._note(path, remote, verdict.sha256, verdict.checked, target.lstat())
        return Fetched(remote.size, verdict.checked, kept)

    def _keep(self, step: Step) -> Path | None:
        """Keep the file that an object is about to replace, unless it is what was pulled before."""
        path, entry = step.wanted.path, step.entry
        file = self._folder.root / path
        found = self._folder.find(path)
        if found is None:
            return None
        if entry is not None and stat.S_ISREG(found.st_mode) and found.st_size == entry.size:
            digests = Digests(entry.size, "")
            for chunk in _chunks(file):
                digests.update(chunk)
            if digests.sha256 == entry.sha256:
                return None
        kept = self._state.kept(path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        try:
            # A second name, so that there is a file under the first one at every moment.
            os.link(file, kept, follow_symlinks=False)
        except OSError:
            file.rename(kept)
        return kept

    def _note(self, path: str, remote: RemoteObject, sha256: str, checked: Checked, found: os.stat_result) -> None:
        entry = Entry(
            etag=remote.etag,
            size=remote.size,
            modified=remote.modified,
            sha256=sha256,
            checked=checked,
            mtime_ns=found.st_mtime_ns,
        )
        self._state.record(path, entry)

    def _leave_if_unreachable(self) -> None:
        # One thread asks; the others wait for its answer instead of asking too.
        with self._probing:
            if not self.stopped.is_set() and not self._bucket.reachable():
                self.stopped.wait(SECONDS_BEFORE_AGAIN)
                if not self.stopped.is_set() and not self._bucket.reachable():
                    self.unreachable.set()
                    self.stopped.set()
        if self.stopped.is_set():
            raise StoppedError


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            yield chunk


def _written(content: Iterator[bytes], write: Callable[[bytes], int]) -> Iterator[bytes]:
    for chunk in content:
        write(chunk)
        yield chunk
