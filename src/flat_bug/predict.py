"""From an image to its instances: look at tiles of all levels, and stitch what they show."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import shapely

import flat_bug
from flat_bug.config import PredictSettings
from flat_bug.errors import ImageError, UsageError
from flat_bug.files import sha256_of
from flat_bug.imaging import ImageSource, LazyImage, open_image
from flat_bug.imaging.arrays import array_of
from flat_bug.imaging.contrast import contrast
from flat_bug.instances.table import Instances, Provenance
from flat_bug.looking import Seen, Thresholds, look, worker
from flat_bug.pyramid.attention import CANDIDATE, Sightings, is_worth_choosing, tiles_worth_a_look
from flat_bug.pyramid.fragments import Animals, Fragments, concatenate
from flat_bug.pyramid.packing import Sheet, pack
from flat_bug.pyramid.stitch import stitch
from flat_bug.pyramid.tiling import Grid, least_overlap, levels, scaled_size, tiles
from flat_bug.refining import refined
from flat_bug.segmenters.base import ModelCard, Segmenter
from flat_bug.segmenters.load import load_segmenter
from flat_bug.segmenters.outlines import clip

log = logging.getLogger(__name__)

Item = TypeVar("Item")
OnProgress = Callable[[int, int], None]
AnyImage = TypeVar("AnyImage", bound=ImageSource)

EVIDENCE = 0.5
"""Fragments that score above this share of the threshold still count as evidence for what other levels show."""
LEAST_SCORE = 0.01
"""Nothing below this is looked at; nearly every cell of the network's output is above zero."""


