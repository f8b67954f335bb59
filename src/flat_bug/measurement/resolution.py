"""The resolution that a scanner wrote into an image, where it means something."""

from pathlib import Path

from flat_bug.imaging.opening import load
from flat_bug.measurement.scale import Scale

MM_PER_INCH = 25.4
PLACEHOLDERS = (72.0, 96.0)
"""Dots per inch that cameras and programs write where they know nothing."""
LEAST_DPI = 100.0
"""No scanner is set to less for animals; what says less means a screen or nothing."""
RELATIVE_SD = 0.005
"""Flatbed scanners keep their nominal resolution to about half a per cent."""
UNEQUAL = 0.01


def scale_of_resolution(path: Path, page: int | None = None) -> Scale | str:
    """Return the scale that the resolution in a file's header says, or why it says none.

    Args:
        path: The file.
        page: Which of its pages, from 1; by default the one that it is opened with.

    Raises:
        ImageError: The file is no image.
    """
    image = load(path, page)
    # libvips gives pixels per millimetre, whatever the file has, and 1 where it has nothing.
    if image.xres == image.yres == 1:
        return "it says no resolution"
    # A TIFF may count pixels per nothing at all, as those of ImageJ do, and libvips would call that millimetres.
    if image.get("vips-loader").startswith("tiff") and image.get_typeof("resolution-unit") == 0:
        return "its resolution has no unit"
    across, down = (value * MM_PER_INCH for value in (image.xres, image.yres))
    if min(across, down) <= 0 or abs(across / down - 1) > UNEQUAL:
        return f"its pixels are not square ({across:.0f} × {down:.0f} dpi)"
    if any(abs(across - known) < 1 for known in PLACEHOLDERS) or across < LEAST_DPI:
        return f"{across:.0f} dpi is a placeholder and no resolution of a scanner"
    return Scale(MM_PER_INCH / across, RELATIVE_SD)
