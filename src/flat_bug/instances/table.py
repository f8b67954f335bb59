"""The instances found in one image: a frozen columnar table from which every format is written."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import shapely

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Provenance:
    """Where a table of instances comes from: enough to tell whether it must be made again."""

    image_sha256: str = ""
    weights_sha256: str = ""
    weights_name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    flat_bug_version: str = ""


@dataclass(frozen=True, eq=False)
class Instances:
    """Instances of one image, as columns.

    Coordinates are float64 image pixels: x to the right, y down, (0, 0) the outer corner of the first pixel, so an
    object of one pixel has width 1.

    Attributes:
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        scores: ``(n,)`` confidence between 0 and 1.
        classes: ``(n,)`` index into the class names of the model.
        polygons: ``(n,)`` shapely ``Polygon`` or ``MultiPolygon``, with holes; object array.
        levels: ``(n,)`` scale of the pyramid level that an instance was seen at; 1 is native.
        width: Image width in pixels.
        height: Image height in pixels.
        class_names: Name of each class index.
        mm_per_px: Size of a pixel in millimetres, when known.
        provenance: Digests and settings that made the table.
        page: Which page of its file the image is, from 1, where the file has several.
        frame_index: Which frame of a video the image is, from 0.
        time_s: When that frame is shown, in seconds from the start of the video.
        track_ids: ``(n,)`` which animal of the video each instance is, from 1; None where nobody looked.
        mm_per_px_relative_sd: Standard deviation of ``mm_per_px`` as a share of it.
        measurements: What ``flat_bug.measurement`` found, ``(n,)`` each, by names with their units: ``length_px``.
    """

    boxes: Floats
    scores: Floats
    classes: npt.NDArray[np.int64]
    polygons: npt.NDArray[np.object_]
    levels: Floats
    width: int
    height: int
    class_names: tuple[str, ...] = ("insect",)
    mm_per_px: float | None = None
    provenance: Provenance = field(default_factory=Provenance)
    page: int | None = None
    frame_index: int | None = None
    time_s: float | None = None
    track_ids: npt.NDArray[np.int64] | None = None
    mm_per_px_relative_sd: float = 0.0
    measurements: Mapping[str, Floats] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.scores)
        if self.boxes.shape != (count, 4):
            raise ValueError(f"boxes have shape {self.boxes.shape}, scores {self.scores.shape}")
        for name in ("classes", "polygons", "levels"):
            if getattr(self, name).shape != (count,):
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, scores {self.scores.shape}")
        if self.track_ids is not None and self.track_ids.shape != (count,):
            raise ValueError(f"track_ids has shape {self.track_ids.shape}, scores {self.scores.shape}")
        for name, column in self.measurements.items():
            if column.shape != (count,):
                raise ValueError(f"{name} has shape {column.shape}, scores {self.scores.shape}")
        for column in (*(getattr(self, name) for name in self._columns()), *self.measurements.values()):
            column.setflags(write=False)

    @classmethod
    def empty(cls, width: int, height: int, **others: Any) -> Self:
        """Return a table without rows for an image of the given size."""
        return cls.from_polygons(np.empty(0, object), np.empty(0), width=width, height=height, **others)

    @classmethod
    def from_polygons(
        cls,
        polygons: npt.NDArray[np.object_],
        scores: Floats,
        *,
        width: int,
        height: int,
        classes: npt.NDArray[np.int64] | None = None,
        levels: Floats | None = None,
        **others: Any,
    ) -> Self:
        """Return a table whose boxes are the bounds of the polygons; class 0 and level 1 unless given."""
        count = len(scores)
        return cls(
            boxes=np.asarray(shapely.bounds(polygons), np.float64).reshape(count, 4),
            scores=np.asarray(scores, np.float64),
            classes=np.zeros(count, np.int64) if classes is None else np.asarray(classes, np.int64),
            polygons=polygons,
            levels=np.ones(count) if levels is None else np.asarray(levels, np.float64),
            width=width,
            height=height,
            **others,
        )

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: slice | npt.NDArray[Any]) -> Self:
        """Return the chosen rows: a slice, a boolean mask or an array of indices."""
        measurements = {name: column[rows].copy() for name, column in self.measurements.items()}
        columns = {name: getattr(self, name)[rows].copy() for name in self._columns()}
        return replace(self, **columns, measurements=measurements)

    def _columns(self) -> tuple[str, ...]:
        columns = ("boxes", "scores", "classes", "polygons", "levels")
        return columns if self.track_ids is None else (*columns, "track_ids")

    __hash__ = None  # type: ignore[assignment]  # compared by content, which holds arrays

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Instances):
            return NotImplemented
        return all(_same(getattr(self, part.name), getattr(other, part.name)) for part in fields(self))

    def place_in_file(self) -> dict[str, Any]:
        """Return page, frame and time where the image has them, by their names."""
        values = {"page": self.page, "frame_index": self.frame_index, "time_s": self.time_s}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def areas(self) -> Floats:
        """``(n,)`` area of each outline in square pixels, holes left out."""
        return np.asarray(shapely.area(self.polygons), np.float64)


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        if mine.dtype == object:
            return mine.shape == theirs.shape and bool(np.all(shapely.equals_identical(mine, theirs)))
        return np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)
    return mine == theirs
