"""One image of many: it is predicted, and whatever goes wrong with it costs its own row only."""

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flat_bug.errors import FlatBugError, OutputError
from flat_bug.files import printable
from flat_bug.predict import Predictor
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.layout import Layout, OutputSettings
from flat_bug.prediction_run.opener import Opener
from flat_bug.prediction_run.remembered import Remembered, Stamp, digest_of_names, digest_of_text, is_settled, stamp_of
from flat_bug.prediction_run.results import ResultsWriter, Written
from flat_bug.prediction_run.summary import ImageRow
from flat_bug.progress import Report

log = logging.getLogger(__name__)

Work = Callable[[InputImage, Report | None, Remembered | None], "Done"]
"""Predicts an image, and tells how many of its tiles are done; knows what is remembered of it."""


@dataclass(frozen=True)
class Done:
    """What there is of one image, and what is to be remembered of it."""

    written: Written
    remembered: Remembered | None = None


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
    """What became of one image.

    Attributes:
        row: What became of it.
        metadata: Where its animals are to be found for the files of all images.
        remembered: What the output folder is to remember of it.
    """

    row: ImageRow
    metadata: Path | None = None
    remembered: Remembered | None = None


def work_of(predictor: Predictor, place: Place | None) -> Work:
    """Return what is done with each image.

    Args:
        predictor: The model and its settings.
        place: Where results are written; nothing is written without it.
    """
    if place is not None:
        layout = Layout(place.output, place.settings.long_format)
        writer = ResultsWriter(predictor, layout, place.settings, place.scratch)
        return _Writing(writer, layout, place.settings).predict

    opener = Opener()

    def only_predict(image: InputImage, report: Report | None, _: Remembered | None) -> Done:
        table = predictor(opener.open(image.path, image.part.page, image.part.frame_index), report)
        return Done(Written("done", len(table), table.width, table.height, None))

    return only_predict


def attempt(
    image: InputImage, work: Work, report: Report | None = None, remembered: Remembered | None = None
) -> Finished:
    """Return what became of an image, whatever is wrong with it.

    Raises:
        OutputError: The results cannot be written, which is no fault of the image.
    """
    name, start = printable(image.file_name), time.perf_counter()
    if image.part.fault:
        return failed(image, image.part.fault)
    try:
        done = work(image, report, remembered)
    except OutputError:
        raise
    except FlatBugError as error:
        return failed(image, error.what)
    except MemoryError:
        return failed(image, "there is not enough memory for it; fewer processes (--jobs) leave it more")
    except Exception as error:
        # An image that nobody thought of must not cost a night's other images.
        log.debug("%s", name, exc_info=True)
        return failed(image, f"unexpected {type(error).__name__}: {error} ({_place_of(error)})")
    seconds, written = time.perf_counter() - start, done.written
    size = (written.width, written.height, written.width * written.height / 1e6)
    row = ImageRow(name, written.status, written.instances, *size, seconds, **_origin(image), pages=written.pages)
    return Finished(row, written.metadata, done.remembered)


@dataclass(frozen=True)
class _Writing:
    """Writes the results of images, unless they are remembered to be there."""

    writer: ResultsWriter
    layout: Layout
    settings: OutputSettings

    def predict(self, image: InputImage, report: Report | None, before: Remembered | None) -> Done:
        made_of, began = self.writer.made_of(image), time.time()
        digest = None if made_of is None else digest_of_text(made_of)
        if before is not None and before.made_of == digest and self._is_unchanged(image, before):
            metadata = self.layout.metadata(image.name, before.identifier)
            size = (before.instances, before.width, before.height)
            return Done(Written("skipped", *size, metadata, before.identifier), before)
        stamp = _stamp_or_none(image.path)
        written = self.writer.predict(image, report)
        if digest is None or stamp is None or not is_settled(stamp, began) or stamp != _stamp_or_none(image.path):
            return Done(written)
        return Done(written, self._remembered(image, stamp, digest, written))

    def _is_unchanged(self, image: InputImage, before: Remembered) -> bool:
        metadata = self.layout.metadata(image.name, before.identifier)
        if _stamp_or_none(image.path) != before.image or _stamp_or_none(metadata) != before.metadata:
            return False
        return digest_of_names(self.layout.former(image.name)) == before.names

    def _remembered(self, image: InputImage, stamp: Stamp, digest: str, written: Written) -> Remembered | None:
        metadata = self.layout.metadata(image.name, written.identifier)
        of_metadata = _stamp_or_none(metadata)
        if of_metadata is None or written.metadata != metadata:
            return None  # without a JSON nothing says what was found
        names = digest_of_names(self._names(image.name, written))
        size = (written.instances, written.width, written.height)
        return Remembered(stamp, digest, written.identifier, of_metadata, names, *size)

    def _names(self, name: str, written: Written) -> set[Path]:
        """Return the results that there are now: those that were to be written, and what is left of former ones."""
        wanted = [self.layout.metadata(name, written.identifier)]
        wanted += [self.layout.overview(name, written.identifier)] if self.settings.overviews else []
        wanted += self.layout.crops(name, written.identifier, written.instances) if self.settings.crops else []
        return {*wanted, *(path for path in self.layout.former(name) if path.exists())}


def _stamp_or_none(path: Path) -> Stamp | None:
    try:
        return stamp_of(path)
    except OSError:
        return None


def _place_of(error: Exception) -> str:
    """Return where an error was raised, which tells who is to mend it what to look at."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(last.filename).name}:{last.lineno}"


def failed(image: InputImage, reason: str) -> Finished:
    """Return what became of an image that failed."""
    row = ImageRow(printable(image.file_name), "failed", **_origin(image), reason=" ".join(reason.split()))
    return Finished(row)


def _origin(image: InputImage) -> dict[str, Any]:
    return {"file": printable(image.source), **image.part.place_in_file()}
