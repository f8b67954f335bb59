"""Results in the viewer: one folder that is opened in a browser."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import flat_bug
from flat_bug.errors import ImageError
from flat_bug.imaging import LazyImage
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.viewer import Viewed, write_viewer
from flat_bug.prediction_run.opener import Opener

VIEWER = "viewer"
"""Name of the folder in the output."""


def view_results(images: Iterable[ImageResult], output: Path) -> Path:
    """Write the viewer of results, or bring it up to date, and return the page to open.

    Args:
        images: The images and their instances; one at a time is in memory.
        output: The folder of the results.

    Raises:
        ItemsFailedError: Some images cannot be read; all others can be looked at.
        OutputError: The output cannot be written.
    """
    return write_viewer(output / VIEWER, _viewed(images), title=output.resolve().name, version=flat_bug.__version__)


def _viewed(images: Iterable[ImageResult]) -> Iterator[Viewed]:
    opener = Opener()
    for image in images:
        yield Viewed(
            name=image.name,
            title=image.file_name,
            table=image.table,
            open_pixels=partial(_open, image, opener),
            image_sha256=image.table.provenance.image_sha256,
            measurements=image.table.measurements,
        )


def _open(image: ImageResult, opener: Opener) -> LazyImage:
    if image.path is None:
        raise ImageError("nobody knows where the image is", where=image.file_name, mend="Name its folder: -I")
    return opener.open(image.path, image.table.page, image.table.frame_index)
