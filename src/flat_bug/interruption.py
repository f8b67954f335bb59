"""Interrupting what the main thread does, from the handler of a signal."""

import signal
from types import FrameType

CALLBACKS = {"_marshal_image_progress"}
"""Functions that a library of C calls, here libvips with its progress: what is raised in one is printed and lost."""
SECONDS_LATER = 0.01


def interrupt(error: type[BaseException], frame: FrameType | None) -> None:
    """Raise an error in what the main thread does, as soon as it would not be lost.

    Args:
        error: What to raise.
        frame: Where the signal has come, as its handler is told.
    """
    if not _is_in_callback(frame):
        raise error
    signal.signal(signal.SIGALRM, lambda _, later: interrupt(error, later))
    signal.setitimer(signal.ITIMER_REAL, SECONDS_LATER)


def stand_down() -> None:
    """Give up an interruption that has not come yet, since what it was to interrupt has ended."""
    signal.setitimer(signal.ITIMER_REAL, 0)


def _is_in_callback(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in CALLBACKS:
            return True
        frame = frame.f_back
    return False
