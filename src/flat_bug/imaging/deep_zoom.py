"""An image cut into tiles at every power of two, for a viewer that loads only what is looked at."""

import shutil
from pathlib import Path

from flat_bug.errors import OutputError
from flat_bug.progress import Report
from flat_bug.vips import pyvips

QUALITY = 85
WRITING_FAILED = ("write failed", "unable to create", "No space left", "Disk quota")


def save_deep_zoom(image: pyvips.Image, folder: Path, *, side: int, overlap: int, on_progress: Report | None) -> None:
    """Write the JPEG tiles of an image as ``folder/<level>/<column>_<row>.jpg``, in one pass over its pixels.

    Level 0 fits into one tile, each further one is twice as large, the last one is native. Tiles carry neither the
    place nor the camera of the image.

    Args:
        image: Three bands of 8-bit sRGB.
        folder: Is made; must not exist. What else lies beside it is not touched.
        side: Of a tile, in pixels.
        overlap: Pixels that a tile shares with each of its neighbours.
        on_progress: Told the per cent that are done, and 100.

    Raises:
        OutputError: The tiles cannot be written.
        pyvips.Error: The image is damaged.
    """
    stem = folder.with_name(folder.name + "-dz")
    made = stem.with_name(stem.name + "_files")
    if on_progress is not None:
        image = image.copy()
        image.set_progress(True)
        # libvips tells this each time that a strip is done.
        image.signal_connect("eval", lambda _, progress: on_progress(progress.percent, 100))
    try:
        image.dzsave(
            str(stem),
            layout="dz",
            suffix=f".jpg[Q={QUALITY}]",
            tile_size=side,
            overlap=overlap,
            depth="onetile",
            keep="none",
        )
    except pyvips.Error as error:
        shutil.rmtree(made, ignore_errors=True)
        if any(text in error.detail for text in WRITING_FAILED):
            raise OutputError(
                "the tiles of the image cannot be written",
                where=folder,
                mend="Free some space, or name another folder.",
            ) from error
        raise
    stem.with_name(stem.name + ".dzi").unlink()
    (made / "vips-properties.xml").unlink(missing_ok=True)
    made.rename(folder)
