"""Recall and precision against the size of the animal, for each dataset: bins, their uncertainty, and a smooth."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from flat_bug.evaluation.objects import Booleans, Floats
from flat_bug.evaluation.smooth import Smooth, binomial_smooth

MEASURES = ("recall", "precision")
KEY = {"dataset": pl.String, "measure": pl.String}
BIN_SCHEMA: dict[str, type[pl.DataType]] = {
    **KEY,
    **dict.fromkeys(("size", "mean", "low", "high"), pl.Float64),
    "n": pl.Int64,
}
SMOOTH_SCHEMA: dict[str, type[pl.DataType]] = {**KEY, **dict.fromkeys(("size", "fit", "low", "high"), pl.Float64)}
RUG_SCHEMA: dict[str, type[pl.DataType]] = {**KEY, "size": pl.Float64, "success": pl.Boolean}

LEAST_FOR_SMOOTH = 10
MOST_BINS = 20
GRID = 100


@dataclass(frozen=True, eq=False)
class SizeCurves:
    """How recall and precision depend on size, sqrt(width x height) of the box in pixels.

    Recall is over annotations by their own size, precision over predictions by theirs; ``measure`` says which. Objects
    that do not count are left out.

    Attributes:
        bins: ``dataset, measure, size, mean, low, high, n``: bins of equal width on the logarithm of the size, with the
            geometric mean of their sizes and the share of successes, its 95 % bootstrap interval, and the objects in
            them; bins without objects are absent.
        smooths: ``dataset, measure, size, fit, low, high``: the binomial smooth on a grid from the smallest to the
            largest object; absent where there are fewer than ten objects or they do not determine one.
        rug: ``dataset, measure, size, success``: every object.
    """

    bins: pl.DataFrame
    smooths: pl.DataFrame
    rug: pl.DataFrame


def size_curves(objects: pl.DataFrame, *, draws: int = 200, seed: int = 0) -> SizeCurves:
    """Return the curves of each dataset of a per-object table.

    Args:
        objects: A table with the columns of ``tables.OBJECT_SCHEMA``.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap.
    """
    rug = _rug(objects)
    bins, smooths = [pl.DataFrame(schema=BIN_SCHEMA)], [pl.DataFrame(schema=SMOOTH_SCHEMA)]
    for (dataset, measure), part in rug.group_by("dataset", "measure", maintain_order=True):
        logarithm = part["size"].log().to_numpy()
        success = part["success"].to_numpy()
        key = {"dataset": dataset, "measure": measure}
        bins.append(pl.DataFrame({**key, **_bins(logarithm, success, draws, seed)}, schema=BIN_SCHEMA))
        grid = np.linspace(logarithm.min(), logarithm.max(), GRID)
        smooth = binomial_smooth(logarithm, success, grid) if len(part) >= LEAST_FOR_SMOOTH else None
        if smooth is not None:
            smooths.append(pl.DataFrame({**key, **_along(grid, smooth)}, schema=SMOOTH_SCHEMA))
    return SizeCurves(pl.concat(bins), pl.concat(smooths), rug)


def _rug(objects: pl.DataFrame) -> pl.DataFrame:
    counted = objects.filter(~pl.col("ignored"))
    success = pl.col("kind") == "matched"
    parts = [
        counted.filter(pl.col("kind") != other, pl.col(size) > 0).select(
            "dataset", pl.lit(measure).alias("measure"), pl.col(size).alias("size"), success.alias("success")
        )
        for measure, other, size in zip(MEASURES, ("spurious", "missed"), ("gt_size", "pred_size"), strict=True)
    ]
    return pl.concat(parts).sort("dataset", maintain_order=True)


def _bins(logarithm: Floats, success: Booleans, draws: int, seed: int) -> dict[str, object]:
    # The rule of Rice: twice the cube root of the number of objects.
    count = int(np.clip(round(2 * len(logarithm) ** (1 / 3)), 1, MOST_BINS))
    edges = np.linspace(logarithm.min(), logarithm.max(), count + 1)
    bin_of = np.clip(np.searchsorted(edges, logarithm, side="right") - 1, 0, count - 1)
    members = np.bincount(bin_of, minlength=count)
    filled = members > 0
    n = members[filled]
    mean = np.bincount(bin_of, success, minlength=count)[filled] / n
    # To draw n of n outcomes with replacement is to draw their number of successes from a binomial distribution.
    drawn = np.random.default_rng(seed).binomial(n, mean, size=(draws, len(n))) / n
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    middle = np.bincount(bin_of, logarithm, minlength=count)[filled] / n
    return {"size": np.exp(middle), "mean": mean, "low": low, "high": high, "n": n}


def _along(grid: Floats, smooth: Smooth) -> dict[str, object]:
    return {"size": np.exp(grid), "fit": smooth.fit, "low": smooth.low, "high": smooth.high}
