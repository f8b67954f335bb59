"""Ending a command that works for hours: the first signal has it tidy up, the second one ends it at once."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from flat_bug.errors import EXIT_INTERRUPTED
from flat_bug.interruption import interrupt, stand_down

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Ctrl-C, and what a scheduler sends."""
SHOW_CURSOR = "\x1b[?25h"


@contextmanager
def tidied_up() -> Iterator[None]:
    """Have the first signal raise ``KeyboardInterrupt`` in the block, and the second one end the process.

    A signal that is ignored stays so: a shell has its jobs in the background ignore Ctrl-C.
    """
    heard = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _first) for number in heard}
    try:
        yield
    finally:
        stand_down()
        for number, handler in before.items():
            signal.signal(number, handler)


def _first(number: int, frame: FrameType | None) -> None:
    for each in SIGNALS:
        if signal.getsignal(each) is _first:
            signal.signal(each, _second)
    interrupt(KeyboardInterrupt, frame)


def _second(number: int, frame: FrameType | None) -> None:
    if sys.stderr.isatty():
        # A bar of progress hides it.
        os.write(sys.stderr.fileno(), SHOW_CURSOR.encode())
    os._exit(EXIT_INTERRUPTED)  # processes that we started notice, and end
