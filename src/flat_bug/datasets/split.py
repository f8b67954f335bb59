"""Which images are held back for validation, and which of them look like an image that is not."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

SAME_SCENE = 0.33
"""Pictures whose looks differ less than this show the same scene.

Measured on real sets: recompressed, resized or brighter copies differ by 0.03 to 0.2, frames of one clip or fixed
camera by 0.07 to 0.32, and different pictures from one camera by 0.38 and more.
"""
CHUNK = 64

Look = npt.NDArray[np.uint64]


class Likeness(NamedTuple):
    """A picture, the most similar one among others, how much they differ, and how many more others are alike."""

    picture: int
    other: int
    difference: float
    more: int


def is_validation(md5: str, fraction: float) -> bool:
    """Return whether the image with this MD5 is held back when a fraction of all images is.

    The rule of flat-bug 1.x, so that splits agree: it depends on the image's bytes alone and stays as it is when
    images are added. Only an image with the rarest digest, ``ffff…``, is not held back by a fraction of 1.
    """
    return int(md5[:4], 16) / 0xFFFF < fraction


def same_scene(looks: Sequence[Look], among: Sequence[Look]) -> list[Likeness]:
    """Return for each picture the most similar one among others, of those that show the same scene.

    The difference is the share of the places with a step of brightness, in either picture, whose steps disagree.
    Pictures without any step are like no other.

    Args:
        looks: `imagefile.ImageFacts.look` of the pictures.
        among: The same of the others.
    """
    if not looks or not among:
        return []
    others = np.stack(among)
    found: list[Likeness] = []
    for start in range(0, len(looks), CHUNK):
        mine = np.stack(looks[start : start + CHUNK])[:, None]
        disagree = np.bitwise_count(mine ^ others).sum(axis=2, dtype=np.int64)
        steps = np.bitwise_count(mine | others).sum(axis=2, dtype=np.int64)
        difference = np.where(steps > 0, disagree / np.maximum(steps, 1), 1.0)
        alike = (difference < SAME_SCENE).sum(axis=1)
        nearest = difference.argmin(axis=1)
        found.extend(
            Likeness(start + row, int(nearest[row]), float(difference[row, nearest[row]]), int(alike[row]) - 1)
            for row in np.flatnonzero(alike).tolist()
        )
    return found
