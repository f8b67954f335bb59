"""Precision, recall and F1 of each dataset and of all together, with 95 % intervals from a bootstrap over images."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

POOLED = "(all)"
"""Name of the row in which every animal counts alike, whatever its dataset."""

RATIOS = ("precision", "recall", "f1")
SCORE_SCHEMA: dict[str, type[pl.DataType]] = {
    "dataset": pl.String,
    **dict.fromkeys(("images", "gt", "predictions", "matched"), pl.Int64),
    **dict.fromkeys((*RATIOS, "mean_iou", "ap50", "ap"), pl.Float64),
    **{f"{name}_{end}": pl.Float64 for name in RATIOS for end in ("low", "high")},
}
WEIGHTS_AT_ONCE = 4_000_000


def score_table(
    images: pl.DataFrame,
    precisions: Mapping[str | None, tuple[float | None, float | None]],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> pl.DataFrame:
    """Return a row per dataset, by name, and a last one for all, with the columns of ``SCORE_SCHEMA``.

    A ratio without a denominator is null: precision without predictions, recall without ground truth.

    Args:
        images: A row per image, as from ``tables.image_table``.
        precisions: AP50 and AP of each dataset; of all under None.
        draws: Draws of the bootstrap.
        seed: Seed of the bootstrap; each row starts from it, so that it does not depend on the other datasets.
    """
    groups = [
        (str(key[0]), key[0], part) for key, part in images.sort("dataset").group_by("dataset", maintain_order=True)
    ]
    rows = [
        _row(name, part, precisions.get(key, (None, None)), draws, seed)
        for name, key, part in [*groups, (POOLED, None, images)]
    ]
    return pl.DataFrame(rows, schema=SCORE_SCHEMA)


def _row(
    name: str, images: pl.DataFrame, precision: tuple[float | None, float | None], draws: int, seed: int
) -> dict[str, object]:
    counts = images.select("gt", "predictions", "matched").to_numpy()
    total = counts.sum(axis=0)
    matched = int(total[2])
    values = _ratios(total[None, :])[0]
    low, high = bootstrap(counts, draws=draws, seed=seed)
    return {
        "dataset": name,
        "images": len(images),
        "gt": int(total[0]),
        "predictions": int(total[1]),
        "matched": matched,
        "mean_iou": images["iou_sum"].sum() / matched if matched else None,
        "ap50": precision[0],
        "ap": precision[1],
        **{ratio: _known(value) for ratio, value in zip(RATIOS, values, strict=True)},
        **{f"{ratio}_low": _known(value) for ratio, value in zip(RATIOS, low, strict=True)},
        **{f"{ratio}_high": _known(value) for ratio, value in zip(RATIOS, high, strict=True)},
    }


def bootstrap(
    counts: npt.NDArray[np.int64], *, draws: int = 1000, seed: int = 0
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the 2.5 % and 97.5 % quantiles of precision, recall and F1 when images are drawn with replacement.

    Draws in which a ratio has no denominator are left out; NaN when that is all of them.

    Args:
        counts: ``(n images, 3)`` animals, predictions and matches of each image.
        draws: Number of draws.
        seed: Seed of the generator.
    """
    count = len(counts)
    if not count:
        return np.full(3, np.nan), np.full(3, np.nan)
    generator = np.random.default_rng(seed)
    at_once = max(1, WEIGHTS_AT_ONCE // count)
    chances = np.full(count, 1 / count)
    drawn = np.concatenate(
        [
            generator.multinomial(count, chances, size=min(at_once, draws - start)) @ counts
            for start in range(0, draws, at_once)
        ]
    )
    ends = [
        np.quantile(column[~np.isnan(column)], [0.025, 0.975]) if not np.isnan(column).all() else np.full(2, np.nan)
        for column in _ratios(drawn).T
    ]
    return np.array([end[0] for end in ends]), np.array([end[1] for end in ends])


def _ratios(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return precision, recall and F1 of each row of animals, predictions and matches; NaN without denominator."""
    truth, predictions, matched = counts.T.astype(np.float64)
    ratios = [(matched, predictions), (matched, truth), (2 * matched, predictions + truth)]
    return np.stack([np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0) for a, b in ratios], axis=1)


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
