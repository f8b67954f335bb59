"""The checkpoints that a run has written: going on with the run opens those, and no others, without --trust-weights."""

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


def check_trusted(checkpoint: Path, run: Path | None, *, trust_weights: bool) -> None:
    """Refuse a checkpoint, which can run any code, unless it is to be trusted or continues the run that wrote it.

    Args:
        checkpoint: A ``.pt`` file.
        run: The run that the user goes on with; None if a new run begins with the checkpoint. A folder says itself
            what it has written, so it vouches for nothing but going on with it.
        trust_weights: The user wants the file to be opened, wherever it comes from.

    Raises:
        WeightsError: The file is absent, damaged, or from somewhere else.
    """
    if not checkpoint.is_file():
        raise WeightsError("there is no such weight file", where=checkpoint, mend="Check the path.")
    if trust_weights:
        return
    if run is None:
        raise WeightsError(
            "a .pt file can run any code when it is opened",
            where=checkpoint,
            mend="Add --trust-weights if you know where it comes from.",
        )
    if sha256_of(checkpoint) not in written_checkpoints(run):
        raise WeightsError(
            "this checkpoint is damaged, or was not written by this run; a .pt file can run any code",
            where=checkpoint,
            mend="Take another checkpoint, or add --trust-weights if you know where it comes from.",
        )
