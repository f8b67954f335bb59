"""What became of each image, as rows and as sums."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import polars as pl

SCHEMA = {
    "image": pl.String,
    "status": pl.String,
    "instances": pl.Int64,
    "width": pl.Int64,
    "height": pl.Int64,
    "megapixels": pl.Float64,
    "seconds": pl.Float64,
    "file": pl.String,
    "page": pl.Int64,
    "pages": pl.Int64,
    "frame_index": pl.Int64,
    "time_s": pl.Float64,
    "reason": pl.String,
}
Status = Literal["done", "failed", "skipped"]


@dataclass(frozen=True)
class ImageRow:
    """What became of one image.

    Attributes:
        image: Its path below the input folder; of a later page or a frame with its number in it.
        status: ``skipped`` when the same weights and settings had done it before.
        instances: How many were found.
        width: In pixels.
        height: In pixels.
        megapixels: Millions of pixels.
        seconds: Time to predict it and to write its results.
        file: Path of its file below the input folder.
        page: Which page of the file it is, from 1, where one was asked for.
        pages: How many the file has, where only its first one was looked at.
        frame_index: Which frame of a video it is, from 0.
        time_s: When that is shown, in seconds from the first frame.
        reason: Why it failed.
    """

    image: str
    status: Status
    instances: int | None = None
    width: int | None = None
    height: int | None = None
    megapixels: float | None = None
    seconds: float | None = None
    file: str = ""
    page: int | None = None
    pages: int | None = None
    frame_index: int | None = None
    time_s: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class PredictionRun:
    """What became of all images.

    Attributes:
        rows: One per image, in order.
        coco: The COCO file of all images that did not fail, if it was written.
        summary_file: ``summary`` as CSV, if it was written.
        formats: Where all images that did not fail are, by the name of the format.
    """

    rows: tuple[ImageRow, ...]
    coco: Path | None = None
    summary_file: Path | None = None
    formats: Mapping[str, Path] = field(default_factory=dict)

    @property
    def summary(self) -> pl.DataFrame:
        """A row per image, with the columns of ``ImageRow``."""
        return summary_of(self.rows)

    @property
    def failed(self) -> tuple[ImageRow, ...]:
        """The images that failed."""
        return tuple(row for row in self.rows if row.status == "failed")

    def totals(self) -> dict[str, Any]:
        """Return the sums over all images; seconds of those that were predicted now."""
        frame = self.summary
        return {
            "images": len(frame),
            **{status: frame["status"].eq(status).sum() for status in ("done", "skipped", "failed")},
            **{name: frame[name].sum() for name in ("instances", "megapixels", "seconds")},
        }


def summary_of(rows: Sequence[ImageRow]) -> pl.DataFrame:
    """Return a row per image, with the columns of ``ImageRow``."""
    return pl.DataFrame([asdict(row) for row in rows], schema=SCHEMA)
