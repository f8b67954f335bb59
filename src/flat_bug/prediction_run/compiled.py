"""What is made of the results of all images together: the formats that other programs read."""

import shutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from flat_bug.errors import OutputError
from flat_bug.files import cannot_write, remove
from flat_bug.instances.formats import FORMATS, is_ours, refuse_others_work, write_formats
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.measurement_table import CSV_NAME
from flat_bug.instances.metadata import read_metadata
from flat_bug.prediction_run.inputs import SUMMARY_NAME, InputImage
from flat_bug.prediction_run.layout import OutputSettings
from flat_bug.progress import track

BEGINNINGS = {SUMMARY_NAME: b"image,status,", CSV_NAME: b"image,"}
"""What our tables begin with; others have such names too."""


def clear_compiled(output: Path, formats: Collection[str] = ()) -> None:
    """Remove what describes all images of a former command, lest it be taken for what this one has found.

    Args:
        output: The folder of the results.
        formats: Names of those that will be written there.

    Raises:
        OutputError: Something cannot be removed, or what is about to be written would replace somebody's work.
    """
    refuse_others_files(output, formats)
    remove(path for path in _files(output, FORMATS) if not _is_others(path))
    for kind in FORMATS.values():
        folder = output / kind.target
        if not kind.is_folder or not folder.exists():
            continue
        if kind.name in formats or is_ours(folder):
            refuse_others_work(folder)
            _remove_folder(folder)


def refuse_others_files(output: Path, formats: Collection[str]) -> None:
    """Refuse to replace a table that is called like one of ours and was not written by flat-bug.

    Args:
        output: The folder of the results.
        formats: Names of those that will be written there.

    Raises:
        OutputError: There is such a table.
    """
    for path in _files(output, formats):
        if _is_others(path):
            raise OutputError(
                "something else has the name of a table of results, and would be lost",
                where=path,
                mend="Move it away, or choose another output folder.",
            )


def write_compiled(
    images: Sequence[tuple[InputImage, Path]], output: Path, settings: OutputSettings
) -> dict[str, Path]:
    """Write all images in the formats that are wanted, and return where each is by its name.

    Args:
        images: Each image that did not fail, and the JSON that holds its instances.
        output: The folder of the results.
        settings: What is written.

    Raises:
        OutputError: The output cannot be written.
    """
    kinds = [FORMATS[name] for name in settings.all_formats]
    if not kinds:
        return {}
    return write_formats(kinds, output, track(read_results(images), "Compiling", len(images)), settings.format_options)


def read_results(images: Iterable[tuple[InputImage, Path]]) -> Iterator[ImageResult]:
    """Yield the instances of each image, in order, from the JSON that holds them; one at a time in memory."""
    for image, metadata in images:
        yield ImageResult(image.file_name, image.name, read_metadata(metadata).instances, image.path)


def _files(output: Path, formats: Collection[str]) -> list[Path]:
    """Return the files, in which all images are, that are written in some formats."""
    kinds = [FORMATS[name] for name in formats]
    return [output / SUMMARY_NAME, *(output / kind.target for kind in kinds if not kind.is_folder)]


def _is_others(path: Path) -> bool:
    begin = BEGINNINGS.get(path.name)
    try:
        with path.open("rb") as stream:
            return begin is not None and stream.read(len(begin)) != begin
    except OSError:
        return False  # absent; what is wrong with it otherwise is said when it is replaced


def _remove_folder(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
