"""Train a segmenter on a prepared tree: cut tiles, run ultralytics, export; or go on where a run was stopped."""

import csv
import json
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flat_bug import __version__
from flat_bug.errors import RunError, WeightsError
from flat_bug.files import sha256_of, write_json
from flat_bug.training.checkpoints import written_checkpoints
from flat_bug.training.cutting import TileSet, cut_tree, ground_truth_path
from flat_bug.training.environment import isolate
from flat_bug.training.settings import TrainSettings, missing_train_extra, ultralytics_keys
from flat_bug.training.tiles import TileSettings

RECORD = "training.json"
"""What was asked and with what; in the run folder."""


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
    record = {
        "flat_bug": __version__,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tree": str(tree.resolve()),
        "ground_truth_sha256": _ground_truth_digests(tree),
        "data": _data_summary(tree, tiles),
        "tiles": tiles.digest,
        "settings": settings.model_dump(mode="json"),
        "versions": {name: version(name) for name in ("torch", "ultralytics", "numpy")},
        "python": platform.python_version(),
    }
    write_json(run / RECORD, record)
    return _fit(run, tiles, settings, resume=None)


def resume(run: Path, checkpoint: Path | None = None, *, trust_weights: bool = False) -> TrainedModel:
    """Go on with a run at its last saved epoch, or at another of its checkpoints.

    Raises:
        RunError: The folder is not a training run, or its tiles were made from other data than the tree holds now.
        WeightsError: The checkpoint was not written by this run, or is damaged.
    """
    try:
        record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError("not a training run", where=run, mend="Give the folder or a checkpoint of a run.") from error
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


def newest_run(project: Path, name: str) -> Path:
    """Return the run that was started last under a project and name.

    Raises:
        RunError: There is none.
    """
    runs = [path.parent for path in project.glob(f"{name}*/{RECORD}") if _belongs(path.parent.name, name)]
    if not runs:
        raise RunError("there is no run to resume", where=project / name, mend="Start one without --resume.")
    return max(runs, key=lambda run: json.loads((run / RECORD).read_text(encoding="utf-8"))["created"])


def new_run_folder(project: Path, name: str) -> Path:
    """Return the first of ``project/name``, ``project/name-2``, … that does not exist."""
    folder, number = project / name, 1
    while folder.exists():
        number += 1
        folder = project / f"{name}-{number}"
    return folder


def _belongs(folder: str, name: str) -> bool:
    return folder == name or folder.removeprefix(f"{name}-").isdigit()


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


def _ground_truth_digests(tree: Path) -> dict[str, str]:
    paths = {split: ground_truth_path(tree, split) for split in ("train", "val")}
    return {split: sha256_of(path) for split, path in paths.items() if path.is_file()}


def _data_summary(tree: Path, tiles: TileSet) -> list[dict[str, str | int]]:
    names = sorted({tile.dataset for tile in tiles.train})
    return [
        {
            "name": name,
            "images": len({tile.image for tile in tiles.train if tile.dataset == name}),
            "tiles": sum(tile.dataset == name for tile in tiles.train),
        }
        for name in names
    ]
