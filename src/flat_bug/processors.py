"""Which processors this process may use, which on a shared node are fewer than it has, and sharing them out."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


def usable_processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    # Only Linux tells; elsewhere a process may use all of them.
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def share_cpus(cpus: Sequence[int], jobs: int) -> list[list[int]]:
    """Return the processors of each of ``jobs`` tasks at a time: all are used, and none is idle for want of a task."""
    return [list(cpus[slot::jobs]) or [cpus[slot % len(cpus)]] for slot in range(jobs)]


@contextmanager
def processors_for_children(cpus: Sequence[int]) -> Iterator[None]:
    """Have the processes that this thread starts in the block use these processors only, where the system can.

    They do so from their first instruction, so that every library sizes its threads by them.
    """
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_memory(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    """Return the bytes of memory that may still be taken here, or nothing where the system does not say.

    Args:
        meminfo: What Linux says of its memory.
    """
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="ascii").splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, ValueError, LookupError):
        return None
    # Of a shared node a job of Slurm may take its own part only.
    granted = os.environ.get("SLURM_MEM_PER_NODE", "")
    return min(free, int(granted) * 2**20) if granted.isdecimal() and int(granted) else free
