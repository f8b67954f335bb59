"""Progress of anything that takes longer than two seconds: a bar on a terminal, plain lines in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
SECONDS_BETWEEN_LINES = 10.0


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Yield the items and show on standard error how many are done, and the time left.

    Args:
        items: What is worked through.
        what: What is done, as a short phrase: "Predicting".
        total: Number of items; by default ``len(items)``.
    """
    count = total if total is not None else len(items)  # type: ignore[arg-type]
    if sys.stderr.isatty():
        yield from _bar(items, what, count)
    else:
        yield from _lines(items, what, count)


def _bar(items: Iterable[Item], what: str, count: int) -> Iterator[Item]:
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
        yield from progress.track(items, total=count, description=what)


def _lines(items: Iterable[Item], what: str, count: int) -> Iterator[Item]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < count:
            left = (now - start) / done * (count - done)
            print(f"{what}: {done} of {count}, about {left:.0f} s left", file=sys.stderr, flush=True)  # noqa: T201
            last = now
