"""Progress of anything that takes longer than two seconds: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
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


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on standard error what is waited for, if the block takes longer than two seconds.

    Args:
        what: What is waited for, as a short phrase: "Waiting for the scheduler".
    """
    timer = threading.Timer(SECONDS_IN_SILENCE, lambda: print(f"{what} ...", file=sys.stderr, flush=True))  # noqa: T201
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
            print(f"{what}: {done} of {count}, about {left:.0f} s left", file=sys.stderr, flush=True)  # noqa: T201
            last = now

    yield report
