"""The checkpoints that a run has written: only those are opened without being asked to trust them."""

import json
from collections.abc import Iterable
from pathlib import Path

from flat_bug.errors import WeightsError
from flat_bug.files import sha256_of, write_json

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


def run_of(checkpoint: Path) -> Path:
    """Return the run folder that a checkpoint lies in: ``run/weights/last.pt``."""
    return checkpoint.absolute().parents[1]


def check_trusted(checkpoint: Path, *, trust_weights: bool) -> None:
    """Refuse a checkpoint that the run around it has not written, unless it is to be trusted.

    Raises:
        WeightsError: The file is absent, damaged, or from somewhere else.
    """
    if not checkpoint.is_file():
        raise WeightsError("there is no such weight file", where=checkpoint, mend="Check the path.")
    if not trust_weights and sha256_of(checkpoint) not in written_checkpoints(run_of(checkpoint)):
        raise WeightsError(
            "this checkpoint is damaged, or was not written by the run it lies in; a .pt file can run any code",
            where=checkpoint,
            mend="Take another checkpoint, or add --trust-weights if you know where it comes from.",
        )
