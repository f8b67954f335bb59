"""What preparing needs to know of an image file: that it can be read, its size, its digests and how it looks."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.vips import pyvips

JPEG = "jpegload_buffer"
LOADERS = {JPEG, "pngload_buffer", "tiffload_buffer"}
END_OF_JPEG = b"\xff\xd9"
LOOK_SIDE = 16
FLAT = 1
"""A step of grey levels between neighbours that is noise."""


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What is known of an image file.

    Attributes:
        md5: MD5 of the file, which decides the split.
        sha256: SHA-256 of the file.
        width: Width in pixels as displayed, that is turned as the EXIF orientation says.
        height: Height in pixels as displayed.
        turned: Whether displaying the image swaps the sides of what is stored.
        clean_end: False for a JPEG with bytes after its end, which ultralytics rewrites.
        look: ``(16,)`` uint64, bits: where a 17 x 17 thumbnail of what is stored grows brighter and where darker, for
            `split.same_scene`.
    """

    md5: str
    sha256: str
    width: int
    height: int
    turned: bool
    clean_end: bool
    look: npt.NDArray[np.uint64]


def inspect_image(path: Path) -> ImageFacts:
    """Read an image file once, all of it, and return what is known of it.

    Raises:
        ImageError: The file is empty, truncated, corrupt, or neither JPEG, PNG nor TIFF, whatever its name says.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"the image cannot be read: {error.strerror or error}", where=path) from error
    if not content:
        raise ImageError("the image is empty: its file has no bytes", where=path)
    try:
        header = pyvips.Image.new_from_buffer(content, "")
        if header.get("vips-loader") not in LOADERS:
            raise ImageError("the file holds neither a JPEG, a PNG nor a TIFF image", where=path)
        grey = _thumbnail(header, content)
    except pyvips.Error as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ImageError(
            f"the image is broken: {reason}", where=path, mend="Copy the file again from its source."
        ) from error
    turned = header.get_typeof("orientation") != 0 and header.get("orientation") >= 5
    width, height = (header.height, header.width) if turned else (header.width, header.height)
    return ImageFacts(
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
        sha256=hashlib.sha256(content).hexdigest(),
        width=width,
        height=height,
        turned=turned,
        clean_end=header.get("vips-loader") != JPEG or content.endswith(END_OF_JPEG),
        look=_look(grey),
    )


def _thumbnail(header: pyvips.Image, content: bytes) -> npt.NDArray[np.uint8]:
    """Return the whole image as 17 x 17 grey levels, having decoded all of it."""
    # A JPEG is decoded at an eighth of its size from all of its bytes. `thumbnail_buffer` would do so by itself, but
    # takes a truncated file for a whole one.
    large_jpeg = header.get("vips-loader") == JPEG and min(header.width, header.height) >= 8 * LOOK_SIDE
    options = {"shrink": 8} if large_jpeg else {}
    image = pyvips.Image.new_from_buffer(content, "", access="sequential", fail_on="error", **options)
    side = LOOK_SIDE + 1
    thumbnail = image.thumbnail_image(side, height=side, size="force", no_rotate=True)
    return np.asarray(thumbnail.colourspace("b-w")[0].cast("uchar").numpy(), np.uint8)


def _look(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    levels = grey.astype(np.int16)
    corner = levels[:-1, :-1]
    steps = np.stack([levels[:-1, 1:] - corner, levels[1:, :-1] - corner])
    return np.packbits(np.stack([steps > FLAT, steps < -FLAT])).view(np.uint64)
