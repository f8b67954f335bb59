"""Recall and precision against size."""

import warnings

import numpy as np
import polars as pl
import pytest

from flat_bug.evaluation.sizes import BIN_SCHEMA, RUG_SCHEMA, SMOOTH_SCHEMA, SizeCurves, size_curves
from flat_bug.evaluation.tables import OBJECT_SCHEMA


def objects(kinds: list[str], sizes: list[float], *, dataset: str = "d", ignored: bool = False) -> pl.DataFrame:
    """Return rows of a per-object table; a prediction is as large as its animal."""
    rows = [
        {
            "dataset": dataset,
            "image": "a.jpg",
            "kind": kind,
            "gt_size": None if kind == "spurious" else size,
            "pred_size": None if kind == "missed" else size,
            "ignored": ignored,
        }
        for kind, size in zip(kinds, sizes, strict=True)
    ]
    return pl.DataFrame(rows, schema=OBJECT_SCHEMA)


def curves(table: pl.DataFrame) -> SizeCurves:
    """Return the curves; any warning on the way is an error."""
    with warnings.catch_warnings(), np.errstate(all="raise", under="ignore"):
        warnings.simplefilter("error")
        return size_curves(table)


def larger_ones_are_found(count: int = 300) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    sizes = np.exp(rng.uniform(np.log(32), np.log(400), count))
    found = rng.random(count) < 1 / (1 + np.exp(-2 * np.log(sizes / 80)))
    kinds = np.where(found, "matched", np.where(rng.random(count) < 0.5, "missed", "spurious"))
    return objects(kinds.tolist(), sizes.tolist())


def test_recall_is_over_animals_and_precision_over_predictions() -> None:
    table = objects(["matched", "missed", "missed", "spurious"], [50, 60, 70, 80])
    rug = curves(table).rug
    assert rug.filter(pl.col("measure") == "recall").select("size", "success").rows() == [
        (50, True),
        (60, False),
        (70, False),
    ]
    assert rug.filter(pl.col("measure") == "precision").select("size", "success").rows() == [(50, True), (80, False)]


def test_bins_hold_every_object_once_and_their_shares_add_up() -> None:
    table = larger_ones_are_found()
    made = curves(table)
    for measure in ("recall", "precision"):
        bins, rug = (frame.filter(pl.col("measure") == measure) for frame in (made.bins, made.rug))
        assert bins["n"].sum() == len(rug)
        assert (bins["n"] * bins["mean"]).sum() == pytest.approx(rug["success"].sum())
        assert bins["size"].is_sorted()
        assert bins["size"].is_between(rug["size"].min(), rug["size"].max()).all()
        assert (bins["low"] <= bins["mean"]).all()
        assert (bins["mean"] <= bins["high"]).all()


def test_smooth_and_bins_tell_the_same_story() -> None:
    made = curves(larger_ones_are_found(2000))
    smooth = made.smooths.filter(pl.col("measure") == "recall")
    assert smooth["fit"].is_sorted()
    assert smooth["size"].is_sorted()
    for size, mean, n in made.bins.filter(pl.col("measure") == "recall").select("size", "mean", "n").rows():
        along = np.interp(np.log(size), np.log(smooth["size"]), smooth["fit"])
        assert along == pytest.approx(mean, abs=4 * np.sqrt(0.25 / n))


def test_datasets_are_apart_and_in_order() -> None:
    table = pl.concat([objects(["matched"], [50], dataset=name) for name in ("b", "a", "c")])
    assert curves(table).bins["dataset"].unique(maintain_order=True).to_list() == ["a", "b", "c"]


def test_the_same_seed_gives_the_same_ribbon() -> None:
    table = larger_ones_are_found()
    assert size_curves(table, seed=3).bins.equals(size_curves(table, seed=3).bins)
    assert not size_curves(table, seed=3).bins.equals(size_curves(table, seed=4).bins)


class TestTooLittle:
    def schemas(self, made: SizeCurves) -> list[dict[str, object]]:
        return [dict(frame.schema) for frame in (made.bins, made.smooths, made.rug)]

    def test_no_objects(self) -> None:
        made = curves(objects([], []))
        assert self.schemas(made) == [BIN_SCHEMA, SMOOTH_SCHEMA, RUG_SCHEMA]
        assert len(made.bins) == len(made.smooths) == len(made.rug) == 0

    def test_only_objects_that_do_not_count(self) -> None:
        assert len(curves(objects(["matched", "missed"], [5, 6], ignored=True)).rug) == 0

    @pytest.mark.parametrize("kind", ["matched", "missed", "spurious"])
    @pytest.mark.parametrize("count", [1, 9, 10, 40])
    def test_outcomes_that_are_all_alike_have_bins_and_no_smooth(self, kind: str, count: int) -> None:
        made = curves(objects([kind] * count, np.geomspace(32, 300, count).tolist()))
        assert self.schemas(made) == [BIN_SCHEMA, SMOOTH_SCHEMA, RUG_SCHEMA]
        assert set(made.bins["mean"]) == {float(kind == "matched")}
        assert len(made.smooths) == 0

    def test_nine_objects_have_bins_and_no_smooth_and_ten_have_both(self) -> None:
        kinds = ["matched", "missed"] * 5
        sizes = np.geomspace(32, 300, 10).tolist()
        assert len(curves(objects(kinds[:9], sizes[:9])).smooths) == 0
        assert set(curves(objects(kinds, sizes)).smooths["measure"]) == {"recall"}

    def test_animals_of_one_size_are_one_bin(self) -> None:
        made = curves(objects(["matched", "missed"] * 20, [50.0] * 40)).bins
        recall = made.filter(pl.col("measure") == "recall")
        assert recall.select("size", "mean", "n").rows() == [(pytest.approx(50), 0.5, 40)]
