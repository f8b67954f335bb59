"""Train a segmenter on a prepared tree: cut tiles, run ultralytics, export; or go on where a run was stopped."""

import csv
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flat_bug.errors import RunError, UsageError
from flat_bug.files import write_text
from flat_bug.segmenters.base import card_path
from flat_bug.training.checkpoints import check_trusted
from flat_bug.training.cutting import TileSet, cut_tree, read_tiles, tiles_digest
from flat_bug.training.environment import check_parts, isolate
from flat_bug.training.record import add_resumption, exported_weights, new_run_folder, read_record, write_record
from flat_bug.training.settings import TrainSettings
from flat_bug.training.tiles import TileSettings

CHANGEABLE = ("time", "epochs", "device", "workers", "fb_threads")
"""Settings that may change when a run goes on; others would make it another run."""


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves behind.

    Attributes:
        run: The run folder.
        checkpoint: The best checkpoint of ultralytics (.pt).
        weights: The same as ONNX, with its card beside it.
        was_finished: The run had finished before it was asked to go on.
    """

    run: Path
    checkpoint: Path
    weights: Path
    was_finished: bool = False


def train(
    tree: Path,
    settings: TrainSettings,
    *,
    tiles: Path | None = None,
    command: str = "",
    trust_weights: bool = False,
    inputs: Mapping[str, Any] | None = None,
) -> TrainedModel:
    """Train on a prepared tree in a new run folder.

    Args:
        tree: Folder that ``fb data prepare`` made.
        settings: How to train.
        tiles: Where the training tiles are, or are to be cut; by default in the run folder.
        command: The command line, for the record.
        trust_weights: Open .pt files that the settings name; they can run any code.
        inputs: What else the caller wants to find in the record of what it trains on.

    Raises:
        MissingPartError: torch or ultralytics is not installed.
        DatasetError: The tree is not a prepared one, or nothing is in it to train on.
        WeightsError: The model is a .pt file that is absent or not trusted.
        OutputError: The run folder cannot be written.
    """
    check_parts()
    for path in settings.weight_files():
        check_trusted(path, None, trust_weights=trust_weights)
    run = new_run_folder(Path(settings.project), settings.name)
    try:
        cut = cut_tree(tree, tiles or run / "tiles", tile_settings(settings))
        write_record(run, tree, cut, settings, command=command, inputs=inputs)
    except BaseException:
        # A folder without a record could never be resumed.
        shutil.rmtree(run, ignore_errors=True)
        raise
    given = settings.for_ultralytics() | {"project": str(run.parent.resolve()), "name": run.name, "exist_ok": True}
    return _fit(run, cut, settings, given)


def resume(
    run: Path,
    checkpoint: Path | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    tree: Path | None = None,
    tiles: Path | None = None,
    command: str = "",
    trust_weights: bool = False,
) -> TrainedModel:
    """Go on with a run at its last saved epoch, or at another of its checkpoints; a finished run is left as it is.

    Args:
        run: The run folder.
        checkpoint: Where to go on; by default the last one.
        changes: Settings that are to differ from now on, of those in ``CHANGEABLE``.
        tree: Where the prepared tree is by now, if its tiles have to be cut again; by default where it was.
        tiles: Where the training tiles are; by default in the run folder.
        command: The command line, for the record.
        trust_weights: Open the checkpoint although this run did not write it.

    Raises:
        RunError: The folder is not a training run, has no checkpoint, or its dataset has changed.
        UsageError: A setting cannot be changed, or not any more.
        WeightsError: The checkpoint was not written by this run, or is damaged.
    """
    record = read_record(run)
    before = TrainSettings.from_mapping(record["settings"], where=run)
    settings, changed = _changed(before, changes or {})
    checkpoint = checkpoint or run / "weights" / "last.pt"
    if not checkpoint.is_file():
        raise RunError("no epoch of this run was saved", where=checkpoint, mend="Start it again without --resume.")
    check_trusted(checkpoint, run, trust_weights=trust_weights)
    folder = tiles or run / "tiles"
    cut = read_tiles(folder, record["tiles"]) or _cut_again(
        folder, tree or Path(record["tree"]), record["tiles"], settings
    )
    isolate(run / "config")
    from flat_bug.training.trainer import saved_epochs  # noqa: PLC0415  # takes seconds, and needs the isolation

    done = saved_epochs(checkpoint)
    if done is None:
        if changed:
            raise UsageError(
                "this run has finished: the state of its optimiser is gone",
                where=run,
                mend=f"Start a new run from its weights: --model {run / 'weights' / 'best.pt'} --trust-weights",
            )
        return _finish(run)
    spent = _forget_epochs_after(run, done)
    planned = _planned_epochs(settings, done, spent)
    add_resumption(run, settings, changed, epoch=done, command=command)
    if done >= planned:
        return _finish(run)
    for described in (exported_weights(run), run / "weights" / "best.pt", run / "weights" / "last.pt"):
        card_path(described).unlink(missing_ok=True)  # soon it would describe something else
    for unfinished in (run / "weights").glob(".tmp-*"):  # a kill can leave a checkpoint half-written
        shutil.rmtree(unfinished)
    given = {"resume": str(checkpoint.resolve()), "epochs": planned}
    given |= {key: getattr(settings, key) for key in ("time", "device", "workers")}
    return _fit(run, cut, settings, given, seconds_spent=spent)


def tile_settings(settings: TrainSettings) -> TileSettings:
    """Return how the tiles of a training are cut."""
    return TileSettings(
        side=settings.tile_side,
        val_side=settings.imgsz,
        pyramid_step=settings.fb_pyramid_step,
        background=settings.fb_background,
        tiles_per_dataset=settings.fb_tiles_per_dataset,
        val_tiles=settings.fb_val_tiles,
        max_instances=settings.fb_max_instances,
        max_images=settings.fb_max_images,
        exclude_datasets=settings.fb_exclude_datasets,
        seed=settings.seed,
    )


def _changed(before: TrainSettings, changes: Mapping[str, Any]) -> tuple[TrainSettings, dict[str, Any]]:
    """Return the settings of a run from now on, and what is new in them."""
    old = before.to_mapping()
    after = TrainSettings.from_mapping(old | dict(changes))
    # Project and name say which run; that has been found.
    new = {key: value for key, value in after.to_mapping().items() if key not in ("project", "name")}
    changed = {key: value for key, value in new.items() if value != old.get(key)}
    fixed = sorted(set(changed) - set(CHANGEABLE))
    if fixed:
        raise UsageError(
            f"{fixed[0]!r} cannot change from {old.get(fixed[0])!r} to {changed[fixed[0]]!r} when a run goes on",
            mend=f"Only these can: {', '.join(CHANGEABLE)}. Start a new run for others.",
        )
    return before.model_copy(update=changed), changed


def _cut_again(folder: Path, tree: Path, digest: str, settings: TrainSettings) -> TileSet:
    cut = tile_settings(settings)
    if tiles_digest(tree, cut) != digest:
        raise RunError("the tiles are gone, and the dataset has changed", where=tree, mend="Start a new run.")
    return cut_tree(tree, folder, cut)


def _planned_epochs(settings: TrainSettings, done: int, spent: float) -> int:
    if settings.time is None or not spent:
        return settings.epochs
    # As ultralytics does after each epoch.
    return math.ceil(settings.time * 3600 * done / spent)


def _forget_epochs_after(run: Path, done: int) -> float:
    """Cut the table of results after an epoch, and return the seconds until then.

    A kill may come between an epoch's row and its checkpoint, and an older checkpoint may be asked for.
    """
    path = run / "results.csv"
    try:
        header, *lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, ValueError):
        return 0.0
    rows = [row for row in csv.DictReader([header, *lines]) if int(row["epoch"]) <= done]
    write_text(path, "\n".join([header, *lines[: len(rows)]]) + "\n")
    return float(rows[-1]["time"]) if rows else 0.0


def _fit(
    run: Path, tiles: TileSet, settings: TrainSettings, given: dict[str, Any], *, seconds_spent: float = 0.0
) -> TrainedModel:
    isolate(run / "config")
    from flat_bug.training.trainer import TileTrainer  # noqa: PLC0415  # takes seconds, and needs the isolation

    here = {"data": str(tiles.data_yaml.resolve()), "save_dir": str(run.resolve()), "task": "segment"}
    TileTrainer(given | here, tiles, settings, seconds_spent).train()
    return _finish(run)


def _finish(run: Path) -> TrainedModel:
    """Strip the checkpoints and export the best one, as far as that is not done."""
    from flat_bug.training.export import export_run  # noqa: PLC0415  # takes seconds
    from flat_bug.training.trainer import strip_checkpoints  # noqa: PLC0415

    strip_checkpoints(run)
    best, last = run / "weights" / "best.pt", run / "weights" / "last.pt"
    checkpoint = best if best.exists() else last
    weights = exported_weights(run)
    # The card is written after the weights.
    was_finished = card_path(weights).exists()
    if not was_finished:
        export_run(run, checkpoint)
    return TrainedModel(run, checkpoint, weights, was_finished)
