"""The instances found in one image: a frozen columnar table from which every format is written."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, overload

import numpy as np
import numpy.typing as npt
import shapely

if TYPE_CHECKING:
    import polars as pl

    from flat_bug.instances.crops import CropOptions
    from flat_bug.instances.pixels import Pixels

Floats = npt.NDArray[np.float64]
Picture = npt.NDArray[np.uint8]
Rows = slice | npt.NDArray[Any] | list[int] | list[bool]
"""Which rows: a slice, a boolean mask, or indices."""


@dataclass(frozen=True)
class Provenance:
    """Where a table of instances comes from: enough to tell whether it must be made again."""

    image_sha256: str = ""
    weights_sha256: str = ""
    weights_name: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    flat_bug_version: str = ""
    card_digest: str = ""


@dataclass(frozen=True, eq=False)
class Instance:
    """One row of the instances of an image.

    Attributes:
        box: ``(4,)`` x1, y1, x2, y2 in image pixels.
        score: Confidence between 0 and 1.
        class_name: What it is.
        polygon: Its outline, shapely ``Polygon`` or ``MultiPolygon``.
        level: Scale of the pyramid level that it was seen at; 1 is native.
        track_id: Which animal of a video it is; None where nobody looked.
        measurements: What ``flat_bug.measurement`` found, by names with their units: ``length_px``.
    """

    box: Floats
    score: float
    class_name: str
    polygon: shapely.Geometry
    level: float
    track_id: int | None = None
    measurements: Mapping[str, float] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """Area of the outline in square pixels, holes left out."""
        return float(self.polygon.area)


@dataclass(frozen=True, eq=False, repr=False)
class Instances:
    """Instances of one image, as columns.

    ``instances[3]`` and ``for instance in instances`` give an ``Instance``; ``instances[instances.scores > 0.5]``,
    ``instances[:10]`` and ``instances[[1, 5]]`` give fewer ``Instances``.

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

    def __repr__(self) -> str:
        return f"<Instances: {len(self)} in an image of {self.width} × {self.height} px>"

    def __iter__(self) -> Iterator[Instance]:
        return (self[row] for row in range(len(self)))

    @overload
    def __getitem__(self, rows: int | np.integer[Any]) -> Instance: ...

    @overload
    def __getitem__(self, rows: Rows) -> Self: ...

    def __getitem__(self, rows: int | np.integer[Any] | Rows) -> Instance | Self:
        """Return a row as an ``Instance``, or the chosen rows: a slice, a boolean mask or indices.

        Raises:
            IndexError: There is no such row, or the mask has another length.
        """
        if isinstance(rows, int | np.integer):
            return self._row(int(rows))
        measurements = {name: column[rows].copy() for name, column in self.measurements.items()}
        columns = {name: getattr(self, name)[rows].copy() for name in self._columns()}
        return replace(self, **columns, measurements=measurements)

    def _row(self, row: int) -> Instance:
        return Instance(
            box=self.boxes[row],
            score=float(self.scores[row]),
            class_name=self.class_names[self.classes[row]],
            polygon=self.polygons[row],
            level=float(self.levels[row]),
            track_id=None if self.track_ids is None else int(self.track_ids[row]),
            measurements={name: float(column[row]) for name, column in self.measurements.items()},
        )

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

    # Each writer imports this module.

    def save(self, path: str | Path, *, image_path: str | Path = "") -> None:
        """Write everything to a JSON file, the one that ``fb predict`` writes of an image; ``load`` reads it.

        Args:
            path: The file.
            image_path: Where the image lies, for those who read the file.

        Raises:
            OutputError: The folder cannot be written to or the disk is full.
        """
        from flat_bug.instances.metadata import Metadata, write_metadata  # noqa: PLC0415

        write_metadata(Path(path), Metadata(self, str(image_path), ""))

    @staticmethod
    def load(path: str | Path) -> "Instances":
        """Read the JSON of one image, of ``save``, of ``fb predict`` or of flat-bug 1.x.

        Raises:
            DatasetError: The file is absent, is not JSON, or breaks the format.
        """
        from flat_bug.instances.metadata import read_metadata  # noqa: PLC0415

        return read_metadata(Path(path)).instances

    def to_coco(self, file_name: str = "", *, run_lengths: bool = False) -> dict[str, Any]:
        """Return a COCO dataset of this one image; ``instances.coco.write_coco`` writes many.

        Args:
            file_name: Name of the image.
            run_lengths: Give every outline as a run-length mask, not only those with holes.
        """
        from flat_bug.instances.coco import coco_of  # noqa: PLC0415

        return coco_of(file_name, self, run_lengths=run_lengths)

    def to_polars(self, file_name: str = "") -> "pl.DataFrame":
        """Return a row for each instance with the columns of ``measurements.csv``; what was not measured is null.

        Its ``to_pandas()`` gives a frame of pandas.

        Args:
            file_name: Name of the image.
        """
        from flat_bug.instances.image_result import ImageResult  # noqa: PLC0415
        from flat_bug.instances.measurement_table import rows_of  # noqa: PLC0415

        return rows_of(ImageResult(file_name, Path(file_name).stem, self))

    def overview(self, image: "Pixels", *, fast: bool = False) -> Picture:
        """Draw the instances over the image.

        Args:
            image: The image, as ``flat_bug.open_image`` gives it.
            fast: A smaller picture.

        Returns:
            ``uint8 (h, w, 3)`` RGB, its longest side 4000 px or less.

        Raises:
            ImageError: The image is damaged.
        """
        from flat_bug.instances.overview import overview  # noqa: PLC0415

        return overview(image, self, fast=fast)

    def crops(self, image: "Pixels", options: "CropOptions | None" = None) -> Iterator[Picture]:
        """Yield each instance as ``uint8 (h, w, 4)`` RGBA, what is around its outline transparent.

        Args:
            image: The image, as ``flat_bug.open_image`` gives it.
            options: A fixed size, another margin or background, which gives ``(h, w, 3)`` RGB.

        Raises:
            ImageError: The image is damaged there.
        """
        from flat_bug.instances.crops import crops  # noqa: PLC0415

        return crops(image, self, options)


def _same(mine: object, theirs: object) -> bool:
    if isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
        if mine.dtype == object:
            return mine.shape == theirs.shape and bool(np.all(shapely.equals_identical(mine, theirs)))
        return np.array_equal(mine, theirs, equal_nan=mine.dtype.kind == "f")
    if isinstance(mine, np.ndarray) or isinstance(theirs, np.ndarray):
        return False  # None, for instance, of which numpy would make an array of answers
    if isinstance(mine, dict) and isinstance(theirs, dict):
        return mine.keys() == theirs.keys() and all(_same(mine[name], theirs[name]) for name in mine)
    return mine == theirs
