"""What is examined, and what was found."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from flat_bug.cluster.site import Partition, Site
from flat_bug.cluster.submission import SlurmSettings
from flat_bug.errors import FlatBugError, MissingPartError
from flat_bug.experiments.plan import Task

USUAL_KIND = "score-model"
"""What jobs do as long as nothing says otherwise."""


class Level(StrEnum):
    """How bad it is: red keeps the run from working, yellow is worth a look."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's.

    Attributes:
        name: What was looked at, in a word or two.
        level: How bad it is.
        found: What was found.
        mend: What to do about it; each red finding says so.
        cause: The error to raise where nothing may go on with it.
    """

    name: str
    level: Level
    found: str
    mend: str = ""
    cause: FlatBugError | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.level is Level.RED and not self.mend:
            raise ValueError("a red finding says what to do")

    @property
    def error(self) -> FlatBugError:
        """Return the error that says the same."""
        return self.cause or MissingPartError(self.found, where=self.name, mend=self.mend)

    @property
    def note(self) -> str:
        """Return it as one line."""
        return f"{self.name}: {self.found}{f'. {self.mend}' if self.mend else ''}"


@dataclass(frozen=True)
class Case:
    """What is examined.

    Attributes:
        settings: How the run is or would be submitted.
        tasks: Its tasks; none when only the cluster is examined.
        run: The run folder, which may not be there yet.
        site: What the cluster says of itself; nothing when it was not asked, or does not answer.
        is_quick: Whether it is about to be submitted, so that what takes long is left out, and what may work is not
            refused.
    """

    settings: SlurmSettings
    tasks: tuple[Task, ...] = ()
    run: Path | None = None
    site: Site | None = None
    is_quick: bool = False

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of the tasks."""
        return tuple(dict.fromkeys(task.call for task in self.tasks)) or (USUAL_KIND,)

    @property
    def jobs(self) -> int:
        """Return the number of jobs that the tasks make."""
        return math.ceil(len(self.tasks) / self.settings.tasks_per_job)

    def partition(self, wanted: str | None) -> Partition | None:
        """Return the partition that a job goes to; of several names the first."""
        found = self.site.partitions if self.site else ()
        if wanted is None:
            return next((partition for partition in found if partition.is_default), None)
        return next((partition for partition in found if partition.name == wanted.split(",")[0]), None)


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of some findings."""
    return max((finding.level for finding in findings), key=list(Level).index, default=Level.GREEN)


def some(names: Iterable[str], most: int = 4) -> str:
    """Return a list of names for a person, cut short."""
    known = list(names)
    more = f" and {len(known) - most} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more
