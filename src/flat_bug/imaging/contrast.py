"""Where an image differs from its surroundings: cheap evidence of what a network might find there."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from flat_bug.imaging.lazy import LazyImage

SAMPLE = 4
"""A sample is the mean of so many pixels each way: what is smaller is grain, and no animal."""
SURROUNDINGS = 17
"""The surroundings of a sample are its square of so many samples."""
STRIP = 256
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
        strip = image.read_averages(factor, low, high - low)
        found[start:stop] = np.max([_differences(strip[..., band]) for band in range(3)], axis=0)[
            start - low : stop - low
        ]
    return found


def _differences(samples: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return by how much each sample of one colour differs from the mean around it."""
    around: npt.NDArray[np.float32] = ndimage.uniform_filter(samples, SURROUNDINGS, output=np.float32)
    np.abs(np.subtract(samples, around, out=around), out=around)
    return around.astype(np.uint8)
