"""Open any image lazily and read any region of it at any scale."""

from flat_bug.imaging.lazy import LazyImage
from flat_bug.imaging.opening import open_image

__all__ = ["LazyImage", "open_image"]
