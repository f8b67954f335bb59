"""Threads that work through many items and can be left: nothing interrupts one that waits for a silent connection."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Generic, TypeVar

from flat_bug.progress import waiting

SECONDS_TO_LEAVE = 3.0

Item = TypeVar("Item")
Result = TypeVar("Result")


class Crew(Generic[Item, Result]):
    """Calls a function with each item, in several threads that end with the process.

    Args:
        items: What is worked through, in this order.
        call: The function.
        jobs: Number of threads.
    """

    def __init__(self, items: Sequence[Item], call: Callable[[Item], Result], jobs: int) -> None:
        self._count = len(items)
        self._todo = deque(items)
        self._call = call
        self._done: SimpleQueue[tuple[Item, Future[Result]]] = SimpleQueue()
        # Python would wait at its end for the threads of an executor.
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(jobs, len(items)))]
        for thread in self._threads:
            thread.start()

    def done(self) -> Iterator[tuple[Item, Future[Result]]]:
        """Yield each item with what became of it, as soon as that is known."""
        for _ in range(self._count):
            yield self._done.get()

    def leave(self) -> None:
        """Begin nothing more, and wait a moment for those who are about to end."""
        self._todo.clear()
        deadline = time.monotonic() + SECONDS_TO_LEAVE
        with waiting("Waiting for connections on which nothing comes"):
            for thread in self._threads:
                thread.join(max(0.0, deadline - time.monotonic()))

    def _work(self) -> None:
        while True:
            try:
                item = self._todo.popleft()
            except IndexError:
                return
            future: Future[Result] = Future()
            try:
                future.set_result(self._call(item))
            except BaseException as error:
                future.set_exception(error)
            self._done.put((item, future))
