"""Write results that are there already in formats that other programs read."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from flat_bug.errors import DatasetError, UsageError
from flat_bug.instances.formats import FORMATS, FormatOptions, write_formats
from flat_bug.instances.image_result import ImageResult
from flat_bug.prediction_run.former_results import FormerResults
from flat_bug.prediction_run.viewing import VIEWER, view_results
from flat_bug.progress import track


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        formats: Where each format is, by its name.
        images: Number of images.
        instances: Number of instances in them.
        not_found: Number of images that are no longer where they were, so that no link to them was made.
        failures: What could not be read.
    """

    formats: dict[str, Path]
    images: int
    instances: int
    not_found: int
    failures: tuple[DatasetError, ...]


def export_results(
    results: FormerResults,
    formats: Sequence[str],
    output: Path,
    options: FormatOptions | None = None,
    *,
    viewer: bool = False,
) -> Exported:
    """Write all images in some formats; one that cannot be read is left out.

    Args:
        results: From ``find_results``.
        formats: Names of formats.
        output: The folder that they are written into.
        options: What can be chosen about them.
        viewer: Write the viewer as well.

    Raises:
        ItemsFailedError: Some images are not in the viewer, since they cannot be read.
        UsageError: What is read would be replaced.
        DatasetError: The COCO file that is read breaks its format, or nothing can be read.
        OutputError: The output cannot be written, or something of the user's is in the way.
    """
    kinds = [FORMATS[name] for name in formats]
    for kind in kinds:
        if results.coco is not None and (output / kind.target).resolve() == results.coco.resolve():
            raise UsageError("the COCO file that is read would be replaced", where=results.coco, mend="Name an output.")
    counts = _Counts()
    written = write_formats(kinds, output, counts.of(_shown(results)), options) if kinds else {}
    if viewer:
        counts = _Counts()
        written[VIEWER] = view_results(counts.of(_shown(results)), output)
    return Exported(written, counts.images, counts.instances, results.not_found, tuple(results.failures))


def _shown(results: FormerResults) -> Iterable[ImageResult]:
    return results if results.coco else track(results, "Exporting", len(results.files))


@dataclass
class _Counts:
    images: int = 0
    instances: int = 0

    def of(self, results: Iterable[ImageResult]) -> Iterator[ImageResult]:
        for result in results:
            self.images += 1
            self.instances += len(result.table)
            yield result
