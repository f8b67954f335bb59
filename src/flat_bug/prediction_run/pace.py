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

MANY_TILES = 32
SECONDS_BETWEEN_SHOWS = 0.1
"""Adding up takes longer than skipping an image, where there are many."""


@contextmanager
def showing(images: Sequence[InputImage]) -> Iterator["Progress"]:
    """Show how far the images are; yield what is to be told of them."""
    with pacing("Predicting", "Mpx", "tiles") as show, _Sizes(images) as sizes:
        show(sizes.now())
        yield Progress(sizes, show)


class Progress:
    """Is told what becomes of images, and shows how far all of them are."""

    def __init__(self, sizes: "_Sizes", show: Callable[[Pace], None]) -> None:
        self._sizes = sizes
        self._show = show
        self._shown_at = time.monotonic()

    def finished(self, position: int, finished: Finished) -> None:
        """Note what became of an image."""
        self._sizes.finished(position, finished)
        self._show_now_and_then()

    def looked(self, position: int, done: int, count: int) -> None:
        """Note how many tiles of an image are done, and of how many."""
        self._sizes.looked(position, done, count)
        self._show_now_and_then()

    def _show_now_and_then(self) -> None:
        now = time.monotonic()
        if now - self._shown_at >= SECONDS_BETWEEN_SHOWS:
            self._shown_at = now
            self._show(self._sizes.now())


def megapixels_of(image: InputImage) -> float | None:
    """Return the millions of pixels of an image, from its header, or nothing where that cannot be read."""
    if image.part.megapixels is not None or image.part.fault:
        return image.part.megapixels
    try:
        opened = open_image(image.path, page=image.part.page)
    except FlatBugError:
        return None
    return opened.width * opened.height / 1e6


class _Sizes:
    """The megapixels of all images; those that are not done yet are read from their headers in the background."""

    def __init__(self, images: Sequence[InputImage]) -> None:
        self._images = images
        self._megapixels = np.full(len(images), np.nan)
        self._is_done = np.zeros(len(images), bool)
        self._tiles: dict[int, tuple[int, int]] = {}
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

    def finished(self, position: int, finished: Finished) -> None:
        """Note what became of an image."""
        row = finished.row
        self._tiles.pop(position, None)
        self._is_done[position] = True
        self._megapixels[position] = row.megapixels or 0.0
        self._failed += row.status == "failed"
        if row.status == "done":
            self._worked += row.megapixels or 0.0
            self._read_others()
        elif not (self._worked or self._tiles):
            self._began = time.monotonic()  # what was found done took no time worth counting

    def looked(self, position: int, done: int, count: int) -> None:
        """Note how many tiles of an image are done, and of how many."""
        self._tiles[position] = (done, count)
        self._read_others()

    def now(self) -> Pace:
        """Return how far the work is."""
        open_ones = self._megapixels[~self._is_done]
        known = self._megapixels[np.isfinite(self._megapixels) & (self._megapixels > 0)]
        left = np.where(np.isnan(open_ones), known.mean(), open_ones).sum() if len(known) else None
        begun = self._size_of_tiles()
        return Pace(
            done=int(self._is_done.sum()),
            total=len(self._images),
            failed=self._failed,
            size_done=float(self._megapixels[self._is_done].sum()) + begun,
            size_left=None if left is None else float(left) - begun,
            size_worked=self._worked + begun,
            seconds=time.monotonic() - self._began,
            within=self._tiles_at_hand(),
        )

    def _size_of_tiles(self) -> float:
        """Return the megapixels that are done of images that are not."""
        sizes = ((self._megapixels[at], done / count) for at, (done, count) in self._tiles.items() if count)
        return float(sum(size * min(share, 1.0) for size, share in sizes if np.isfinite(size)))

    def _tiles_at_hand(self) -> tuple[int, int] | None:
        """Return how many tiles are done of the images at hand; not where that would only flicker."""
        done, count = (sum(each) for each in zip((0, 0), *self._tiles.values(), strict=True))
        return (done, count) if count >= MANY_TILES else None

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