class Predictor:
    """Finds and outlines the animals in images.

    >>> Predictor("model.onnx")("image.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str | Path | Segmenter | None = None,
        settings: PredictSettings | None = None,
        device: str = "auto",
        *,
        trust_weights: bool = False,
    ) -> None:
        """Load a model.

        Args:
            model: A weight file or a segmenter; by default the weights that come with flat-bug.
            settings: How an image is turned into instances.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``.
            trust_weights: Open a ``.pt`` file, which can run any code.

        Raises:
            WeightsError: The weights cannot be used.
            MissingPartError: The part that runs them, or the GPU, is not there.
        """
        chosen = settings or PredictSettings()
        if model is None or isinstance(model, str | Path):
            model = load_segmenter(model, device, trust_weights, chosen.dtype)
        self.segmenter = model
        self.score_threshold = model.card.score_threshold if chosen.score_threshold is None else chosen.score_threshold
        # Two cards may differ in nothing else, and what they lead to must not be taken for the same.
        self.settings = chosen.model_copy(update={"score_threshold": self.score_threshold})

    @property
    def card(self) -> ModelCard:
        """The card of the weights."""
        return self.segmenter.card

    def __call__(
        self,
        image: ImageSource | LazyImage,
        on_progress: OnProgress | None = None,
    ) -> Instances:
        """Find the animals in one image.

        Args:
            image: A file; or an array ``(h, w)``, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA of ``uint8``, ``uint16`` or
                floats from 0 to 1; or an image of Pillow, which is turned as its EXIF says; or what ``open_image``
                gave, of which a SHA-256 is recorded where it is a file.
            on_progress: Called after each batch with the number of looks that are done, and with that of all of them,
                which may become fewer on the way.

        Raises:
            ImageError: The image cannot be read.
        """
        opened, digest = _opened(image)
        return self._found(opened, digest, on_progress)

    def many(
        self,
        images: Iterable[AnyImage],
        on_progress: Callable[[int, int | None], None] | None = None,
        *,
        on_error: Literal["raise", "skip"] = "raise",
    ) -> Iterator[tuple[AnyImage, Instances]]:
        """Find the animals in many images, one after the other; the next one is read meanwhile.

        Two images are in memory at a time, so the images may come from a generator.

        >>> for path, instances in Predictor().many(Path("trays").glob("*.jpg"), on_error="skip"):  # doctest: +SKIP
        ...     print(path, len(instances))

        Args:
            images: Files or arrays, as for one image.
            on_progress: Called after each image with the number of images that are done, and with that of all of them,
                which is None where ``images`` has no length.
            on_error: What to do with an image that cannot be read: ``raise`` its error when its turn comes, or
                ``skip`` it, with a warning in the log.

        Yields:
            Each image, as it was given, and its instances, in the order given; without those that are skipped.

        Raises:
            ImageError: An image cannot be read, unless such are skipped.
            UsageError: The images are a text.
        """
        if isinstance(images, str):
            raise UsageError(
                "a text is not many images", where=images, mend='Give a list, or Path(folder).glob("*.jpg").'
            )
        total = len(images) if isinstance(images, Sized) else None
        with worker() as pool:
            for done, (image, reading) in enumerate(_one_ahead((one, pool.submit(_read, one)) for one in images), 1):
                instances = None
                try:
                    instances = self._found(*reading.result())
                except ImageError as error:
                    if on_error != "skip":
                        raise
                    log.warning("skipped: %s", error.brief())
                if on_progress is not None:
                    on_progress(done, total)
                if instances is not None:
                    yield image, instances

    def _found(self, opened: LazyImage, digest: str, on_progress: OnProgress | None = None) -> Instances:
        size = scaled_size(opened.width, opened.height, self.settings.scale_before)
        grids = plan_grids(*size, self.card, self.settings)
        fragments = self._fragments(opened, grids, on_progress)
        animals = stitch(
            fragments,
            levels=len(grids),
            margin=self.settings.edge_case_margin,
            score_threshold=self.score_threshold,
            overlap_threshold=self.settings.overlap_threshold,
            metric=self.settings.overlap_metric,
        )
        if self.settings.refine:
            animals = refined(animals, size, self.card.tile, partial(self._look_again, opened, on_progress))
        return self._instances(animals, opened, size, _provenance(digest, self.card, self.settings))

    def _fragments(self, image: LazyImage, grids: tuple[Grid, ...], on_progress: OnProgress | None) -> Fragments:
        """Return what all looks at an image show."""
        seen: list[Seen] = []
        tiles, sheets = 0, 0
        for undecided, wave in self._waves(image, grids, seen):
            expected = sheets + len(wave) + undecided
            for latest in self._look(image, wave, tiles, is_last=undecided == 0):
                seen.append(latest)
                sheets += latest.sheets
                if on_progress is not None:
                    on_progress(sheets, expected)
            if on_progress is not None and not wave:
                on_progress(sheets, expected)
            tiles += sum(map(len, wave))
        return concatenate([latest.fragments for latest in seen])

    def _waves(
        self, image: LazyImage, grids: tuple[Grid, ...], seen: list[Seen]
    ) -> Iterator[tuple[int, tuple[Sheet, ...]]]:
        """Yield what to look at, the coarse levels first, and how many tiles are undecided after that.

        When asked for more, what has been seen so far decides where to look closer.
        """
        side = self.card.tile
        # Without a coarse level there is no evidence.
        fine = [] if self.settings.exhaustive else [grid for grid in grids[1:] if is_worth_choosing(grid)]
        with worker() as pool:
            # The contrast is worked out while the network looks at the coarse levels.
            maps = [pool.submit(contrast, image, grid[0].level.width) for grid in fine]
            whole = tuple(tile for grid in grids if grid not in fine for tile in grid)
            yield sum(map(len, fine)), pack(whole, side)
            for number, (grid, there) in enumerate(zip(fine, maps, strict=True), start=1):
                sightings = Sightings.concatenate([latest.sightings for latest in seen])
                chosen = tiles_worth_a_look(grid, side, sightings, there.result(), self.score_threshold)
                sheets = pack(chosen, side)
                yield sum(map(len, fine[number:])), sheets if len(sheets) < len(grid) else pack(grid, side)

    def _look(self, image: LazyImage, sheets: tuple[Sheet, ...], first_tile: int, *, is_last: bool) -> Iterator[Seen]:
        evidence = max(EVIDENCE * self.score_threshold, LEAST_SCORE)
        sighting = evidence if is_last else max(CANDIDATE * self.score_threshold, LEAST_SCORE)
        return look(
            image,
            self.segmenter,
            sheets,
            Thresholds(sighting, evidence),
            batch_size=self.settings.batch_size,
            margin=self.settings.edge_case_margin,
            first_tile=first_tile,
        )

    def _look_again(
        self, image: LazyImage, on_progress: OnProgress | None, sheets: tuple[Sheet, ...]
    ) -> Iterator[Seen]:
        """Look at sheets that nobody had counted before."""
        done = 0
        for latest in self._look(image, sheets, 0, is_last=True):
            done += latest.sheets
            if on_progress is not None:
                on_progress(done, len(sheets))
            yield latest

    def _instances(
        self, animals: Animals, image: LazyImage, size: tuple[int, int], provenance: Provenance
    ) -> Instances:
        """Return a table in image pixels; what is outside the image or the wanted sizes is left out."""
        factors = np.array([image.width, image.height]) / size
        polygons = shapely.transform(animals.polygons, lambda points: points * factors)
        bounds = shapely.bounds(polygons).reshape(-1, 4)
        outside = ((bounds < 0) | (bounds > [image.width, image.height] * 2)).any(axis=1)
        polygons[outside] = clip(polygons[outside], shapely.box(0, 0, image.width, image.height))
        bounds = shapely.bounds(polygons).reshape(-1, 4)
        sizes = np.sqrt(np.prod(bounds[:, 2:] - bounds[:, :2], axis=1))
        smallest, largest = self.settings.min_max_obj_size
        kept = (shapely.area(polygons) > 0) & (sizes >= smallest) & (sizes <= largest)
        return Instances.from_polygons(
            polygons[kept],
            animals.scores[kept],
            width=image.width,
            height=image.height,
            classes=animals.classes[kept],
            levels=animals.levels[kept] * self.settings.scale_before,
            class_names=self.card.classes,
            provenance=provenance,
        )


def plan_grids(width: int, height: int, card: ModelCard, settings: PredictSettings) -> tuple[Grid, ...]:
    """Return the tiles that cover each level, the coarsest level first.

    Raises:
        UsageError: The overlap is as large as a tile.
    """
    overlap = settings.minimum_tile_overlap
    if overlap is None:
        overlap = least_overlap(card.tile, settings.edge_case_margin)
    if overlap >= card.tile:
        raise UsageError(f"tiles of {card.tile} px cannot overlap by {overlap} px", mend="Lower minimum_tile_overlap.")
    found = levels(width, height, min(card.tile, card.largest_object), single=settings.single_scale)
    return tuple(tiles(level, card.tile, overlap, settings.grid_shift, card.stride) for level in reversed(found))


def _opened(image: ImageSource | LazyImage) -> tuple[LazyImage, str]:
    """Return an image, and the SHA-256 of its file or of its numbers."""
    array = None if isinstance(image, LazyImage) else array_of(image)
    if array is None:
        opened = image if isinstance(image, LazyImage) else open_image(image)
        return opened, "" if opened.file is None else sha256_of(opened.file)
    return open_image(array), hashlib.sha256(np.ascontiguousarray(array).data).hexdigest()


def _read(image: ImageSource) -> tuple[LazyImage, str]:
    """Open an image and begin to decode it, which for most formats means all of it."""
    opened, digest = _opened(image)
    opened.read(0, 0, 1, 1)
    return opened, digest


def _one_ahead(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, each when the next one has been asked for already."""
    waiting: list[Item] = []
    for item in items:
        yield from waiting
        waiting = [item]
    yield from waiting


def _provenance(digest: str, card: ModelCard, settings: PredictSettings) -> Provenance:
    return Provenance(
        image_sha256=digest,
        weights_sha256=card.sha256,
        weights_name=card.name,
        settings=settings.model_dump(mode="json"),
        flat_bug_version=flat_bug.__version__,
        card_digest=card.digest,
    )
