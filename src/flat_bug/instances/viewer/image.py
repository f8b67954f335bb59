"""What the viewer holds of one image: its tiles, a thumbnail, and its animals."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.files import atomic_path, printable, remove_leftovers, write_text
from flat_bug.instances.pixels import Pixels
from flat_bug.instances.table import Instances
from flat_bug.instances.viewer.columns import columns_of
from flat_bug.instances.viewer.names import slug_of
from flat_bug.instances.viewer.outlines import encode_outlines
from flat_bug.instances.viewer.thumbnail import make_thumbnail
from flat_bug.progress import Report

IMAGES = "images"
"""Folder of the viewer with a folder for each image."""
ANIMALS = "animals.js"

TILE = 512
OVERLAP = 1
"""Pixels that tiles share, so that no seam shows between two that are scaled."""
TILES_VERSION = "1"
"""Is part of the name of each folder of tiles: other tiles are made when it changes."""


class Zoomable(Pixels, Protocol):
    """An image that can be cut into deep-zoom tiles, as ``flat_bug.imaging`` opens it."""

    def save_tiles(self, folder: Path, *, side: int, overlap: int, on_progress: Report | None = None) -> None:
        """Write ``folder/<level>/<column>_<row>.jpg``; level 0 fits into one tile, the last one is native."""


@dataclass(frozen=True)
class Viewed:
    """An image and what was found in it.

    Attributes:
        name: What its results are called; no other image has this name.
        title: What people call it: its path below the input folder.
        table: The animals.
        open_pixels: Opens the image; asked for only if its pixels are needed.
        image_sha256: Digest of the image, by which is told whether its tiles are still true.
        measurements: Further numbers of each animal, as ``columns_of`` takes them.
    """

    name: str
    title: str
    table: Instances
    open_pixels: Callable[[], Zoomable]
    image_sha256: str
    measurements: Mapping[str, npt.ArrayLike] | None = None


@dataclass(frozen=True)
class Entry:
    """An image in the list of all images.

    Attributes:
        slug: Name of its folder.
        thumbnail: Name of its thumbnail in that folder.
        title: What people call it.
        width: In pixels.
        height: In pixels.
        count: Number of animals.
        median: Median area of the animals in square pixels, or nothing.
        mm_per_px: Size of a pixel in millimetres, when known.
    """

    slug: str
    thumbnail: str
    title: str
    width: int
    height: int
    count: int
    median: float | None
    mm_per_px: float | None


def write_image(viewer: Path, viewed: Viewed, on_progress: Report | None = None) -> Entry:
    """Write what is missing or no longer true of one image; each part is found whole or not at all.

    Args:
        viewer: Folder of the viewer.
        viewed: The image.
        on_progress: Told how many per cent of the tiles are done, and 100.

    Returns:
        What the list of images says of it.

    Raises:
        ImageError: The image cannot be read, or is not the one that was predicted.
        OutputError: The folder cannot be written to or the disk is full.
    """
    slug = slug_of(viewed.name)
    folder = viewer / IMAGES / slug
    outlines = encode_outlines(viewed.table)
    tiles = folder / f"tiles-{_digest(TILES_VERSION, TILE, OVERLAP, viewed.image_sha256)}"
    # The thumbnail shows the outlines too.
    thumbnail = folder / f"thumbnail-{_digest(tiles.name, json.dumps(outlines))}.jpg"
    if not (tiles.is_dir() and thumbnail.is_file()):
        _write_pictures(viewed, tiles, thumbnail, on_progress)
    _write_if_changed(folder / ANIMALS, script_of("image", _payload(viewed, slug, tiles) | outlines))
    _remove_stale(folder, {tiles, thumbnail})
    return _entry(viewed, slug, thumbnail.name)


def script_of(receiver: str, value: Any) -> str:
    """Return a value as a script that hands it to the page, since a page from a disk may load scripts and no JSON.

    It is ASCII. As a text that the browser parses as JSON it is read faster than as a program, and is data only.
    """
    text = printable(json.dumps(value, allow_nan=False, separators=(",", ":")))
    return f"flatBugData.{receiver}(JSON.parse({json.dumps(text)}));\n"


def _digest(*made_of: object) -> str:
    return hashlib.sha256(" ".join(map(str, made_of)).encode()).hexdigest()[:12]


def _write_pictures(viewed: Viewed, tiles: Path, thumbnail: Path, on_progress: Report | None) -> None:
    pixels = viewed.open_pixels()
    if (pixels.width, pixels.height) != (viewed.table.width, viewed.table.height):
        raise ImageError(
            f"the image has {pixels.width} × {pixels.height} pixels, "
            f"but {viewed.table.width} × {viewed.table.height} when it was predicted",
            where=viewed.title,
            mend="Predict it again.",
        )
    if not tiles.is_dir():
        with atomic_path(tiles) as temporary:
            pixels.save_tiles(temporary, side=TILE, overlap=OVERLAP, on_progress=on_progress)
    with atomic_path(thumbnail) as temporary:
        temporary.write_bytes(make_thumbnail(pixels, viewed.table))


def _remove_stale(folder: Path, current: set[Path]) -> None:
    remove_leftovers(folder)
    for path in set(folder.glob("t*-*")) - current:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _payload(viewed: Viewed, slug: str, tiles: Path) -> dict[str, Any]:
    table = viewed.table
    levels = sum(1 for level in tiles.iterdir() if level.is_dir())
    return {
        "slug": slug,
        "title": printable(viewed.title),
        "width": table.width,
        "height": table.height,
        "mmPerPx": table.mm_per_px,
        "tiles": {"folder": tiles.name, "side": TILE, "overlap": OVERLAP, "levels": levels},
        "model": table.provenance.weights_name,
        "classNames": list(table.class_names),
        "classes": table.classes.tolist(),
        "columns": [column.as_mapping() for column in columns_of(table, viewed.measurements)],
    }


def _entry(viewed: Viewed, slug: str, thumbnail: str) -> Entry:
    table = viewed.table
    return Entry(
        slug=slug,
        thumbnail=thumbnail,
        title=printable(viewed.title),
        width=table.width,
        height=table.height,
        count=len(table),
        median=float(np.median(table.areas)) if len(table) else None,
        mm_per_px=table.mm_per_px,
    )


def _write_if_changed(path: Path, text: str) -> None:
    try:
        same = path.read_text(encoding="utf-8") == text
    except (OSError, UnicodeDecodeError):
        same = False
    if not same:
        write_text(path, text)
