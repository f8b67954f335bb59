"""Which model is best, by how much, and how sure that is: the evaluations of several models side by side."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from polars.exceptions import PolarsError

from flat_bug.evaluation.scores import POOLED
from flat_bug.evaluation.tables import OBJECT_SCHEMA, image_table
from flat_bug.segmenters.base import ModelCard

DONE = "done"
BOOTSTRAP_DRAWS = 2000
LEAST_FOR_INTERVAL = 2
COUNTS = ("gt", "predictions", "matched")


@dataclass(frozen=True, kw_only=True)
class ReportModel:
    """A model of the report, and where its results lie.

    Attributes:
        name: Name shown; unique in a report.
        weights: File name of the weights.
        sha256: Digest of the weights.
        status: ``done``, or why there is nothing to show: ``failed``, ``missing``, ``stale``.
        reason: One sentence for a model that is not done.
        evaluation: Folder with objects.parquet, scores.csv and evaluation.json.
        predictions: Folder with coco_instances.json, for outlines; boxes are drawn without it.
        ground_truth: COCO file, for outlines; boxes are drawn without it.
        images: Folder below which the images lie, for pictures; none are shown without it.
        seconds: Time of the prediction, without loading the model.
        megapixels: Image megapixels in that time.
        peak_memory_mb: Most memory held at once, in MiB.
        device: Where it ran: ``cpu``, ``cuda:0``.
        card: Card of the weights.
        card_is_assumed: There was none beside the weights, so that ``card`` holds what is assumed without.
        score_threshold: What it found was kept above this.
    """

    name: str
    weights: str = ""
    sha256: str = ""
    status: str = DONE
    reason: str = ""
    evaluation: Path | None = None
    predictions: Path | None = None
    ground_truth: Path | None = None
    images: Path | None = None
    seconds: float | None = None
    megapixels: float | None = None
    peak_memory_mb: float | None = None
    device: str = ""
    card: ModelCard | None = None
    card_is_assumed: bool = False
    score_threshold: float | None = None

    @property
    def seconds_per_megapixel(self) -> float | None:
        """Return the time per image megapixel, when both are known."""
        return self.seconds / self.megapixels if self.seconds is not None and self.megapixels else None


@dataclass(frozen=True)
class Score:
    """A row of scores.csv; a value that cannot be known, such as recall without ground truth, is absent."""

    dataset: str
    images: int = 0
    gt: int = 0
    predictions: int = 0
    matched: int = 0
    precision: float | None = None
    precision_low: float | None = None
    precision_high: float | None = None
    recall: float | None = None
    recall_low: float | None = None
    recall_high: float | None = None
    f1: float | None = None
    f1_low: float | None = None
    f1_high: float | None = None
    mean_iou: float | None = None
    ap50: float | None = None
    ap: float | None = None

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> "Score":
        """Take the known columns of a row; NaN becomes absent, and so do the intervals of a single image.

        To draw one image again gives the same image: an interval without width would look like certainty.
        """
        known = {f.name: row[f.name] for f in fields(cls) if _known(row.get(f.name)) is not None}
        if known.get("images", 0) < LEAST_FOR_INTERVAL:
            known = {name: value for name, value in known.items() if not name.endswith(("_low", "_high"))}
        return cls(**known)


@dataclass(frozen=True, eq=False)
class Standing:
    """A model with its scores.

    Attributes:
        model: What was asked for.
        slot: Number of its colour, 0 for the best model.
        scores: Score of each dataset; ``POOLED`` for all.
        objects: The per-object table.
        summary: What evaluation.json says about how it was scored.
    """

    model: ReportModel
    slot: int = 0
    scores: Mapping[str, Score] = field(default_factory=dict)
    objects: pl.DataFrame = field(default_factory=pl.DataFrame)
    summary: Mapping[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Return whether there are scores to show."""
        return self.model.status == DONE

    @property
    def pooled(self) -> Score | None:
        """Return the score over all datasets."""
        return self.scores.get(POOLED)

    def mean(self, metric: str) -> float | None:
        """Return the mean precision, recall or f1 of the datasets, each counting alike."""
        values = [getattr(score, metric) for name, score in self.scores.items() if name != POOLED]
        known = [value for value in values if value is not None]
        return sum(known) / len(known) if known else None


