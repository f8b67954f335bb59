"""One image among many, as the writers of formats take it."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flat_bug.files import printable
from flat_bug.instances.table import Instances


@dataclass(frozen=True)
class ImageResult:
    """The instances of one of many images.

    Attributes:
        file_name: The image's path below the folder of all images, with ``/``.
        name: What its files are called: no path, no suffix, and no other image has it.
        table: Its instances.
        path: Where the image lies, if that is known and it is there.
    """

    file_name: str
    name: str
    table: Instances
    path: Path | None = None

    @property
    def stem(self) -> str:
        """What its files are called in formats that repeat the name in a text, which is UTF-8."""
        return printable(self.name)

    @property
    def link_name(self) -> str:
        """Name of a link to the image in a folder of links to all images."""
        return self.stem + printable(PurePosixPath(self.file_name).suffix)


Add = Callable[[ImageResult], None]
"""Writes one image to what holds many."""


def link_image(folder: Path, image: ImageResult) -> None:
    """Make a link to an image in a folder: copies of large scans would fill a disk.

    Its place is empty where nobody knows the image, where it is a later page or a frame of its file, which a link
    cannot say, or where there are no links, as on Windows for most.
    """
    is_whole_file = image.table.page in (None, 1) and image.table.frame_index is None
    if image.path is not None and is_whole_file:
        with suppress(OSError):
            (folder / image.link_name).symlink_to(image.path.absolute())
