"""Work on many files by threads, which wait for the disk and take digests side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from flat_bug.progress import Report

Item = TypeVar("Item")
Made = TypeVar("Made")

_MOST_ITEMS = 64
_MOST_BYTES = 32 << 20


def work_through(
    items: Sequence[Item],
    work: Callable[[Sequence[Item]], Sequence[Made]],
    *,
    size: Callable[[Item], int],
    jobs: int,
    report: Report,
) -> list[Made]:
    """Return what ``work`` makes of the items, in their order; it is given some neighbours at a time.

    After an error or Ctrl-C no further batch is begun.

    Args:
        items: What is worked on.
        work: Makes one thing of each item it is given; called by several threads.
        size: Bytes of an item.
        jobs: Number of threads.
        report: Is told how many items are done.
    """
    done = 0
    with ThreadPoolExecutor(jobs, thread_name_prefix="files") as pool:
        futures: list[Future[Sequence[Made]]] = [pool.submit(work, batch) for batch in _batches(items, size)]
        try:
            for future in as_completed(futures):
                done += len(future.result())
                report(done, len(items))
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [made for future in futures for made in future.result()]


def _batches(items: Iterable[Item], size: Callable[[Item], int]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    filled = 0
    for item in items:
        if batch and (len(batch) == _MOST_ITEMS or filled + size(item) > _MOST_BYTES):
            yield batch
            batch, filled = [], 0
        batch.append(item)
        filled += size(item)
    if batch:
        yield batch
