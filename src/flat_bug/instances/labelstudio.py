"""Tasks for Label Studio with the instances as predictions, which people accept or correct there."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

import numpy as np
import shapely

from flat_bug.files import printable
from flat_bug.instances.categories import Categories
from flat_bug.instances.image_result import Add, ImageResult
from flat_bug.instances.table import Instances

LOCAL_FILES = "/data/local-files/?d="
"""Where Label Studio serves what lies in its document root."""


@contextmanager
def open_labelstudio(folder: Path, image_url: str | None = None) -> Iterator[Add]:
    """Give a function that adds an image to tasks with predictions, which a labelling interface comes with.

    Each part of an outline is a polygon without holes; those of one animal are related to its first part.

    Args:
        folder: A new folder that is moved into place as a whole when the block ends without an error.
        image_url: What stands before the name of an image in the address that Label Studio loads it from; by default
            where it serves the folder of the images if that lies in its document root.
    """
    categories, separator = Categories(), "\n"
    with (folder / "tasks.json").open("w", encoding="utf-8") as stream:

        def add(image: ImageResult) -> None:
            nonlocal separator
            categories.numbers(image.table)
            task = json.dumps(_task(image, image_url), ensure_ascii=False, allow_nan=False)
            stream.write(separator + printable(task))
            separator = ",\n"

        stream.write("[")
        yield add
        stream.write("\n]\n")
    (folder / "interface.xml").write_text(_interface(categories.names), encoding="utf-8")


def _task(image: ImageResult, image_url: str | None) -> dict[str, Any]:
    table = image.table
    prediction: dict[str, Any] = {"model_version": _model_version(table), "result": _regions(table)}
    if len(table):
        prediction["score"] = float(table.scores.mean())
    return {"data": {"image": _address(image, image_url), "file_name": image.file_name}, "predictions": [prediction]}


def _address(image: ImageResult, image_url: str | None) -> str:
    if image_url is not None:
        return image_url + quote(os.fsencode(image.file_name))
    # Label Studio serves folders in its document root only, and not the root itself.
    name = image.file_name
    if image.path is not None:
        # A page or a frame lies beside its file, if somebody has extracted it.
        beside = image.path.absolute().with_name(PurePosixPath(name).name)
        name = PurePosixPath(*beside.parts[-1 - len(PurePosixPath(name).parts) :]).as_posix()
    return LOCAL_FILES + quote(os.fsencode(name.lstrip("/")))


def _model_version(table: Instances) -> str:
    weights = table.provenance
    return " ".join(["flat-bug", weights.weights_name, weights.weights_sha256[:8]]).strip()


def _regions(table: Instances) -> list[dict[str, Any]]:
    regions: list[dict[str, Any]] = []
    for row, polygon in enumerate(table.polygons):
        shared = {
            "type": "polygonlabels",
            "from_name": "label",
            "to_name": "image",
            "original_width": table.width,
            "original_height": table.height,
            "image_rotation": 0,
            "score": float(table.scores[row]),
        }
        label = table.class_names[table.classes[row]]
        for part, ring in enumerate(shapely.get_exterior_ring(shapely.get_parts(polygon))):
            percent = shapely.get_coordinates(ring)[:-1] * 100 / np.array([table.width, table.height])
            value = {"points": percent.tolist(), "closed": True, "polygonlabels": [label]}
            regions.append({"id": f"{row}-{part}", **shared, "value": value})
            if part:
                ends = {"from_id": f"{row}-0", "to_id": f"{row}-{part}"}
                regions.append({"type": "relation", "direction": "bi", **ends})
    return regions


def _interface(names: tuple[str, ...]) -> str:
    labels = "\n".join(f"    <Label value={quoteattr(printable(name))}/>" for name in names)
    return f"""<View>
  <Image name="image" value="$image" zoom="true" zoomControl="true"/>
  <PolygonLabels name="label" toName="image" strokeWidth="2" opacity="0.3">
{labels}
  </PolygonLabels>
</View>
"""
