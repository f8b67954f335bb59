"""Show tiles of an image to the network, and turn what it sees into fragments and sightings."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.imaging import LazyImage
from flat_bug.pyramid.attention import Sightings
from flat_bug.pyramid.fragments import Fragments, concatenate
from flat_bug.pyramid.packing import Sheet
from flat_bug.pyramid.tiling import PADDING, Tile
from flat_bug.segmenters.base import Segmenter, TileInstances
from flat_bug.segmenters.outlines import clip, trace

AHEAD = 2
"""So many batches are read before the network asks for them, and as many may wait for their outlines."""

Given = TypeVar("Given")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Thresholds:
    """Scores above which something is made of what the network sees.

    Attributes:
        sighting: It may call for a closer look.
        fragment: It has an outline, and counts as evidence for what other levels show.
    """

    sighting: float
    fragment: float


@dataclass(frozen=True)
class Seen:
    """What a batch of sheets shows.

    Attributes:
        sheets: Number of sheets.
        fragments: What has an outline.
        sightings: All of it.
    """

    sheets: int
    fragments: Fragments
    sightings: Sightings


def look(
    image: LazyImage,
    segmenter: Segmenter,
    sheets: Sequence[Sheet],
    thresholds: Thresholds,
    *,
    batch_size: int,
    margin: int,
    first_tile: int = 0,
) -> Iterator[Seen]:
    """Yield what each batch of sheets shows, in order; the network waits for nothing else.

    Args:
        image: The image.
        segmenter: The network.
        sheets: What it looks at.
        thresholds: Scores that count.
        batch_size: Number of sheets in a batch.
        margin: An outline nearer than this to an inner tile edge, in level pixels, may be cut by it.
        first_tile: Number of the first tile; each has its own, whatever sheet it is on.

    Raises:
        ImageError: The image cannot be read.
        WeightsError: The network cannot be run.
    """
    side = segmenter.card.tile
    first_tiles = np.cumsum([first_tile, *map(len, sheets)])
    batches = [range(at, min(at + batch_size, len(sheets))) for at in range(0, len(sheets), batch_size)]

    def read(batch: range) -> tuple[range, npt.NDArray[np.uint8]]:
        return batch, np.stack([read_sheet(image, sheets[number], side) for number in batch])

    def outline(work: tuple[range, list[TileInstances]]) -> Seen:
        batch, seen = work
        fragments = [
            fragments_of(
                found[found.scores > thresholds.fragment],
                sheets[number],
                int(first_tiles[number]),
                margin,
                segmenter.card.mask_threshold,
            )
            for number, found in zip(batch, seen, strict=True)
        ]
        sightings = [sightings_of(found, sheets[number]) for number, found in zip(batch, seen, strict=True)]
        return Seen(len(batch), concatenate(fragments), Sightings.concatenate(sightings))

    with worker() as reader, worker() as tracer:
        arrays = _ahead(reader, read, batches)
        segmented = ((batch, segmenter.segment(array, thresholds.sighting)) for batch, array in arrays)
        yield from _ahead(tracer, outline, segmented)


def read_sheet(image: LazyImage, sheet: Sheet, side: int) -> npt.NDArray[np.uint8]:
    """Return ``uint8 (side, side, 3)``: the tiles of a sheet, and grey around them."""
    pixels = np.full((side, side, 3), PADDING, np.uint8)
    for place in sheet:
        tile, level = place.tile, place.tile.level
        read = image.read(tile.x, tile.y, tile.width, tile.height, (level.width, level.height))
        pixels[place.top : place.top + tile.height, place.left : place.left + tile.width] = read
    return pixels


def fragments_of(
    instances: TileInstances, sheet: Sheet, first_tile: int, margin: int, mask_threshold: float
) -> Fragments:
    """Return the outlines that a sheet shows, in pixels of the native level, and which edges of its tiles may cut them.

    What lies in the gaps between tiles is nothing.
    """
    owner = _owners(instances.boxes, sheet)
    instances, owner = instances[owner >= 0], owner[owner >= 0]
    columns = _columns(sheet)
    windows, corners = columns.windows[owner], columns.corners[owner]
    polygons = _within(trace(instances, mask_threshold), corners, windows)
    seen = ~shapely.is_empty(polygons)
    polygons, owner, windows, corners = polygons[seen], owner[seen], windows[seen], corners[seen]
    bounds = shapely.bounds(polygons).reshape(-1, 4) + np.tile(windows[:, :2] - corners, 2)
    near = [bounds[:, :2] < windows[:, :2] + margin, bounds[:, 2:] > windows[:, 2:] - margin]
    factors = columns.factors[owner]
    points, row = shapely.get_coordinates(polygons, return_index=True)
    points = (points + (windows[:, :2] - corners)[row]) * factors[row]
    return Fragments(
        polygons=shapely.set_coordinates(polygons, points),
        scores=instances.scores[seen],
        classes=instances.classes[seen],
        levels=columns.scales[owner],
        tiles=first_tile + owner,
        windows=windows * np.tile(factors, 2),
        cut=np.hstack(near) & columns.inner[owner],
    )


def sightings_of(instances: TileInstances, sheet: Sheet) -> Sightings:
    """Return the boxes that a sheet shows, in pixels of the native level."""
    owner = _owners(instances.boxes, sheet)
    columns = _columns(sheet)
    shift = (columns.windows[:, :2] - columns.corners)[owner]
    boxes = (instances.boxes + np.tile(shift, 2)) * np.tile(columns.factors[owner], 2)
    return Sightings(boxes, instances.scores, columns.scales[owner])[owner >= 0]


@dataclass(frozen=True)
class _Columns:
    """The places of a sheet as columns: windows on the level, corners on the sheet, native pixels per level pixel."""

    windows: npt.NDArray[np.float64]
    corners: npt.NDArray[np.float64]
    factors: npt.NDArray[np.float64]
    scales: npt.NDArray[np.float64]
    inner: npt.NDArray[np.bool_]


def _columns(sheet: Sheet) -> _Columns:
    tiles = [place.tile for place in sheet]
    return _Columns(
        windows=np.array([(tile.x, tile.y, tile.x + tile.width, tile.y + tile.height) for tile in tiles], np.float64),
        corners=np.array([(place.left, place.top) for place in sheet], np.float64),
        factors=np.array([tile.level.native_per_level for tile in tiles], np.float64),
        scales=np.array([tile.level.scale for tile in tiles], np.float64),
        inner=np.array([_inner_edges(tile) for tile in tiles], np.bool_),
    )


def _inner_edges(tile: Tile) -> tuple[bool, bool, bool, bool]:
    """Return which of the left, top, right, bottom edges are not the border of the image."""
    level = tile.level
    return tile.x > 0, tile.y > 0, tile.x + tile.width < level.width, tile.y + tile.height < level.height


def _owners(boxes: npt.NDArray[np.float64], sheet: Sheet) -> npt.NDArray[np.int64]:
    """Return the number of the place that the middle of each box lies in; -1 for a middle in the gaps."""
    middles = (boxes[:, :2] + boxes[:, 2:]) / 2
    owner = np.full(len(boxes), -1)
    for number, place in enumerate(sheet):
        low = np.array([place.left, place.top])
        high = low + np.array([place.tile.width, place.tile.height])
        owner[((middles >= low) & (middles <= high)).all(axis=1)] = number
    return owner


def _within(
    polygons: npt.NDArray[np.object_], corners: npt.NDArray[np.float64], windows: npt.NDArray[np.float64]
) -> npt.NDArray[np.object_]:
    """Return what of each polygon, in pixels of the sheet, lies on its own tile."""
    high = corners + windows[:, 2:] - windows[:, :2]
    bounds = shapely.bounds(polygons).reshape(-1, 4)
    outside = (bounds[:, :2] < corners).any(axis=1) | (bounds[:, 2:] > high).any(axis=1)
    if outside.any():
        polygons[outside] = clip(polygons[outside], shapely.box(*corners[outside].T, *high[outside].T))
    return polygons


@contextmanager
def worker() -> Iterator[ThreadPoolExecutor]:
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
