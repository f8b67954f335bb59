"""Read predictions in any of their formats, and find the annotated image that each belongs to."""

import glob
import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.datasets.coco import GroundTruthImage, read_coco
from flat_bug.errors import DatasetError
from flat_bug.evaluation.objects import Floats
from flat_bug.files import printable, sha256_of
from flat_bug.instances.metadata import read_metadata
from flat_bug.progress import track

COCO_NAME = "coco_instances.json"
Agreement = tuple[bool, int]
GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, eq=False)
class PredictedImage:
    """The predictions for one image.

    Attributes:
        name: The image's name or path, as it was predicted.
        boxes: ``(n, 4)`` x1, y1, x2, y2 in image pixels.
        polygons: ``(n,)`` valid shapely polygons or multipolygons; object array.
        scores: ``(n,)`` confidence.
    """

    name: str
    boxes: Floats
    polygons: npt.NDArray[np.object_]
    scores: Floats

    @classmethod
    def empty(cls, name: str = "") -> Self:
        """Return an image without predictions."""
        return cls(name, np.empty((0, 4)), np.empty(0, object), np.empty(0))

    def __len__(self) -> int:
        return len(self.scores)


ImagePair = tuple[GroundTruthImage, PredictedImage | None]
"""An annotated image with its predictions, if there are any."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """All predictions that were read, and the digest of their files."""

    images: tuple[PredictedImage, ...]
    sha256: str


def read_predictions(path: Path, *, coco: bool = False) -> Predictions:
    """Read predictions from a COCO file, the JSON of one image, or a folder with either.

    Of an output folder of ``fb predict`` the COCO file is read, or else the JSON of each image, in sub-folders too.

    Args:
        path: File or folder, or a pattern of the JSON files of images, such as ``predictions/**/*.json``.
        coco: Whether the file must be COCO.

    Raises:
        DatasetError: There is nothing to read, or a file breaks its format.
    """
    if not path.exists() and GLOB.search(str(path)):
        return _from_metadata(_matching_files(path))
    if path.is_dir():
        whole = path / COCO_NAME
        if whole.is_file() or coco:
            return _from_coco(whole)
        return _from_metadata(_metadata_files(path))
    if coco or _is_coco(path):
        return _from_coco(path)
    return _from_metadata([path])


def pair_images(truth: Sequence[str], predicted: Sequence[str]) -> dict[int, int]:
    """Return the row of the annotated image for each row of a predicted image that has one.

    Two names belong together when their last parts agree: ``x.jpg`` is ``val/x.jpg`` is ``/data/val/x.jpg``. Where
    several share the file name, those that agree to the end of the shorter name come first, then most agreeing parts.

    Raises:
        DatasetError: A name fits two images equally well, or none fits any.
    """
    parts, predicted_parts = [_parts(name) for name in truth], [_parts(name) for name in predicted]
    by_name: dict[str, list[int]] = defaultdict(list)
    for row, part in enumerate(parts):
        by_name[part[0]].append(row)
    claims: dict[int, list[tuple[Agreement, int]]] = defaultdict(list)
    for row, part in enumerate(predicted_parts):
        fits = [(_agreement(part, parts[other]), other) for other in by_name.get(part[0], [])]
        if fits:
            claims[_best(fits, predicted[row], "two annotated images", truth)].append((max(fits)[0], row))
    pairs = {_best(fits, truth[row], "two predicted images", predicted): row for row, fits in claims.items()}
    if truth and predicted and not pairs:
        raise DatasetError(
            f"none of the {len(predicted)} predicted images is in the ground truth",
            where=f"predicted: {predicted[0]}; annotated: {truth[0]}",
            mend="Give the ground truth of the images that were predicted.",
        )
    return pairs


def _best(fits: list[tuple[Agreement, int]], name: str, what: str, names: Sequence[str]) -> int:
    most = max(agreement for agreement, _ in fits)
    best = [other for agreement, other in fits if agreement == most]
    if len(best) > 1:
        raise DatasetError(
            f"{name!r} can be {what}: {names[best[0]]!r} and {names[best[1]]!r}",
            mend="Rename one, or write names with their folders in both files.",
        )
    return best[0]


def _parts(name: str) -> tuple[str, ...]:
    """Return the folders and the file name, the file name first; the same for any way of writing the path."""
    whole = unicodedata.normalize("NFC", name)
    return tuple(part for part in reversed(re.split(r"[\\/]", whole)) if part not in ("", ".")) or (whole,)


def _agreement(mine: tuple[str, ...], theirs: tuple[str, ...]) -> Agreement:
    """Return whether one name ends with the whole of the other, and how many parts agree from the end."""
    shorter = min(len(mine), len(theirs))
    parts = next((row for row in range(shorter) if mine[row] != theirs[row]), shorter)
    return parts == shorter, parts


def _is_coco(path: Path) -> bool:
    try:
        content = path.read_bytes()
    except OSError:
        return True  # the reader of COCO says what is wrong
    # Parsing takes seconds where files are large, and is done by the reader anyway.
    return b'"annotations"' in content or b'"confs"' not in content


def _from_coco(path: Path) -> Predictions:
    images = [
        PredictedImage(
            printable(image.file_name),
            image.boxes,
            image.polygons,
            np.ones(len(image)) if image.scores is None else image.scores,
        )
        for image in read_coco(path).images
    ]
    return Predictions(tuple(images), sha256_of(path))


def _metadata_files(folder: Path) -> list[Path]:
    # A run that was killed leaves hidden folders with what it was about to write.
    found = sorted(path for path in folder.rglob("*.json") if not _is_hidden(path.relative_to(folder)))
    return _some([path for path in found if path.name.startswith("metadata_")] or found, folder)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _matching_files(pattern: Path) -> list[Path]:
    # Path.glob takes patterns without a root only, and a pattern of the user's may have one.
    found = (Path(name) for name in glob.glob(str(pattern), recursive=True))  # noqa: PTH207
    return _some(sorted(path for path in found if path.is_file() and path.name != COCO_NAME), pattern)


def _some(files: list[Path], where: Path) -> list[Path]:
    if not files:
        raise DatasetError(
            "there are no predictions here",
            where=where,
            mend=f"Give an output folder of `fb predict`, with {COCO_NAME} or metadata_*.json files.",
        )
    return files


def _from_metadata(files: list[Path]) -> Predictions:
    images = []
    digests = []
    for path in track(files, "Reading predictions"):
        read = read_metadata(path)
        table = read.instances
        images.append(PredictedImage(printable(read.image_path), table.boxes, _valid(table.polygons), table.scores))
        digests.append(f"{sha256_of(path)}  {path.name}\n")
    return Predictions(tuple(images), hashlib.sha256("".join(digests).encode()).hexdigest())


def _valid(polygons: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    """Return the outlines, those that cross themselves mended as the reader of COCO files mends them."""
    mended = polygons.copy()
    broken = ~shapely.is_valid(polygons)
    mended[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    return mended
