"""Which images are predicted."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Group, Parameter

from flat_bug.errors import UsageError

if TYPE_CHECKING:
    from flat_bug.prediction_run import InputImage


@Parameter(name="*", group=Group("Images", sort_key=1))
@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """Which images.

    Attributes:
        input: Images, videos, folders, patterns such as "scans/*.jpg", or a .txt file that names an image per line (-
            for standard input).
        input_pattern: Regular expression that file names in a folder must match; by default those of images and videos.
        max_images: Only the first so many images, in alphabetical order.
        recursive: Look into sub-folders too.
        page: Which page of files that have several, from 1, or all; by default the first.
        every: Which frames of videos: every 25th (25), or one in every two seconds (2s); by default all.
    """

    input: Annotated[list[str], Parameter(name=["--input", "-i"], consume_multiple=True)]
    input_pattern: Annotated[str | None, Parameter(name=["--input-pattern", "-p"])] = None
    max_images: Annotated[int | None, Parameter(name=["--max-images", "-n"])] = None
    recursive: Annotated[bool, Parameter(name=["--recursive", "-R"])] = False
    page: Literal["all"] | int | None = None
    every: str | None = None

    def images(self, output: Path | None) -> "list[InputImage]":
        """Return the images that are meant; those in the output are not."""
        from flat_bug.prediction_run import WITH_VIDEOS, Every, find_images  # noqa: PLC0415  # loads libvips

        if self.max_images is not None and self.max_images < 1:
            raise UsageError(f"--max-images is {self.max_images}", mend="Give 1 or more.")
        if isinstance(self.page, int) and self.page < 1:
            raise UsageError(f"there is no page {self.page}", where="--page", mend="Pages count from 1.")
        return find_images(
            self.input,
            pattern=self.input_pattern or WITH_VIDEOS,
            recursive=self.recursive,
            limit=self.max_images,
            exclude=output,
            page=self.page,
            every=None if self.every is None else Every.parse(self.every),
        )
