"""Train a model, or go on where an earlier attempt was stopped: one task of an experiment.

::

    tasks/<id>/tiles/              the training tiles, which attempts share; removed when the training has finished
    tasks/<id>/attempt-2/<name>/   the run folder of the training, with what attempt-1 had done
"""

import csv
import math
import shutil
from pathlib import Path

from pydantic import JsonValue

from flat_bug.errors import RunError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.record import NoProgressError, Outcome, OutOfTimeError, read_record
from flat_bug.experiments.run_folder import attempts_in, number_of
from flat_bug.experiments.train_task import Trained, TrainModel
from flat_bug.files import cannot_write, link_or_copy, sha256_of
from flat_bug.segmenters.base import card_path
from flat_bug.training.checkpoints import written_checkpoints
from flat_bug.training.cutting import read_tiles, tiles_digest
from flat_bug.training.environment import isolate
from flat_bug.training.record import read_record as read_training
from flat_bug.training.settings import TrainSettings
from flat_bug.training.train import TrainedModel, resume, tile_settings, train

TILES = "tiles"
UNFINISHED = (TILES, ".tmp-*", "*.onnx", "*.card.json")
"""What the next attempt does not take over: tiles are shared, and the weights are exported again."""


def train_model(args: dict[str, JsonValue], attempt: Path) -> Outcome:
    """Train in a run folder within the attempt folder, and return the scores.

    Raises:
        NoProgressError: The time limit came near before an epoch was finished, for the second time.
        FlatBugError: The tree, the weights or the settings are not usable, or the attempt folder is not.
    """
    wanted = TrainModel.model_validate(args)
    settings = wanted.train_settings(attempt)
    tree, tiles = NodePath(wanted.tree).resolve(), attempt.parent / TILES
    digest = tiles_digest(tree, tile_settings(settings))
    _remove_other_tiles(tiles, digest)
    run = attempt / settings.name
    before = run_to_go_on_with(attempt, settings.name, digest)
    if before is not None:
        print(f"goes on with {before.relative_to(attempt.parent)}", flush=True)  # noqa: T201 - into the log
        _take_over(before, run)
    epochs = _epochs_saved(run)
    try:
        model = _train(wanted, settings, tree, tiles, run)
    except OutOfTimeError:
        if _epochs_saved(run) == epochs and _was_out_of_time_before(attempt):
            raise _no_progress(run, epochs) from None
        raise
    shutil.rmtree(tiles, ignore_errors=True)
    return Outcome(values=_trained(model, attempt).model_dump(mode="json"))


def run_to_go_on_with(attempt: Path, name: str, digest: str) -> Path | None:
    """Return the newest run folder of earlier attempts with a whole checkpoint of this training, or None.

    Args:
        attempt: The attempt that is to go on.
        name: Name of the run folder in each attempt.
        digest: Of the tiles; what was trained on others cannot go on with these.
    """
    earlier = [other for other in attempts_in(attempt.parent) if number_of(other) < number_of(attempt)]
    runs = (other / name for other in reversed(earlier))
    return next((run for run in runs if _is_whole(run, digest)), None)


def _is_whole(run: Path, digest: str) -> bool:
    last = run / "weights" / "last.pt"
    try:
        return bool(read_training(run)["tiles"] == digest) and sha256_of(last) in written_checkpoints(run)
    except (RunError, OSError, ValueError):
        return False


def _take_over(before: Path, run: Path) -> None:
    """Make a run folder that holds what an earlier one does, which stays as it is."""

    def place(source: str, target: str) -> None:
        # Checkpoints are replaced as a whole, tables and logs grow.
        (link_or_copy if source.endswith(".pt") else shutil.copy2)(source, target)

    try:
        shutil.copytree(before, run, ignore=shutil.ignore_patterns(*UNFINISHED), copy_function=place)
    except OSError as error:  # shutil.Error is one, too
        raise cannot_write(run, error) from error


def _train(wanted: TrainModel, settings: TrainSettings, tree: Path, tiles: Path, run: Path) -> TrainedModel:
    trust, command = wanted.trust_weights, wanted.command
    if run.exists():
        return resume(run, tree=tree, tiles=tiles, command=command)
    return train(tree, settings, tiles=tiles, command=command, trust_weights=trust)


def _remove_other_tiles(tiles: Path, digest: str) -> None:
    """Remove tiles of other data, or that were not all cut: training would take whatever lies there."""
    if tiles.exists() and read_tiles(tiles, digest) is None:
        try:
            shutil.rmtree(tiles)
        except OSError as error:
            raise cannot_write(tiles, error) from error


def _epochs_saved(run: Path) -> float:
    """Return how many epochs the last checkpoint holds; infinitely many when only the export is missing."""
    checkpoint = run / "weights" / "last.pt"
    if not checkpoint.exists():
        return 0
    isolate(run / "config")
    from flat_bug.training.trainer import saved_epochs  # noqa: PLC0415 - takes seconds, and needs the isolation

    done = saved_epochs(checkpoint)
    return math.inf if done is None else done


def _was_out_of_time_before(attempt: Path) -> bool:
    """Return whether an earlier attempt had a whole time limit, too.

    The first may have needed it for staging and cutting. One that ended otherwise says nothing about the limit.
    """
    earlier = [other for other in attempts_in(attempt.parent) if other != attempt]
    records = (read_record(other) for other in earlier)
    return any(record is not None and record.failure is not None and record.failure.goes_on for record in records)


def _no_progress(run: Path, epochs: float) -> NoProgressError:
    lacking = "the export of the weights" if epochs == math.inf else f"epoch {epochs + 1:.0f}"
    return NoProgressError(
        f"the time limit is too short: {lacking} was not finished in it",
        where=run,
        mend="Give it more time: fb resume RUN --grow time. Or make epochs shorter: --fb_samples_per_epoch.",
    )


def _trained(model: TrainedModel, attempt: Path) -> Trained:
    with (model.run / "results.csv").open(encoding="utf-8", newline="") as stream:
        rows = [{name.strip(): float(value) for name, value in row.items()} for row in csv.DictReader(stream)]
    # By this ultralytics chooses the checkpoint that is exported; of equals it takes the last.
    best = max(reversed(rows), key=lambda row: row["metrics/mAP50-95(B)"] + row["metrics/mAP50-95(M)"])
    return Trained(
        weights=model.weights.relative_to(attempt).as_posix(),
        card=card_path(model.weights).relative_to(attempt).as_posix(),
        epochs=int(rows[-1]["epoch"]),
        seconds=rows[-1]["time"],
        best_epoch=int(best["epoch"]),
        box_map50=best["metrics/mAP50(B)"],
        box_map50_95=best["metrics/mAP50-95(B)"],
        mask_map50=best["metrics/mAP50(M)"],
        mask_map50_95=best["metrics/mAP50-95(M)"],
    )
