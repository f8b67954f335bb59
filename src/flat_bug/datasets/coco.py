"""Read COCO files, ground truth or predictions, strictly: what is wrong is named with its file and annotation."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.datasets.outlines import OutlineError, Outlines, read_outlines
from flat_bug.errors import DatasetError

ANNOTATION_FILE = "instances_default.json"
"""Name of a dataset's annotation file, as CVAT exports it."""

LARGEST_ID = 2**63 - 1
LARGEST_SIDE = 10**9
LONGEST_NAME = 255
"""Bytes of a file name on any file system."""


@dataclass(frozen=True, eq=False)
class GroundTruthImage:
    """One image of a COCO file with its annotations, as columns in the order of the file.

    Coordinates are float64 image pixels exactly as in the file; they may lie outside the image.

    Attributes:
        id: The image's id in the file.
        file_name: The image's name in the file, which may hold folders.
        width: Width in pixels, from the file.
        height: Height in pixels, from the file.
        dataset: Name of the dataset that the image belongs to; empty when it cannot be told.
        polygons: ``(n,)`` valid shapely Polygon or MultiPolygon, in an object array; empty for an outline without area.
        boxes: ``(n, 4)`` x1, y1, x2, y2: the file's ``bbox``, or the bounds of the outline where there is none.
        annotation_ids: ``(n,)`` ids in the file.
        classes: ``(n,)`` category ids in the file.
        crowd: ``(n,)`` whether ``iscrowd`` is set.
        box_only: ``(n,)`` whether the annotation has no outline, so that its polygon is its box.
        repaired: ``(n,)`` whether a ring of the outline crossed or touched itself and was made valid.
        scores: ``(n,)`` confidence, or None when the file holds no predictions.
        entry: The image's entry in the file.
        annotations: The entries of the annotations in the file.
    """

    id: int
    file_name: str
    width: int
    height: int
    dataset: str
    polygons: npt.NDArray[np.object_]
    boxes: npt.NDArray[np.float64]
    annotation_ids: npt.NDArray[np.int64]
    classes: npt.NDArray[np.int64]
    crowd: npt.NDArray[np.bool_]
    box_only: npt.NDArray[np.bool_]
    repaired: npt.NDArray[np.bool_]
    scores: npt.NDArray[np.float64] | None = None
    entry: Mapping[str, Any] = field(default_factory=dict)
    annotations: tuple[Mapping[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.annotation_ids)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """A COCO file that has passed every check.

    Attributes:
        path: Where it was read.
        images: One entry for each image, with or without annotations, in the order of the file.
        categories: Category id to name.
        extras: The other members of the file, such as ``info`` and ``licenses``.
    """

    path: Path
    images: tuple[GroundTruthImage, ...]
    categories: Mapping[int, str]
    extras: Mapping[str, Any]


def read_coco(path: Path, datasets: Collection[str] = ()) -> CocoFile:
    """Read a COCO file with polygons, run-length masks or boxes, and any ids.

    Outlines that cross themselves are made valid, several parts become one MultiPolygon, and an annotation without an
    outline gets its box as one. Scores are read from ``score``, or from ``conf`` as flat-bug 1.x writes it.

    Args:
        path: The JSON file.
        datasets: Names of datasets, where they are known, to recognise at the start of file names (see `dataset_of`).

    Raises:
        DatasetError: The file is absent, is not COCO, or holds an impossible image or annotation, which is named.
    """
    document = _load(path)
    categories = _categories(document, path)
    images = _image_entries(document, path)
    annotations = _annotation_entries(document, {entry["id"]: entry for entry in images}, categories, path)
    try:
        outlines = read_outlines(annotations)
    except OutlineError as error:
        raise _annotation_error(str(error), annotations[error.row], path) from error
    rows = _Rows(annotations, outlines, _scores(annotations, path))
    names = _dataset_names(images, datasets, path)
    return CocoFile(
        path=path,
        images=tuple(rows.of_image(entry, name) for entry, name in zip(images, names, strict=True)),
        categories=categories,
        extras={key: value for key, value in document.items() if key not in ("images", "annotations", "categories")},
    )


def dataset_of(image_entry: Mapping[str, Any], known: Collection[str] = ()) -> str:
    """Return the dataset that an image of a COCO file belongs to, or an empty text.

    The entry's own ``dataset`` counts first. Trees of flat-bug 1.x have only the file name, ``<dataset>_<name>``: the
    longest of the known names that it starts with, so that a ``_`` in a name does not cut it short, or else what stands
    before the first ``_``.
    """
    if isinstance(image_entry.get("dataset"), str):
        return str(image_entry["dataset"])
    name = Path(str(image_entry["file_name"])).name
    matching = [dataset for dataset in known if name.startswith(f"{dataset}_")]
    if matching:
        return max(matching, key=len)
    prefix, underscore, _ = name.partition("_")
    return prefix if underscore else ""


class _Rows:
    """The annotations of the whole file as columns, from which each image takes its rows."""

    def __init__(
        self, annotations: list[dict[str, Any]], outlines: Outlines, scores: npt.NDArray[np.float64] | None
    ) -> None:
        self.annotations = annotations
        self.outlines = outlines
        self.scores = scores
        self.ids = np.array([entry["id"] for entry in annotations], np.int64)
        self.classes = np.array([entry["category_id"] for entry in annotations], np.int64)
        self.crowd = np.array([bool(entry.get("iscrowd", 0)) for entry in annotations], np.bool_)
        self.of: dict[int, list[int]] = {}
        for row, entry in enumerate(annotations):
            self.of.setdefault(entry["image_id"], []).append(row)

    def of_image(self, entry: dict[str, Any], dataset: str) -> GroundTruthImage:
        chosen = self.of.get(entry["id"], [])
        rows = np.array(chosen, np.intp)
        return GroundTruthImage(
            id=entry["id"],
            file_name=entry["file_name"],
            width=int(entry["width"]),
            height=int(entry["height"]),
            dataset=dataset,
            polygons=self.outlines.polygons[rows],
            boxes=self.outlines.boxes[rows],
            annotation_ids=self.ids[rows],
            classes=self.classes[rows],
            crowd=self.crowd[rows],
            box_only=self.outlines.box_only[rows],
            repaired=self.outlines.repaired[rows],
            scores=None if self.scores is None else self.scores[rows],
            entry=entry,
            annotations=tuple(self.annotations[row] for row in chosen),
        )


def _load(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise DatasetError(f"the annotations cannot be read: {error.strerror or error}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"the annotations are not JSON: {error}", where=path) from error
    if not isinstance(document, dict):
        raise DatasetError(
            f"the JSON is not COCO: it is a {_kind(document)}, not an object with images and annotations",
            where=path,
            mend="Export the annotations as COCO, for example “COCO 1.0” in CVAT.",
        )
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise DatasetError(
                f"the JSON is not COCO: it has no list {key!r}",
                where=path,
                mend="Export the annotations as COCO, for example “COCO 1.0” in CVAT.",
            )
        for row, entry in enumerate(document[key]):
            if not isinstance(entry, dict):
                raise DatasetError(f"entry {row} of {key!r} is a {_kind(entry)}, not an object", where=path)
    return document


def _categories(document: dict[str, Any], path: Path) -> dict[int, str]:
    categories: dict[int, str] = {}
    for entry in document["categories"]:
        if not _is_id(entry.get("id")):
            raise DatasetError(f"a category has the id {entry.get('id')!r}, not a whole number", where=path)
        if entry["id"] in categories:
            raise DatasetError(f"two categories have the id {entry['id']}", where=path)
        categories[entry["id"]] = str(entry.get("name", entry["id"]))
    return categories


def _image_entries(document: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    seen: set[int] = set()
    for entry in document["images"]:
        name = entry.get("file_name")
        if not _is_id(entry.get("id")):
            raise DatasetError(f"image {name!r} has the id {entry.get('id')!r}, not a whole number", where=path)
        if entry["id"] in seen:
            raise DatasetError(f"two images have the id {entry['id']}, one of them {name!r}", where=path)
        seen.add(entry["id"])
        if not isinstance(name, str) or not name:
            raise DatasetError(f"image {entry['id']} has no file_name", where=path)
        if any(len(part.encode(errors="surrogatepass")) > LONGEST_NAME for part in name.split("/")):
            raise DatasetError(f"the file_name of image {entry['id']} is longer than any file's", where=path)
        for side in ("width", "height"):
            size = entry.get(side)
            if type(size) not in (int, float) or not 1 <= size <= LARGEST_SIDE or size % 1:
                what = "no" if size is None else f"the impossible value {size!r} as"
                raise DatasetError(f"image {name!r} (id {entry['id']}) has {what} {side}", where=path)
    return list(document["images"])


def _annotation_entries(
    document: dict[str, Any], images: dict[int, dict[str, Any]], categories: dict[int, str], path: Path
) -> list[dict[str, Any]]:
    seen: set[int] = set()
    for entry in document["annotations"]:
        if not _is_id(entry.get("id")):
            raise DatasetError(f"an annotation has the id {entry.get('id')!r}, not a whole number", where=path)
        if entry["id"] in seen:
            raise DatasetError(f"two annotations have the id {entry['id']}", where=path)
        seen.add(entry["id"])
        # The type comes first: an id that is a list cannot be looked up.
        if not _is_id(entry.get("image_id")) or entry["image_id"] not in images:
            raise _annotation_error(f"there is no image with the id {entry.get('image_id')!r}", entry, path)
        if not _is_id(entry.get("category_id")) or entry["category_id"] not in categories:
            raise _annotation_error(f"there is no category with the id {entry.get('category_id')!r}", entry, path)
        if entry.get("iscrowd") not in (None, 0, 1):
            raise _annotation_error(f"iscrowd is {entry['iscrowd']!r}, not 0 or 1", entry, path)
        image, outline = images[entry["image_id"]], entry.get("segmentation")
        if isinstance(outline, dict) and outline.get("size") != [image["height"], image["width"]]:
            what = f"its mask has size {outline.get('size')}, its image {[image['height'], image['width']]}"
            raise _annotation_error(what, entry, path)
    return list(document["annotations"])


def _scores(annotations: list[dict[str, Any]], path: Path) -> npt.NDArray[np.float64] | None:
    if not annotations or not any("score" in entry or "conf" in entry for entry in annotations):
        return None
    scores = [entry.get("score", entry.get("conf")) for entry in annotations]
    for entry, score in zip(annotations, scores, strict=True):
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            raise _annotation_error(f"the score is {score!r}, not a number from 0 to 1", entry, path)
    return np.array(scores, np.float64)


def _dataset_names(images: list[dict[str, Any]], known: Collection[str], path: Path) -> list[str]:
    """Return the dataset of each image; images that lie beside the file belong to the folder's dataset."""
    if images and "dataset" not in images[0] and not known and (path.parent / images[0]["file_name"]).is_file():
        return [path.resolve().parent.name] * len(images)
    return [dataset_of(entry, known) for entry in images]


def _annotation_error(what: str, entry: dict[str, Any], path: Path) -> DatasetError:
    return DatasetError(f"annotation {entry['id']}: {what}", where=path)


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -LARGEST_ID <= value <= LARGEST_ID


def _kind(value: object) -> str:
    return {list: "list", str: "text", type(None): "null"}.get(type(value), "number")
