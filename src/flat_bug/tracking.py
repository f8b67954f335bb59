"""Which animals of one frame of a video are those of the frames before: all frames are known when it is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Floats = npt.NDArray[np.float64]

LEAST_OVERLAP = -0.5
"""Generalised overlap of boxes (1: the same, 0: they touch, towards -1: far apart) of which one may be the other: an
animal that was seen once may have moved by three of its lengths."""
MOST_MISSED = 5
"""An animal that is not seen in more frames than this is another one when it comes back."""
LATEST = 0.5
"""Share of the latest step in what is expected of the next one."""
NEVER = 1e6


@dataclass(frozen=True)
class Sight:
    """What a frame shows.

    Attributes:
        time_s: When it is shown, in seconds.
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        classes: ``(n,)`` an animal keeps its class.
    """

    time_s: float
    boxes: Floats
    classes: npt.NDArray[np.int64]


@dataclass
class _Track:
    """An animal, as it was seen last; its velocity in pixels a second is unknown at first."""

    number: int
    time_s: float
    box: Floats
    kind: int
    velocity: Floats | None = None
    missed: int = 0

    def expected(self, time_s: float) -> Floats:
        """Return its box at another time, if it goes on as it did."""
        if self.velocity is None:
            return self.box
        return self.box + np.tile(self.velocity * (time_s - self.time_s), 2)

    def see(self, time_s: float, box: Floats) -> None:
        passed = time_s - self.time_s
        if passed > 0:
            step = (_middle(box) - _middle(self.box)) / passed
            self.velocity = step if self.velocity is None else LATEST * step + (1 - LATEST) * self.velocity
        self.time_s, self.box, self.missed = time_s, box, 0


def track(sights: Sequence[Sight]) -> list[npt.NDArray[np.int64]]:
    """Return ``(n,)`` numbers of animals for each frame, from 1 in the order in which they are first seen.

    Each goes on as it did, and of all ways to pair animals with boxes the one is taken in which boxes overlap most.
    Frames that nobody could look at are left out; an animal moves on meanwhile.

    Args:
        sights: The frames of one video, in order.
    """
    found, living, count = [], list[_Track](), 0
    for sight in sights:
        numbers = np.zeros(len(sight.boxes), np.int64)
        for each in living:
            each.missed += 1
        for row, column in _pairs(living, sight):
            living[row].see(sight.time_s, sight.boxes[column])
            numbers[column] = living[row].number
        for column in np.flatnonzero(numbers == 0).tolist():
            count += 1
            numbers[column] = count
            living.append(_Track(count, sight.time_s, sight.boxes[column], int(sight.classes[column])))
        living = [each for each in living if each.missed <= MOST_MISSED]
        found.append(numbers)
    return found


def _pairs(living: Sequence[_Track], sight: Sight) -> list[tuple[int, int]]:
    """Return which animal has which box."""
    if not living or not len(sight.boxes):
        return []
    expected = np.array([each.expected(sight.time_s) for each in living])
    overlaps = generalised_overlaps(expected, sight.boxes)
    kinds = np.array([each.kind for each in living])
    allowed = (overlaps >= LEAST_OVERLAP) & (kinds[:, None] == sight.classes[None])
    rows, columns = linear_sum_assignment(np.where(allowed, 1 - overlaps, NEVER))
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [(row, column) for row, column in pairs if allowed[row, column]]


def generalised_overlaps(mine: Floats, theirs: Floats) -> Floats:
    """Return ``(n, m)`` generalised intersections over unions of boxes ``(n, 4)`` and ``(m, 4)``.

    Of boxes that do not overlap it says how far apart they are: the less, the larger the empty part of the box around
    both. See Rezatofighi et al., Generalized Intersection over Union, CVPR 2019.
    """
    a, b = mine[:, None], theirs[None]
    shared = np.prod(np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None), axis=-1)
    around = np.prod(np.maximum(a[..., 2:], b[..., 2:]) - np.minimum(a[..., :2], b[..., :2]), axis=-1)
    union = _areas(a) + _areas(b) - shared
    return np.asarray(shared / union - (around - union) / around, np.float64)


def _areas(boxes: Floats) -> Floats:
    return np.asarray(np.prod(boxes[..., 2:] - boxes[..., :2], axis=-1), np.float64)


def _middle(box: Floats) -> Floats:
    return (box[:2] + box[2:]) / 2
