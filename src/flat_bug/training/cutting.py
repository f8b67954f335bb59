"""Cut a prepared tree into training tiles, once, so that training never decodes a full-size image."""

import hashlib
import json
import logging
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from flat_bug.datasets.coco import read_coco
from flat_bug.errors import DatasetError
from flat_bug.files import cannot_write, sha256_of, write_json, write_text
from flat_bug.imaging import LazyImage, open_image
from flat_bug.processors import usable_processors
from flat_bug.progress import track
from flat_bug.pyramid.tiling import PADDING, scaled_size
from flat_bug.training.tiles import Tile, TileSettings, choose, one_ring, tiles_of
from flat_bug.vips import pyvips

logger = logging.getLogger(__name__)

JPEG_QUALITY = 94
FEW_TILES = 64
"""Most tiles to validate on where validation says little, because they show training images."""
RECORD = "tiles.json"
SPLITS = ("train", "val")
FORMAT = 1
"""Part of the digest: raise it when the same settings would give other tiles."""


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image of the prepared tree with its ground truth, in image pixels."""

    path: Path
    dataset: str
    width: int
    height: int
    polygons: npt.NDArray[np.object_]
    crowd: npt.NDArray[np.bool_]


Job = tuple[SourceImage, list[Tile]]
"""An image and the tiles to cut from it."""


@dataclass(frozen=True)
class CutTile:
    """A tile as it lies on disk."""

    file: str
    dataset: str
    image: str
    scale: float
    instances: int


@dataclass(frozen=True)
class TileSet:
    """The tiles of a training run.

    Attributes:
        folder: Holds ``data.yaml`` (read by ultralytics), ``images/``, ``labels/`` and ``tiles.json``.
        digest: Of the ground truth and the settings that made the tiles.
        train: Tiles to learn from.
        val: Tiles to validate on.
    """

    folder: Path
    digest: str
    train: tuple[CutTile, ...]
    val: tuple[CutTile, ...]

    @property
    def data_yaml(self) -> Path:
        """The file that describes the tiles to ultralytics."""
        return self.folder / "data.yaml"


def cut_tree(tree: Path, folder: Path, settings: TileSettings, *, processes: int | None = None) -> TileSet:
    """Cut the tiles of a prepared tree, or return those that lie in ``folder`` already.

    Raises:
        DatasetError: The tree is not a prepared one, or nothing is in it to train on.
        OutputError: ``folder`` cannot be written to.
    """
    digest = tiles_digest(tree, settings)
    done = read_tiles(folder, digest)
    if done is not None:
        return done
    names = _class_names(tree)
    chosen = _choose_splits(tree, settings)
    cut: dict[str, list[CutTile]] = {}
    for split, jobs in chosen.items():
        try:
            cut[split] = _cut_split(jobs, folder, split, processes or len(usable_processors()))
        except OSError as error:
            raise cannot_write(folder, error) from error
    # Without `path`, ultralytics looks beside this file, wherever the run is moved to.
    data = {"train": "images/train", "val": "images/val", "nc": len(names), "names": names}
    write_text(folder / "data.yaml", yaml.safe_dump(data, sort_keys=False))
    tiles = {split: [vars(tile) for tile in made] for split, made in cut.items()}
    write_json(folder / RECORD, {"digest": digest, "settings": settings.model_dump(mode="json"), **tiles})
    return TileSet(folder, digest, tuple(cut["train"]), tuple(cut["val"]))


def tiles_digest(tree: Path, settings: TileSettings) -> str:
    """Return a digest of all that decides which tiles are cut from a tree."""
    parts: list[Any] = [FORMAT, settings.model_dump(mode="json")]
    for split in SPLITS:
        path = ground_truth_path(tree, split)
        parts.append(sha256_of(path) if path.is_file() else None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def read_tiles(folder: Path, digest: str) -> TileSet | None:
    """Return the tiles that lie in a folder, if they are all there and have this digest."""
    try:
        # Written last, so its presence says that every tile is there.
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if record.get("digest") != digest:
        return None
    train, val = (tuple(CutTile(**row) for row in record[split]) for split in SPLITS)
    return TileSet(folder, digest, train, val)


def ground_truth_path(tree: Path, split: str) -> Path:
    """Return where a prepared tree keeps the ground truth of a split."""
    return tree / "insects" / "labels" / split / "instances_default.json"


def _class_names(tree: Path) -> list[str]:
    try:
        names = yaml.safe_load((tree / "data.yaml").read_text(encoding="utf-8"))["names"]
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"not a prepared tree: data.yaml cannot be read ({error})", where=tree, mend="Run fb data prepare first."
        ) from error
    return list(names.values()) if isinstance(names, dict) else list(names)


def read_split(tree: Path, split: str, settings: TileSettings) -> list[SourceImage]:
    """Return the images of a split with their ground truth, without the excluded datasets.

    Raises:
        DatasetError: The ground truth is missing or broken, or an excluded dataset does not exist.
    """
    path = ground_truth_path(tree, split)
    if not path.is_file():
        if split == "val":
            return []
        raise DatasetError("not a prepared tree", where=path, mend="Run fb data prepare first.")
    truth = read_coco(path)
    images = [
        SourceImage(
            path=tree / "insects" / "images" / split / image.file_name,
            dataset=image.dataset,
            width=image.width,
            height=image.height,
            polygons=image.polygons,
            crowd=image.crowd,
        )
        for image in truth.images
    ]
    unknown = set(settings.exclude_datasets) - {image.dataset for image in images}
    if unknown and split == "train":
        raise DatasetError(
            f"there is no dataset {sorted(unknown)[0]!r} to exclude",
            where=path,
            mend=f"Datasets: {', '.join(sorted({image.dataset for image in images}))}.",
        )
    images = [image for image in images if image.dataset not in settings.exclude_datasets]
    return images[: settings.max_images] if settings.max_images > 0 else images


def _choose_splits(tree: Path, settings: TileSettings) -> dict[str, list[Job]]:
    train = read_split(tree, "train", settings)
    jobs = _choose_split(train, settings.side, settings.tiles_per_dataset, settings)
    if not any(len(tile.outlines) for _, tiles in jobs for tile in tiles):
        raise DatasetError("there is no animal to learn from in the training images", where=tree)
    val, most = read_split(tree, "val", settings), settings.val_tiles
    if not val:
        val, most = train, min(most, FEW_TILES)
        logger.warning("There are no validation images: at most %d tiles of training images show the progress.", most)
    per_dataset = max(1, most // len({image.dataset for image in val}))
    return {"train": jobs, "val": _choose_split(val, settings.val_side, per_dataset, settings)}


def _choose_split(images: list[SourceImage], side: int, most: int, settings: TileSettings) -> list[Job]:
    by_dataset: dict[str, list[SourceImage]] = defaultdict(list)
    for image in images:
        by_dataset[image.dataset].append(image)
    jobs = []
    for dataset in sorted(by_dataset):
        random = np.random.default_rng([settings.seed, *dataset.encode()])
        jobs += _choose_tiles(by_dataset[dataset], side, most, settings, random)
    return jobs


def _cut_split(jobs: list[Job], folder: Path, split: str, processes: int) -> list[CutTile]:
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True, exist_ok=True)
    # Workers are started afresh: libvips does not survive a fork once it has run.
    with ProcessPoolExecutor(max(1, min(processes, len(jobs))), mp_context=get_context("spawn")) as pool:
        results = pool.map(partial(_cut_image, folder=folder, split=split), jobs)
        return [tile for tiles in track(results, f"Cutting {split} tiles", len(jobs)) for tile in tiles]


def _choose_tiles(
    images: list[SourceImage], side: int, most: int, settings: TileSettings, random: np.random.Generator
) -> list[Job]:
    owners: list[int] = []
    tiles: list[Tile] = []
    for index, image in enumerate(images):
        new = list(tiles_of(image.polygons, image.crowd, (image.width, image.height), side, settings.pyramid_step))
        owners += [index] * len(new)
        tiles += new
    chosen: dict[int, list[Tile]] = defaultdict(list)
    for i in choose(tiles, most, settings, random):
        chosen[owners[i]].append(tiles[i])
    return [(images[index], chosen[index]) for index in sorted(chosen)]


def _cut_image(job: Job, folder: Path, split: str) -> list[CutTile]:
    image, tiles = job
    source = open_image(image.path)
    if (source.width, source.height) != (image.width, image.height):
        raise DatasetError(
            f"the image is {source.width} x {source.height} pixels, its annotation says {image.width} x {image.height}",
            where=image.path,
            mend="Prepare the dataset again.",
        )
    done = []
    for tile in tiles:
        stem = f"{image.path.stem}@{tile.scale:.3f}_{tile.x}_{tile.y}"
        rings = [one_ring(outline) for outline in tile.outlines]
        rows = [_label_row(ring, tile.side) for ring in rings if len(ring)]
        (folder / "labels" / split / f"{stem}.txt").write_text("".join(rows), encoding="utf-8")
        file = folder / "images" / split / f"{stem}.jpg"
        # Not by libvips itself, whose errors do not tell a full disk from a broken image.
        file.write_bytes(pyvips.Image.new_from_array(_pixels(source, tile)).jpegsave_buffer(Q=JPEG_QUALITY))
        done.append(CutTile(file.name, image.dataset, image.path.name, tile.scale, len(rows)))
    return done


def _pixels(source: LazyImage, tile: Tile) -> npt.NDArray[np.uint8]:
    size = scaled_size(source.width, source.height, tile.scale)
    left, top = max(0, tile.x), max(0, tile.y)
    width, height = min(tile.side, size[0] - left), min(tile.side, size[1] - top)
    pixels = np.full((tile.side, tile.side, 3), PADDING, np.uint8)
    column, row = left - tile.x, top - tile.y
    pixels[row : row + height, column : column + width] = source.read(left, top, width, height, size)
    return pixels


def _label_row(ring: npt.NDArray[np.float64], side: int) -> str:
    return "0 " + " ".join(f"{value:.5f}" for value in (ring / side).clip(0, 1).ravel()) + "\n"
