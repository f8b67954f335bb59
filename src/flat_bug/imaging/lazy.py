"""An image that is opened at once and decoded only where it is looked at."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.imaging.deep_zoom import save_deep_zoom
from flat_bug.imaging.failures import unreadable
from flat_bug.progress import Report
from flat_bug.vips import pyvips

# So many pixels of a reduced image, of three bytes each, are kept in memory to make coarse levels from.
KEPT_PIXELS = 16_000_000


@dataclass(eq=False)
class LazyImage:
    """An upright 8-bit sRGB image of any size, read region by region at any scale.

    Attributes:
        name: Where it comes from, for messages.
        width: Width in pixels, after the rotation that EXIF asks for.
        height: Height in pixels.
        file: The file that it is, if it is one.
    """

    name: str
    _image: pyvips.Image
    file: Path | None = None
    # What is called for the pixels of an image that must be decoded as a whole, when they are first asked for.
    _unpack: Callable[[], pyvips.Image] | None = None
    _reduced: pyvips.Image | None = None
    # Threads take turns: libvips works with all processors as it is, and has one place for what went wrong, where the
    # words of two threads that meet the same damage would be mixed. Whoever comes second is told what the first was.
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _is_decoded: bool = False
    _damage: ImageError | None = None

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
        with self._reading():
            region = self._scaled(size or (self.width, self.height)).crop(x, y, width, height)
            return np.ndarray((height, width, 3), np.uint8, region.write_to_memory())

    def save_tiles(self, folder: Path, *, side: int, overlap: int, on_progress: Report | None = None) -> None:
        """Write the tiles of a zoomable picture, as ``save_deep_zoom`` lays them out, in memory that no size changes.

        Raises:
            ImageError: The file is truncated or damaged.
            OutputError: The tiles cannot be written.
        """
        with self._reading():
            save_deep_zoom(self._image, folder, side=side, overlap=overlap, on_progress=on_progress)

    def read_averages(self, factor: int, top: int, rows: int) -> npt.NDArray[np.uint8]:
        """Read rows of the image as it looks when each square of ``factor`` times ``factor`` pixels becomes one.

        Squares that the right or lower border cuts are averaged over what there is of them.

        Args:
            factor: Side of the squares in pixels.
            top: First row, in squares.
            rows: Number of rows.

        Returns:
            ``uint8 (rows, ceil(width / factor), 3)``, RGB.

        Raises:
            ImageError: The file is truncated or damaged there.
        """
        with self._reading():
            image, done = self._image, 1
            if factor % self._factor == 0 and self._factor > 1:
                image, done = self._kept(), self._factor
            averages = image.shrink(factor // done, factor // done, ceil=True)
            region = averages.crop(0, top, averages.width, rows)
            return np.ndarray((rows, averages.width, 3), np.uint8, region.write_to_memory())

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._turn:
            if self._damage is not None:
                raise self._damage
            try:
                if not self._is_decoded:
                    if self._unpack is not None:
                        self._image = self._unpack()
                    # Decoding begins. For a single pixel it is done by one thread, which says in full what is wrong.
                    self._image.crop(0, 0, 1, 1).write_to_memory()
                    self._is_decoded = True
                yield
            except pyvips.Error as error:
                self._damage = unreadable(self.name, error)
                raise self._damage from error

    @property
    def _factor(self) -> int:
        """By what the copy is reduced that coarse levels are made from: a power of two, 1 for images without one."""
        return int(2 ** max(0, math.ceil(math.log2(self.width * self.height / KEPT_PIXELS) / 2)))

    def _kept(self) -> pyvips.Image:
        if self._reduced is None:
            self._reduced = self._image.shrink(self._factor, self._factor, ceil=True).copy_memory()
        return self._reduced

    def _scaled(self, size: tuple[int, int]) -> pyvips.Image:
        if size == (self.width, self.height):
            return self._image
        if size[0] >= self.width and size[1] >= self.height:
            return _enlarged(self._image, size)
        # Reducing by whole numbers first and by the rest, at least two, afterwards is what libvips does by itself; so
        # nothing changes when the first step is kept, except that an image is not read again for each coarse level.
        factor = self._factor
        if factor == 1 or size[0] * 2 * factor > self.width or size[1] * 2 * factor > self.height:
            factor, image = 1, self._image
        else:
            image = self._kept()
        scaled = image.resize(size[0] * factor / self.width, vscale=size[1] * factor / self.height)
        # Rounding may differ by a pixel: the last row or column is dropped or repeated then.
        return scaled.embed(0, 0, *size, extend="copy")


def _enlarged(image: pyvips.Image, size: tuple[int, int]) -> pyvips.Image:
    """Return an image enlarged to a size; ``resize`` of libvips would move it by half a pixel of the result."""
    x, y = size[0] / image.width, size[1] / image.height
    return image.affine(
        [x, 0, 0, y],
        odx=(x - 1) / 2,
        ody=(y - 1) / 2,
        oarea=[0, 0, *size],
        interpolate=pyvips.Interpolate.new("bicubic"),
        extend="copy",
    )
