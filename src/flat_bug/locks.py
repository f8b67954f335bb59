"""Locks that a process holds while it lives, whichever way it ends."""

import errno
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flat_bug.errors import RunError
from flat_bug.files import cannot_write
from flat_bug.progress import waiting

WITHOUT_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
"""What a file system without locks answers, such as Lustre mounted with ``noflock``. There the lock is not held by
anybody: attempts are still folders that only one process can make."""
TRIES = 5
SECONDS_BETWEEN_TRIES = 0.02
"""Who only looks whether a lock is held has it for a moment, which must not keep a task from starting."""


@contextmanager
def hold(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` during the block. The system frees it when the process ends, even by ``kill -9``.

    A link in its place is not followed.

    Args:
        path: The lock file; made when absent, and left behind.
        what: What is locked, for the message: "the run".

    Raises:
        RunError: Another process holds it.
        OutputError: The file cannot be made.
    """
    with _opened(path) as descriptor:
        _acquire(descriptor, path, what)
        yield


@contextmanager
def hold_for_now(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file ``path`` during the block as ``hold`` does, and leave no file behind.

    Raises:
        RunError: Another process holds it.
        OutputError: The file cannot be made.
    """
    while True:
        with _opened(path) as descriptor:
            _acquire(descriptor, path, what)
            if not _is_at(descriptor, path):
                continue  # who held it has just removed the file, and the next one would make another
            try:
                yield
            finally:
                with suppress(OSError):
                    path.unlink()
            return


@contextmanager
def hold_when_free(path: Path, what: str) -> Iterator[bool]:
    """Hold the lock file ``path`` during the block, once nobody else does. A link in its place is not followed.

    Args:
        path: The lock file; made when absent, and left behind.
        what: What is locked, for the message: "the run".

    Yields:
        Whether it is held: on a file system without locks nobody holds it, and the block is run at once.

    Raises:
        OutputError: The file cannot be made.
    """
    with _opened(path) as descriptor:
        try:
            held = _wait_exclusive(descriptor, what)
        except OSError as error:
            raise cannot_write(path, error) from error
        yield held


def is_held(path: Path) -> bool:
    """Return whether a living process holds the lock file ``path``."""
    return _try_shared(path, fcntl.LOCK_NB)


def wait_until_free(path: Path) -> None:
    """Return when no process holds the lock file ``path``."""
    _try_shared(path, 0)


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _acquire(descriptor: int, path: Path, what: str) -> None:
    try:
        _try_exclusive_again(descriptor)
    except BlockingIOError as error:
        raise RunError(
            f"{what} is in use by {_holder(descriptor)}",
            where=path.parent,
            mend="Wait until it has ended, or end it; what is finished is kept.",
        ) from error
    except OSError as error:
        raise cannot_write(path, error) from error


def _wait_exclusive(descriptor: int, what: str) -> bool:
    try:
        return _try_exclusive(descriptor, fcntl.LOCK_NB)
    except BlockingIOError:
        with waiting(f"Waiting for {what}, which is in use by {_holder(descriptor)}"):
            return _try_exclusive(descriptor, 0)


def _try_exclusive_again(descriptor: int) -> bool:
    for _ in range(TRIES - 1):
        with suppress(BlockingIOError):
            return _try_exclusive(descriptor, fcntl.LOCK_NB)
        time.sleep(SECONDS_BETWEEN_TRIES)
    return _try_exclusive(descriptor, fcntl.LOCK_NB)


def _try_exclusive(descriptor: int, flags: int) -> bool:
    """Take the lock, and return whether the file system has locks at all; without ``LOCK_NB`` wait for it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | flags)
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        return False
    # Who holds it, for the message that another process prints; on a full disk that is poorer.
    with suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode(errors="replace") or "another process"


def _try_shared(path: Path, flags: int) -> bool:
    """Return whether the lock is held by another process; without ``LOCK_NB`` wait until it is not."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        # Shared, so that several observers do not see each other.
        fcntl.flock(descriptor, fcntl.LOCK_SH | flags)
    except BlockingIOError:
        return True
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    finally:
        os.close(descriptor)
    return False
