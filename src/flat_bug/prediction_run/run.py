"""Predict many images; one that fails costs its own row only."""

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

from flat_bug.files import write_text
from flat_bug.predict import Predictor
from flat_bug.prediction_run.claim import claimed, scratch_folder
from flat_bug.prediction_run.compiled import read_results
from flat_bug.prediction_run.crew import Crew, OnTiles
from flat_bug.prediction_run.inputs import SUMMARY_NAME, InputImage
from flat_bug.prediction_run.keeper import Keeper
from flat_bug.prediction_run.layout import Layout, OutputSettings
from flat_bug.prediction_run.one_image import Finished, Place, attempt, work_of
from flat_bug.prediction_run.pace import showing
from flat_bug.prediction_run.remembered import Remembered
from flat_bug.prediction_run.summary import PredictionRun, summary_of
from flat_bug.prediction_run.tracks import write_tracks
from flat_bug.prediction_run.viewing import VIEWER, view_results
from flat_bug.progress import reporting, track

log = logging.getLogger(__name__)


def predict_images(
    images: Sequence[InputImage],
    predictor: Predictor | Crew,
    output: Path | None,
    settings: OutputSettings | None = None,
) -> PredictionRun:
    """Predict images and write their results; what the same weights and settings have done before is kept.

    An image that cannot be predicted costs its own row only. Results of other weights, settings or pixels under the
    name of an image are replaced when its new ones are ready. Whatever is found under a final name is whole.

    Args:
        images: From ``find_images``.
        predictor: The model and its settings, or several processes that have them.
        output: Folder for the results; nothing is written without it.
        settings: What is written.

    Raises:
        RunError: Another command is writing into the folder.
        OutputError: The output cannot be written; what was finished is kept.
    """
    settings = settings or OutputSettings()
    if output is None:
        return PredictionRun(tuple(finished.row for finished in predict_each(images, predictor, None)))
    layout = Layout(output, settings.long_format)
    with claimed(layout), scratch_folder(output) as scratch, Keeper.of(output, settings) as keeper:
        place = Place(output, settings, scratch)
        finished = predict_each(images, predictor, place, keeper.memory.images, keeper.note)
        return compile_results(images, finished, output, settings, keeper)


def predict_each(
    images: Sequence[InputImage],
    predictor: Predictor | Crew,
    place: Place | None,
    memory: Mapping[str, Remembered] | None = None,
    on_finished: Callable[[InputImage, Finished], object] | None = None,
) -> list[Finished]:
    """Predict images and write what belongs to each; return what became of them, in their order.

    Args:
        images: The images.
        predictor: The model and its settings, or several processes that have them.
        place: Where results are written; nothing is written without it.
        memory: Name of each image → what the output folder remembers of it.
        on_finished: Told what became of each image as soon as it is known.

    Raises:
        OutputError: The output cannot be written; what was finished is kept.
        KeyboardInterrupt: It was stopped; a note says how far it was.
    """
    if isinstance(predictor, Predictor) and len(images) == 1:
        # A single image may take as long as a folder, so its tiles are counted.
        with reporting("Predicting tiles") as report:
            only = _logged(attempt(images[0], work_of(predictor, place), report, (memory or {}).get(images[0].name)))
        if on_finished is not None:
            on_finished(images[0], only)
        return [only]
    found: dict[int, Finished] = {}
    try:
        with (
            showing(images) as progress,
            closing(_outcomes(images, predictor, place, memory or {}, progress.looked)) as outcomes,
        ):
            for position, finished in outcomes:
                found[position] = _logged(finished)
                progress.finished(position, finished)
                if on_finished is not None:
                    on_finished(images[position], finished)
    except KeyboardInterrupt as stop:
        failures = sum(finished.row.status == "failed" for finished in found.values())
        stop.add_note(f"{len(found)} of {len(images)} images were finished, {failures} of them failed")
        raise
    return [found[position] for position in range(len(images))]


def _outcomes(
    images: Sequence[InputImage],
    predictor: Predictor | Crew,
    place: Place | None,
    memory: Mapping[str, Remembered],
    on_tiles: OnTiles,
) -> Generator[tuple[int, Finished]]:
    """Yield the position of each image and what became of it, in the order in which they are finished."""
    if isinstance(predictor, Crew):
        yield from predictor.predict(images, place, memory, on_tiles)
        return
    work = work_of(predictor, place)
    for position, image in enumerate(images):
        yield position, attempt(image, work, partial(on_tiles, position), memory.get(image.name))


def compile_results(
    images: Sequence[InputImage],
    finished: Sequence[Finished],
    output: Path,
    settings: OutputSettings,
    keeper: Keeper,
) -> PredictionRun:
    """Write what describes all images, unless it is there already.

    Args:
        images: The images.
        finished: What became of each.
        output: Folder for the results.
        settings: What is written.
        keeper: Of what the folder remembers.

    Raises:
        OutputError: The output cannot be written.
    """
    rows, summary_file = tuple(each.row for each in finished), output / SUMMARY_NAME
    pairs = zip(images, finished, strict=True)
    found = [(image, each.metadata) for image, each in pairs if each.metadata]
    if settings.tracks:
        write_tracks(found, keeper.rewrite)
    written = keeper.compiled(found)
    write_text(summary_file, summary_of(rows).write_csv())
    if settings.viewer:
        written[VIEWER] = view_results(track(read_results(found), "Writing the viewer", len(found)), output)
    return PredictionRun(rows, written.get("coco"), summary_file, written)


def _logged(finished: Finished) -> Finished:
    row = finished.row
    if row.status == "failed":
        log.info("%s: failed: %s", row.image, row.reason)
    else:
        log.info("%s: %d instances in %.1f s", row.image, row.instances, row.seconds)
    return finished
