"""How animals are measured, and how large a pixel is."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Group, Parameter

from flat_bug.errors import UsageError

if TYPE_CHECKING:
    from flat_bug.measurement import Scale
    from flat_bug.prediction_run import InputImage

SHOWN = 5
NO_RESOLUTION = "a video says no resolution"


@Parameter(name="*", group=Group("Measurements", sort_key=6))
@dataclass(frozen=True, kw_only=True)
class MeasurementOptions:
    """How large a pixel is. An image's own scale in a CSV comes first, then one for all images, then its resolution.

    Attributes:
        px_per_mm: Pixels per millimetre, of all images.
        px_per_mm_sd: Standard deviation of --px-per-mm; it is taken as exact by default.
        scale_bar: A scale bar or ruler that all images share: both ends in pixels and its length, x1,y1,x2,y2,10mm.
        scale_csv: CSV with columns image and px_per_mm (or mm_per_px), and px_per_mm_sd (or mm_per_px_sd) if known.
        scale_from_dpi: Take the resolution that a scanner wrote into each image; 72 and 96 dpi mean nothing.
        no_measurements: Measure nothing.
    """

    px_per_mm: float | None = None
    px_per_mm_sd: float | None = None
    scale_bar: str | None = None
    scale_csv: Path | None = None
    scale_from_dpi: Annotated[bool, Parameter(negative="")] = False
    no_measurements: bool = False

    def with_scales(self, images: "Sequence[InputImage]") -> "list[InputImage]":
        """Return the images with the size of their pixels, where it is known.

        Raises:
            UsageError: A scale is impossible, two contradict each other, or an image has none though one was asked for.
        """
        shared, own = self._shared(), self._of_table(images)
        scales = [scale or shared for scale in own]
        if self.scale_from_dpi and None in scales:
            scales = _with_resolutions(images, scales)
        elif self.scale_csv is not None:
            _check_all_there(images, scales, self.scale_csv)
        return [replace(image, scale=scale) for image, scale in zip(images, scales, strict=True)]

    def _shared(self) -> "Scale | None":
        """Return the scale that is the same for all images."""
        if self.px_per_mm is not None and self.scale_bar is not None:
            raise UsageError("--px-per-mm and --scale-bar both say how large a pixel is", mend="Give one of them.")
        if self.px_per_mm_sd is not None and self.px_per_mm is None:
            raise UsageError("--px-per-mm-sd says how certain --px-per-mm is, which is missing", mend="Give both.")
        if self.px_per_mm is None and self.scale_bar is None:
            return None
        from flat_bug.measurement.scale import scale_of_bar, scale_of_px_per_mm  # noqa: PLC0415  # loads libvips

        if self.px_per_mm is not None:
            return scale_of_px_per_mm(self.px_per_mm, self.px_per_mm_sd, "--px-per-mm")
        return scale_of_bar(self.scale_bar or "")

    def _of_table(self, images: "Sequence[InputImage]") -> "list[Scale | None]":
        if self.scale_csv is None:
            return [None] * len(images)
        from flat_bug.measurement.scale_csv import read_scales, scales_of  # noqa: PLC0415  # loads libvips

        scales = read_scales(self.scale_csv)
        # The pages and frames of a file share its line.
        files = list(dict.fromkeys(image.source for image in images))
        found, unused = scales_of(files, scales, self.scale_csv)
        if unused:
            print(f"note: {self.scale_csv} names images that are not there: {_listed(unused)}", file=sys.stderr)
        scale_of_file = dict(zip(files, found, strict=True))
        return [scale_of_file[image.source] for image in images]


def _with_resolutions(images: "Sequence[InputImage]", scales: "list[Scale | None]") -> "list[Scale | None]":
    """Return the scales, those that are missing from the headers of the images."""
    from flat_bug.errors import ImageError  # noqa: PLC0415
    from flat_bug.imaging.video_index import is_video  # noqa: PLC0415
    from flat_bug.measurement.resolution import scale_of_resolution  # noqa: PLC0415  # loads libvips

    found, reasons = list(scales), []
    for row, image in enumerate(images):
        if scales[row] is None:
            try:
                scale = NO_RESOLUTION if is_video(image.path) else scale_of_resolution(image.path, image.part.page)
            except ImageError as error:  # it will be listed among the images that failed
                scale = error.what
            if isinstance(scale, str):
                reasons.append(f"{image.file_name}: {scale}")
            else:
                found[row] = scale
    if len(reasons) == len(images):
        mend = "Give the scale with --px-per-mm, --scale-bar or --scale-csv."
        raise UsageError("no image says how large its pixels are", where=_listed(reasons), mend=mend)
    if reasons:
        count = f"{len(reasons)} of {len(images)} images"
        print(f"note: {count} are measured in pixels only: {_listed(reasons)}", file=sys.stderr)
    return found


def _check_all_there(images: "Sequence[InputImage]", scales: "list[Scale | None]", table: Path) -> None:
    pairs = zip(images, scales, strict=True)
    missing = list(dict.fromkeys(image.source for image, scale in pairs if scale is None))
    if missing:
        raise UsageError(
            f"the table of scales lacks {len(missing)} of {len({image.source for image in images})} images: "
            f"{_listed(missing)}",
            where=table,
            mend="Add a line for each, or give --px-per-mm, --scale-bar or --scale-from-dpi for the others.",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
