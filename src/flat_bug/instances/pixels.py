"""What the writers of pictures ask of an image, so that they need not know how it is opened."""

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Pixels(Protocol):
    """An image that is read region by region at any scale, as ``flat_bug.imaging`` opens it."""

    @property
    def width(self) -> int:
        """Width in pixels."""

    @property
    def height(self) -> int:
        """Height in pixels."""

    def read(
        self, x: int, y: int, width: int, height: int, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        """Return ``uint8 (height, width, 3)`` RGB of a region of the image scaled to ``size``, by default native."""