@dataclass(frozen=True)
class Lead:
    """How far the best model is ahead of the next one, in F1 on the images that both were scored on.

    Attributes:
        gap: Difference of pooled F1.
        low: Lower end of its 95 % interval, from a paired bootstrap over images.
        high: Upper end.
        first_on: Number of datasets on which the best model has a higher F1 than every other.
        datasets: Number of datasets.
    """

    gap: float
    low: float
    high: float
    first_on: int
    datasets: int

    @property
    def clear(self) -> bool:
        """Return whether the interval leaves out zero."""
        return self.low > 0


def read_standings(models: Sequence[ReportModel]) -> tuple[Standing, ...]:
    """Read the evaluation of every model and put the best first.

    An evaluation that cannot be read makes its model a failed one, with the reason; the others go on.
    """
    read = [_read(model) for model in models]
    ranked = sorted(read, key=_rank)
    return tuple(replace(standing, slot=slot) for slot, standing in enumerate(ranked))


def dataset_names(standings: Iterable[Standing]) -> tuple[str, ...]:
    """Return the names of all scored datasets, sorted without regard to case."""
    names = {name for standing in standings for name in standing.scores if name != POOLED}
    return tuple(sorted(names, key=lambda name: (name.casefold(), name)))


def notes_of(scored: Sequence[Standing]) -> tuple[str, ...]:
    """Return what a reader should know before comparing: unlike scoring first, then warnings of the evaluations."""
    notes = []
    truths = {_nested(standing.summary, "sha256", "ground_truth") for standing in scored}
    rules = {json.dumps(standing.summary.get("settings"), sort_keys=True) for standing in scored}
    for what, kinds in (("on different ground truth", truths), ("with different settings", rules)):
        if len(kinds) > 1:
            notes.append(f"The models were scored {what}: their numbers do not compare.")
    notes += [_note_on_twins(twins) for twins in same_weights(scored)]
    warnings: dict[str, list[str]] = {}
    for standing in scored:
        for warning in standing.summary.get("warnings", ()):
            warnings.setdefault(str(warning), []).append(standing.model.name)
    for warning, names in warnings.items():
        notes.append(warning if len(names) == len(scored) else f"{', '.join(names)}: {warning}")
    return tuple(notes)


def same_weights(standings: Iterable[Standing]) -> list[list[Standing]]:
    """Return the models that have their weights in common with others, together."""
    groups: dict[str, list[Standing]] = {}
    for standing in standings:
        if standing.model.sha256:
            groups.setdefault(standing.model.sha256, []).append(standing)
    return [group for group in groups.values() if len(group) > 1]


def lead_of_best(standings: Sequence[Standing], *, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Lead | None:
    """Compare the two best models on the same images.

    Returns:
        The lead, or nothing when fewer than two models have a pooled F1 or they share no image.
    """
    scored = [standing for standing in standings if standing.pooled and standing.pooled.f1 is not None]
    if len(scored) < 2:
        return None
    first, second = scored[0], scored[1]
    counts = paired_counts(first.objects, second.objects)
    if not len(counts):
        return None
    gap = f1_of(counts.sum(axis=0))
    # Multinomial weights are the draws of a bootstrap over images, taken once for both models.
    images = len(counts)
    weights = np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=draws)
    gaps = f1_of(np.einsum("di,imk->dmk", weights, counts, optimize=True))
    low, high = np.nanquantile(gaps[:, 0] - gaps[:, 1], [0.025, 0.975])
    names = dataset_names(scored)
    return Lead(
        gap=float(gap[0] - gap[1]),
        low=float(low),
        high=float(high),
        first_on=sum(leaders_on(scored, name) == [first] for name in names),
        datasets=len(names),
    )


