"""What the tasks of a run have left where no model is scored: a row for each, and a plain page."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined

from flat_bug import __version__
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, number_of
from flat_bug.experiments.train_task import CALL, Trained
from flat_bug.files import write_text

SCHEMA: dict[str, type[pl.DataType]] = {
    "task": pl.String,
    "status": pl.String,
    "attempt": pl.Int64,
    "epochs": pl.Int64,
    "seconds": pl.Float64,
    "box_map50": pl.Float64,
    "mask_map50": pl.Float64,
    "mask_map50_95": pl.Float64,
    "weights": pl.String,
    "reason": pl.String,
}


def task_table(run: RunFolder, statuses: Sequence[TaskStatus]) -> pl.DataFrame:
    """Return a row for each task, with the columns of ``SCHEMA``; weights are paths from the run folder."""
    return pl.DataFrame([_row(run, status) for status in statuses], schema=SCHEMA)


def write_task_page(table: pl.DataFrame, output: Path, plan: Plan, predictions: Path | None = None) -> Path:
    """Write a table of tasks as one HTML page and return its path.

    Args:
        table: A row for each task.
        output: The page.
        plan: The plan of the run.
        predictions: Folder that the tasks have predicted into, if they have.

    Raises:
        OutputError: The page cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("flat_bug.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("tasks.html.j2").render(
        title=f"Tasks of {plan.experiment}",
        columns=table.columns,
        rows=[[_cell(value) for value in row] for row in table.iter_rows()],
        output=None if predictions is None else str(predictions),
        command=shlex.join(plan.command),
        planned=plan.created,
        versions=plan.versions,
        version=__version__,
    )
    write_text(output, page)
    return output


def _row(run: RunFolder, status: TaskStatus) -> dict[str, str | int | float | None]:
    row: dict[str, str | int | float | None] = {
        "task": status.task.id,
        "status": str(status.state),
        "attempt": number_of(status.attempt) if status.attempt else None,
        "seconds": status.seconds,
        "reason": status.reason or None,
    }
    if status.state is not TaskState.DONE or status.record is None or status.attempt is None:
        return row
    if status.task.call == CALL:
        trained = Trained.model_validate(status.record.values)
        row |= trained.model_dump(include=SCHEMA.keys() - {"weights"})
        row["weights"] = (status.attempt / trained.weights).relative_to(run.path).as_posix()
    return row


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
