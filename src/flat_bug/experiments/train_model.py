"""Train a model, or go on where an earlier attempt was stopped: one task of an experiment.

::

    tasks/<id>/tiles/              the training tiles, which attempts share; removed when the training has finished
    tasks/<id>/attempt-2/<name>/   the run folder of the training, with what attempt-1 had done
"""

import csv
import filecmp
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

from pydantic import JsonValue

from flat_bug.errors import RunError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.record import NoProgressError, Outcome, OutOfTimeError, read_record
from flat_bug.experiments.run_folder import attempts_in, number_of
from flat_bug.experiments.train_inputs import TrainInputs
from flat_bug.experiments.train_task import Trained, TrainModel
from flat_bug.files import atomic_path, cannot_write, link_or_copy, sha256_of, write_json
from flat_bug.segmenters.base import card_path
from flat_bug.training.checkpoints import written_checkpoints
from flat_bug.training.cutting import read_tiles, tiles_digest
from flat_bug.training.environment import isolate
from flat_bug.training.record import RECORD
from flat_bug.training.record import read_record as read_training
from flat_bug.training.settings import TrainSettings
from flat_bug.training.train import TrainedModel, resume, tile_settings, train

TILES = "tiles"
INPUTS = "inputs.json"
"""In the folder of the tiles: what they are cut from."""
LAST = "weights/last.pt"
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
    inputs = TrainInputs.of(tree, settings.weight_files(), _known_inputs(attempt, settings.name))
    _keep_tiles_of(tiles, digest, inputs)
    run = attempt / settings.name
    before = run_to_go_on_with(attempt, settings.name, digest, inputs)
    if before is not None:
        print(f"goes on with {before.relative_to(attempt.parent)}", flush=True)  # noqa: T201 - into the log
        _take_over(before, run)
    epochs = _epochs_saved(run)
    try:
        model = _train(wanted, settings, tree, tiles, run, inputs=inputs)
    except OutOfTimeError:
        if _epochs_saved(run) == epochs and gained_nothing_before(attempt, settings.name):
            raise _no_progress(run, epochs) from None
        raise
    shutil.rmtree(tiles, ignore_errors=True)
    return Outcome(values=_trained(model, attempt).model_dump(mode="json"))


def run_to_go_on_with(attempt: Path, name: str, digest: str, inputs: TrainInputs) -> Path | None:
    """Return the newest run folder of earlier attempts with a whole checkpoint of this training, or None.

    Args:
        attempt: The attempt that is to go on.
        name: Name of the run folder in each attempt.
        digest: Of the tiles; what was trained on others cannot go on with these.
        inputs: What the training begins with. With other images or weights it is another training, finished or not.
    """
    runs = (other / name for other in reversed(_earlier(attempt)))
    return next((run for run in runs if _is_whole(run, digest, inputs)), None)


def _earlier(attempt: Path) -> list[Path]:
    return [other for other in attempts_in(attempt.parent) if number_of(other) < number_of(attempt)]


def _is_whole(run: Path, digest: str, inputs: TrainInputs) -> bool:
    last = run / LAST
    try:
        record = read_training(run)
        fits = record.get("tiles") == digest and inputs.are_those_of(TrainInputs.in_record(record))
        return fits and sha256_of(last) in written_checkpoints(run)
    except (RunError, OSError, ValueError):
        return False


def _known_inputs(attempt: Path, name: str) -> Iterator[TrainInputs]:
    """Yield what earlier attempts began with."""
    for file in (attempt.parent / TILES / INPUTS, *(other / name / RECORD for other in _earlier(attempt))):
        known = TrainInputs.read(file)
        if known is not None:
            yield known


def _take_over(before: Path, run: Path) -> None:
    """Make a run folder that holds what an earlier one does, which stays as it is."""

    def place(source: str, target: str) -> None:
        # Checkpoints are replaced as a whole, tables and logs grow.
        (link_or_copy if source.endswith(".pt") else shutil.copy2)(source, target)

    # A kill leaves no folder that looks like the run and lacks a part of it.
    with atomic_path(run) as temporary:
        shutil.copytree(before, temporary, ignore=shutil.ignore_patterns(*UNFINISHED), copy_function=place)


def _train(
    wanted: TrainModel, settings: TrainSettings, tree: Path, tiles: Path, run: Path, *, inputs: TrainInputs
) -> TrainedModel:
    trust, command = wanted.trust_weights, wanted.command
    if run.exists():
        return resume(run, tree=tree, tiles=tiles, command=command)
    noted = inputs.model_dump(mode="json")
    return train(tree, settings, tiles=tiles, command=command, trust_weights=trust, inputs=noted)


def _keep_tiles_of(tiles: Path, digest: str, inputs: TrainInputs) -> None:
    """Remove tiles of other data, or that were not all cut: training would take whatever lies there.

    What they are cut from is noted first, so that tiles which are all there are also known to be the right ones.
    """
    if inputs.have_data_of(TrainInputs.read(tiles / INPUTS)) and read_tiles(tiles, digest) is not None:
        return
    try:
        if tiles.exists():
            shutil.rmtree(tiles)
    except OSError as error:
        raise cannot_write(tiles, error) from error
    write_json(tiles / INPUTS, {"inputs": inputs.model_dump(mode="json")})


def _epochs_saved(run: Path) -> float:
    """Return how many epochs the last checkpoint holds; infinitely many when only the export is missing."""
    checkpoint = run / LAST
    if not checkpoint.exists():
        return 0
    isolate(run / "config")
    from flat_bug.training.trainer import saved_epochs  # noqa: PLC0415 - takes seconds, and needs the isolation

    done = saved_epochs(checkpoint)
    return math.inf if done is None else done


def gained_nothing_before(attempt: Path, name: str) -> bool:
    """Return whether an earlier attempt had a whole time limit and ended with the checkpoint that it began with, too.

    The first may have needed its time for staging and cutting. One that ended otherwise says nothing about the limit.

    Args:
        attempt: An attempt that has gained nothing.
        name: Name of the run folder in each attempt.
    """
    last = attempt / name / LAST
    earlier = [other for other in _earlier(attempt) if _is_same(other / name / LAST, last)]
    if last.is_file():
        earlier = earlier[1:]  # the first of them has made the checkpoint
    return any(_ran_out_of_time(other) for other in earlier)


def _is_same(file: Path, other: Path) -> bool:
    if not (file.is_file() and other.is_file()):
        return file.is_file() == other.is_file()
    return filecmp.cmp(file, other)  # a link or a copy, so that few are read


def _ran_out_of_time(attempt: Path) -> bool:
    try:
        record = read_record(attempt)
    except RunError:
        return False
    return record is not None and record.failure is not None and record.failure.goes_on


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
