"""One image of many: it is predicted, and whatever goes wrong with it costs its own row only."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from flat_bug.errors import FlatBugError, OutputError
from flat_bug.files import printable
from flat_bug.predict import Predictor
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.layout import Layout, OutputSettings
from flat_bug.prediction_run.results import ResultsWriter, Written
from flat_bug.prediction_run.summary import ImageRow
from flat_bug.progress import Report

log = logging.getLogger(__name__)

Work = Callable[[InputImage, Report | None], Written]
"""Predicts an image, and tells how many of its tiles are done."""


@dataclass(frozen=True)
class Place:
    """Where results are written, and which.

    Attributes:
        output: The folder.
        settings: What is written.
        scratch: Folder for what the files of all images need of an image whose JSON is not wanted.
    """

    output: Path
    settings: OutputSettings
    scratch: Path


@dataclass(frozen=True)
class Finished:
    """What became of one image, and where its animals are to be found for the files of all images."""

    row: ImageRow
    metadata: Path | None = None


def work_of(predictor: Predictor, place: Place | None) -> Work:
    """Return what is done with each image.

    Args:
        predictor: The model and its settings.
        place: Where results are written; nothing is written without it.
    """
    if place is not None:
        return ResultsWriter(
            predictor, Layout(place.output, place.settings.long_format), place.settings, place.scratch
        ).predict

    def only_predict(image: InputImage, report: Report | None) -> Written:
        table = predictor(image.path, report)
        return Written("done", len(table), table.width, table.height, None)

    return only_predict


def attempt(image: InputImage, work: Work, report: Report | None = None) -> Finished:
    """Return what became of an image, whatever is wrong with it.

    Raises:
        OutputError: The results cannot be written, which is no fault of the image.
    """
    name, start = printable(image.file_name), time.perf_counter()
    try:
        written = work(image, report)
    except OutputError:
        raise
    except FlatBugError as error:
        return failed(image, error.what)
    except Exception as error:
        # An image that nobody thought of must not cost a night's other images.
        log.debug("%s", name, exc_info=True)
        return failed(image, f"unexpected {type(error).__name__}: {error}")
    seconds, megapixels = time.perf_counter() - start, written.width * written.height / 1e6
    size = (written.width, written.height, megapixels)
    return Finished(ImageRow(name, written.status, written.instances, *size, seconds), written.metadata)


def failed(image: InputImage, reason: str) -> Finished:
    """Return what became of an image that failed."""
    return Finished(ImageRow(printable(image.file_name), "failed", reason=" ".join(reason.split())))
