"""Pull a bucket into a folder: only what is missing, every byte checked, nothing half-written."""

import errno
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from flat_bug.datasets.pull_crew import Crew
from flat_bug.datasets.pull_fetch import Fetched, Fetcher, OnBytes, StoppedError
from flat_bug.datasets.pull_keys import Refusal, choose_paths
from flat_bug.datasets.pull_plan import Folder, PullPlan, Step, Why, make_plan
from flat_bug.datasets.pull_progress import transferring
from flat_bug.datasets.pull_state import PullState
from flat_bug.datasets.s3 import Bucket, RemoteObject, Source
from flat_bug.datasets.s3_access import Access
from flat_bug.datasets.s3_digests import Checked
from flat_bug.datasets.space import require_space
from flat_bug.errors import DatasetError, MissingPartError, OutputError
from flat_bug.files import cannot_write, sha256_of

JOBS = 16
NO_SPACE = {errno.ENOSPC, errno.EDQUOT}
Result = TypeVar("Result")


@dataclass
class Pulled:
    """What became of a pull.

    Attributes:
        source: Where from.
        folder: Where to.
        manifest: The manifest of digests.
        plan: What there was to do.
        fetched: Files that were fetched.
        size: Their bytes.
        repaired: How many of them were there before with other bytes.
        compared: Number of files that had the right bytes already, though size or time did not tell.
        by_size: Number of fetched files of which the server has no digest: only their size was checked.
        kept: Files that may be the user's, where they are now.
        gone: Files that were pulled before and are no longer in the bucket.
        removed: Those of them that were removed.
        changed_here: Those of them that were changed here and therefore not removed.
        failed: Keys that became no file, and why.
        not_tried: How many more were not tried, since the server was gone.
        unreachable: Whether the server was gone.
        seconds: How long it took.
        note: What else is worth knowing.
    """

    source: str
    folder: Path
    manifest: Path
    plan: PullPlan
    fetched: int = 0
    size: int = 0
    repaired: int = 0
    compared: int = 0
    by_size: int = 0
    kept: list[Path] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    changed_here: list[str] = field(default_factory=list)
    failed: list[Refusal] = field(default_factory=list)
    not_tried: int = 0
    unreachable: bool = False
    seconds: float = 0.0
    note: str = ""


def pull(
    source: str,
    folder: Path,
    access: Access,
    *,
    jobs: int = JOBS,
    verify: bool = False,
    delete: bool = False,
    allow_empty: bool = False,
    dry_run: bool = False,
) -> Pulled:
    """Bring a folder to the state of a place in a bucket.

    Args:
        source: ``s3://bucket/prefix``, or one object.
        folder: The folder; made when absent.
        access: Who asks, and where.
        jobs: Files at a time.
        verify: Read every local file and compare its digest, also where size and time are as they were.
        delete: Remove files that an earlier pull brought and that are no longer in the bucket.
        allow_empty: A place where nothing is, is no error.
        dry_run: Find out what there is to do and do nothing.

    Raises:
        UsageError: The source is no address, or the folder was pulled from elsewhere.
        ConfigError: The credentials are not accepted, or no longer.
        DatasetError: There is no such bucket, or nothing in it.
        MissingPartError: The server cannot be reached, or there is not enough space.
        OutputError: The folder cannot be written to.
        RunError: Another process pulls into the folder.
    """
    start = time.monotonic()
    place = Source.parse(source)
    bucket = Bucket(place.bucket, access)
    # The manifest is read while the server lists. The server is asked here, where Ctrl-C need not wait for its answer.
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(PullState, folder, str(place), access.endpoint)
        objects, prefix = _list(bucket, place, allow_empty=allow_empty)
        state = reading.result()
    wanted, refused = choose_paths(objects, prefix)
    listed = {remote.key.removeprefix(prefix) for remote in objects}
    try:
        if folder.exists() and not folder.is_dir():
            raise OutputError("the output is a file", where=folder, mend="Choose a folder.")
    except OSError as error:
        raise cannot_write(folder, error) from error
    if dry_run:
        plan = make_plan(wanted, refused, Folder(folder), state.files, verify=verify)
        pulled = Pulled(str(place), folder, state.manifest_path, plan, failed=list(plan.refused))
        pulled.gone = state.gone(listed)
    else:
        with state.working():
            gone = state.gone(listed)
            removed, changed_here = _remove(gone, folder, state) if delete else ([], [])
            # After removing: a file may have become a folder in the bucket, or a folder a file.
            local = Folder(folder)
            plan = make_plan(wanted, refused, local, state.files, verify=verify)
            pulled = Pulled(str(place), folder, state.manifest_path, plan, failed=list(plan.refused))
            pulled.gone, pulled.removed, pulled.changed_here = gone, removed, changed_here
            _Work(Fetcher(bucket, local, state), pulled, jobs).run()
    pulled.note = state.note
    pulled.seconds = time.monotonic() - start
    return pulled


