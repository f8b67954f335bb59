"""Predict many images; one that fails costs its own row only."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flat_bug.errors import FlatBugError, OutputError
from flat_bug.files import cannot_write, printable, remove, write_text
from flat_bug.instances.coco import write_coco
from flat_bug.instances.table import Instances
from flat_bug.predict import Predictor
from flat_bug.prediction_run.inputs import COCO_NAME, SUMMARY_NAME, InputImage
from flat_bug.prediction_run.layout import Layout, OutputSettings
from flat_bug.prediction_run.results import ResultsWriter
from flat_bug.prediction_run.summary import ImageRow, PredictionRun, Status, summary_of
from flat_bug.progress import Report, reporting, track

log = logging.getLogger(__name__)

Work = Callable[[InputImage, Report | None], tuple[Instances, Status]]


def predict_images(
    images: Sequence[InputImage],
    predictor: Predictor,
    output: Path | None,
    settings: OutputSettings | None = None,
) -> PredictionRun:
    """Predict images and write their results; what the same weights and settings have done before is kept.

    An image that cannot be predicted costs its own row only. Results of other weights, settings or pixels under the
    name of an image are replaced when its new ones are ready. Whatever is found under a final name is whole.

    Args:
        images: From ``find_images``.
        predictor: The model and its settings.
        output: Folder for the results; nothing is written without it.
        settings: What is written.

    Raises:
        OutputError: The output cannot be written; what was finished is kept.
    """
    settings = settings or OutputSettings()
    if output is None:
        return PredictionRun(_attempt_all(images, lambda image, report: (predictor(image.path, report), "done")))
    with _scratch_folder(output) as scratch:
        coco, summary_file = output / COCO_NAME, output / SUMMARY_NAME
        # They describe a former command; if this one is interrupted, nobody must take them for its results.
        remove([coco, summary_file])
        writer = ResultsWriter(predictor, Layout(output, settings.long_format), settings, scratch)
        rows = _attempt_all(images, writer.predict)
        if settings.coco:
            done = sum(row.status != "failed" for row in rows)
            write_coco(coco, track(writer.tables(), "Compiling", done))
    write_text(summary_file, summary_of(rows).write_csv())
    return PredictionRun(rows, coco if settings.coco else None, summary_file)


def _attempt_all(images: Sequence[InputImage], work: Work) -> tuple[ImageRow, ...]:
    if len(images) == 1:
        # A single image may take as long as a folder, so its tiles are counted.
        with reporting("Predicting tiles") as report:
            return (_attempt(images[0], work, report),)
    return tuple(_attempt(image, work, None) for image in track(images, "Predicting"))


def _attempt(image: InputImage, work: Work, report: Report | None) -> ImageRow:
    name = printable(image.file_name)
    start = time.perf_counter()
    try:
        table, status = work(image, report)
    except OutputError:
        raise
    except FlatBugError as error:
        return _failed(name, error.what)
    except Exception as error:
        # An image that nobody thought of must not cost a night's other images.
        log.debug("%s", name, exc_info=True)
        return _failed(name, f"unexpected {type(error).__name__}: {error}")
    seconds = time.perf_counter() - start
    log.info("%s: %d instances in %.1f s", name, len(table), seconds)
    megapixels = table.width * table.height / 1e6
    return ImageRow(name, status, len(table), table.width, table.height, megapixels, seconds)


def _failed(name: str, reason: str) -> ImageRow:
    log.info("%s: failed: %s", name, reason)
    return ImageRow(name, "failed", reason=" ".join(reason.split()))


@contextmanager
def _scratch_folder(output: Path) -> Iterator[Path]:
    """Yield a temporary folder in the output, which shows before the first image that it can be written to."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=".tmp-", dir=output))
    except OSError as error:
        raise cannot_write(output, error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
