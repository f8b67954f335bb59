"""Training tiles: they cover every animal at every scale, and what is cut by an edge is labelled by what is left."""

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.training.tiles import (
    LARGE_FRAGMENT,
    LEAST_VISIBLE,
    SMALLEST_SIZE,
    Tile,
    TileSettings,
    choose,
    level_scales,
    one_ring,
    tile_starts,
    tiles_of,
)

SIDE = 96


def tiles_with(*animals: shapely.Geometry, size: tuple[int, int] = (SIDE, SIDE), crowd: bool = False) -> list[Tile]:
    return list(tiles_of(np.array(animals, object), np.full(len(animals), crowd), size, SIDE, 1.5))


@given(length=st.integers(1, 5000), side=st.sampled_from([32, 96, 448]))
def test_tiles_cover_a_length_and_overlap_by_an_eighth(length: int, side: int) -> None:
    starts = np.array(tile_starts(length, side))
    assert starts[0] <= 0
    assert starts[-1] + side >= length
    assert (np.diff(starts) <= side - side // 8).all()
    if length > side:
        assert starts[0] == 0
        assert starts[-1] + side == length


@given(width=st.integers(1, 4000), height=st.integers(1, 4000))
def test_levels_go_down_until_the_image_is_one_tile(width: int, height: int) -> None:
    scales = level_scales(width, height, SIDE, 1.5)
    assert scales[0] == 1
    assert max(width, height) * scales[-1] <= SIDE
    assert all(max(width, height) * scale > SIDE for scale in scales[:-1])


@st.composite
def scenes(draw: st.DrawFn) -> tuple[tuple[int, int], shapely.Polygon]:
    width, height = draw(st.integers(SIDE, 500)), draw(st.integers(SIDE, 500))
    x, y = draw(st.integers(0, width - 12)), draw(st.integers(0, height - 12))
    right, lower = draw(st.integers(x + 12, width)), draw(st.integers(y + 12, height))
    return (width, height), shapely.box(x, y, right, lower)


@settings(deadline=None)
@given(scenes())
def test_an_animal_is_whole_in_a_tile_of_every_level_where_the_overlap_holds_it(
    scene: tuple[tuple[int, int], shapely.Polygon],
) -> None:
    size, animal = scene
    x1, y1, x2, y2 = animal.bounds
    tiles = tiles_with(animal, size=size)
    for scale in level_scales(*size, SIDE, 1.5):
        level = [tile for tile in tiles if tile.scale == scale]
        fits = max(x2 - x1, y2 - y1) * scale + 1 <= SIDE // 8 or len(level) == 1
        if fits and np.sqrt(animal.area) * scale >= SMALLEST_SIZE + 1:
            largest = max(shapely.area(tile.outlines).max(initial=0) for tile in level)
            assert largest == pytest.approx(animal.area * scale**2, rel=0.05)


@settings(deadline=None)
@given(scenes())
def test_labels_stay_inside_their_tile(scene: tuple[tuple[int, int], shapely.Polygon]) -> None:
    size, animal = scene
    for tile in tiles_with(animal, size=size):
        for outline in tile.outlines:
            ring = one_ring(outline)
            assert len(ring) >= 3
            assert (ring >= 0).all()
            assert (ring <= tile.side).all()


@pytest.mark.parametrize(
    ("visible", "length", "labelled"),
    [
        pytest.param(9, 20, True, id="nearly half of a small animal"),
        pytest.param(4, 20, False, id="a fifth of a small animal"),
        pytest.param(40, 400, True, id="a tenth of a large one, large by itself"),
    ],
)
def test_a_fragment_is_labelled_if_enough_is_left_or_it_is_large(visible: int, length: int, labelled: bool) -> None:
    # The animal enters the first tile of an image that is two tiles wide from the right.
    height = 20 if length == 20 else 60
    animal = shapely.box(SIDE - visible, 20, SIDE - visible + length, 20 + height)
    first = tiles_with(animal, size=(1000, SIDE))[0]
    assert (first.x, first.y) == (0, 0)
    assert len(first.outlines) == labelled
    assert first.unlabelled == (not labelled)
    share = visible / length
    assert labelled == (share >= LEAST_VISIBLE or np.sqrt(visible * height) >= LARGE_FRAGMENT)


def test_an_animal_too_small_to_see_is_not_labelled_and_neither_is_a_crowd() -> None:
    (speck,) = tiles_with(shapely.box(10, 10, 13, 13))
    assert (len(speck.outlines), speck.unlabelled) == (0, 1)
    (crowd,) = tiles_with(shapely.box(10, 10, 60, 60), crowd=True)
    assert (len(crowd.outlines), crowd.unlabelled) == (0, 1)
    assert not crowd.is_background
    assert not crowd.is_useful


def test_an_image_without_animals_gives_background() -> None:
    (tile,) = tiles_with()
    assert tile.is_background


def test_an_image_smaller_than_a_tile_lies_in_its_middle() -> None:
    (tile,) = tiles_with(shapely.box(0, 0, 10, 10), size=(10, 10))
    assert (tile.x, tile.y) == (-43, -43)
    assert shapely.bounds(tile.outlines[0]).tolist() == [43, 43, 53, 53]


def test_parts_become_one_ring_and_holes_are_filled() -> None:
    apart = shapely.union(shapely.box(0, 0, 10, 10), shapely.box(20, 0, 30, 10))
    joined = shapely.Polygon(one_ring(apart))
    assert joined.is_valid
    assert joined.area == pytest.approx(200, abs=10)
    holed = shapely.box(0, 0, 30, 30) - shapely.box(10, 10, 20, 20)
    assert shapely.Polygon(one_ring(holed)).area == pytest.approx(900)
    assert len(one_ring(shapely.box(0, 0, 0.1, 0.1))) == 0


def _tile(animals: int) -> Tile:
    outlines: npt.NDArray[np.object_] = np.array([shapely.box(0, 0, 9, 9)] * animals, object)
    return Tile(1.0, 0, 0, SIDE, outlines, 0)


def test_chosen_tiles_hold_animals_but_for_the_share_of_background() -> None:
    tiles = [_tile(1) for _ in range(100)] + [_tile(0) for _ in range(100)] + [_tile(50)]
    how = TileSettings(side=SIDE, val_side=SIDE, background=0.2, max_instances=40)
    chosen = choose(tiles, 50, how, np.random.default_rng(1))
    empty = sum(tiles[i].is_background for i in chosen)
    assert (len(chosen), empty) == (50, 10)
    assert 200 not in chosen  # more animals than a tile may hold
    assert chosen.tolist() == choose(tiles, 50, how, np.random.default_rng(1)).tolist()
    assert chosen.tolist() != choose(tiles, 50, how, np.random.default_rng(2)).tolist()


def test_a_dataset_of_empty_images_is_all_background() -> None:
    how = TileSettings(side=SIDE, val_side=SIDE)
    assert len(choose([_tile(0)] * 30, 20, how, np.random.default_rng(0))) == 20
