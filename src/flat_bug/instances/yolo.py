"""A dataset of YOLO labels for segmentation, as ultralytics trains on it."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.files import printable
from flat_bug.instances.categories import Categories
from flat_bug.instances.image_result import Add, ImageResult, link_image
from flat_bug.instances.single_ring import single_ring


@contextmanager
def open_yolo(folder: Path) -> Iterator[Add]:
    """Give a function that adds an image to a dataset: its label file, and a link to it.

    Args:
        folder: A new folder that is moved into place as a whole when the block ends without an error.
    """
    categories, images, labels = Categories(), folder / "images", folder / "labels"
    images.mkdir()
    labels.mkdir()

    def add(image: ImageResult) -> None:
        table = image.table
        link_image(images, image)
        polygons = _inside(table.polygons, table.width, table.height)
        # What lies outside the image has no label.
        seen = shapely.area(polygons) > 0
        text = label_text(polygons[seen], table.width, table.height, categories.numbers(table)[seen])
        (labels / f"{image.stem}.txt").write_text(text, encoding="utf-8")

    yield add
    # A JSON text is a YAML text, and any name is one without further quoting.
    names = "".join(f"  {number}: {json.dumps(printable(name))}\n" for number, name in enumerate(categories.names))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames:\n{names}", encoding="utf-8")


def label_text(
    polygons: npt.NDArray[np.object_], width: int, height: int, classes: npt.NDArray[np.int64] | None = None
) -> str:
    """Return the content of a label file: a line ``class x y x y …`` for each outline.

    Args:
        polygons: ``(n,)`` Polygon or MultiPolygon with an area, inside the image.
        width: Image width in pixels.
        height: Image height in pixels.
        classes: ``(n,)`` numbers of classes; 0 by default.
    """
    numbers = np.zeros(len(polygons), np.int64) if classes is None else classes
    rows = zip(numbers.tolist(), polygons, strict=True)
    return "".join(_row(number, single_ring(polygon) / (width, height)) for number, polygon in rows)


def _row(number: int, ring: npt.NDArray[np.float64]) -> str:
    # Nine digits keep a thousandth of a pixel in images far larger than any scanner makes.
    return f"{number} " + " ".join([f"{value:.9g}" for value in ring.ravel().tolist()]) + "\n"


def _inside(polygons: npt.NDArray[np.object_], width: int, height: int) -> npt.NDArray[np.object_]:
    """Return the part of each outline that is in the image: labels with other coordinates are refused."""
    inside = polygons.copy()
    left, top, right, bottom = shapely.bounds(polygons).reshape(-1, 4).T
    beyond = (left < 0) | (top < 0) | (right > width) | (bottom > height)
    cut = shapely.intersection(inside[beyond], shapely.box(0, 0, width, height))
    # Where an outline touches the border, a line or a point may be left beside its area.
    inside[beyond] = [_polygons_of(geometry) for geometry in cut]
    return inside


def _polygons_of(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    return shapely.MultiPolygon([part for part in shapely.get_parts(geometry) if isinstance(part, shapely.Polygon)])
