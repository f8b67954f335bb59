"""Open any image lazily and read any region of it at any scale."""

from flat_bug.imaging.lazy import LazyImage
from flat_bug.imaging.opening import ImageSource, open_image

__all__ = ["ImageSource", "LazyImage", "open_image"]
