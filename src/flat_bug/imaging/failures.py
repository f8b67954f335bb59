"""What is said of an image that cannot be read."""

import tempfile
from pathlib import Path

from flat_bug.errors import ImageError
from flat_bug.vips import pyvips

NO_ROOM = ("no space left on device", "file too large", "disk quota exceeded")
"""How the system says that a temporary file does not fit."""


def no_image(path: Path) -> ImageError:
    """Return the error for a file that holds something else."""
    return ImageError("this is not an image", where=path, mend="Give JPEG, PNG, TIFF, WebP or HEIF files.")


def unreadable(name: str, error: pyvips.Error) -> ImageError:
    """Return the error for what libvips says of a damaged file, or of a temporary one that does not fit."""
    reason = " ".join(error.detail.split())
    if any(words in reason.lower() for words in NO_ROOM):
        return no_temporary_file(name, reason)
    return ImageError(f"the image cannot be read: {reason}", where=name, mend="Copy it again from its source.")


def no_temporary_file(name: str, reason: object) -> ImageError:
    """Return the error for an image that must be decoded to a temporary file, which cannot be written."""
    return ImageError(
        f"the decoded image does not fit into the folder for temporary files, {tempfile.gettempdir()}: {reason}",
        where=name,
        mend="Free some space there, or set TMPDIR to a folder with more room.",
    )
