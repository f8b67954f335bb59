"""An image that is opened at once and decoded only where it is looked at."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyvips

from flat_bug.errors import ImageError
from flat_bug.imaging.colour import to_srgb
from flat_bug.imaging.deep_zoom import save_deep_zoom
from flat_bug.progress import Report

# libvips also "loads" tables, matrices, PDF and SVG; an insect image is none of these.
LOADERS = ("jpeg", "png", "tiff", "webp", "heif", "gif", "jp2k", "jxl", "openslide")
# So many pixels of a reduced image, of three bytes each, are kept in memory to make coarse levels from.
KEPT_PIXELS = 16_000_000


@dataclass(eq=False)
class LazyImage:
    """An upright 8-bit sRGB image of any size, read region by region at any scale.

    Attributes:
        name: Where it comes from, for messages.
        width: Width in pixels, after the rotation that EXIF asks for.
        height: Height in pixels.
    """

    name: str
    _image: pyvips.Image
    _reduced: pyvips.Image | None = None

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self._image.width)

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self._image.height)

    def read(
        self, x: int, y: int, width: int, height: int, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Read a region of the image as it looks when scaled to ``size``.

        Args:
            x: Left of the region, in pixels of the scaled image.
            y: Top of the region.
            width: Width of the region; it must lie inside the scaled image.
            height: Height of the region.
            size: Width and height of the whole scaled image; by default the native size.

        Returns:
            ``uint8 (height, width, 3)``, RGB.

        Raises:
            ImageError: The file is truncated or damaged there.
        """
        try:
            region = self._scaled(size or (self.width, self.height)).crop(x, y, width, height)
            return np.ndarray((height, width, 3), np.uint8, region.write_to_memory())
        except pyvips.Error as error:
            raise _unreadable(self.name, error) from error

    def save_tiles(self, folder: Path, *, side: int, overlap: int, on_progress: Report | None = None) -> None:
        """Write the tiles of a zoomable picture, as ``save_deep_zoom`` lays them out, in memory that no size changes.

        Raises:
            ImageError: The file is truncated or damaged.
            OutputError: The tiles cannot be written.
        """
        try:
            save_deep_zoom(self._image, folder, side=side, overlap=overlap, on_progress=on_progress)
        except pyvips.Error as error:
            raise _unreadable(self.name, error) from error

    def _scaled(self, size: tuple[int, int]) -> pyvips.Image:
        if size == (self.width, self.height):
            return self._image
        # Reducing by whole numbers first and by the rest, at least two, afterwards is what libvips does by itself; so
        # nothing changes when the first step is kept, except that an image is not read again for each coarse level.
        factor = 2 ** max(0, math.ceil(math.log2(self.width * self.height / KEPT_PIXELS) / 2))
        if factor == 1 or size[0] * 2 * factor > self.width or size[1] * 2 * factor > self.height:
            factor, image = 1, self._image
        else:
            if self._reduced is None:
                self._reduced = self._image.shrink(factor, factor, ceil=True).copy_memory()
            image = self._reduced
        scaled = image.resize(size[0] * factor / self.width, vscale=size[1] * factor / self.height)
        # Rounding may differ by a pixel: the last row or column is dropped or repeated then.
        return scaled.embed(0, 0, *size, extend="copy")


def open_image(source: str | Path | npt.NDArray[np.generic]) -> LazyImage:
    """Open a file, or wrap an array, without decoding more than its header.

    Args:
        source: Path of a JPEG, PNG, TIFF, WebP, HEIF or GIF file, whatever its suffix; of
            several pages the first. Or an array ``(h, w)``, ``(h, w, 1)``, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA.

    Raises:
        ImageError: The file is absent, empty, not an image, or its header is damaged; the array has another layout.
    """
    # Results are never asked for twice, and a cached load would show a file's former content.
    pyvips.cache_set_max(0)
    if isinstance(source, np.ndarray):
        return _wrap_array(source)
    path = Path(source)
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ImageError(
            "the name of the file is not UTF-8, which no result could hold",
            where=ascii(str(path)),
            mend="Rename the file.",
        ) from error
    try:
        with path.open("rb") as start:
            if not start.read(1):
                raise ImageError("the image is empty (zero bytes)", where=path, mend="Copy it again from its source.")
    except IsADirectoryError as error:
        raise ImageError("this is a folder, not an image", where=path) from error
    except OSError as error:
        raise ImageError(f"the image cannot be opened: {error.strerror}", where=path) from error
    try:
        # As a source, since libvips takes options from the end of a file name: "photo.jpg[shrink=2]".
        stream = pyvips.Source.new_from_file(str(path))
        image = pyvips.Image.new_from_source(stream, "", access="random", fail_on="error")
        if not image.get("vips-loader").startswith(LOADERS):
            raise _no_image(path)
        return LazyImage(str(path), to_srgb(image.autorot()))
    except pyvips.Error as error:
        if "not in a known format" in error.detail:
            raise _no_image(path) from error
        raise _unreadable(str(path), error) from error


def _wrap_array(array: npt.NDArray[Any]) -> LazyImage:
    layout = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not layout or array.size == 0 or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image",
            where="the array",
            mend="Give uint8 or uint16 (h, w), (h, w, 3) or (h, w, 4).",
        )
    bands = array.shape[2] if array.ndim == 3 else 1
    image = pyvips.Image.new_from_array(np.ascontiguousarray(array))
    kind = {np.dtype(np.uint8): ("b-w", "srgb"), np.dtype(np.uint16): ("grey16", "rgb16")}[array.dtype]
    return LazyImage("the array", to_srgb(image.copy(interpretation=kind[bands > 1])))


def _no_image(path: Path) -> ImageError:
    return ImageError("this is not an image", where=path, mend="Give JPEG, PNG, TIFF, WebP or HEIF files.")


def _unreadable(name: str, error: pyvips.Error) -> ImageError:
    reason = " ".join(error.detail.split())
    return ImageError(f"the image cannot be read: {reason}", where=name, mend="Copy it again from its source.")
