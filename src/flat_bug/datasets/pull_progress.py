"""Progress of a transfer in bytes and files: a bar on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from flat_bug.progress import SECONDS_BETWEEN_LINES

OnTransfer = Callable[[int, int], None]
"""Is told how many bytes and files have been added to what is done; from any thread."""


def transferring(what: str, size: int, files: int) -> AbstractContextManager[OnTransfer]:
    """Return a context whose function is told what is done.

    Args:
        what: What is done, as a short phrase: "Pulling".
        size: Bytes to transfer.
        files: Files to transfer.
    """
    return _bar(what, size, files) if sys.stderr.isatty() else _lines(what, size, files)


@contextmanager
def _bar(what: str, size: int, files: int) -> Iterator[OnTransfer]:
    # rich takes a tenth of a second to import, which `fb --help` does not have.
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description} {task.fields[files]} of {task.fields[of]}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=size, files=0, of=files)
        guard = threading.Lock()
        done = 0

        def add(more: int, more_files: int) -> None:
            nonlocal done
            with guard:
                done += more_files
                progress.update(task, advance=more, files=done)

        yield add


@contextmanager
def _lines(what: str, size: int, files: int) -> Iterator[OnTransfer]:
    guard = threading.Lock()
    start = last = time.monotonic()
    done = done_files = 0

    def add(more: int, more_files: int) -> None:
        nonlocal last, done, done_files
        with guard:
            done, done_files = done + more, done_files + more_files
            now = time.monotonic()
            if now - last < SECONDS_BETWEEN_LINES or done_files >= files:
                return
            last = now
            rate = done / (now - start)
            left = f", about {max(0, size - done) / rate:.0f} s left" if rate else ""
            amounts = f"{done_files} of {files} files, {done / 1e6:.1f} of {size / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
            print(f"{what}: {amounts}{left}", file=sys.stderr, flush=True)  # noqa: T201 - as flat_bug.progress does

    yield add
