"""GeoJSON of one image, as QuPath takes it: an object for each instance, holes and detached parts included."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.files import atomic_path, printable
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.overview import PALETTE
from flat_bug.instances.table import Instances

IDENTIFIERS = uuid.UUID("0c7f4cf6-9d5a-5f0e-8a55-6f3b1c1f5d2e")
"""Namespace of the identifiers of objects, which are the same whenever the same image is written again."""


def write_geojson(path: Path, image: ImageResult) -> None:
    """Write the instances of one image as a GeoJSON feature collection, all of it or nothing, one at a time.

    Coordinates are pixels of the image, y down, as QuPath has them, and not degrees.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    separator = "\n"
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        stream.write('{"type": "FeatureCollection", "features": [')
        for feature in _features(image):
            stream.write(separator + printable(json.dumps(feature, ensure_ascii=False, allow_nan=False)))
            separator = ",\n"
        stream.write("\n]}\n")


def _features(image: ImageResult) -> Iterator[dict[str, Any]]:
    table = image.table
    measurements = _measurements(table)
    for row, polygon in enumerate(shapely.orient_polygons(table.polygons)):
        yield {
            "type": "Feature",
            "id": str(uuid.uuid5(IDENTIFIERS, printable(f"{table.provenance.image_sha256}/{image.file_name}/{row}"))),
            "geometry": json.loads(shapely.to_geojson(polygon)),
            "properties": {
                # Detections are what QuPath keeps ten thousands of, colours by measurement and lists in a table.
                "objectType": "detection",
                "classification": _classification(table.class_names, int(table.classes[row])),
                # What is not known of an animal is left out: JSON has no number for it.
                "measurements": {
                    name: float(column[row]) for name, column in measurements.items() if np.isfinite(column[row])
                },
            },
        }


def _measurements(table: Instances) -> dict[str, npt.NDArray[np.float64]]:
    """Return all numbers about the animals, by the names that they have in the table of measurements."""
    columns = {"score": table.scores, "level": table.levels, "area_px2": table.areas}
    if table.mm_per_px is not None:
        columns["area_mm2"] = table.areas * table.mm_per_px**2
    if table.track_ids is not None:
        columns["track_id"] = table.track_ids.astype(np.float64)
    return columns | dict(table.measurements)


def _classification(names: tuple[str, ...], number: int) -> dict[str, Any]:
    colour = PALETTE[number % len(PALETTE)]
    return {"name": names[number], "color": [round(255 * share) for share in colour]}
