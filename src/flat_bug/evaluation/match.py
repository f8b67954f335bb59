"""Scorer v1: which prediction is which animal.

Predictions are taken by descending score. Each takes the animal that it overlaps most, among those that are not taken
and that it overlaps by the threshold or more. Animals below the least size and crowds are *ignored*: a prediction
takes one of them only when no other is left for it, and then the prediction is ignored too, as is a prediction below
the least size that takes nothing. These are the rules of COCO, ties included.
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
    size_rule: Literal["ignore", "filter"] = "ignore",
) -> Match:
    """Match predictions with annotations.

    Args:
        truth: The annotations.
        predictions: The predictions.
        pairs: Every pair that overlaps by ``iou_threshold`` or more, and any others.
        iou_threshold: Least overlap of a pair that matches.
        min_size: Least size of an object that counts.
        size_rule: With "ignore", objects below the least size can still be matched, so that an animal of 33 pixels
            that is predicted with 31 is found, and one of 31 pixels that is predicted with 33 is not held against
            the prediction. With "filter" they are taken out first, and both cases are mistakes.
    """
    small_truth, small = truth.sizes < min_size, predictions.sizes < min_size
    ignored_truth = small_truth | truth.crowd
    pairs = pairs[reaches(pairs.iou, iou_threshold)]
    if size_rule == "filter":
        pairs = pairs[~small_truth[pairs.truth] & ~small[pairs.prediction]]
    chosen = greedy(pairs, predictions.scores, ignored_truth, truth.crowd)
    taken = np.full(len(predictions), NOBODY)
    iou = np.zeros(len(predictions))
    taken[chosen.prediction], iou[chosen.prediction] = chosen.truth, chosen.iou
    ignored = small & (taken == NOBODY)
    ignored[chosen.prediction] = ignored_truth[chosen.truth]
    return Match(taken, iou, ignored_truth, ignored)


def by_score(scores: Floats) -> Integers:
    """Return the rows by descending score; equal scores keep their order."""
    return np.argsort(-scores, kind="stable")


def greedy(pairs: Pairs, scores: Floats, last: Booleans, shared: Booleans) -> Pairs:
    """Return the pairs that are left when each prediction, by descending score, takes the best that it can get.

    All predictions ask at once for the best that they have not been refused; each annotation keeps the prediction
    that comes first and refuses the others, until nobody is refused. This ends as taking turns would, without a loop
    over the predictions.

    Args:
        pairs: Pairs that may match.
        scores: ``(n predictions,)`` confidence.
        last: ``(n annotations,)`` annotations that are only taken when there is no other.
        shared: ``(n annotations,)`` annotations that any number of predictions may take.
    """
    rank = np.empty(len(scores), np.int64)
    rank[by_score(scores)] = np.arange(len(scores))
    # The last key sorts first: turn, then what counts, then overlap; of equal overlaps the later annotation.
    order = np.lexsort((-pairs.truth, -pairs.iou, last[pairs.truth], rank[pairs.prediction]))
    pairs = pairs[order]
    turns = rank[pairs.prediction]
    open_rows = np.arange(len(turns))
    while True:
        asking = open_rows[np.unique(turns[open_rows], return_index=True)[1]]
        keeps = shared[pairs.truth[asking]]
        keeps[np.unique(pairs.truth[asking], return_index=True)[1]] = True
        if keeps.all():
            return pairs[asking]
        open_rows = np.setdiff1d(open_rows, asking[~keeps], assume_unique=True)
