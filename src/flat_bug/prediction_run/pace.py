"""How far a run over many images is, by their megapixels and not by their number."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from flat_bug.errors import FlatBugError
from flat_bug.imaging import open_image
from flat_bug.prediction_run.inputs import InputImage
from flat_bug.prediction_run.one_image import Finished
from flat_bug.progress import Pace, pacing

Report = Callable[[int, Finished], None]
"""Is told the position of an image, and what became of it."""


@contextmanager
def showing(images: Sequence[InputImage]) -> Iterator[Report]:
    """Show how far the images are; yield what is to be told of each that is finished."""
    with pacing("Predicting", "Mpx") as show, _Sizes(images) as sizes:
        show(sizes.now())
        yield lambda position, finished: show(sizes.after(position, finished))


def megapixels_of(image: InputImage) -> float | None:
    """Return the millions of pixels of an image, from its header, or nothing where that cannot be read."""
    try:
        opened = open_image(image.path)
    except FlatBugError:
        return None
    return opened.width * opened.height / 1e6


class _Sizes:
    """The megapixels of all images; those that are not done yet are read from their headers in the background."""

    def __init__(self, images: Sequence[InputImage]) -> None:
        self._images = images
        self._megapixels = np.full(len(images), np.nan)
        self._is_done = np.zeros(len(images), bool)
        self._failed = 0
        self._worked = 0.0
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._reader: threading.Thread | None = None

    def __enter__(self) -> "_Sizes":
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._reader is not None:
            self._reader.join()

    def after(self, position: int, finished: Finished) -> Pace:
        """Return how far the work is after one more image."""
        self._note(position, finished)
        return self.now()

    def now(self) -> Pace:
        """Return how far the work is."""
        open_ones = self._megapixels[~self._is_done]
        known = self._megapixels[np.isfinite(self._megapixels) & (self._megapixels > 0)]
        left = np.where(np.isnan(open_ones), known.mean(), open_ones).sum() if len(known) else None
        return Pace(
            done=int(self._is_done.sum()),
            total=len(self._images),
            failed=self._failed,
            size_done=float(self._megapixels[self._is_done].sum()),
            size_left=None if left is None else float(left),
            size_worked=self._worked,
            seconds=time.monotonic() - self._began,
        )

    def _note(self, position: int, finished: Finished) -> None:
        row = finished.row
        self._is_done[position] = True
        self._megapixels[position] = row.megapixels or 0.0
        self._failed += row.status == "failed"
        if row.status == "done":
            self._worked += row.megapixels or 0.0
            self._read_others()
        elif not self._worked:
            self._began = time.monotonic()  # what was found done took no time worth counting

    def _read_others(self) -> None:
        # Not before something is really predicted: where all is done, nobody waits for it.
        if self._reader is None:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()

    def _read(self) -> None:
        for position, image in enumerate(self._images):
            if self._ended.is_set():
                return
            if not self._is_done[position]:
                size = megapixels_of(image)
                if not self._is_done[position]:
                    self._megapixels[position] = np.nan if size is None else size