def _list(bucket: Bucket, place: Source, *, allow_empty: bool) -> tuple[list[RemoteObject], str]:
    """Return the objects and what their keys start with that names of files do not repeat."""
    objects = list(bucket.objects(place.prefix))
    if objects:
        return objects, place.folder
    # Not a folder, but an object of exactly this name.
    key = place.prefix.removesuffix("/")
    one = bucket.find(key) if key else None
    if one is not None:
        return [one], key[: key.rfind("/") + 1]
    if not allow_empty:
        raise DatasetError(
            "there is nothing in this place",
            where=str(place),
            mend="Check the prefix, letter case included. If it is right that nothing is there: --allow-empty",
        )
    return [], place.folder


def _remove(gone: Iterable[str], folder: Path, state: PullState) -> tuple[list[str], list[str]]:
    """Remove files that were pulled, and return them and those that were changed here and therefore stay."""
    local = Folder(folder)
    removed: list[str] = []
    changed_here: list[str] = []
    for path in gone:
        file, entry = folder / path, state.files[path]
        problem, found = local.look(path)
        try:
            if found is not None and not problem:
                if not entry.is_untouched(found) and (found.st_size != entry.size or sha256_of(file) != entry.sha256):
                    changed_here.append(path)
                    continue
                file.unlink()
                removed.append(path)
            state.forget(path)
        except OSError as error:
            raise cannot_write(file, error) from error
        # Folders that this has emptied, up to the first that is not empty.
        with suppress(OSError):
            for parent in Path(path).parents[:-1]:
                (folder / parent).rmdir()
    return removed, changed_here


class _Work:
    """Compares and fetches all files of a plan, several at a time."""

    def __init__(self, fetcher: Fetcher, pulled: Pulled, jobs: int) -> None:
        self._fetcher = fetcher
        self._pulled = pulled
        self._jobs = jobs

    def run(self) -> None:
        """Work through the plan and note what became of it."""
        plan, pulled = self._pulled.plan, self._pulled
        fetch = list(plan.fetch)
        for step, same in self._each("Comparing", plan.compare, self._fetcher.compare):
            if same:
                pulled.compared += 1
            else:
                fetch.append(step)
        require_space(pulled.folder, sum(step.wanted.remote.size for step in fetch), len(fetch))
        for step, fetched in self._each("Pulling", fetch, self._fetcher.fetch):
            self._note(step, fetched)
        pulled.unreachable = self._fetcher.unreachable.is_set()
        pulled.failed.sort(key=lambda failure: failure.key)

    def _note(self, step: Step, fetched: Fetched) -> None:
        pulled = self._pulled
        pulled.fetched += 1
        pulled.size += fetched.size
        pulled.repaired += step.why in (Why.DIFFERENT, Why.VERIFY)
        pulled.by_size += fetched.checked is Checked.SIZE
        if fetched.kept is not None:
            pulled.kept.append(fetched.kept)

    def _each(
        self, what: str, steps: Iterable[Step], call: Callable[[Step, OnBytes], Result]
    ) -> Iterable[tuple[Step, Result]]:
        """Yield what a method returned for each step; what fails becomes a row, and the rest goes on."""
        steps = list(steps)
        if not steps:
            return
        size = sum(step.wanted.remote.size for step in steps)
        with transferring(what, size, len(steps)) as add:
            crew = Crew(steps, lambda step: call(step, lambda more: add(more, 0)), self._jobs)
            try:
                for step, future in crew.done():
                    result = self._settle(step, future)
                    add(0, 1)
                    if result is not None:
                        yield step, result
            except BaseException:
                # Its threads end at the next chunk.
                self._fetcher.stopped.set()
                crew.leave()
                raise

    def _settle(self, step: Step, future: Future[Result]) -> Result | None:
        """Return what a method returned, or None when it failed, which is noted."""
        try:
            return future.result()
        except StoppedError:
            self._pulled.not_tried += 1
        except DatasetError as error:
            self._pulled.failed.append(Refusal(step.wanted.remote.key, error.brief()))
        except OSError as error:
            if error.errno in NO_SPACE:
                mend = "Free some space and run the same command again; what is complete is kept."
                raise MissingPartError(
                    f"the disk is full: {error.strerror}", where=self._pulled.folder, mend=mend
                ) from error
            reason = f"its file cannot be written: {error.strerror or error}"
            self._pulled.failed.append(Refusal(step.wanted.remote.key, reason))
        return None
