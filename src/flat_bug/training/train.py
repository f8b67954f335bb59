"""Train a segmenter on a prepared tree: cut tiles, run ultralytics, export; or go on where a run was stopped."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flat_bug.errors import RunError, WeightsError
from flat_bug.files import sha256_of
from flat_bug.training.checkpoints import written_checkpoints
from flat_bug.training.cutting import TileSet, cut_tree
from flat_bug.training.environment import isolate
from flat_bug.training.record import new_run_folder, read_record, write_record
from flat_bug.training.settings import TrainSettings, missing_train_extra, ultralytics_keys
from flat_bug.training.tiles import TileSettings


@dataclass(frozen=True)
class TrainedModel:
    """What a training leaves behind.

    Attributes:
        run: The run folder.
        checkpoint: The best checkpoint of ultralytics (.pt).
        weights: The same as ONNX, with its card beside it.
    """

    run: Path
    checkpoint: Path
    weights: Path


def train(tree: Path, settings: TrainSettings, *, command: str = "", trust_weights: bool = False) -> TrainedModel:
    """Train on a prepared tree in a new run folder.

    Args:
        tree: Folder that ``fb data prepare`` made.
        settings: How to train.
        command: The command line, for the record.
        trust_weights: Open ``settings.model`` even if it is a .pt file, which can run any code.

    Raises:
        MissingPartError: torch or ultralytics is not installed.
        DatasetError: The tree is not a prepared one.
        WeightsError: The model is a .pt file that nobody vouches for.
    """
    ultralytics_keys()
    if settings.model.endswith(".pt") and not trust_weights:
        raise WeightsError(
            "a .pt file is a pickle, which can run any code",
            where=settings.model,
            mend="Add --trust-weights if you know where it comes from.",
        )
    run = new_run_folder(Path(settings.project), settings.name)
    tiles = cut_tree(tree, run / "tiles", tile_settings(settings))
    write_record(run, tree, tiles, settings, command)
    return _fit(run, tiles, settings, resume=None)


def resume(run: Path, checkpoint: Path | None = None, *, trust_weights: bool = False) -> TrainedModel:
    """Go on with a run at its last saved epoch, or at another of its checkpoints.

    Raises:
        RunError: The folder is not a training run, or its tiles were made from other data than the tree holds now.
        WeightsError: The checkpoint was not written by this run, or is damaged.
    """
    record = read_record(run)
    settings = TrainSettings.from_mapping(record["settings"])
    checkpoint = checkpoint or run / "weights" / "last.pt"
    if not checkpoint.is_file():
        raise RunError("no epoch of this run was saved", where=checkpoint, mend="Start it again without --resume.")
    if not trust_weights and sha256_of(checkpoint) not in written_checkpoints(run):
        raise WeightsError(
            "this checkpoint is damaged, or was not written by this run",
            where=checkpoint,
            mend="Resume from another checkpoint, or add --trust-weights if you know where it comes from.",
        )
    tiles = cut_tree(Path(record["tree"]), run / "tiles", tile_settings(settings))
    if tiles.digest != record["tiles"]:
        raise RunError("the dataset has changed since this run began", where=record["tree"], mend="Start a new run.")
    return _fit(run, tiles, settings, resume=checkpoint)


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


def _fit(run: Path, tiles: TileSet, settings: TrainSettings, resume: Path | None) -> TrainedModel:
    isolate(run / "config")
    try:
        # torch and ultralytics take seconds to import, and ultralytics reads its environment when it is.
        from flat_bug.training.export import export_run  # noqa: PLC0415
        from flat_bug.training.trainer import make_trainer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise missing_train_extra(error.name or "ultralytics") from error
    trainer = make_trainer(_overrides(run, tiles, settings, resume), tiles, settings, _seconds_spent(run, resume))
    trainer.train()
    checkpoint = Path(trainer.best if trainer.best.exists() else trainer.last)
    return TrainedModel(run, checkpoint, export_run(run, checkpoint))


def _overrides(run: Path, tiles: TileSet, settings: TrainSettings, resume: Path | None) -> dict[str, Any]:
    ours = {key: getattr(settings, key) for key in settings.passed_on}
    fixed = {
        "data": str(tiles.data_yaml.resolve()),
        "project": str(run.parent.resolve()),
        "name": run.name,
        "save_dir": str(run.resolve()),
        "exist_ok": True,
        "task": "segment",
    }
    if resume is not None:
        fixed["resume"] = str(resume.resolve())
    return settings.ultralytics | {key: value for key, value in ours.items() if value is not None} | fixed


def _seconds_spent(run: Path, resume: Path | None) -> float:
    if resume is None:
        return 0.0
    try:
        rows = list(csv.DictReader((run / "results.csv").read_text(encoding="utf-8").splitlines()))
    except FileNotFoundError:
        return 0.0
    return float(rows[-1]["time"]) if rows else 0.0
