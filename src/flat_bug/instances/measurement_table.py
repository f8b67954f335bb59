"""One table of all animals of all images, a row each, with all that was measured: as CSV and as Parquet."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from flat_bug.files import atomic_path, printable
from flat_bug.instances.image_result import Add, ImageResult
from flat_bug.instances.table import Instances

CSV_NAME = "measurements.csv"
PARQUET_NAME = "measurements.parquet"

ABOUT = {
    "image": pl.String,
    "page": pl.Int64,
    "frame_index": pl.Int64,
    "time_s": pl.Float64,
    "animal": pl.Int64,
    "track_id": pl.Int64,
    "class": pl.String,
    "score": pl.Float64,
    "level": pl.Float64,
    "at_border": pl.Boolean,
}
"""Which animal a row is about; ``animal`` is the number of its crop."""
BORDER = 0.5
"""Pixels of the border of an image within which an outline ends there, and the animal maybe does not."""
SIZES = ("length", "width", "feret_max", "feret_min", "area", "perimeter")
FORM = ("centroid_x", "centroid_y", "orientation_deg", "elongation", "solidity")
COLOUR = ("red", "green", "blue", "lab_l", "lab_a", "lab_b")


def _sizes(unit: str) -> list[str]:
    names = [f"{name}_{unit}{'2' if name == 'area' else ''}" for name in SIZES]
    return [column for name in names for column in (name, f"{name}_sd")]


MEASURED = (*_sizes("mm"), *_sizes("px"), *FORM, *COLOUR)
"""Every measurement; columns in millimetres are empty where the scale is not known."""
BEHIND = ("box_x1", "box_y1", "box_x2", "box_y2", "mm_per_px", "mm_per_px_relative_sd")
FORMULA = r"^[=+\-@\t\r]"
"""How a text begins that spreadsheets take for a formula, also between quotes."""
SCHEMA = pl.Schema(ABOUT | dict.fromkeys((*MEASURED, *BEHIND), pl.Float64))


@contextmanager
def open_csv(path: Path) -> Iterator[Add]:
    """Yield a function that adds the animals of an image to a CSV; the file is there when the block ends.

    Names that a spreadsheet would run as a formula have a ``'`` in front.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    with atomic_path(path) as temporary, _open_rows(temporary) as add:
        yield lambda image: add(rows_of(image).with_columns(pl.col(pl.String).str.replace(FORMULA, "'$0")))


@contextmanager
def open_parquet(path: Path) -> Iterator[Add]:
    """Yield a function that adds the animals of an image to a Parquet file; it is there when the block ends.

    Raises:
        OutputError: The folder cannot be written to or the disk is full.
    """
    # Parquet is written by columns, and images come one at a time: rows wait on the disk, not in memory.
    with atomic_path(path) as temporary, tempfile.TemporaryDirectory(dir=temporary.parent) as folder:
        rows = Path(folder) / CSV_NAME
        with _open_rows(rows) as add:
            yield lambda image: add(rows_of(image))
        pl.scan_csv(rows, schema=SCHEMA).sink_parquet(temporary)


@contextmanager
def _open_rows(path: Path) -> Iterator[Callable[[pl.DataFrame], None]]:
    with path.open("wb") as stream:
        pl.DataFrame(schema=SCHEMA).write_csv(stream)
        yield lambda rows: rows.write_csv(stream, include_header=False)


def rows_of(image: ImageResult) -> pl.DataFrame:
    """Return a row for each animal of an image, with all columns of ``SCHEMA``; what is not known is null."""
    table, count = image.table, len(image.table)
    names = np.array([printable(name) for name in table.class_names], object)
    about = {
        "image": [printable(image.file_name)] * count,
        "page": [table.page] * count,
        "frame_index": [table.frame_index] * count,
        "time_s": [table.time_s] * count,
        "animal": np.arange(count),
        "track_id": [None] * count if table.track_ids is None else table.track_ids,
        "class": names[table.classes].tolist(),
        "score": table.scores,
        "level": table.levels,
        "at_border": _at_border(table),
    }
    frame = pl.DataFrame(about | _numbers(table), schema=SCHEMA)
    return frame.with_columns(pl.col(pl.Float64).fill_nan(None))


def _at_border(table: Instances) -> npt.NDArray[np.bool_]:
    low, high = table.boxes[:, :2], np.array([table.width, table.height]) - table.boxes[:, 2:]
    return np.asarray((np.minimum(low, high) < BORDER).any(axis=1), np.bool_)


def _numbers(table: Instances) -> dict[str, npt.NDArray[np.float64]]:
    unknown = np.full(len(table), np.nan)
    scale = (np.nan, np.nan) if table.mm_per_px is None else (table.mm_per_px, table.mm_per_px_relative_sd)
    behind = [*table.boxes.T.copy(), *(np.full(len(table), value) for value in scale)]
    known = {"area_px2": table.areas} | dict(table.measurements)
    return {name: known.get(name, unknown) for name in MEASURED} | dict(zip(BEHIND, behind, strict=True))
