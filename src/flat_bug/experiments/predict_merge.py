"""What the tasks of ``fb predict --slurm`` have left becomes what one process would have: files of all images."""

import json
from collections.abc import Iterator, Sequence

import polars as pl

from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.predict_shard import ALL_FINISHED, read_images
from flat_bug.experiments.predict_task import FINISHED, Predicted, PredictImages
from flat_bug.experiments.run_folder import TaskState, TaskStatus, number_of
from flat_bug.prediction_run import InputImage, OutputSettings, PredictionRun
from flat_bug.prediction_run.claim import claimed
from flat_bug.prediction_run.keeper import Keeper
from flat_bug.prediction_run.layout import Layout
from flat_bug.prediction_run.one_image import Finished, failed
from flat_bug.prediction_run.run import compile_results

SCHEMA: dict[str, type[pl.DataType]] = {
    "task": pl.String,
    "status": pl.String,
    "attempt": pl.Int64,
    "images": pl.Int64,
    "skipped": pl.Int64,
    "failed": pl.Int64,
    "instances": pl.Int64,
    "megapixels": pl.Float64,
    "seconds": pl.Float64,
    "reason": pl.String,
}


def merge(statuses: Sequence[TaskStatus]) -> PredictionRun:
    """Write into the output folder what describes all images; those of a task that is not done count as failed.

    Args:
        statuses: The state of every task that predicts images.

    Raises:
        RunError: `fb predict` is writing into the folder.
        OutputError: The output cannot be written.
    """
    wanted = PredictImages.model_validate(statuses[0].task.args)
    images = read_images(NodePath(wanted.images).resolve())
    finished = [each for status in statuses for each in _finished(status, images)]
    settings = OutputSettings.from_mapping(dict(wanted.write))
    output = wanted.folder()
    # Not with the shared folders of the long format, into which a task that is tried again may be writing.
    with claimed(Layout(output, long_format=False)), Keeper.of(output, settings) as keeper:
        for image, each in zip(images, finished, strict=True):
            keeper.note(image, each)
        return compile_results(images, finished, output, settings, keeper)


def share_table(statuses: Sequence[TaskStatus]) -> pl.DataFrame:
    """Return a row for each task, with the columns of ``SCHEMA``."""
    return pl.DataFrame([_row(status) for status in statuses], schema=SCHEMA)


def _finished(status: TaskStatus, images: list[InputImage]) -> Iterator[Finished]:
    wanted = PredictImages.model_validate(status.task.args)
    share = images[wanted.first : wanted.first + wanted.count]
    if status.state is not TaskState.DONE or status.attempt is None:
        reason = f"its task {status.task.id} is not done: {status.reason or status.state}"
        yield from (failed(image, reason) for image in share)
        return
    content = json.loads((status.attempt / FINISHED).read_text(encoding="utf-8"))
    for image, each in zip(share, ALL_FINISHED.validate_python(content), strict=True):
        is_gone = each.metadata is not None and not each.metadata.is_file()
        yield failed(image, "its results were removed after it was done") if is_gone else each


def _row(status: TaskStatus) -> dict[str, str | int | float | None]:
    row: dict[str, str | int | float | None] = {
        "task": status.task.id,
        "status": str(status.state),
        "attempt": number_of(status.attempt) if status.attempt else None,
        "images": PredictImages.model_validate(status.task.args).count,
        "seconds": status.seconds,
        "reason": status.reason or None,
    }
    if status.state is TaskState.DONE and status.record is not None:
        row |= Predicted.model_validate(status.record.values).model_dump(include=SCHEMA.keys() - {"seconds"})
    return row
