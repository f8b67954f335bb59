"""GeoJSON of one image, as QuPath takes it: an object for each instance, holes and detached parts included."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.files import printable, write_text
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.overview import PALETTE
from flat_bug.instances.table import Instances

IDENTIFIERS = uuid.UUID("0c7f4cf6-9d5a-5f0e-8a55-6f3b1c1f5d2e")
"""Namespace of the identifiers of objects, which are the same whenever the same image is written again."""


def write_geojson(path: Path, image: ImageResult) -> None:
    """Write the instances of one image as a GeoJSON feature collection, all of it or nothing.

    Coordinates are pixels of the image, y down, as QuPath has them, and not degrees.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    features = ",\n".join(json.dumps(feature, ensure_ascii=False, allow_nan=False) for feature in _features(image))
    write_text(path, printable(f'{{"type": "FeatureCollection", "features": [\n{features}\n]}}\n'))


def _features(image: ImageResult) -> list[dict[str, Any]]:
    table = image.table
    geometries = shapely.to_geojson(shapely.orient_polygons(table.polygons))
    measurements = _measurements(table)
    return [
        {
            "type": "Feature",
            "id": str(uuid.uuid5(IDENTIFIERS, printable(f"{table.provenance.image_sha256}/{image.file_name}/{row}"))),
            "geometry": json.loads(geometry),
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
        for row, geometry in enumerate(geometries)
    ]


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