def paired_counts(first: pl.DataFrame, second: pl.DataFrame) -> npt.NDArray[np.int64]:
    """Count what F1 is made of, per image of two per-object tables.

    Returns:
        ``(images, 2, 3)`` animals, predictions and matches, for the datasets that both tables hold; an image that is
        absent from one table has zeros there.
    """
    shared = set(first["dataset"].unique()) & set(second["dataset"].unique())
    keys = pl.concat([table.select("dataset", "image") for table in (first, second)]).unique().sort("dataset", "image")
    images = keys.filter(pl.col("dataset").is_in(list(shared)))
    columns = [image_table(table, images).select(COUNTS).to_numpy() for table in (first, second)]
    return np.stack(columns, axis=1).astype(np.int64)


def f1_of(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return the F1 of animals, predictions and matches on the last axis; NaN where there are neither."""
    truth, predictions, matched = np.moveaxis(counts.astype(np.float64), -1, 0)
    total = truth + predictions
    f1: npt.NDArray[np.float64] = np.divide(2 * matched, total, out=np.full_like(total, np.nan), where=total > 0)
    return f1


def leaders_on(standings: Sequence[Standing], dataset: str) -> list[Standing]:
    """Return the models with the highest F1 on a dataset: several in a tie, none where all are alike."""
    values = {standing.slot: standing.scores[dataset].f1 for standing in standings if dataset in standing.scores}
    known = [value for value in values.values() if value is not None]
    if not known or min(known) == max(known):
        return []
    return [standing for standing in standings if values.get(standing.slot) == max(known)]


def _rank(standing: Standing) -> tuple[bool, float, str]:
    f1 = standing.pooled.f1 if standing.pooled else None
    return not standing.done, -(f1 if f1 is not None else -1.0), standing.model.name


def _note_on_twins(twins: Sequence[Standing]) -> str:
    names = " and ".join(standing.model.name for standing in twins)
    thresholds = [standing.model.score_threshold for standing in twins]
    if None in thresholds:  # of an older record
        return f"{names} have the same weights."
    if len(set(thresholds)) == 1:
        return f"{names} have the same weights; their cards differ."
    used = " and ".join(f"{value:g}" for value in thresholds)
    return f"{names} have the same weights; they differ in the score threshold: {used}."


def _nested(summary: Mapping[str, Any], outer: str, inner: str) -> str:
    group = summary.get(outer)
    return str(group.get(inner, "")) if isinstance(group, dict) else ""


def _known(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _read(model: ReportModel) -> Standing:
    if model.status != DONE:
        return Standing(model)
    if model.evaluation is None:
        return Standing(replace(model, status="missing", reason=model.reason or "it has no evaluation"))
    try:
        objects = pl.read_parquet(model.evaluation / "objects.parquet")
        rows = pl.read_csv(
            model.evaluation / "scores.csv", infer_schema_length=None, schema_overrides={"dataset": pl.String}
        ).to_dicts()
        summary = json.loads((model.evaluation / "evaluation.json").read_text(encoding="utf-8"))
    except (OSError, PolarsError, ValueError) as error:
        return Standing(replace(model, status="failed", reason=f"its evaluation cannot be read: {error}"))
    absent = [name for name in OBJECT_SCHEMA if name not in objects.columns]
    if absent or not any(row.get("dataset") == POOLED for row in rows) or not isinstance(summary, dict):
        what = f"objects.parquet lacks {', '.join(absent)}" if absent else "it is not what `fb evaluate` writes"
        return Standing(replace(model, status="failed", reason=f"its evaluation cannot be read: {what}"))
    scores = {row["dataset"]: Score.from_row(row) for row in rows}
    return Standing(model, scores=scores, objects=objects, summary=summary)
