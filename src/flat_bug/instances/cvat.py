"""CVAT's XML of many images ("CVAT 1.1"), as pre-annotations for people to correct."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.files import printable
from flat_bug.instances.categories import Categories
from flat_bug.instances.coverage import half_covered, pixel_bounds
from flat_bug.instances.image_result import Add, ImageResult
from flat_bug.instances.table import Instances

NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML file can hold, not even as an escape."""


@contextmanager
def open_cvat(path: Path) -> Iterator[Add]:
    """Give a function that adds an image to CVAT's XML.

    Parts of one animal are polygons of one group. An outline with holes becomes a mask of the pixels that are at
    least half covered, as polygons have no holes there.

    Args:
        path: The file, in a new folder that is moved into place as a whole when the block ends without an error.
    """
    categories, body = Categories(), path.with_name("images.part")
    count = groups = 0
    with body.open("w", encoding="utf-8") as stream:

        def add(image: ImageResult) -> None:
            nonlocal count, groups
            element = _image(image, categories, groups)
            element.set("id", str(count))
            count += 1
            groups = max([groups, *(int(shape.get("group_id", 0)) for shape in element)])
            stream.write(_lines(element))

        yield add
    with path.open("w", encoding="utf-8") as stream:
        # Labels stand at the top, and are known when all images were seen.
        stream.write('<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n')
        stream.write(_lines(_meta(categories, count)))
        with body.open(encoding="utf-8") as written:
            shutil.copyfileobj(written, stream)
        stream.write("</annotations>\n")
    body.unlink()


def _meta(categories: Categories, count: int) -> ElementTree.Element:
    meta = ElementTree.Element("meta")
    task = ElementTree.SubElement(meta, "task")
    for name, text in {"name": "flat-bug", "size": str(count), "mode": "annotation"}.items():
        ElementTree.SubElement(task, name).text = text
    labels = ElementTree.SubElement(task, "labels")
    for category in categories.names:
        label = ElementTree.SubElement(labels, "label")
        for name, text in {"name": _text(category), "type": "any"}.items():
            ElementTree.SubElement(label, name).text = text
        score = ElementTree.SubElement(ElementTree.SubElement(label, "attributes"), "attribute")
        for name, text in {"name": "score", "mutable": "False", "input_type": "text"}.items():
            ElementTree.SubElement(score, name).text = text
        for name in ("default_value", "values"):
            ElementTree.SubElement(score, name)
    return meta


def _image(image: ImageResult, categories: Categories, groups: int) -> ElementTree.Element:
    """Return the element of one image, its groups numbered on from those of the images before."""
    table, numbers = image.table, categories.numbers(image.table)
    size = {"width": str(table.width), "height": str(table.height)}
    element = ElementTree.Element("image", {"name": _text(image.file_name), **size})
    for row, polygon in enumerate(table.polygons):
        shapes = list(_shapes(polygon, table))
        shared = {"label": _text(categories.names[numbers[row]]), "source": "auto", "occluded": "0", "z_order": "0"}
        if len(shapes) > 1:
            groups += 1
            shared["group_id"] = str(groups)
        for kind, attributes in shapes:
            shape = ElementTree.SubElement(element, kind, shared | attributes)
            ElementTree.SubElement(shape, "attribute", {"name": "score"}).text = repr(float(table.scores[row]))
    return element


def _shapes(polygon: shapely.Geometry, table: Instances) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the kind and the own attributes of each shape that an outline is drawn with."""
    parts = shapely.get_parts(polygon)
    mask = _mask(polygon, table) if shapely.get_num_interior_rings(parts).any() else None
    if mask is not None:
        yield "mask", mask
        return
    for ring in shapely.get_exterior_ring(parts):
        points = shapely.get_coordinates(ring)[:-1].tolist()
        yield "polygon", {"points": ";".join(f"{x!r},{y!r}" for x, y in points)}


def _mask(polygon: shapely.Geometry, table: Instances) -> dict[str, str] | None:
    """Return the pixels that are at least half covered as runs along the rows of their box; None where none is."""
    x1, y1, x2, y2 = pixel_bounds(polygon, table.width, table.height)
    inside = half_covered(polygon, x1, y1, x2 - x1, y2 - y1)
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    if len(rows) == 0:
        return None
    inside = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    place = {"left": x1 + columns[0], "top": y1 + rows[0], "width": inside.shape[1], "height": inside.shape[0]}
    return {"rle": ", ".join(map(str, _runs(inside.ravel()))), **{name: str(value) for name, value in place.items()}}


def _runs(inside: npt.NDArray[np.bool_]) -> list[int]:
    """Return the lengths of runs of equal values, the first of them outside."""
    borders = np.flatnonzero(np.diff(inside)) + 1
    lengths: list[int] = np.diff([0, *borders.tolist(), len(inside)]).tolist()
    return [0, *lengths] if inside[0] else lengths


def _lines(element: ElementTree.Element) -> str:
    ElementTree.indent(element)
    return ElementTree.tostring(element, encoding="unicode") + "\n"


def _text(text: str) -> str:
    return NOT_XML.sub("\ufffd", printable(text))
