"""The record of a training: what was asked and with what, in the run folder."""

import json
import platform
from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

from flat_bug import __version__
from flat_bug.datasets.tree import FOLDER, MANIFEST
from flat_bug.errors import RunError
from flat_bug.files import cannot_write, sha256_of, write_json
from flat_bug.training.cutting import TileSet, ground_truth_path
from flat_bug.training.settings import TrainSettings

RECORD = "training.json"


def write_record(
    run: Path,
    tree: Path,
    tiles: TileSet,
    settings: TrainSettings,
    *,
    command: str,
    inputs: Mapping[str, Any] | None = None,
) -> None:
    """Write the record of a run that is about to begin."""
    ground_truth = {split: ground_truth_path(tree, split) for split in ("train", "val")}
    record = {
        "flat_bug": __version__,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "tree": str(tree.resolve()),
        "ground_truth_sha256": {split: sha256_of(path) for split, path in ground_truth.items() if path.is_file()},
        "data": describe_data(tree, tiles),
        "tiles": tiles.digest,
        **({} if inputs is None else {"inputs": dict(inputs)}),
        "settings": settings.to_mapping(),
        "versions": {name: version(name) for name in ("torch", "ultralytics", "numpy")},
        "python": platform.python_version(),
    }
    write_json(run / RECORD, record)


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of a run.

    Raises:
        RunError: The folder is not a training run.
    """
    try:
        record = json.loads((run / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError("not a training run", where=run, mend="Give the folder or a checkpoint of a run.") from error
    return dict(record)


def add_resumption(run: Path, settings: TrainSettings, changed: dict[str, Any], *, epoch: int, command: str) -> None:
    """Note that a run goes on after an epoch, and the settings from there."""
    record = read_record(run)
    resumption = {
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "epoch": epoch,
        "changed": changed,
    }
    resumptions = [*record.get("resumed", ()), resumption]
    write_json(run / RECORD, record | {"settings": settings.to_mapping(), "resumed": resumptions})


def describe_data(tree: Path, tiles: TileSet) -> list[dict[str, str | int]]:
    """Return a row for each dataset that is trained on: name, licence, source, images, instances, tiles.

    Licence and source are what the manifest has from the dataset's own ``info``; a tree of flat-bug 1.x has no
    manifest, so there they are "unknown".
    """
    manifest = _read_manifest(tree)
    images: dict[str, set[str]] = defaultdict(set)
    for tile in tiles.train:
        images[tile.dataset].add(tile.image)
    instances = {entry["file_name"]: int(entry["instances"]) for entry in manifest.get("images", ())}
    return [
        {
            "name": name,
            **_origin(manifest.get("datasets", {}).get(name, {})),
            "images": len(images[name]),
            "instances": sum(instances.get(image, 0) for image in images[name]),
            "tiles": sum(tile.dataset == name for tile in tiles.train),
        }
        for name in sorted(images)
    ]


def _read_manifest(tree: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((tree / FOLDER / MANIFEST).read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}


def _origin(dataset: dict[str, Any]) -> dict[str, str]:
    info = dataset.get("info") or {}
    licences = [str(entry.get("name", "")) for entry in dataset.get("licenses") or ()]
    licence = info.get("license") or ", ".join(filter(None, licences)) or "unknown"
    source = info.get("source") or info.get("url") or info.get("contributor") or "unknown"
    attribution = {"attribution": str(info["attribution"])} if info.get("attribution") else {}
    return {"licence": str(licence), "source": str(source), **attribution}


def newest_run(project: Path, name: str) -> Path:
    """Return the run that was started last under a project and name.

    Raises:
        RunError: There is none.
    """
    runs = [path.parent for path in project.glob(f"{name}*/{RECORD}") if _belongs(path.parent.name, name)]
    if not runs:
        raise RunError("there is no run to resume", where=project / name, mend="Start one without --resume.")
    return max(runs, key=lambda run: str(read_record(run)["created"]))


def new_run_folder(project: Path, name: str) -> Path:
    """Make and return the first of ``project/name``, ``project/name-2``, … that does not exist.

    Raises:
        OutputError: The project cannot be written to.
    """
    for number in count(1):
        folder = project / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError as error:
            if not project.is_dir():
                raise cannot_write(project, error) from error
        except OSError as error:
            raise cannot_write(folder, error) from error
        else:
            return folder
    raise AssertionError  # there is always another number


def exported_weights(run: Path) -> Path:
    """Return where the weights of a run are exported to."""
    return run / "weights" / f"{run.name}.onnx"


def _belongs(folder: str, name: str) -> bool:
    return folder == name or folder.removeprefix(f"{name}-").isdigit()
