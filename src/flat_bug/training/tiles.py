"""Which tiles of an image are worth training on, and what is labelled in each: pure geometry.

An animal that a tile edge cuts is labelled by what is left of it, because prediction cuts animals too and joins the
fragments afterwards: the network must outline what it sees, not what it guesses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import shapely

from flat_bug.config import Settings
from flat_bug.pyramid.tiling import offsets, scaled_size

SMALLEST_SIZE = 5.0
"""sqrt(w x h) of a box, in tile pixels, below which an animal is not labelled."""
LEAST_VISIBLE = 0.3
"""Share of an animal's area that must be inside the tile, unless what is inside is large by itself."""
LARGE_FRAGMENT = 32.0
"""sqrt(area) in tile pixels from which a fragment is labelled, however little of the animal it is."""


class TileSettings(Settings):
    """How a prepared tree is cut into training tiles; every value is part of the cache's digest."""

    side: int
    val_side: int
    pyramid_step: float = 1.5
    background: float = 0.1
    tiles_per_dataset: int = 2000
    val_tiles: int = 300
    max_instances: int = 150
    max_images: int = -1
    exclude_datasets: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Tile:
    """A square window on one pyramid level.

    Attributes:
        scale: Level pixels per image pixel.
        x: Left edge in level pixels; negative where the level is narrower than the tile, and padded.
        y: Upper edge in level pixels.
        side: Side in pixels.
        outlines: ``(n,)`` shapely polygons in tile pixels, one per labelled animal.
        unlabelled: Animals that are visible but not labelled, because too small or too little is left of them.
    """

    scale: float
    x: int
    y: int
    side: int
    outlines: npt.NDArray[np.object_]
    unlabelled: int

    @property
    def is_background(self) -> bool:
        """Whether there is nothing of any animal in the tile."""
        return not len(self.outlines) and not self.unlabelled

    @property
    def is_useful(self) -> bool:
        """Whether most of the animals that can be seen in the tile are labelled."""
        return len(self.outlines) > self.unlabelled


def level_scales(width: int, height: int, side: int, step: float) -> list[float]:
    """Return the scales at which an image is cut: 1, 1/step, … until the whole image is about one tile."""
    scales = [1.0]
    while max(width, height) * scales[-1] > side:
        scales.append(scales[-1] / step)
    return scales


def tile_starts(length: int, side: int) -> list[int]:
    """Return evenly spaced tile starts that cover ``length`` pixels with neighbours overlapping by an eighth or more.

    A length shorter than a tile gives one start at or below zero, with the padding shared by both ends.
    """
    if length <= side:
        return [-((side - length) // 2)]
    return offsets(length, side, side // 8)


def tiles_of(
    polygons: npt.NDArray[np.object_],
    crowd: npt.NDArray[np.bool_],
    size: tuple[int, int],
    side: int,
    step: float,
) -> Iterator[Tile]:
    """Yield every tile of an image, at every pyramid level, with its labels.

    Args:
        polygons: ``(n,)`` shapely geometries in image pixels.
        crowd: ``(n,)`` whether a geometry is a crowd, which is never labelled.
        size: Width and height of the image.
        side: Tile side in pixels.
        step: Each level is this much smaller than the one before.
    """
    width, height = size
    for scale in level_scales(width, height, side, step):
        level_width, level_height = scaled_size(width, height, scale)
        factors = np.array([level_width / width, level_height / height])
        scaled = shapely.transform(polygons, lambda points, factors=factors: points * factors)
        tree = shapely.STRtree(scaled)
        for y in tile_starts(level_height, side):
            for x in tile_starts(level_width, side):
                near = np.sort(tree.query(shapely.box(x, y, x + side, y + side)))
                outlines, unlabelled = _label(scaled[near], crowd[near], (x, y), side)
                yield Tile(scale, x, y, side, outlines, unlabelled)


def _label(
    polygons: npt.NDArray[np.object_], crowd: npt.NDArray[np.bool_], corner: tuple[int, int], side: int
) -> tuple[npt.NDArray[np.object_], int]:
    """Return the outlines of a tile, in tile pixels, and how many animals are visible without one."""
    x, y = corner
    inside = shapely.intersection(polygons, shapely.box(x, y, x + side, y + side))
    visible = shapely.area(inside)
    seen = visible > 1
    inside, visible, whole = inside[seen], visible[seen], shapely.area(polygons[seen])
    box = shapely.bounds(inside).reshape(-1, 4)
    size = np.sqrt((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]))
    enough = (visible >= LEAST_VISIBLE * whole) | (np.sqrt(visible) >= LARGE_FRAGMENT)
    labelled = enough & (size >= SMALLEST_SIZE) & ~crowd[seen]
    outlines = shapely.transform(inside[labelled], lambda points: points - (x, y))
    return outlines, int((~labelled).sum())


def one_ring(outline: shapely.Geometry) -> npt.NDArray[np.float64]:
    """Return a geometry as the single ring that a YOLO label row can hold: ``(k, 2)`` points, not closed.

    Parts are joined by bridges half a pixel wide along their shortest connection; holes are filled.
    """
    parts = [part for part in shapely.get_parts(outline) if part.geom_type == "Polygon" and part.area > 0.5]
    if not parts:
        return np.empty((0, 2))
    parts.sort(key=lambda part: part.area, reverse=True)
    joined = parts[0]
    for part in parts[1:]:
        bridge = shapely.shortest_line(joined, part).buffer(0.25)
        joined = shapely.union_all([joined, part, bridge])
    joined = max(shapely.get_parts(joined), key=lambda part: part.area)
    outer = shapely.get_exterior_ring(shapely.simplify(joined, 0.2))
    ring: npt.NDArray[np.float64] = shapely.get_coordinates(outer)
    return ring[:-1]


def choose(tiles: list[Tile], count: int, settings: TileSettings, random: np.random.Generator) -> npt.NDArray[np.intp]:
    """Choose tiles of one dataset: those with animals first, then a share of background.

    Args:
        tiles: All tiles of the dataset.
        count: Most tiles to choose.
        settings: Background share and the cap of instances.
        random: Decides which are left out when there are too many.

    Returns:
        Sorted indices of the chosen tiles.
    """
    useful = [i for i, tile in enumerate(tiles) if tile.is_useful and len(tile.outlines) <= settings.max_instances]
    empty = [i for i, tile in enumerate(tiles) if tile.is_background]
    share = settings.background
    with_animals = random.permutation(useful)[: max(1, round(count * (1 - share)))]
    # A dataset of empty images only is all background: hard negatives that somebody collected on purpose.
    wanted = round(len(with_animals) * share / (1 - share)) if useful else count
    without = random.permutation(empty)[:wanted]
    return np.sort(np.concatenate([with_animals, without]).astype(np.intp))
