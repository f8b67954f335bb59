"""The JSON of one image: flat-bug 1.x's keys for existing consumers, and exact ones that give the same table back."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.errors import DatasetError
from flat_bug.files import write_json
from flat_bug.instances.table import Instances, Provenance

SCHEMA_VERSION = 2
"""Version of the exact keys; files of flat-bug 1.x carry none."""
FARTHEST = 1e9
"""No coordinate is farther out than this, in pixels."""
LARGEST_SIDE = 10**9
LARGEST_WHOLE = 2**53
"""Up to it every whole number is a float."""
POLYGONAL = [shapely.GeometryType.POLYGON, shapely.GeometryType.MULTIPOLYGON]


@dataclass(frozen=True)
class Metadata:
    """What the JSON of one image holds.

    Attributes:
        instances: The table.
        image_path: The image as it was named when it was predicted.
        identifier: The part of the file names after ``UUID_``.
    """

    instances: Instances
    image_path: str
    identifier: str


def write_metadata(path: Path, metadata: Metadata) -> None:
    """Write the JSON of one image, all of it or nothing.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    write_json(path, to_mapping(metadata), indent=None)


def read_metadata(path: Path) -> Metadata:
    """Read the JSON of one image, of this version or of flat-bug 1.x.

    Raises:
        DatasetError: The file is absent, is not JSON, or breaks the format.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"the prediction cannot be read: {error.strerror or error}", where=path) from error
    except (ValueError, RecursionError) as error:
        raise DatasetError(f"the prediction is not JSON: {error}", where=path) from error
    try:
        return from_mapping(values)
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, shapely.errors.ShapelyError) as error:
        raise DatasetError(
            f"not a prediction of one image: {type(error).__name__}: {error}",
            where=path,
            mend="Remove the file and predict the image again.",
        ) from error


def to_mapping(metadata: Metadata) -> dict[str, Any]:
    """Return the values of the JSON.

    ``contours`` hold what flat-bug 1.x can hold of an outline, its largest part without holes; ``polygons`` are
    GeoJSON geometries with everything. Classes count from 1, as the categories of COCO do.
    """
    table = metadata.instances
    return {
        "boxes": table.boxes.tolist(),
        "contours": [[ring[:, 0].tolist(), ring[:, 1].tolist()] for ring in map(largest_ring, table.polygons)],
        "confs": table.scores.tolist(),
        "classes": (table.classes + 1).tolist(),
        "scales": table.levels.tolist(),
        "areas": table.areas.tolist(),
        "image_path": metadata.image_path,
        "image_width": table.width,
        "image_height": table.height,
        "mask_width": table.width,
        "mask_height": table.height,
        "identifier": metadata.identifier,
        "schema_version": SCHEMA_VERSION,
        "polygons": [json.loads(text) for text in shapely.to_geojson(table.polygons)],
        "class_names": list(table.class_names),
        "mm_per_px": table.mm_per_px,
        "mm_per_px_relative_sd": table.mm_per_px_relative_sd,
        "measurements": {name: _with_nulls(column) for name, column in table.measurements.items()},
        "provenance": asdict(table.provenance),
        **table.place_in_file(),
        **({} if table.track_ids is None else {"track_ids": table.track_ids.tolist()}),
    }


def from_mapping(values: dict[str, Any]) -> Metadata:
    """Return what the values of a JSON hold; the inverse of ``to_mapping``.

    Raises:
        KeyError, TypeError, ValueError: The values break the format.
    """
    count = len(values["confs"])
    exact = "schema_version" in values
    if exact and values["schema_version"] != SCHEMA_VERSION:
        raise ValueError(f"schema version {values['schema_version']!r} is not known here")
    polygons, with_outline = _exact_polygons(values) if exact else _contour_polygons(values)
    table = Instances(
        boxes=_boxes(values["boxes"], count),
        scores=_column(values["confs"], count),
        classes=_whole_column(values["classes"], count) - 1,
        polygons=polygons,
        levels=_column(values["scales"], count),
        width=_whole(values["image_width"]),
        height=_whole(values["image_height"]),
        class_names=tuple(values.get("class_names", ("insect",))),
        mm_per_px=_optional(values, "mm_per_px", _number),
        mm_per_px_relative_sd=values.get("mm_per_px_relative_sd", 0.0),
        measurements={
            str(name): _column_with_nulls(column, count)
            for name, column in dict(values.get("measurements", {})).items()
        },
        provenance=Provenance(**values.get("provenance", {})),
        page=_optional(values, "page", _whole),
        frame_index=_optional(values, "frame_index", _whole),
        time_s=_optional(values, "time_s", _number),
        track_ids=_optional(values, "track_ids", lambda ids: _whole_column(ids, count)),
    )
    _check(table)
    identifier = values.get("identifier", "")
    # flat-bug 1.x wraps the identifier in a list.
    return Metadata(
        table[with_outline],
        str(values["image_path"]),
        str(identifier[0] if isinstance(identifier, list) else identifier),
    )


def _check(table: Instances) -> None:
    """Raise a ValueError where a table is not what every writer of formats takes for granted."""
    if not (1 <= table.width <= LARGEST_SIDE and 1 <= table.height <= LARGEST_SIDE):
        raise ValueError(f"the image has the impossible size {table.width} x {table.height}")
    if not (np.abs(table.boxes) <= FARTHEST).all() or not np.isfinite(table.levels).all():
        raise ValueError("a box or a scale is not a finite number, or is beyond any image")
    if not ((table.scores >= 0) & (table.scores <= 1)).all():
        raise ValueError("a score is not a finite number between 0 and 1")
    if not (np.abs(shapely.get_coordinates(table.polygons)) <= FARTHEST).all():
        raise ValueError("an outline has an impossible coordinate")
    names = table.class_names
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("the names of classes are not texts")
    if not ((table.classes >= 0) & (table.classes < len(names))).all():
        raise ValueError("a class has no name")
    if table.mm_per_px is not None and not 0 < table.mm_per_px < math.inf:
        raise ValueError(f"a pixel has the impossible size of {table.mm_per_px!r} mm")
    if table.time_s is not None and not math.isfinite(table.time_s):
        raise ValueError("the time of a frame is not a finite number")
    uncertainty = table.mm_per_px_relative_sd
    if type(uncertainty) not in (int, float) or not 0 <= uncertainty < 1:
        raise ValueError(f"the scale has the impossible uncertainty {uncertainty!r}")
    texts = [value for name, value in asdict(table.provenance).items() if name != "settings"]
    if not all(isinstance(text, str) for text in texts) or not isinstance(table.provenance.settings, dict):
        raise ValueError("the provenance is not texts and settings")


def _floats(values: Any) -> npt.NDArray[np.float64]:
    """Return numbers as an array; numpy would take texts for numbers, and null for NaN."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iuf":
        raise TypeError(f"{array.dtype} where numbers should be")
    return array.astype(np.float64)


