"""The results of one image on disk: what can be kept of a former run, and writing what is missing."""

import json
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from flat_bug.errors import DatasetError, ImageError
from flat_bug.files import atomic_path, remove, remove_leftovers
from flat_bug.imaging import LazyImage, open_image
from flat_bug.imaging.pages import pages_of
from flat_bug.instances.crops import CropOptions, crops, encode_png, record_of
from flat_bug.instances.metadata import Metadata, read_metadata, write_metadata
from flat_bug.instances.overview import encode_jpeg, overview, overview_size
from flat_bug.instances.table import Instances, Provenance
from flat_bug.measurement import measured, with_scale
from flat_bug.predict import Predictor
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.layout import Layout, OutputSettings, has_identifier
from flat_bug.prediction_run.opener import Opener
from flat_bug.prediction_run.parts import WHOLE
from flat_bug.prediction_run.summary import Status
from flat_bug.processors import usable_processors
from flat_bug.progress import Report

IDENTIFIERS = uuid.UUID("6b1ff1a5-8e0c-5c8c-9d5e-2f9f6a3f0f1b")
"""Namespace of the identifiers that are made from the digests of image, weights and settings."""
MOST_THREADS = 4
"""So many crops are in memory at once."""


@dataclass(frozen=True)
class Written:
    """What there is of one image; small, since it is sent from one process to another.

    Attributes:
        status: ``skipped`` when nothing was missing.
        instances: How many animals there are.
        width: Of the image, in pixels.
        height: In pixels.
        metadata: The JSON that holds them, for what is made of all images; none where nothing asks for it.
        identifier: Part of the names of the results.
        pages: How many pages its file has, where it has several and only the first was looked at.
    """

    status: Status
    instances: int
    width: int
    height: int
    metadata: Path | None
    identifier: str = ""
    pages: int | None = None


