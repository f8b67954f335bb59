"""One HTML page that shows which model is best, on what, and why: whole without a network or another file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import ValidationError

from flat_bug import __version__
from flat_bug.evaluation.figures import size_panels
from flat_bug.evaluation.gallery import make_scenes
from flat_bug.evaluation.marks import MARKS
from flat_bug.evaluation.scores import POOLED
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.evaluation.standings import (
    ReportModel,
    Score,
    Standing,
    dataset_names,
    lead_of_best,
    leaders_on,
    notes_of,
    read_standings,
    same_weights,
)
from flat_bug.files import write_text

__all__ = ["ReportModel", "write_report"]

COLOURS = 6
"""Colours in report.css that can be told apart, also by the colour-blind; models beyond them differ in shape."""

SCORING = ("settings", "sha256", "versions")
"""What evaluation.json says about how the models were scored."""

SHAPES = ("circle", "square", "diamond", "ring")
CURVES_AT_FIRST = 4
"""Models whose size curves are shown before the reader chooses; ribbons of more hide each other."""

OPEN_AT_MOST = 9
"""Datasets, with all of them as one, that are laid open at first; more would bury the sections that follow."""

METRICS = (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"))


def write_report(
    models: Sequence[ReportModel], output: Path, *, title: str, provenance: Mapping[str, Any] | None = None
) -> Path:
    """Write the comparison of some models as one HTML page.

    The page is the same, byte for byte, for the same input. A model that is not done, or whose evaluation cannot be
    read, is shown as such and costs nothing else.

    Args:
        models: The models, in any order.
        output: The page to write.
        title: Heading of the page.
        provenance: Where the numbers come from: names to texts, numbers, lists or further mappings. ``command`` is
            shown as the way to make them again.

    Returns:
        ``output``.

    Raises:
        OutputError: The page cannot be written.
    """
    standings = read_standings(models)
    page = _environment().get_template("report.html.j2").render(_context(standings, title, dict(provenance or {})))
    write_text(output, page)
    return output


def _context(standings: Sequence[Standing], title: str, provenance: dict[str, Any]) -> dict[str, Any]:
    scored = [standing for standing in standings if standing.done]
    datasets = dataset_names(standings)
    # The only dataset is all of them.
    groups = datasets if len(datasets) == 1 else (POOLED, *datasets)
    speeds = [s.model.seconds_per_megapixel for s in standings if s.model.seconds_per_megapixel is not None]
    return {
        "title": title,
        "version": __version__,
        "standings": standings,
        "scored": scored,
        "failed": [standing for standing in standings if not standing.done],
        "best": scored[0] if scored else None,
        "what_counts": _what_counts(scored[0]) if scored else "",
        "runner_up": scored[1] if len(scored) > 1 else None,
        "lead": lead_of_best(standings),
        "leaders": {name: {one.slot for one in leaders_on(scored, name)} for name in (POOLED, *datasets)},
        "datasets": datasets,
        "pooled_name": POOLED,
        "groups": [(name, _sample(scored, name)) for name in groups],
        "metrics": METRICS,
        "colours": COLOURS,
        "marks": MARKS,
        "slowest": max(speeds, default=0.0) or 1.0,
        "size_panels": size_panels(scored, groups, COLOURS),
        "curves_at_first": CURVES_AT_FIRST,
        "scenes": make_scenes(standings),
        "open_at_most": OPEN_AT_MOST,
        "notes": notes_of(scored),
        "twins": _twins(standings),
        "scoring": {key: scored[0].summary[key] for key in SCORING if key in scored[0].summary} if scored else {},
        "command": provenance.get("command"),
        "provenance": {key: value for key, value in provenance.items() if key != "command"},
        "css": _asset("report.css"),
        "javascript": _asset("report.js"),
    }


def _sample(scored: Sequence[Standing], dataset: str) -> Score:
    """Return the score with the most images, to say on how many animals and images a dataset's scores rest."""
    scores = [standing.scores[dataset] for standing in scored if dataset in standing.scores]
    return max(scores, key=lambda score: score.images, default=Score(dataset))


def _what_counts(standing: Standing) -> str:
    """Return which animals a model was scored on, and how; nothing where its evaluation does not say so."""
    try:
        rule = EvaluationSettings.model_validate(standing.summary.get("settings"))
    except ValidationError:
        return ""
    smaller = standing.objects.filter(pl.col("gt_id").is_not_null() & (pl.col("gt_size") < rule.min_size)).height
    animals = f"{_thousands(standing.pooled.gt if standing.pooled else 0)} animals"
    parts = [
        f"{animals} of {rule.min_size:g} px or more" if rule.min_size else animals,
        f"{_thousands(smaller)} smaller ones do not count" if smaller > 1 else "a smaller one does not count",
        f"matched at {rule.iou_type} IoU ≥ {rule.iou_threshold:g}",
    ]
    return "; ".join(parts if smaller else [parts[0], parts[2]])


def _twins(standings: Sequence[Standing]) -> dict[int, str]:
    """Return the names of the other models with the same weights, by the slot of a model that has such."""
    return {
        one.slot: ", ".join(other.model.name for other in group if other is not one)
        for group in same_weights(standings)
        for one in group
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("flat_bug.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(known=_known, number=_number, percent=_percent, thousands=_thousands, shape=_shape)
    return environment


def _asset(name: str) -> Markup:
    # Our own style and script are the only text of the page that is not escaped, with the figures.
    return Markup((Path(__file__).parent / "templates" / name).read_text(encoding="utf-8"))  # noqa: S704


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _known(value: float | None) -> float | str:
    return "" if value is None or not math.isfinite(value) else value


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _thousands(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def _shape(slot: int) -> str:
    return SHAPES[slot // COLOURS % len(SHAPES)]
