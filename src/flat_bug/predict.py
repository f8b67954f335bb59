"""From an image to its instances: read tiles of all levels, segment them, stitch what they show."""

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import shapely

import flat_bug
from flat_bug.config import PredictSettings
from flat_bug.errors import UsageError
from flat_bug.files import sha256_of
from flat_bug.imaging import LazyImage, open_image
from flat_bug.instances.table import Instances, Provenance
from flat_bug.pyramid.fragments import Animals, Fragments, concatenate
from flat_bug.pyramid.stitch import stitch
from flat_bug.pyramid.tiling import OVERLAP_SHARE, PADDING, Tile, levels, scaled_size, tiles
from flat_bug.segmenters.base import ModelCard, Segmenter, TileInstances
from flat_bug.segmenters.load import load_segmenter
from flat_bug.segmenters.outlines import clip, trace

AHEAD = 2
"""So many batches are read before the network asks for them, and as many may wait for their outlines."""
EVIDENCE = 0.5
"""Fragments that score above this share of the threshold still count as evidence for what other levels show."""
LEAST_SCORE = 0.01
"""Nothing below this is looked at; nearly every cell of the network's output is above zero."""

Given = TypeVar("Given")
Made = TypeVar("Made")


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
        if model is None or isinstance(model, str | Path):
            model = load_segmenter(model, device, trust_weights)
        self.segmenter = model
        chosen = settings or PredictSettings()
        self.score_threshold = model.card.score_threshold if chosen.score_threshold is None else chosen.score_threshold
        # Two cards may differ in nothing else, and what they lead to must not be taken for the same.
        self.settings = chosen.model_copy(update={"score_threshold": self.score_threshold})

    @property
    def card(self) -> ModelCard:
        """The card of the weights."""
        return self.segmenter.card

    def __call__(
        self,
        image: str | Path | npt.NDArray[np.uint8],
        on_progress: Callable[[int, int], None] | None = None,
    ) -> Instances:
        """Find the animals in one image.

        Args:
            image: A file, or an array ``(h, w)``, ``(h, w, 3)`` RGB or ``(h, w, 4)`` RGBA.
            on_progress: Called with the number of tiles done and their total after each batch.

        Raises:
            ImageError: The image cannot be read.
        """
        opened = open_image(image)
        size = scaled_size(opened.width, opened.height, self.settings.scale_before)
        planned = plan_tiles(*size, self.card, self.settings)
        found: list[Fragments] = []
        for done, fragments in self._fragments(opened, planned):
            found.append(fragments)
            if on_progress is not None:
                on_progress(done, len(planned))
        animals = stitch(
            concatenate(found),
            levels=len({tile.level for tile in planned}),
            score_threshold=self.score_threshold,
            overlap_threshold=self.settings.overlap_threshold,
            metric=self.settings.overlap_metric,
        )
        return self._instances(animals, opened, size, _provenance(image, self.card, self.settings))

    def _fragments(self, image: LazyImage, planned: tuple[Tile, ...]) -> Iterator[tuple[int, Fragments]]:
        """Yield the number of tiles done and what the latest batch shows; the network waits for nothing else."""
        step, threshold = self.settings.batch_size, max(EVIDENCE * self.score_threshold, LEAST_SCORE)
        batches = [range(at, min(at + step, len(planned))) for at in range(0, len(planned), step)]

        def read(batch: range) -> tuple[range, npt.NDArray[np.uint8]]:
            return batch, np.stack([read_tile(image, planned[number], self.card.tile) for number in batch])

        def outline(work: tuple[range, list[TileInstances]]) -> tuple[int, Fragments]:
            batch, seen = work
            rows = [
                fragments_of_tile(instances, planned[number], number, self.settings.edge_case_margin)
                for number, instances in zip(batch, seen, strict=True)
            ]
            return batch.stop, concatenate(rows)

        with _worker() as reader, _worker() as tracer:
            arrays = _ahead(reader, read, batches)
            segmented = ((batch, self.segmenter.segment(array, threshold)) for batch, array in arrays)
            yield from _ahead(tracer, outline, segmented)

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


def plan_tiles(width: int, height: int, card: ModelCard, settings: PredictSettings) -> tuple[Tile, ...]:
    """Return the tiles of all levels, the coarsest level first.

    Raises:
        UsageError: The overlap is as large as a tile.
    """
    overlap = settings.minimum_tile_overlap
    overlap = card.tile // OVERLAP_SHARE if overlap is None else overlap
    if overlap >= card.tile:
        raise UsageError(f"tiles of {card.tile} px cannot overlap by {overlap} px", mend="Lower minimum_tile_overlap.")
    found = levels(width, height, min(card.tile, card.largest_object), single=settings.single_scale)
    return tuple(tile for level in reversed(found) for tile in tiles(level, card.tile, overlap, settings.grid_shift))


def read_tile(image: LazyImage, tile: Tile, side: int) -> npt.NDArray[np.uint8]:
    """Return ``uint8 (side, side, 3)``: the tile, and padding to the right and below where it leaves the level."""
    level = tile.level
    pixels = image.read(tile.x, tile.y, tile.width, tile.height, (level.width, level.height))
    if pixels.shape[:2] == (side, side):
        return pixels
    padded = np.full((side, side, 3), PADDING, np.uint8)
    padded[: tile.height, : tile.width] = pixels
    return padded


def fragments_of_tile(instances: TileInstances, tile: Tile, number: int, margin: int) -> Fragments:
    """Return the outlines that a tile shows, in pixels of the native level, and which of its edges may cut them."""
    polygons = trace(instances)
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    seen = ~shapely.is_empty(polygons)
    level = tile.level
    inner = [tile.x > 0, tile.y > 0, tile.x + tile.width < level.width, tile.y + tile.height < level.height]
    near = [bounds[:, 0] < margin, bounds[:, 1] < margin]
    near += [bounds[:, 2] > tile.width - margin, bounds[:, 3] > tile.height - margin]
    factors, corner = np.array(level.native_per_level), np.array([tile.x, tile.y])
    window = np.array([tile.x, tile.y, tile.x + tile.width, tile.y + tile.height]) * np.tile(factors, 2)
    count = int(seen.sum())
    return Fragments(
        polygons=shapely.transform(polygons[seen], lambda points: (points + corner) * factors),
        scores=instances.scores[seen],
        classes=instances.classes[seen],
        levels=np.full(count, level.scale),
        tiles=np.full(count, number),
        windows=np.tile(window, (count, 1)),
        cut=(np.array(near).T & inner)[seen],
    )


def _provenance(image: str | Path | npt.NDArray[np.uint8], card: ModelCard, settings: PredictSettings) -> Provenance:
    if isinstance(image, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(image).data).hexdigest()
    else:
        digest = sha256_of(Path(image))
    return Provenance(
        image_sha256=digest,
        weights_sha256=card.sha256,
        weights_name=card.name,
        settings=settings.model_dump(mode="json"),
        flat_bug_version=flat_bug.__version__,
    )


@contextmanager
def _worker() -> Iterator[ThreadPoolExecutor]:
    """Give a thread; what waits for it when an error or Ctrl-C comes is not begun any more."""
    pool = ThreadPoolExecutor(1)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _ahead(pool: ThreadPoolExecutor, function: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
    """Yield ``function`` of each item, in order, working at most ``AHEAD`` items ahead in the pool."""
    waiting: deque[Future[Made]] = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