class ResultsWriter:
    """Predicts images, one at a time, into an output folder."""

    def __init__(self, predictor: Predictor, layout: Layout, settings: OutputSettings, scratch: Path) -> None:
        """Prepare to write.

        Args:
            predictor: The model and its settings.
            layout: Where results lie.
            settings: What is written.
            scratch: Folder for what the files of all images need of those whose JSON is not wanted.
        """
        self._predictor = predictor
        self._layout = layout
        self._settings = settings
        self._scratch = scratch
        self._opener = Opener()

    def predict(self, image: InputImage, on_progress: Report | None = None) -> Written:
        """Predict an image unless it was done before, and write what is missing of its results.

        Args:
            image: The image.
            on_progress: Told the number of tiles that are done, and of all.

        Raises:
            ImageError: The image cannot be read.
            OutputError: The results cannot be written.
        """
        for folder in self._layout.own_folders(image.name):
            remove_leftovers(folder)
        former = self._layout.former(image.name)
        kept, pages = self._kept(image, former), None
        # Opened once: a large image is decoded for that.
        pixels = cache(partial(self._opener.open, image.path, image.part.page, image.part.frame_index))
        if kept is None:
            opened = pixels()
            # Before it is read: results of a file that is replaced meanwhile are none of the new one.
            digest = self._opener.digest(image.path)
            table = self._predictor(opened, on_progress)
            pages = _pages_besides(image)
            table = replace(table, provenance=replace(table.provenance, image_sha256=digest))
            found = Metadata(table, str(image.path), self._settings.identifier or identifier_of(table.provenance))
            remove(former)
            former = []
        else:
            found = kept
            stale = [path for path in former if not has_identifier(path, found.identifier)]
            remove(stale)
            former = [path for path in former if path not in stale]
        with_numbers = self._measured(image, found, pixels)
        if with_numbers != found:
            # Only the numbers are new: the same outlines in another scale, for instance.
            found, json_path = with_numbers, self._layout.metadata(image.name, found.identifier)
            former = [path for path in former if path != json_path]
        metadata, complete = self._write_missing(image, found, set(former), pixels)
        table = found.instances
        status: Status = "skipped" if kept is not None and complete else "done"
        return Written(status, len(table), table.width, table.height, metadata, found.identifier, pages)

    def _measured(self, image: InputImage, found: Metadata, pixels: Callable[[], LazyImage]) -> Metadata:
        """Return what was found with what is to be measured of it; what a former run has measured is kept."""
        table = replace(found.instances, **image.part.place_in_file())
        if not self._settings.tracks:
            table = replace(table, track_ids=None)
        if not self._settings.measurements:
            table = with_scale(replace(table, measurements={}), image.scale)
        elif table.measurements:
            table = with_scale(table, image.scale)
        else:
            table = measured(table, pixels() if len(table) else None, image.scale)
        return replace(found, instances=table)

    def made_of(self, image: InputImage) -> str | None:
        """Return a text of all that the results of an image depend on but its file; nothing where that is unknown.

        While it is the same, and so is the file, neither the image nor its results are read again: whatever else
        results come to depend on belongs in here.
        """
        if not self._predictor.card.sha256:
            return None
        settings = [self._predictor.settings.model_dump(mode="json"), self._settings.model_dump(mode="json")]
        asked = {name: str(value) for name, value in asdict(image).items() if name != "path"}
        card = self._predictor.card
        return json.dumps([card.sha256, card.digest, *settings, asked], sort_keys=True)

    def _kept(self, image: InputImage, former: list[Path]) -> Metadata | None:
        """Return what a former run found in the same pixels with the same weights and settings."""
        candidates = [path for path in former if path.suffix == ".json"]
        # Digests of large files take a while, so they are made only where there is something to compare them with.
        expected = self._expected(image.path) if candidates else None
        for path in candidates:
            try:
                found = read_metadata(path)
            except DatasetError:
                # Broken or foreign: replaced like any result of other settings.
                continue
            provenance = found.instances.provenance
            made_of = (provenance.image_sha256, provenance.weights_sha256, provenance.settings)
            # Results of before cards were compared say nothing of theirs.
            same = made_of == expected and provenance.card_digest in ("", self._predictor.card.digest)
            if same and self._settings.identifier in (None, found.identifier):
                return found
        return None

    def _expected(self, image: Path) -> tuple[str, str, dict[str, object]] | None:
        weights = self._predictor.card.sha256
        if not weights:
            return None
        return self._opener.digest(image), weights, self._predictor.settings.model_dump(mode="json")

    def _write_missing(
        self, image: InputImage, found: Metadata, present: set[Path], pixels: Callable[[], LazyImage]
    ) -> tuple[Path | None, bool]:
        """Write what is wanted and not present, the JSON last, since it says that the image is done.

        Returns:
            The JSON, if there is one, and whether nothing was missing.
        """
        table, name, identifier = found.instances, image.name, found.identifier
        paths = self._layout.crops(name, identifier, len(table)) if self._settings.crops else []
        present = self._without_other_crops(paths, present)
        rows = [row for row, path in enumerate(paths) if path not in present]
        picture = self._layout.overview(name, identifier)
        wants_picture = self._settings.overviews and not (picture in present and self._is_as_wanted(picture, table))
        if rows or wants_picture:
            _write_crops(pixels(), table, paths, rows, self._settings.crop_options)
            if wants_picture:
                _write_bytes(picture, encode_jpeg(overview(pixels(), table, fast=self._settings.fast)))
        metadata = self._layout.metadata(name, identifier)
        wants_metadata = self._settings.metadata and metadata not in present
        if wants_metadata:
            write_metadata(metadata, found)
        complete = not (rows or wants_picture or wants_metadata)
        if metadata in present or wants_metadata:
            return metadata, complete
        if not self._settings.has_all_images:
            return None, complete
        write_metadata(self._scratch / f"{name}.json", found)
        return self._scratch / f"{name}.json", complete

    def _is_as_wanted(self, picture: Path, table: Instances) -> bool:
        """Return whether an overview that is there has the size that is asked for now."""
        try:
            there = open_image(picture)
        except ImageError:
            return False
        return (there.width, there.height) == overview_size(table.width, table.height, fast=self._settings.fast)

    def _without_other_crops(self, paths: list[Path], present: set[Path]) -> set[Path]:
        """Remove crops that were cut in another way, and return what of the results is present then.

        All are removed before the first one is written anew, so the first that is there tells for the others.
        """
        there = [path for path in paths if path in present]
        if not there or record_of(there[0]) == self._settings.crop_options.record:
            return present
        remove(there)
        return present.difference(there)


def identifier_of(provenance: Provenance) -> str:
    """Return an identifier that is the same whenever pixels, weights and settings are the same."""
    made_of = [provenance.image_sha256, provenance.weights_sha256, provenance.settings]
    return str(uuid.uuid5(IDENTIFIERS, json.dumps(made_of, sort_keys=True)))


def _pages_besides(image: InputImage) -> int | None:
    """Return how many pages the file of an image has, where nobody asked for one and it has several."""
    if image.part != WHOLE:
        return None
    pages = len(pages_of(image.path).own)
    return pages if pages > 1 else None


def _write_crops(pixels: LazyImage, table: Instances, paths: list[Path], rows: list[int], options: CropOptions) -> None:
    """Write the crops of some rows; each processor works on a part of them."""
    threads = min(len(usable_processors()), MOST_THREADS)

    def write(part: list[int]) -> None:
        for row, picture in zip(part, crops(pixels, table[np.array(part, np.int64)], options), strict=True):
            _write_bytes(paths[row], encode_png(picture, options.record))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, [rows[first::threads] for first in range(threads)]))


def _write_bytes(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
