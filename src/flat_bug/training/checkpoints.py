"""The digests of the checkpoints that a run has written: only those are opened without being asked to trust them."""

import json
from collections.abc import Iterable
from pathlib import Path

from flat_bug.files import write_json

CHECKPOINTS = "checkpoints.json"


def remember_checkpoints(run: Path, digests: Iterable[str]) -> None:
    """Note digests of checkpoints that are about to appear in a run folder."""
    known = written_checkpoints(run)
    write_json(run / CHECKPOINTS, known + [digest for digest in dict.fromkeys(digests) if digest not in known])


def written_checkpoints(run: Path) -> list[str]:
    """Return the digests of all checkpoints that a run has written, in hexadecimal."""
    try:
        return list(json.loads((run / CHECKPOINTS).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return []