def _column(values: Any, count: int) -> npt.NDArray[np.float64]:
    column = _floats(values)
    if column.shape != (count,):
        raise ValueError(f"{count} values are expected, and there are some of shape {column.shape}")
    return column


def _with_nulls(column: npt.NDArray[np.float64]) -> list[float | None]:
    """Return numbers for JSON, which has none that is not a number."""
    return [value if math.isfinite(value) else None for value in column.tolist()]


def _column_with_nulls(values: Any, count: int) -> npt.NDArray[np.float64]:
    return _column([math.nan if value is None else value for value in values], count)


def _whole_column(values: Any, count: int) -> npt.NDArray[np.int64]:
    column = _column(values, count)
    if not (np.abs(column) <= LARGEST_WHOLE).all() or (column % 1).any():
        raise ValueError("a class or a track is no whole number")
    return column.astype(np.int64)


def _boxes(values: Any, count: int) -> npt.NDArray[np.float64]:
    boxes = _floats(values)
    if boxes.shape != (count, 4) and (count or boxes.size):
        raise ValueError(f"there are {count} scores, and boxes of shape {boxes.shape}")
    return boxes.reshape(count, 4)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _whole(value: Any) -> int:
    if type(value) not in (int, float) or not 0 <= value <= LARGEST_WHOLE or value % 1:
        raise ValueError(f"{value!r} is not a whole number that counts something")
    return int(value)


def _optional(values: dict[str, Any], name: str, convert: Callable[[Any], Any]) -> Any:
    value = values.get(name)
    return None if value is None else convert(value)


def largest_ring(polygon: shapely.Geometry) -> npt.NDArray[np.float64]:
    """Return the outer ring of the largest part, ``(n, 2)`` without the closing point."""
    parts = shapely.get_parts(polygon)
    if len(parts) == 0:
        return np.empty((0, 2))
    largest = parts[np.argmax(shapely.area(parts))]
    return np.asarray(shapely.get_coordinates(shapely.get_exterior_ring(largest))[:-1], np.float64)


def _exact_polygons(values: dict[str, Any]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.bool_]]:
    texts = np.array([json.dumps(geometry) for geometry in values["polygons"]], object)
    polygons = np.asarray(shapely.from_geojson(texts), object)
    if not np.isin(shapely.get_type_id(polygons), POLYGONAL).all() or shapely.is_empty(polygons).any():
        raise ValueError("an outline is neither a Polygon nor a MultiPolygon")
    return polygons, np.ones(len(polygons), np.bool_)


def _contour_polygons(values: dict[str, Any]) -> tuple[npt.NDArray[np.object_], npt.NDArray[np.bool_]]:
    """Return the contours of flat-bug 1.x, which are in pixels of the masks, as valid polygons in image pixels.

    Simplification there can leave a small animal fewer than three points, or a line: its box is what is known of it.

    Returns:
        The polygons, and which of them have an area; the others had not even a box.
    """
    scale = (values["image_width"] / values["mask_width"], values["image_height"] / values["mask_height"])
    contours = [_floats(contour).T for contour in values["contours"]]
    boxes = shapely.box(*_boxes(values["boxes"], len(contours)).T)
    polygons = np.empty(len(contours), object)
    for row, points in enumerate(contours):
        if points.size and (points.shape[1:] != (2,) or not (np.abs(points) <= FARTHEST).all()):
            raise ValueError("an outline has an impossible coordinate")
        polygons[row] = shapely.Polygon(points * scale) if len(points) > 2 else shapely.Polygon()
    polygons = _valid(polygons)
    lost = shapely.area(polygons) == 0
    polygons[lost] = _valid(boxes[lost])
    return polygons, np.asarray(shapely.area(polygons) > 0)


def _valid(polygons: npt.NDArray[np.object_]) -> npt.NDArray[np.object_]:
    broken = ~shapely.is_valid(polygons)
    polygons[broken] = shapely.make_valid(polygons[broken], method="structure", keep_collapsed=False)
    return polygons
