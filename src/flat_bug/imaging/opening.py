"""Open an image: a file, a page of one, or an array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.imaging.arrays import ArrayInterface, array_of, image_of
from flat_bug.imaging.colour import to_srgb
from flat_bug.imaging.failures import no_image, no_temporary_file, unreadable
from flat_bug.imaging.lazy import LazyImage
from flat_bug.imaging.limits import check_room, check_size, is_kept_in_memory
from flat_bug.imaging.unpacking import reads_anywhere, unpack
from flat_bug.vips import pyvips

# libvips also "loads" tables, matrices, PDF and SVG; an insect image is none of these.
LOADERS = ("jpeg", "png", "tiff", "webp", "heif", "gif", "jp2k", "jxl", "openslide")


ImageSource = str | Path | npt.NDArray[Any] | ArrayInterface
"""What can be opened: a path, an array, or what numpy sees as one, such as an image of Pillow."""


def open_image(source: ImageSource, *, page: int | None = None, most_pixels: int | None = None) -> LazyImage:
    """Open a file, or wrap an array, without decoding more than its header.

    Args:
        source: Path of a JPEG, PNG, TIFF, WebP, HEIF or GIF file, whatever its suffix. Or an array ``(h, w)``,
            ``(h, w, 1)``, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA of ``uint8``, ``uint16`` or floats from 0 to 1. Or an
            image of Pillow, which is turned upright.
        page: Which of several pages of a file, counted from 1; by default the first, or the primary one of HEIF.
        most_pixels: Refuse a larger image; by default see ``imaging.limits``.

    Raises:
        ImageError: The file is absent, empty, not an image, too large, or its header is damaged; it has no such page;
            the array has another layout.
    """
    # Results are never asked for twice, and a cached load would show a file's former content.
    pyvips.cache_set_max(0)
    array = array_of(source)
    if array is not None:
        return LazyImage("the array", to_srgb(image_of(array)))
    path = _path_of(source)
    image = load(path, page)
    check_size(image, str(path), most_pixels)
    try:
        return LazyImage(str(path), to_srgb(image.autorot()), path, _unpacking(path, page, image))
    except pyvips.Error as error:
        raise unreadable(str(path), error) from error


def _unpacking(path: Path, page: int | None, image: pyvips.Image) -> Callable[[], pyvips.Image] | None:
    """Return what decodes a large image once and for all; nothing for one that is read where it lies.

    Raises:
        ImageError: There is no room for the temporary file.
    """
    if is_kept_in_memory(image) or reads_anywhere(image, _source_of(path)):
        return None
    check_room(image, str(path))
    if image.format not in ("uchar", "ushort"):
        return None  # their greatest value must be known first: libvips keeps the pixels, to read them twice

    def decode() -> pyvips.Image:
        from_start = load(path, page, access="sequential")
        try:
            unpacked = unpack(to_srgb(from_start)).copy()
        except OSError as error:
            raise no_temporary_file(str(path), error) from error
        if from_start.get_typeof("orientation") != 0:
            unpacked.set_type(pyvips.GValue.gint_type, "orientation", from_start.get("orientation"))
        return unpacked.autorot()

    return decode


def load(path: Path, page: int | None = None, access: str = "random") -> pyvips.Image:
    """Return a file's page as libvips sees it, only its header read.

    Args:
        path: The file.
        page: Counted from 1.
        access: ``sequential`` if all of it is going to be read once, from its start.

    Raises:
        ImageError: See ``open_image``.
    """
    _check_file(path)
    try:
        image = _header(path, 0, access)
        number = (usual_page(image) if page is None else page) - 1
        pages = pages_in(image)
        if not 0 <= number < pages:
            raise ImageError(f"there is no page {page}: the image has {pages}", where=path, mend="Pages count from 1.")
        return image if number == 0 else _header(path, number, access)
    except pyvips.Error as error:
        if "not in a known format" in error.detail:
            raise no_image(path) from error
        raise unreadable(str(path), error) from error


def pages_in(image: pyvips.Image) -> int:
    """Return how many pages the file of an image has."""
    return int(image.get("n-pages")) if image.get_typeof("n-pages") != 0 else 1


def usual_page(image: pyvips.Image) -> int:
    """Return the page, from 1, that is opened unless another one is asked for: of HEIF it may be a later one."""
    return 1 + (int(image.get("heif-primary")) if image.get_typeof("heif-primary") != 0 else 0)


def _source_of(path: Path) -> pyvips.Source:
    # By itself libvips takes options from the end of a file name: "photo.jpg[shrink=2]".
    return pyvips.Source.new_from_file(str(path))


def _header(path: Path, page: int, access: str) -> pyvips.Image:
    options: dict[str, Any] = {"page": page} if page else {}
    image = pyvips.Image.new_from_source(_source_of(path), "", access=access, fail_on="error", **options)
    if not image.get("vips-loader").startswith(LOADERS):
        raise no_image(path)
    return image


def _path_of(source: object) -> Path:
    try:
        path = Path(source)  # type: ignore[arg-type]  # or a TypeError
    except TypeError as error:
        raise ImageError(
            f"a {type(source).__name__} is not an image",
            where="open_image",
            mend="Give a path, a NumPy array, or what np.asarray makes one of.",
        ) from error
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ImageError(
            "the name of the file is not UTF-8, which no result could hold",
            where=ascii(str(path)),
            mend="Rename the file.",
        ) from error
    return path


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as start:
            if not start.read(1):
                raise ImageError("the image is empty (zero bytes)", where=path, mend="Copy it again from its source.")
    except IsADirectoryError as error:
        raise ImageError("this is a folder, not an image", where=path) from error
    except (OSError, ValueError) as error:  # a name with a zero byte
        raise ImageError(
            f"the image cannot be opened: {getattr(error, 'strerror', None) or error}", where=path
        ) from error
