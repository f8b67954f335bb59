"""Average precision by the conventions of COCO: the mean of the precision at 101 steps of recall."""

import numpy as np
import polars as pl

from flat_bug.evaluation.match import by_score, match
from flat_bug.evaluation.objects import Booleans, Objects
from flat_bug.evaluation.overlap import Pairs

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_STEPS = np.linspace(0, 1, 101)


def average_precisions(
    truth: Objects, predictions: Objects, pairs: Pairs, images: pl.DataFrame, *, min_size: float = 32.0
) -> dict[str | None, tuple[float | None, float | None]]:
    """Return AP at a threshold of 0.5, and its mean over 0.50, 0.55 … 0.95, of each dataset; of all under None.

    All predictions take part, whatever they score, and any number of them per image. Without an annotation that
    counts there is no AP.

    Args:
        truth: The annotations.
        predictions: The predictions.
        pairs: Every pair that overlaps by 0.5 or more.
        images: ``dataset`` of each image row.
        min_size: Least size of an object that counts.
    """
    names = images["dataset"].unique(maintain_order=True).to_list()
    dataset_of = images["dataset"].replace_strict(names, range(len(names)), return_dtype=pl.Int64).to_numpy()
    order = by_score(predictions.scores)
    curves: dict[str | None, list[float | None]] = {name: [] for name in [*names, None]}
    for threshold in THRESHOLDS:
        matched = match(truth, predictions, pairs, iou_threshold=float(threshold), min_size=min_size)
        ranked = order[~matched.ignored[order]]
        correct, group = matched.correct[ranked], dataset_of[predictions.images[ranked]]
        wanted = dataset_of[truth.images[~matched.ignored_truth]]
        for number, name in enumerate(names):
            curves[name].append(average_precision(correct[group == number], int((wanted == number).sum())))
        curves[None].append(average_precision(correct, len(wanted)))
    return {name: _summary(values) for name, values in curves.items()}


def average_precision(correct: Booleans, wanted: int) -> float | None:
    """Return the mean precision at 101 steps of recall.

    Args:
        correct: ``(n,)`` whether each prediction is right, by descending score.
        wanted: Number of animals to find; without any there is no average precision.
    """
    if not wanted:
        return None
    found = np.cumsum(correct)
    precision = found / np.arange(1, len(found) + 1)
    # The best precision at this recall or any higher one.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    reached = np.searchsorted(found / wanted, RECALL_STEPS, side="left")
    return float(np.append(envelope, 0.0)[reached].mean())


def _summary(values: list[float | None]) -> tuple[float | None, float | None]:
    known = [value for value in values if value is not None]
    return (known[0], float(np.mean(known))) if known else (None, None)
