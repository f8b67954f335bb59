"""Which processors this process may use, which on a shared node are fewer than it has."""

import os


def usable_processors() -> list[int]:
    """Return the numbers of the processors that this process may use."""
    # Only Linux tells; elsewhere a process may use all of them.
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
