"""Where an image differs from its surroundings: cheap evidence of what a network might find there."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from flat_bug.imaging.lazy import LazyImage

SAMPLE = 4
"""A sample is the mean of so many pixels each way: what is smaller is grain, and no animal."""
SURROUNDINGS = 17
"""The surroundings of a sample are its square of so many samples."""
STRIP = 512
"""So many rows of samples are worked on at once, so that memory stays bounded."""


def contrast(image: LazyImage, width: int) -> npt.NDArray[np.uint8]:
    """Return how much each sample of an image differs from its surroundings.

    Args:
        image: The image.
        width: Width of the level that is looked at, in its pixels.

    Returns:
        ``uint8 (rows, columns)``: the greatest difference of any colour from the mean around it, in grey levels.

    Raises:
        ImageError: The file is truncated or damaged.
    """
    factor = max(1, round(SAMPLE * image.width / width))
    columns, rows = -(-image.width // factor), -(-image.height // factor)
    found = np.empty((rows, columns), np.uint8)
    margin = SURROUNDINGS // 2
    for start in range(0, rows, STRIP):
        stop = min(start + STRIP, rows)
        low, high = max(start - margin, 0), min(stop + margin, rows)
        strip = image.read_averages(factor, low, high - low).astype(np.float32)
        around = ndimage.uniform_filter(strip, (SURROUNDINGS, SURROUNDINGS, 1))
        found[start:stop] = np.abs(strip - around).max(axis=2)[start - low : stop - low]
    return found
