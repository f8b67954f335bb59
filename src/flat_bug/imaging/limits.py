"""How large an image may be: files of a few bytes can claim sizes that no memory and no disk holds."""

import os
import shutil
import tempfile

from flat_bug.errors import ImageError, UsageError
from flat_bug.vips import pyvips

MOST_PIXELS = 5_000_000_000
"""Of one image, unless the caller says otherwise: more than the largest JPEG has, and than any scanner makes."""
MOST_PIXELS_WHOLE = 500_000_000
"""Of an image of a kind that is decoded whole into memory, at four to six bytes a pixel."""
LIMIT_VARIABLE = "FLAT_BUG_MAX_MEGAPIXELS"
"""Names another limit; an environment variable, so that it holds in every process of a run."""
SAMPLE_BYTES = {"uchar": 1, "char": 1, "ushort": 2, "short": 2, "uint": 4, "int": 4, "float": 4, "double": 8}
"""Bytes of a sample of each format of libvips; those of complex numbers are no images."""
DECODED_WHOLE = ("gif", "webp", "heif", "jxl")
IN_MEMORY = 100_000_000
"""Bytes up to which a decoded image is kept in memory."""


def check_size(image: pyvips.Image, name: str, most_pixels: int | None = None) -> None:
    """Refuse an image that is too large to be read, by its header alone.

    Args:
        image: As libvips opened it; nothing of it is decoded.
        name: Where it comes from, for messages.
        most_pixels: How many pixels it may have; by default what the environment or this module says.

    Raises:
        ImageError: The image has more pixels.
    """
    pixels = image.width * image.height
    whole = image.get("vips-loader").startswith(DECODED_WHOLE) or _is_interlaced(image)
    allowed = most_pixels or chosen_limit() or (MOST_PIXELS_WHOLE if whole else MOST_PIXELS)
    if pixels > allowed:
        kind = " of a kind that is decoded whole in memory" if whole else ""
        raise ImageError(
            f"the image claims {image.width} × {image.height} pixels, {pixels / 1e6:.0f} megapixels; "
            f"{allowed / 1e6:.0f} are the limit for a file{kind}",
            where=name,
            mend=how_to_allow(pixels),
        )


def chosen_limit() -> int | None:
    """Return how many pixels the environment allows an image, if it says so.

    Raises:
        UsageError: It says something else than a number of megapixels.
    """
    words = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not words:
        return None
    try:
        chosen = int(float(words) * 1e6)
    except (ValueError, OverflowError):
        chosen = 0
    if chosen < 1:
        raise UsageError("the limit is not a number of megapixels", where=f"{LIMIT_VARIABLE}={words}")
    return chosen


def how_to_allow(pixels: int) -> str:
    """Return how to allow images of so many pixels."""
    return f"If it is really that large, allow it: set {LIMIT_VARIABLE}={-(-pixels // 1_000_000)}"


def _is_interlaced(image: pyvips.Image) -> bool:
    """Return whether pixels come in several passes, so that all must be kept: an interlaced PNG, a progressive JPEG."""
    return any(image.get_typeof(name) != 0 and bool(image.get(name)) for name in ("interlaced", "jpeg-multiscan"))


def is_kept_in_memory(image: pyvips.Image) -> bool:
    """Return whether an image is small enough to be kept in memory as a whole when it is decoded."""
    return bool(image.width * image.height * image.bands * SAMPLE_BYTES.get(image.format, 16) <= IN_MEMORY)


def check_room(image: pyvips.Image, name: str) -> None:
    """Refuse an image whose temporary file would fill the disk.

    Raises:
        ImageError: There is no room for it.
    """
    needed = image.width * image.height * max(3, image.bands * SAMPLE_BYTES.get(image.format, 16))
    folder = tempfile.gettempdir()
    if needed > (free := shutil.disk_usage(folder).free):
        raise ImageError(
            f"decoding the image takes {needed / 1e9:.1f} GB for temporary files, and {folder} has {free / 1e9:.1f} GB",
            where=name,
            mend="Free some space there, set TMPDIR to a folder with more room, or save the image as a tiled TIFF.",
        )
