"""Progress of anything that takes longer than two seconds: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

Item = TypeVar("Item")
Report = Callable[[int, int], None]
"""Is told how much is done, and of how much."""
SECONDS_BETWEEN_LINES = 10.0
SECONDS_IN_SILENCE = 2.0


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show on standard error how many are done, and the time left.

    Args:
        items: What is worked through.
        what: What is done, as a short phrase: "Predicting".
        total: Number of items; by default ``len(items)``.
    """
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    with reporting(what) as report:
        for done, item in enumerate(items, start=1):
            yield item
            report(done, count)


def reporting(what: str) -> AbstractContextManager[Report]:
    """Return a context whose function is told what is done, for work that is not a loop of the caller's.

    Args:
        what: What is done, as a short phrase: "Predicting".
    """
    return _bar(what) if sys.stderr.isatty() else _lines(what)


@dataclass(frozen=True)
class Pace:
    """How far the work on many things of unequal size is.

    Attributes:
        done: How many are done, in whichever way.
        total: How many there are.
        failed: How many of those done have failed.
        size_done: Size of those done.
        size_left: Size of the others, as far as it is known; none where nothing is.
        size_worked: Size of those that were worked on now, and not found done.
        seconds: Time that this has taken.
        within: How many parts are done of the things at hand, and of how many; none where that is not told.
    """

    done: int
    total: int
    failed: int
    size_done: float
    size_left: float | None
    size_worked: float
    seconds: float
    within: tuple[int, int] | None = None

    @property
    def rate(self) -> float | None:
        """Size per second, once anything was worked on."""
        return self.size_worked / self.seconds if self.size_worked and self.seconds else None

    @property
    def seconds_left(self) -> float | None:
        """Time left, by size and not by number."""
        return self.size_left / self.rate if self.rate and self.size_left is not None else None

    @property
    def share(self) -> float:
        """Share that is done, from 0 to 1: by size where that is known, else by number."""
        if self.size_left is None or not self.size_done + self.size_left:
            return self.done / self.total
        return self.size_done / (self.size_done + self.size_left)


def pacing(what: str, unit: str, part: str = "parts") -> AbstractContextManager[Callable[[Pace], None]]:
    """Return a context whose function is told how far the work is, and shows it with its rate and the time left.

    Args:
        what: What is done, as a short phrase: "Predicting".
        unit: Of sizes: "Mpx".
        part: What one thing is done in: "tiles".
    """
    return _pace_bar(what, unit, part) if sys.stderr.isatty() else _pace_lines(what, unit, part)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on standard error what is waited for, if the block takes longer than two seconds.

    Args:
        what: What is waited for, as a short phrase: "Waiting for the scheduler".
    """
    timer = threading.Timer(SECONDS_IN_SILENCE, lambda: _say(f"{what} ..."))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _bar(what: str) -> Iterator[Report]:
    # rich takes a tenth of a second to import, which `fb --help` does not have.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, count: progress.update(task, completed=done, total=count)


@contextmanager
def _lines(what: str) -> Iterator[Report]:
    start = last = time.monotonic()

    def report(done: int, count: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < count:
            left = (now - start) / done * (count - done)
            _say(f"{what}: {done} of {count}, about {left:.0f} s left")
            last = now

    yield report


@contextmanager
def _pace_bar(what: str, unit: str, part: str) -> Iterator[Callable[[Pace], None]]:
    from rich.console import Console  # noqa: PLC0415 - see _bar
    from rich.progress import BarColumn, Progress, TextColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), TextColumn("{task.fields[facts]}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None, facts="")

        def report(pace: Pace) -> None:
            progress.update(
                task, completed=pace.share, total=1.0, facts=f"{pace.done}/{pace.total}{_facts(pace, unit, part)}"
            )

        yield report


@contextmanager
def _pace_lines(what: str, unit: str, part: str) -> Iterator[Callable[[Pace], None]]:
    last = time.monotonic()

    def report(pace: Pace) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and pace.done < pace.total:
            _say(f"{what}: {pace.done} of {pace.total}{_facts(pace, unit, part)}")
            last = now

    yield report


def _say(line: str) -> None:
    # Where nobody reads it any more, as in `fb … 2>&1 | head`, the work goes on.
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201


def _facts(pace: Pace, unit: str, part: str) -> str:
    facts = [f"{pace.failed} failed"] if pace.failed else []
    if pace.within is not None:
        facts.append(f"{pace.within[0]} of {pace.within[1]} {part} at hand")
    if pace.rate is not None:
        facts.append(f"{pace.rate:.3g} {unit}/s")
    if pace.seconds_left is not None and pace.done < pace.total:
        facts.append(f"{timedelta(seconds=round(pace.seconds_left))} left")
    return "".join(f", {fact}" for fact in facts)
