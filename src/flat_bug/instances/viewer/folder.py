"""The viewer of many images."""

from collections.abc import Iterable
from pathlib import Path

from flat_bug.errors import FlatBugError, ItemsFailedError, OutputError
from flat_bug.files import printable
from flat_bug.instances.viewer.image import Entry, Viewed, write_image
from flat_bug.instances.viewer.page import write_index

SHOWN_FAILURES = 20


def write_viewer(viewer: Path, images: Iterable[Viewed], *, title: str, version: str) -> Path:
    """Write a folder in which predictions are looked at; what is there already and still true is left alone.

    One image at a time is in memory, and of that only strips. An image that cannot be read costs its own place only.

    Args:
        viewer: The folder. Images that an earlier call wrote, and this one does not, stay there but are not listed.
        images: The images.
        title: What all images together are called.
        version: Of flat-bug.

    Returns:
        The page to open.

    Raises:
        ItemsFailedError: Some images cannot be read; all others can be looked at.
        OutputError: The folder cannot be written to or the disk is full.
    """
    entries: list[Entry] = []
    failed: list[str] = []
    for image in images:
        try:
            entries.append(write_image(viewer, image))
        except OutputError:
            raise
        except FlatBugError as error:
            failed.append(f"{printable(image.title)}: {error.what}")
    page = write_index(viewer, entries, title=title, version=version)
    if failed:
        more = [f"and {len(failed) - SHOWN_FAILURES} more"] if len(failed) > SHOWN_FAILURES else []
        raise ItemsFailedError(
            f"{len(failed)} of {len(failed) + len(entries)} images are not in the viewer",
            where="\n    ".join([*failed[:SHOWN_FAILURES], *more]),
            mend="See to it that these images are where they were when they were predicted, and run this again.",
        )
    return page
