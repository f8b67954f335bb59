"""What there is to do: the bucket beside what was pulled before and what is in the folder, without reading files."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from flat_bug.datasets.pull_keys import Refusal, Wanted
from flat_bug.datasets.pull_state import Entry


class Why(StrEnum):
    """Why a file is fetched or compared."""

    NEW = "new"
    MISSING = "missing here"
    CHANGED = "changed in the bucket"
    DIFFERENT = "different here"
    UNKNOWN = "here, but not pulled"
    VERIFY = "to be verified"


@dataclass(frozen=True)
class Step:
    """One file to work on.

    Attributes:
        wanted: The object and its file.
        why: Why.
        entry: What was pulled to this file before.
        replaces: Whether there is a file that the user may have made or changed, which is not to be lost.
    """

    wanted: Wanted
    why: Why
    entry: Entry | None
    replaces: bool = False


@dataclass(frozen=True)
class PullPlan:
    """What there is to do.

    Attributes:
        fetch: Files to fetch.
        compare: Files whose bytes are to be compared, and which are fetched if they differ.
        unchanged: Number of files that are as they were pulled.
        refused: Keys that become no file.
    """

    fetch: tuple[Step, ...]
    compare: tuple[Step, ...]
    unchanged: int
    refused: tuple[Refusal, ...]


class Folder:
    """The folder that is pulled into, with links inside it never followed to write.

    Args:
        root: The folder, which may be a link itself.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._problems: dict[str, str] = {"": ""}

    def look(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return why a file cannot be written at ``path``, or nothing when it can, and what is there."""
        problem, found = self._find_below(path)
        if found is not None and not (stat.S_ISREG(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            problem = f"{self.root / path} is there and is no file"
        return problem, found

    def find(self, path: str) -> os.stat_result | None:
        """Return what is at ``path``, itself and not where it leads to."""
        try:
            return os.lstat(f"{self.root}/{path}")
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _find_below(self, path: str) -> tuple[str, os.stat_result | None]:
        """Return why what is at ``path`` cannot be looked at, or nothing when it can, and what is there."""
        problem = self._problem_of_folder(path.rpartition("/")[0])
        try:
            return problem, self.find(path) if not problem else None
        except OSError as error:
            return f"{self.root / path} cannot be looked at: {error.strerror or error}", None

    def _problem_of_folder(self, path: str) -> str:
        if path not in self._problems:
            problem, found = self._find_below(path)
            if found is not None and not stat.S_ISDIR(found.st_mode):
                kind = "a link, and links are not followed" if stat.S_ISLNK(found.st_mode) else "a file, not a folder"
                problem = f"{self.root / path} is {kind}"
            self._problems[path] = problem
        return self._problems[path]


def make_plan(
    wanted: Sequence[Wanted],
    refused: Sequence[Refusal],
    folder: Folder,
    known: Mapping[str, Entry],
    *,
    verify: bool,
) -> PullPlan:
    """Compare the bucket with what was pulled before and with the folder, by sizes and times.

    Args:
        wanted: Objects and their files.
        refused: Keys that become no file.
        folder: The folder.
        known: What was pulled before.
        verify: Compare the bytes of every file, also where size and time are as they were.
    """
    problems = list(refused)
    steps: list[Step] = []
    unchanged = 0
    for one in wanted:
        problem, found = folder.look(one.path)
        if problem:
            problems.append(Refusal(one.remote.key, problem))
            continue
        step = _step(one, known.get(one.path), found, verify=verify)
        if step is None:
            unchanged += 1
        else:
            steps.append(step)
    # The largest first, so that none is left to be waited for alone.
    steps.sort(key=lambda step: -step.wanted.remote.size)
    return PullPlan(
        fetch=tuple(step for step in steps if step.why not in COMPARED),
        compare=tuple(step for step in steps if step.why in COMPARED),
        unchanged=unchanged,
        refused=tuple(problems),
    )


COMPARED = {Why.UNKNOWN, Why.DIFFERENT, Why.VERIFY}
"""Whether the file has the bytes of the object is not known yet."""


def _step(one: Wanted, entry: Entry | None, found: os.stat_result | None, *, verify: bool) -> Step | None:
    current = entry is not None and entry.is_of(one.remote)
    if found is None:
        return Step(one, Why.MISSING if current else Why.NEW, entry)
    if entry is not None and entry.is_untouched(found):
        if not current:
            return Step(one, Why.CHANGED, entry)
        return Step(one, Why.VERIFY, entry, replaces=True) if verify else None
    return Step(one, Why.UNKNOWN if entry is None else Why.DIFFERENT, entry, replaces=True)
