"""Arrays as images: which ones are, and how to mend the others."""

import sys
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.vips import pyvips

KINDS = {1: ("b-w", "grey16"), 3: ("srgb", "rgb16"), 4: ("srgb", "rgb16")}
"""How libvips calls 8 and 16 bits of each number of bands."""

UPRIGHT_MODES = ("L", "RGB", "RGBA", "I;16", "I;16L", "I;16B")
"""Modes of Pillow whose pixels are, as an array, what they look like."""


class ArrayInterface(Protocol):
    """What numpy sees as an array without a copy: an image of Pillow, for instance."""

    @property
    def __array_interface__(self) -> dict[str, Any]:
        """Where the numbers are, and how they lie."""


def array_of(thing: object) -> npt.NDArray[Any] | None:
    """Return what numpy can see as an array, or nothing if the thing is none; an image of Pillow is turned upright.

    Raises:
        ImageError: The file of an image of Pillow, which is read only now, is damaged.
    """
    # Whoever has an image of Pillow has imported it.
    pillow = sys.modules.get("PIL.Image")
    if pillow is not None and isinstance(thing, pillow.Image):
        return _array_of_pillow(thing)
    if hasattr(thing, "__array_interface__") or hasattr(thing, "__array__"):
        return np.asarray(thing)
    return None


def _array_of_pillow(image: Any) -> npt.NDArray[Any]:
    from PIL import ImageOps  # noqa: PLC0415  # see above

    try:
        upright = ImageOps.exif_transpose(image)
        if upright.mode not in UPRIGHT_MODES:
            # Places in a palette, or inks: numbers that are no colours.
            upright = upright.convert("RGBA" if upright.has_transparency_data else "RGB")
        return np.asarray(upright)
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for damage
        raise ImageError(
            f"Pillow cannot read the image: {error}", where=getattr(image, "filename", "") or "the image of Pillow"
        ) from error


def image_of(array: npt.NDArray[Any]) -> pyvips.Image:
    """Wrap an array, whatever its strides and byte order.

    Args:
        array: ``(h, w)``, ``(h, w, 1)``, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA; ``uint8``, ``uint16``, or floats
            from 0 to 1, which become 8 bits.

    Raises:
        ImageError: It has another layout or type; the error says how to mend it.
    """
    if advice := _wrong_layout(array) or _wrong_type(array):
        raise ImageError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image", where="the array", mend=advice
        )
    if array.dtype.kind == "f":
        array = _eight_bits(array)
    native = np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    kind = KINDS[array.shape[2] if array.ndim == 3 else 1][native.itemsize - 1]
    return pyvips.Image.new_from_array(native).copy(interpretation=kind)


def _wrong_layout(array: npt.NDArray[Any]) -> str:
    """Return how to mend the shape of an array, or nothing if it is right."""
    shape = array.shape
    if array.size == 0:
        return "Give an array that has pixels."
    if len(shape) == 4:
        return "Give one image at a time: array[0]."
    if len(shape) == 3 and shape[2] not in KINDS:
        return _wrong_bands(shape)
    return "" if len(shape) in (2, 3) else "Give (h, w), (h, w, 3) or (h, w, 4)."


def _wrong_bands(shape: tuple[int, ...]) -> str:
    if shape[0] in KINDS:
        return "Its bands come first; move them to the end: array.transpose(1, 2, 0)."
    if shape[2] == 2:
        return "Give one band, array[..., 0], or three, or RGBA."
    return "Choose three bands, such as array[..., [0, 1, 2]]."


def _wrong_type(array: npt.NDArray[Any]) -> str:
    """Return how to mend the type of an array, or nothing if it is right."""
    kind = array.dtype.kind
    if array.dtype.newbyteorder("=") in (np.dtype(np.uint8), np.dtype(np.uint16)):
        return ""
    if kind in "fiu":
        return _wrong_range(array)
    if kind == "b":
        return "Make black and white of true and false: array.astype(np.uint8) * 255."
    if kind == "O":
        return "Give an array of numbers; several images are given one at a time."
    return "Give np.uint8, np.uint16, or floats from 0 to 1."


def _wrong_range(array: npt.NDArray[Any]) -> str:
    """Return how to mend the values of floats or of whole numbers that are no images, or nothing if they are right."""
    low, high = array.min(), array.max()
    span = f"Its values lie between {low:g} and {high:g}"
    if array.dtype.kind == "f":
        if np.isnan(low):
            return "Replace what is not a number: np.nan_to_num(array)."
        return "" if low >= 0 and high <= 1 else f"{span}; floats must lie between 0 and 1: scale them."
    fitting = next((bits for bits in (8, 16) if low >= 0 and high < 2**bits), None)
    if fitting is not None:
        return f"Its values fit into fewer bits: array.astype(np.uint{fitting})."
    return f"{span}: scale them to 0–255 and give np.uint8."


def _eight_bits(array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return floats from 0 to 1 as 0–255, without a copy in another float type."""
    scaled = array * array.dtype.type(255)
    return np.asarray(np.rint(scaled, out=scaled), np.uint8)
