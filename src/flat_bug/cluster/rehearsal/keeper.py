"""Ends a cluster when the process that started it ends, however that happens.

``python -m flat_bug.cluster.rehearsal.keeper STATE`` reads from a pipe whose other end only that process has.
"""

import sys
from pathlib import Path

from flat_bug.cluster.rehearsal.ending import end_cluster

DONE = b"done"
"""Is sent when the cluster has been ended already."""


def main() -> None:
    """Wait for the end of the pipe, then end the cluster."""
    if sys.stdin.buffer.read() != DONE:
        end_cluster(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
