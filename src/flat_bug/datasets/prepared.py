"""One image on its way into a prepared tree: checked, named, and with its labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.datasets.coco import GroundTruthImage
from flat_bug.datasets.folder import DatasetImage
from flat_bug.datasets.imagefile import ImageFacts
from flat_bug.errors import DatasetError
from flat_bug.instances.yolo import label_text

Split = Literal["train", "val"]
CATEGORY = {"id": 1, "name": "insect", "supercategory": ""}


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as it goes into the tree.

    Attributes:
        image: The image in its dataset.
        facts: What its file says.
        split: ``train`` or ``val``.
        name: File name in the tree, ``<dataset>_<name>``.
        labels: Content of its label file.
        labelled: ``(n,)`` which annotations are in the label file: neither crowd nor without area.
        clipped: Number of labelled annotations that reach out of the image and are cut at its border.
    """

    image: DatasetImage
    facts: ImageFacts
    split: Split
    name: str
    labels: str
    labelled: npt.NDArray[np.bool_]
    clipped: int

    @property
    def truth(self) -> GroundTruthImage:
        """The annotations of the image."""
        return self.image.truth

    @property
    def source(self) -> str:
        """The image as a person finds it: dataset and name in the dataset."""
        return f"{self.image.dataset}/{self.truth.file_name}"


def prepare_image(image: DatasetImage, facts: ImageFacts, split: Split, name: str) -> PreparedImage:
    """Check an image against its annotations and make its labels.

    Raises:
        DatasetError: The file has another size than the annotations say, or an annotation lies outside the image.
    """
    truth = image.truth
    _check_size(image, facts)
    labelled = ~truth.crowd & (shapely.area(truth.polygons) > 0)
    polygons = truth.polygons[labelled]
    left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T
    beyond = (left < 0) | (top < 0) | (right > truth.width) | (bottom > truth.height)
    polygons[beyond] = _cut(polygons[beyond], truth.width, truth.height)
    outside = np.flatnonzero(shapely.area(polygons) == 0)
    if len(outside):
        ids = truth.annotation_ids[labelled][outside].tolist()
        raise DatasetError(
            f"annotation {ids[0]} lies outside its image {truth.file_name!r} of {truth.width} x {truth.height} pixels",
            where=image.source,
            mend=f"Mend or delete annotation {', '.join(str(number) for number in ids)}.",
        )
    return PreparedImage(
        image=image,
        facts=facts,
        split=split,
        name=name,
        labels=label_text(polygons, truth.width, truth.height),
        labelled=labelled,
        clipped=int(beyond.sum()),
    )


def unique_names(images: Sequence[DatasetImage]) -> list[str]:
    """Return a file name in the tree for each image, ``<dataset>_<name>``, no two with the same stem.

    Labels are found by the stem, and some file systems do not tell upper from lower case. An image whose name is taken
    gets its folders within the dataset in front, ``<dataset>_<folder>__<name>``, and if need be a number at the end.
    """
    taken: set[str] = set()
    return [_free_name(image, taken) for image in images]


def coco_document(images: Sequence[PreparedImage]) -> dict[str, Any]:
    """Return the COCO annotations of one split: ids from 1, one category, outlines exactly as they were given.

    What an entry holds beyond COCO is kept. Annotations that are not labels, since they mark crowds or have no area,
    have ``iscrowd`` 1, so that scoring passes them over.
    """
    image_entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, prepared in enumerate(images, start=1):
        truth = prepared.truth
        own = {"id": image_id, "file_name": prepared.name, "width": truth.width, "height": truth.height}
        # Licence numbers count within one dataset only; the manifest keeps the licences of each.
        others = {key: value for key, value in truth.entry.items() if key != "license"}
        image_entries.append({**others, **own, "dataset": prepared.image.dataset})
        for row in range(len(truth)):
            numbers = {"id": len(annotations) + 1, "image_id": image_id, "category_id": CATEGORY["id"]}
            annotations.append({**_annotation(prepared, row), **numbers})
    return {
        "info": {"description": "flat-bug prepared tree"},
        "licenses": [],
        "images": image_entries,
        "annotations": annotations,
        "categories": [CATEGORY],
    }


def _annotation(prepared: PreparedImage, row: int) -> dict[str, Any]:
    truth = prepared.truth
    left, top, right, bottom = truth.boxes[row].tolist()
    flags = {"box_only": True} if truth.box_only[row] else {}
    return {
        **truth.annotations[row],
        "bbox": [left, top, right - left, bottom - top],
        "area": truth.polygons[row].area,
        "segmentation": _segmentation(truth, row),
        "iscrowd": int(not prepared.labelled[row]),
        **flags,
    }


def _segmentation(truth: GroundTruthImage, row: int) -> list[list[float]] | Mapping[str, Any]:
    """Return the outline as it was given, or as it was made where it was broken or missing."""
    given = truth.annotations[row].get("segmentation") or []
    parts = shapely.get_parts(truth.polygons[row])
    made = truth.box_only[row] or truth.repaired[row]
    # Rings cannot express holes, but a ring that touches itself can enclose one: such a ring is left as it was.
    if not made or not len(parts) or shapely.get_num_interior_rings(parts).any():
        return given
    return [shapely.get_coordinates(part).ravel()[:-2].tolist() for part in parts]


def _check_size(image: DatasetImage, facts: ImageFacts) -> None:
    truth = image.truth
    said, found = (truth.width, truth.height), (facts.width, facts.height)
    if said == found:
        return
    if facts.turned and said == found[::-1]:
        raise DatasetError(
            f"image {truth.file_name!r} was annotated as stored, {said[0]} x {said[1]} pixels, but its EXIF orientation"
            f" turns it to {found[0]} x {found[1]}",
            where=image.path,
            mend="Remove the orientation from the file (exiftool -Orientation= FILE), or annotate it as displayed.",
        )
    raise DatasetError(
        f"image {truth.file_name!r} has {found[0]} x {found[1]} pixels, its annotations say {said[0]} x {said[1]}",
        where=image.path,
        mend="Put back the image that was annotated, or correct width and height in the annotations.",
    )


def _cut(polygons: npt.NDArray[np.object_], width: int, height: int) -> npt.NDArray[np.object_]:
    cut = shapely.intersection(polygons, shapely.box(0, 0, width, height))
    # An outline that also touches the border from outside leaves lines and points beside its areas.
    areas = [shapely.multipolygons(_only_areas(geometry)) for geometry in cut]
    return np.array(areas, object)


def _only_areas(geometry: shapely.Geometry) -> npt.NDArray[np.object_]:
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return parts[shapely.get_dimensions(parts) == 2]  # type: ignore[no-any-return]


def _free_name(image: DatasetImage, taken: set[str]) -> str:
    path = PurePosixPath(image.relative.as_posix())
    with_folders = "__".join(path.with_suffix("").parts)
    candidates = [f"{image.dataset}_{path.stem}", f"{image.dataset}_{with_folders}"]
    number = 2
    while candidates[0].casefold() in taken:
        candidates.pop(0)
        if not candidates:
            candidates.append(f"{image.dataset}_{with_folders}__{number}")
            number += 1
    taken.add(candidates[0].casefold())
    return candidates[0] + path.suffix
