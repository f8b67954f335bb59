"""What a run found: a row per model and dataset, or per task where no model is scored, and the report made of it."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from flat_bug.evaluation.scores import POOLED, SCORE_SCHEMA
from flat_bug.evaluation.standings import ReportModel
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.predict_task import CALL as PREDICTING
from flat_bug.experiments.predict_task import PredictImages
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus
from flat_bug.experiments.score_task import CALL, EVALUATION, PREDICTIONS, Scored, ScoreModel
from flat_bug.experiments.task_table import task_table, write_task_page
from flat_bug.files import atomic_path

SCHEMA: dict[str, type[pl.DataType]] = {
    "model": pl.String,
    "weights": pl.String,
    "weights_sha256": pl.String,
    "dataset": pl.String,
    "status": pl.String,
    **{name: kind for name, kind in SCORE_SCHEMA.items() if name != "dataset"},
    "seconds": pl.Float64,
    "seconds_per_megapixel": pl.Float64,
    "peak_memory_mb": pl.Float64,
    "version": pl.String,
    "commit": pl.String,
    "time": pl.String,
    "reason": pl.String,
}


@dataclass(frozen=True, eq=False)
class Results:
    """The results of a run.

    Attributes:
        table: A row per model and dataset, and one per model for all; the columns of ``SCHEMA``. Where no task scores a
            model, a row per task.
        statuses: The state of every task.
        page: The report.
    """

    table: pl.DataFrame
    statuses: tuple[TaskStatus, ...]
    page: Path

    @property
    def are_scores(self) -> bool:
        """Whether models were to be scored."""
        return any(status.task.call == CALL for status in self.statuses)

    def matrix(self) -> pl.DataFrame:
        """Return the F1 of each model (rows) on each dataset (columns), or the state of a model without results."""
        cells = [
            {"model": row["model"], "dataset": row["dataset"], "cell": _cell(row["status"], row["f1"])}
            for row in self.table.iter_rows(named=True)
        ]
        return pl.DataFrame(cells, infer_schema_length=None).pivot("dataset", index="model", values="cell")


def write_results(run: RunFolder, statuses: Sequence[TaskStatus] | None = None) -> Results:
    """Write ``results.csv``, ``results.parquet`` and ``report.html`` from what the tasks have left.

    Where they have predicted images, what describes all images is written into the folder of these first.

    Args:
        run: The run.
        statuses: The state of every task, where a scheduler knows more than the run folder.

    Raises:
        OutputError: The report cannot be written.
    """
    statuses = tuple(run.statuses() if statuses is None else statuses)
    scored = [status for status in statuses if status.task.call == CALL]
    table = result_table(scored) if scored else _table_of_tasks(run, statuses)
    with atomic_path(run.report / "results.csv") as temporary:
        table.write_csv(temporary)
    with atomic_path(run.report / "results.parquet") as temporary:
        table.write_parquet(temporary)
    if not scored:
        return Results(table, statuses, write_task_page(table, run.page, run.plan, _predictions(statuses)))
    # Figures take a second to import, which `fb status` and the start of a run do not have.
    from flat_bug.evaluation.report import write_report  # noqa: PLC0415

    page = write_report(
        [_report_model(status) for status in scored],
        run.page,
        title="Comparison of models",
        provenance={
            "command": shlex.join(run.plan.command),
            "planned": run.plan.created,
            **run.plan.versions,
            "SHA-256": run.plan.digests,
        },
    )
    return Results(table, statuses, page)


def result_table(statuses: Sequence[TaskStatus]) -> pl.DataFrame:
    """Return a row per model and dataset, the row of all datasets first.

    A model without results has a row for each dataset that another model has, with its state and the reason.
    """
    scores = [_scores_of(status) for status in statuses]
    names = {row["dataset"] for rows in scores for row in rows} - {POOLED}
    datasets = [POOLED, *sorted(names, key=lambda name: (name.casefold(), name))]
    rows = [
        {**_model_columns(status, dataset), **next((row for row in found if row["dataset"] == dataset), {})}
        for status, found in zip(statuses, scores, strict=True)
        for dataset in datasets
    ]
    return pl.DataFrame(rows, schema=SCHEMA)


def _predictions(statuses: Sequence[TaskStatus]) -> Path | None:
    """Return the folder that tasks have predicted images into."""
    predicting = [status.task for status in statuses if status.task.call == PREDICTING]
    return PredictImages.model_validate(predicting[0].args).folder() if predicting else None


def _table_of_tasks(run: RunFolder, statuses: Sequence[TaskStatus]) -> pl.DataFrame:
    if not any(status.task.call == PREDICTING for status in statuses):
        return task_table(run, statuses)
    # Loads libvips, which `fb status` does not need.
    from flat_bug.experiments.predict_merge import merge, share_table  # noqa: PLC0415

    merge(statuses)
    return share_table(statuses)


def _cell(status: str, f1: float | None) -> str:
    if status != TaskState.DONE:
        return status
    return "–" if f1 is None else f"{f1:.3f}"


def _scores_of(status: TaskStatus) -> list[dict[str, Any]]:
    if status.state is not TaskState.DONE or status.attempt is None:
        return []
    return pl.read_csv(status.attempt / EVALUATION / "scores.csv", schema_overrides=SCORE_SCHEMA).to_dicts()


def _model_columns(status: TaskStatus, dataset: str) -> dict[str, Any]:
    record, model = status.record, _report_model(status)
    columns: dict[str, Any] = {
        "model": model.name,
        "weights": str(NodePath(str(status.task.args["weights"])).resolve()),
        "weights_sha256": model.sha256 or None,
        "dataset": dataset,
        "status": str(status.state),
        "reason": status.reason or None,
    }
    if record is not None:
        columns |= {"version": record.versions.get("flat-bug"), "commit": record.versions.get("commit")}
        columns["time"] = record.started
    # Time and memory are those of all datasets together.
    if dataset == POOLED:
        columns |= {"seconds": model.seconds, "seconds_per_megapixel": model.seconds_per_megapixel}
        columns["peak_memory_mb"] = model.peak_memory_mb
    return columns


def _report_model(status: TaskStatus) -> ReportModel:
    args, record = ScoreModel.model_validate(status.task.args), status.record
    unfinished = ReportModel(
        name=args.model,
        weights=NodePath(args.weights).resolve().name,
        sha256=record.inputs["weights"].sha256 if record and "weights" in record.inputs else "",
        status=str(status.state),
        reason=status.reason,
        device=args.device,
    )
    if status.state is not TaskState.DONE or record is None or status.attempt is None:
        return unfinished
    values = Scored.model_validate(record.values)
    return replace(
        unfinished,
        evaluation=status.attempt / EVALUATION,
        predictions=status.attempt / PREDICTIONS,
        ground_truth=_here(args.ground_truth),
        images=_here(args.images),
        seconds=values.predict_seconds,
        megapixels=values.megapixels,
        peak_memory_mb=record.peak_memory_mb,
        card=values.card,
        card_is_assumed=args.card is None,
        score_threshold=values.score_threshold,
    )


def _here(text: str) -> Path | None:
    """Return the path if it can be read from here; a folder of a node cannot."""
    path = NodePath(text)
    return resolved if path.is_known_here() and (resolved := path.resolve()).exists() else None
