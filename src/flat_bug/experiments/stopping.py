"""The signals by which a scheduler or a submitter asks a task to stop, held back while nothing good can come of them.

One that is held back is not lost: it comes as soon as it is let through.
"""

import signal
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

STOPPING = (signal.SIGTERM, signal.SIGUSR1)
"""Stop now; and: the time limit comes near."""


def hold_back() -> None:
    """Hold the signals back from now on, in this process and in those that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)


def held_back() -> AbstractContextManager[None]:
    """Hold the signals back during the block."""
    return _masked(signal.SIG_BLOCK)


def let_through() -> AbstractContextManager[None]:
    """Let the signals through during the block, those first that came before."""
    return _masked(signal.SIG_UNBLOCK)


@contextmanager
def _masked(how: int) -> Iterator[None]:
    before = signal.pthread_sigmask(how, STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
