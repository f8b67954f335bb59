"""Which images are held back for validation, and which of them look like an image that is not."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

SAME_SCENE = 0.33
"""Pictures whose looks differ less than this show the same scene.

Measured on real sets: recompressed, resized or brighter copies differ by 0.03 to 0.2, frames of one clip or fixed
camera by 0.07 to 0.32, and different pictures from one camera by 0.38 and more.
"""
CHUNK = 64


def is_validation(md5: str, fraction: float) -> bool:
    """Return whether the image with this MD5 is held back when a fraction of all images is.

    The rule of flat-bug 1.x, so that splits agree: it depends on the image's bytes alone and stays as it is when
    images are added. Only an image with the rarest digest, ``ffff…``, is not held back by a fraction of 1.
    """
    return int(md5[:4], 16) / 0xFFFF < fraction


def similar_pairs(
    first: Sequence[npt.NDArray[np.uint64]], second: Sequence[npt.NDArray[np.uint64]]
) -> list[tuple[int, int, float]]:
    """Return the pairs of looks from two sequences that show the same scene: both indices and how much they differ.

    The difference is the share of the places with a step of brightness, in either picture, whose steps disagree.
    Pictures without any step are like no other.
    """
    if not first or not second:
        return []
    theirs = np.stack(second)
    pairs: list[tuple[int, int, float]] = []
    for start in range(0, len(first), CHUNK):
        mine = np.stack(first[start : start + CHUNK])[:, None]
        disagree = np.bitwise_count(mine ^ theirs).sum(axis=2, dtype=np.int64)
        steps = np.bitwise_count(mine | theirs).sum(axis=2, dtype=np.int64)
        difference = np.where(steps > 0, disagree / np.maximum(steps, 1), 1.0)
        rows, columns = np.nonzero(difference < SAME_SCENE)
        found = zip((rows + start).tolist(), columns.tolist(), difference[rows, columns].tolist(), strict=True)
        pairs.extend(found)
    return pairs
