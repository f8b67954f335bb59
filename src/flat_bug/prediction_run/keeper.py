"""Keeps what an output folder remembers while images are predicted, and the files of all of them while none changes."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import flat_bug
from flat_bug.instances.formats import FORMATS
from flat_bug.instances.metadata import Metadata, write_metadata
from flat_bug.prediction_run.compiled import clear_compiled, refuse_others_files, write_compiled
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.layout import OutputSettings
from flat_bug.prediction_run.one_image import Finished
from flat_bug.prediction_run.remembered import (
    Memory,
    digest_of_text,
    look_of,
    read_memory,
    stamp_of,
    write_memory,
)

SECONDS_BETWEEN_WRITES = 60.0
MOST_SHARE_OF_TIME = 0.02
"""That writing takes: with very many images it is done less often."""


@dataclass(eq=False)
class Keeper:
    """Keeps the memory of an output folder.

    The files of all images of a former command are removed as soon as an image has changed, lest they be taken for what
    this command has found. While none has, they stay, and need not be written again.

    Attributes:
        output: The folder.
        settings: What is written.
        memory: What it remembered at the beginning.
    """

    output: Path
    settings: OutputSettings
    memory: Memory
    _files_may_stay: bool = False
    _is_new: bool = False
    _written_at: float = field(default_factory=time.monotonic)
    _took: float = 0.0

    @classmethod
    @contextmanager
    def of(cls, output: Path, settings: OutputSettings) -> Iterator[Self]:
        """Yield the keeper of a folder; what it has learned is written at the end, however that comes.

        Raises:
            OutputError: The output cannot be written.
        """
        keeper = cls(output, settings, read_memory(output))
        refuse_others_files(output, settings.all_formats)
        keeper._files_may_stay = keeper._are_as_left()
        if not keeper._files_may_stay:
            clear_compiled(output, settings.all_formats)
        is_whole = False
        try:
            yield keeper
            is_whole = True
        finally:
            if not is_whole:
                keeper._clear()
            keeper.write()

    def note(self, image: InputImage, finished: Finished) -> None:
        """Note what became of an image."""
        if finished.row.status != "skipped":
            self._clear()
        if finished.remembered != self.memory.images.get(image.name):
            self._is_new = True
            if finished.remembered is None:
                self.memory.images.pop(image.name, None)
            else:
                self.memory.images[image.name] = finished.remembered
        if time.monotonic() - self._written_at > max(SECONDS_BETWEEN_WRITES, self._took / MOST_SHARE_OF_TIME):
            self.write()

    def compiled(self, images: Sequence[tuple[InputImage, Path]]) -> dict[str, Path]:
        """Write all images in the formats that are wanted, unless that is there; return where each is by its name.

        Args:
            images: Each image that did not fail, and the JSON that holds its instances.

        Raises:
            OutputError: The output cannot be written.
        """
        made_of = self._made_of(images)
        if self._files_may_stay and made_of == self.memory.compiled:
            return {name: self.output / FORMATS[name].target for name in self.settings.all_formats}
        self._clear()
        written = write_compiled(images, self.output, self.settings)
        looks = {path.name: look_of(path) for path in written.values()}
        self.memory, self._is_new = replace(self.memory, compiled=made_of, files=looks), True
        return written

    def rewrite(self, image: InputImage, path: Path, metadata: Metadata) -> None:
        """Write the JSON of an image anew, and go on to take it for done.

        Raises:
            OutputError: It cannot be written.
        """
        known = self.memory.images.get(image.name)
        is_as_left = known is not None and known.metadata == stamp_of(path)
        self._clear()
        write_metadata(path, metadata)
        if known is not None and is_as_left:
            self.memory.images[image.name], self._is_new = replace(known, metadata=stamp_of(path)), True

    def write(self) -> None:
        """Write what is to be remembered, if it has changed.

        Raises:
            OutputError: It cannot be written.
        """
        began = time.monotonic()
        if self._is_new:
            write_memory(self.output, self.memory)
        self._is_new, self._written_at = False, time.monotonic()
        self._took = self._written_at - began

    def _clear(self) -> None:
        if self._files_may_stay:
            clear_compiled(self.output, self.settings.all_formats)
        self._files_may_stay = False

    def _are_as_left(self) -> bool:
        """Return whether the files of all images are there, and as they were left."""
        wanted = {FORMATS[name].target for name in self.settings.all_formats}
        looks = self.memory.files
        return looks.keys() == wanted and all(look_of(self.output / name) == look for name, look in looks.items())

    def _made_of(self, images: Sequence[tuple[InputImage, Path]]) -> str:
        """Return a digest of all that the files of all images are made of."""
        lines = [flat_bug.__version__, self.settings.model_dump_json()]
        for image, metadata in images:
            lines.append(f"{image} {metadata} {stamp_of(metadata)}")
        return digest_of_text("\n".join(lines))
