"""Scorer v1: which prediction is which animal, one to one, and which of them count.

Two sets of rules differ in what becomes of objects below the least size, and in who chooses first:

``coco`` (the default)
    Predictions choose by descending score. Each takes the animal that it overlaps most, among those that are left and
    that it overlaps by the threshold or more. Annotations below the least size and crowds are *ignored*: a prediction
    takes one only when nothing else is left for it, and is then ignored too, as is a prediction below the least size
    that takes nothing. So an animal of 33 pixels that is predicted with 31 is found, and one of 31 pixels that is
    predicted with 33 is not held against the prediction. These are the rules of COCO, ties included.

``bench``
    What is below the least size is taken out on both sides, and then the pair that overlaps most goes first, as in
    flat-bug's own benchmark (its scorer version 1). Both animals above are mistakes there, one each.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from flat_bug.evaluation.objects import Booleans, Floats, Integers, Objects
from flat_bug.evaluation.overlap import Pairs, reaches

NOBODY = -1


@dataclass(frozen=True, eq=False)
class Match:
    """Which prediction is which animal at one threshold.

    Attributes:
        truth: ``(n predictions,)`` row of the annotation that a prediction takes, or -1.
        iou: ``(n predictions,)`` their overlap; 0 without an annotation.
        ignored_truth: ``(n annotations,)`` annotations that do not count.
        ignored: ``(n predictions,)`` predictions that do not count.
    """

    truth: Integers
    iou: Floats
    ignored_truth: Booleans
    ignored: Booleans

    @property
    def correct(self) -> Booleans:
        """``(n predictions,)`` predictions that take an annotation that counts."""
        return np.asarray((self.truth != NOBODY) & ~self.ignored, np.bool_)


def match(
    truth: Objects,
    predictions: Objects,
    pairs: Pairs,
    *,
    iou_threshold: float = 0.5,
    min_size: float = 32.0,
    rules: Literal["coco", "bench"] = "coco",
) -> Match:
    """Match predictions with annotations.

    Args:
        truth: The annotations.
        predictions: The predictions.
        pairs: Every pair that overlaps by ``iou_threshold`` or more, and any others.
        iou_threshold: Least overlap of a pair that matches.
        min_size: Least size of an object that counts.
        rules: Who may match whom, and who comes first (see above).
    """
    small_truth, small = truth.sizes < min_size, predictions.sizes < min_size
    ignored_truth = small_truth | truth.crowd
    pairs = pairs[reaches(pairs.iou, iou_threshold)]
    # Keys of a sort from the last to the first; of equal overlaps the later annotation goes first, as in COCO.
    if rules == "bench":
        pairs = pairs[~small_truth[pairs.truth] & ~small[pairs.prediction]]
        order = np.lexsort((-pairs.prediction, -pairs.truth, -pairs.iou, ignored_truth[pairs.truth]))
    else:
        turn = np.argsort(by_score(predictions.scores))
        order = np.lexsort((-pairs.truth, -pairs.iou, ignored_truth[pairs.truth], turn[pairs.prediction]))
    chosen = greedy(pairs[order], truth.crowd)
    taken = np.full(len(predictions), NOBODY)
    iou = np.zeros(len(predictions))
    taken[chosen.prediction], iou[chosen.prediction] = chosen.truth, chosen.iou
    ignored = small & (taken == NOBODY)
    ignored[chosen.prediction] = ignored_truth[chosen.truth]
    return Match(taken, iou, ignored_truth, ignored)


def by_score(scores: Floats) -> Integers:
    """Return the rows by descending score; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")


def greedy(pairs: Pairs, shared: Booleans) -> Pairs:
    """Return the pairs that are left when each, in order, is taken if neither of its two is taken already.

    All predictions ask at once for the first of their pairs that has not been refused; each annotation keeps the
    first that asks and refuses the others, until nobody is refused. This ends as taking turns would, without a loop
    over the pairs.

    Args:
        pairs: Pairs that may match, in the order in which they are considered.
        shared: ``(n annotations,)`` annotations that any number of predictions may take.
    """
    open_rows = np.arange(len(pairs.iou))
    while True:
        asking = np.sort(open_rows[np.unique(pairs.prediction[open_rows], return_index=True)[1]])
        keeps = shared[pairs.truth[asking]]
        keeps[np.unique(pairs.truth[asking], return_index=True)[1]] = True
        if keeps.all():
            return pairs[asking]
        open_rows = np.setdiff1d(open_rows, asking[~keeps], assume_unique=True)
