"""COCO instances of many images in one file: exact areas, and run-length masks for holes or where they are wanted."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.files import atomic_path
from flat_bug.instances.categories import Categories
from flat_bug.instances.coverage import half_covered, pixel_bounds
from flat_bug.instances.table import Instances


def write_coco(path: Path, images: Iterable[tuple[str, Instances]], *, run_lengths: bool = False) -> None:
    """Write the instances of many images as one COCO file, all of it or nothing.

    Images and annotations count from 1 in the order given. One image at a time is in memory.

    Args:
        path: The file.
        images: Name and table of each image.
        run_lengths: Write every outline as a run-length mask, not only those with holes.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    with open_coco(path, run_lengths=run_lengths) as add:
        for file_name, table in images:
            add(file_name, table)


@contextmanager
def open_coco(path: Path, *, run_lengths: bool = False) -> Iterator[Callable[[str, Instances], None]]:
    """Give a function that adds an image, by its name and table, to a COCO file; see ``write_coco``.

    The file is there when the block ends without an error.
    """
    entries: list[dict[str, Any]] = []
    categories, written = Categories(), 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", errors="backslashreplace") as stream:

        def add(file_name: str, table: Instances) -> None:
            nonlocal written
            entries.append(_image_entry(len(entries) + 1, file_name, table))
            numbers = categories.numbers(table)
            for annotation in annotations(table, len(entries), written + 1, numbers, run_lengths=run_lengths):
                # One line each, so that two files can be compared with ordinary tools.
                stream.write(",\n" if written else "\n")
                stream.write(_dump(annotation))
                written += 1

        stream.write('{"annotations": [')
        yield add
        kinds = _kinds(categories)
        stream.write(f'\n],\n"images": [{_lines(entries)}],\n"categories": [{_lines(kinds)}]}}\n')


def coco_of(file_name: str, table: Instances, *, run_lengths: bool = False) -> dict[str, Any]:
    """Return what ``write_coco`` writes of one image."""
    categories = Categories()
    rows = list(annotations(table, 1, 1, categories.numbers(table), run_lengths=run_lengths))
    return {"annotations": rows, "images": [_image_entry(1, file_name, table)], "categories": _kinds(categories)}


def annotations(
    table: Instances,
    image_id: int,
    first_id: int = 1,
    classes: npt.NDArray[np.int64] | None = None,
    *,
    run_lengths: bool = False,
) -> Iterator[dict[str, Any]]:
    """Yield the COCO annotations of one image: true areas, ``iscrowd`` 0, the score as ``score`` and as ``conf``.

    Args:
        table: The instances.
        image_id: Id of the image.
        first_id: Id of the first annotation.
        classes: ``(n,)`` numbers of the categories from 0; by default those of the table.
        run_lengths: Write every outline as a run-length mask, not only those with holes.
    """
    classes = table.classes if classes is None else classes
    boxes = np.concatenate([table.boxes[:, :2], table.boxes[:, 2:] - table.boxes[:, :2]], axis=1)
    for row, area in enumerate(table.areas.tolist()):
        yield {
            "id": first_id + row,
            "image_id": image_id,
            "category_id": int(classes[row]) + 1,
            "bbox": boxes[row].tolist(),
            "area": area,
            "iscrowd": 0,
            "segmentation": segmentation(table.polygons[row], table.width, table.height, run_lengths=run_lengths),
            "score": float(table.scores[row]),
            "conf": float(table.scores[row]),
            **({} if table.track_ids is None else {"track_id": int(table.track_ids[row])}),
        }


def segmentation(
    polygon: shapely.Geometry, width: int, height: int, *, run_lengths: bool = False
) -> list[list[float]] | dict[str, Any]:
    """Return an outline as COCO writes it: a list of rings without holes, a run-length mask with them.

    Args:
        polygon: A ``Polygon`` or ``MultiPolygon`` in image pixels.
        width: Image width.
        height: Image height.
        run_lengths: Return a run-length mask in any case.
    """
    parts = shapely.get_parts(polygon)
    if run_lengths or shapely.get_num_interior_rings(parts).any():
        return _run_lengths(polygon, width, height)
    rings = shapely.get_exterior_ring(parts)
    return [shapely.get_coordinates(ring)[:-1].ravel().tolist() for ring in rings]


def _run_lengths(polygon: shapely.Geometry, width: int, height: int) -> dict[str, Any]:
    """Return a compressed run-length mask of the pixels that are at least half covered, made from the box only."""
    # faster-coco-eval takes a fifth of a second to import, and few outlines have holes.
    from faster_coco_eval.core import mask as coco_mask  # noqa: PLC0415

    x1, y1, x2, y2 = pixel_bounds(polygon, width, height)
    inside = np.zeros((x2 - x1, y2 - y1 + 2), np.bool_)
    inside[:, 1:-1] = half_covered(polygon, x1, y1, x2 - x1, y2 - y1).T
    # COCO counts down the columns of the whole image; in each column runs begin and end by turns.
    columns, rows = np.nonzero(inside[:, 1:] != inside[:, :-1])
    starts, ends = ((columns + x1) * height + rows + y1).reshape(-1, 2).T
    # A run that reaches the lower border goes on at the upper one.
    apart = starts[1:] != ends[:-1]
    starts, ends = starts[np.append(True, apart)[: len(starts)]], ends[np.append(apart, True)[: len(ends)]]
    borders = np.concatenate([[0], np.stack([starts, ends], axis=1).ravel(), [width * height]])
    mask = coco_mask.frPyObjects({"counts": np.diff(borders).tolist(), "size": [height, width]}, height, width)
    return {"size": [height, width], "counts": mask["counts"].decode("ascii")}


def _image_entry(image_id: int, file_name: str, table: Instances) -> dict[str, Any]:
    size = {"width": table.width, "height": table.height}
    image = {"id": image_id, "file_name": file_name, **size, "sha256": table.provenance.image_sha256}
    scale = {} if table.mm_per_px is None else {"mm_per_px": table.mm_per_px}
    return image | scale | table.place_in_file()


def _kinds(categories: Categories) -> list[dict[str, Any]]:
    return [{"id": id_, "name": name, "supercategory": ""} for id_, name in enumerate(categories.names, start=1)]


def _lines(values: list[dict[str, Any]]) -> str:
    return "".join(f"\n{_dump(value)}," for value in values).rstrip(",") + "\n"


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
