"""Every animal comes out once, whole, whatever the tiles and levels that show it."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate, scale, translate

from flat_bug.pyramid.fragments import Animals, Fragments, concatenate
from flat_bug.pyramid.stitch import stitch
from flat_bug.pyramid.tiling import Level, Tile, levels, tiles

MARGIN = 16
NOTHING = Fragments(
    np.empty(0, object),
    np.empty(0),
    np.empty(0, np.int64),
    np.empty(0),
    np.empty(0, np.int64),
    np.empty((0, 4)),
    np.empty((0, 4), np.bool_),
)


def see(shape: shapely.Geometry, tile: Tile, number: int = 0, score: float = 0.9, kind: int = 0) -> Fragments:
    """Return what a tile shows of an animal: pieces that do not hang together there are seen as so many animals."""
    level, factor = tile.level, np.array(tile.level.native_per_level)
    corners = np.array([[tile.x, tile.y], [tile.x + tile.width, tile.y + tile.height]]) * factor
    parts = shapely.get_parts(shapely.intersection(shape, shapely.box(*corners.ravel())))
    parts = parts[shapely.area(parts) >= 9 * factor.prod()]
    x1, y1, x2, y2 = ((shapely.bounds(parts).reshape(-1, 4) - np.tile(corners[0], 2)) / np.tile(factor, 2)).T
    near = [x1 < MARGIN, y1 < MARGIN, x2 > tile.width - MARGIN, y2 > tile.height - MARGIN]
    inner = [tile.x > 0, tile.y > 0, tile.x + tile.width < level.width, tile.y + tile.height < level.height]
    count = len(parts)
    return Fragments(
        parts,
        np.full(count, score),
        np.full(count, kind),
        np.full(count, level.scale),
        np.full(count, number),
        np.tile(corners.ravel(), (count, 1)),
        np.array(near).T & inner,
    )


def look(
    shapes: list[shapely.Geometry], width: int = 1000, height: int = 800, side: int = 256, overlap: int = 32
) -> tuple[Fragments, int]:
    """Return what all tiles of all levels show of the shapes, and the number of levels."""
    found = levels(width, height, 128)
    planned = [tile for level in found for tile in tiles(level, side, overlap)]
    seen = [see(shape, tile, number) for number, tile in enumerate(planned) for shape in shapes]
    return concatenate([NOTHING, *seen]), len(found)


def join_all(fragments: Fragments, count: int) -> Animals:
    return stitch(fragments, levels=count, margin=MARGIN, score_threshold=0.2, overlap_threshold=0.2)


def expect(animals: Animals, shapes: list[shapely.Geometry], tolerance: float = 1e-6) -> None:
    """Check that the animals are the shapes, each once."""
    assert len(animals) == len(shapes)
    left = list(animals.polygons)
    for shape in shapes:
        match = min(left, key=lambda one: shapely.symmetric_difference(one, shape).area)
        assert shapely.symmetric_difference(match, shape).area <= tolerance * shape.area
        left.remove(match)
    assert animals.whole.all()


def animal(x: float, y: float, length: float, width: float, angle: float) -> shapely.Geometry:
    return translate(rotate(scale(shapely.Point(0, 0).buffer(0.5, 16), length, width), angle), x, y)


# One animal in every awkward place; tile edges lie near x = 248, 256, 496, 504 and y = 181, 256, 363, 437 …

COMB = shapely.union_all(
    [shapely.box(60, 270, 100, 350), shapely.box(100, 280, 300, 320), shapely.box(100, 335, 320, 342)]
)


@pytest.mark.parametrize(
    "shape",
    [
        animal(500, 400, 60, 30, 0),
        animal(252, 218, 60, 40, 30),
        animal(252, 218, 200, 140, 45),
        animal(500, 400, 620, 60, 20),
        animal(500, 400, 940, 700, 0),
        shapely.intersection(animal(0, 100, 80, 40, 0), shapely.box(0, 0, 1000, 800)),
        shapely.intersection(animal(1000, 800, 200, 150, 70), shapely.box(0, 0, 1000, 800)),
        shapely.box(0, 0, 1000, 800),
        animal(252, 100, 12, 6, 0),
        shapely.union_all([animal(400, 400, 300, 20, angle) for angle in (0, 60, 120)]),
        animal(300, 300, 280, 280, 0).difference(animal(300, 300, 200, 200, 0)),
        COMB,
        shapely.union_all([animal(190, 170, 110, 70, 0), shapely.LineString([(190, 170), (300, 300)]).buffer(4)]),
    ],
    ids=["inside", "corner", "large corner", "longer than a tile", "larger", "border", "border corner", "image",
         "small", "star", "ring", "comb", "thin leg"],
)  # fmt: skip
def test_one_animal_anywhere(shape: shapely.Geometry) -> None:
    expect(join_all(*look([shape])), [shape])


def test_arms_of_unequal_width_that_the_next_tile_sees_apart_are_joined_each() -> None:
    level = Level(1, 1000, 800, (1, 1))
    seen = concatenate([see(COMB, tile, number) for number, tile in enumerate(tiles(level, 256, 32))])
    expect(stitch(seen, levels=1, margin=MARGIN, score_threshold=0.2, overlap_threshold=0.2), [COMB])


def test_animals_that_touch_stay_apart_on_a_tile_edge() -> None:
    pair = [shapely.box(200, 380, 300, 420), shapely.box(300, 380, 400, 420)]
    expect(join_all(*look(pair)), pair)
    stacked = [shapely.box(200, 380, 300, 400), shapely.box(200, 400, 300, 420)]
    expect(join_all(*look(stacked)), stacked)


def test_nothing_gives_nothing() -> None:
    assert len(join_all(NOTHING, 5)) == 0


@settings(deadline=None, max_examples=20)
@given(
    specs=st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(15, 110), st.floats(0.3, 1), st.floats(0, 180)),
        min_size=1,
        max_size=5,
    ),
    dx=st.integers(0, 255),
    dy=st.integers(0, 255),
    overlap=st.integers(32, 128),
)
def test_moving_the_grid_or_changing_the_overlap_changes_nothing(
    specs: list[tuple[float, float, float, float, float]], dx: int, dy: int, overlap: int
) -> None:
    cells = [(130, 130), (380, 160), (620, 140), (200, 420), (480, 400)]  # apart from each other
    shapes = [
        animal(x + 60 * a, y + 60 * b, length, length * share, angle)
        for (x, y), (a, b, length, share, angle) in zip(cells, specs, strict=False)
    ]
    moved = [translate(shape, dx, dy) for shape in shapes]
    expect(join_all(*look(moved, width=800 + dx, height=600 + dy, overlap=overlap)), moved)


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_fragments_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [animal(*rng.uniform(100, 700, 2), *rng.uniform(20, 300, 2), rng.uniform(0, 180)) for _ in range(6)]
    fragments, count = look(shapes)
    mixed = rng.permutation(len(fragments))
    shuffled = Fragments(*(column[mixed] for column in vars(fragments).values()))
    one, other = join_all(fragments, count), join_all(shuffled, count)
    np.testing.assert_array_equal(one.scores, other.scores)
    assert shapely.equals(one.polygons, other.polygons).all()


# Which outline wins

NATIVE, COARSE = Level(1, 900, 900, (1, 1)), Level(1 / 2.25, 400, 400, (2.25, 2.25))
FINE_TILE, COARSE_TILE = Tile(NATIVE, 100, 100, 512, 512), Tile(COARSE, 0, 0, 400, 400)


def test_the_finest_level_that_shows_the_animal_whole_draws_it() -> None:
    exact = animal(300, 300, 80, 50, 0)
    blurred = animal(300, 300, 90, 60, 0)
    found = join_all(concatenate([see(exact, FINE_TILE, 0, 0.5), see(blurred, COARSE_TILE, 1, 0.6)]), 2)
    assert found.levels.tolist() == [1]
    assert found.polygons[0].equals(exact)


# Two tiles of one level, 256 px wide, of which the second sees 64 px of the first.
LEFT_TILE, RIGHT_TILE = Tile(NATIVE, 0, 200, 256, 256), Tile(NATIVE, 192, 200, 256, 256)


def test_the_tile_that_shows_an_animal_farther_from_its_edges_is_believed() -> None:
    shape = animal(222, 320, 20, 12, 0)  # 24 px from the edge of the first tile, 20 px from that of the second
    drawn_near_edge = animal(222, 320, 19, 12, 0)
    seen = [see(shape, LEFT_TILE, 0, 0.5), see(drawn_near_edge, RIGHT_TILE, 1, 0.9)]
    assert not concatenate(seen).cut.any()
    for both in (seen, seen[::-1]):
        found = join_all(concatenate(both), 1)
        assert found.scores.tolist() == [0.5]
        assert found.polygons[0].equals(shape)


def test_half_an_animal_gives_way_to_the_tile_that_sees_all_of_its_place_however_unsure_that_one_is() -> None:
    shape = animal(199, 320, 30, 14, 0)
    seen = concatenate([see(shape, LEFT_TILE, 0, 0.15), see(shape, RIGHT_TILE, 1, 0.9)])
    assert seen.cut.any(axis=1).tolist() == [False, True]
    assert len(join_all(seen, 1)) == 0
    assert len(join_all(see(shape, RIGHT_TILE, 1, 0.9), 1)) == 1


def test_a_cut_animal_gives_way_to_the_whole_one_from_a_coarser_level() -> None:
    long = animal(600, 300, 300, 60, 0)  # beyond the right edge of the fine tile, and no neighbour sees the rest
    fragments = concatenate([see(long, FINE_TILE, 0, 0.95), see(long, COARSE_TILE, 1, 0.5)])
    assert fragments.cut.any(axis=1).tolist() == [True, False]
    found = join_all(fragments, 2)
    assert found.levels.tolist() == [pytest.approx(1 / 2.25)]
    assert found.polygons[0].area == pytest.approx(long.area)


def test_a_cut_animal_that_nothing_explains_is_kept() -> None:
    found = join_all(see(animal(600, 300, 300, 60, 0), FINE_TILE, 0, 0.9), 2)
    assert len(found) == 1
    assert not found.whole[0]


def test_windows_that_show_each_another_end_of_a_ring_do_not_make_it_whole() -> None:
    """Beyond each edge that cuts a window the other one looks, and yet nobody has seen the lower right of the ring."""
    ring = animal(300, 300, 120, 120, 0).difference(animal(300, 300, 80, 80, 0))
    level = FINE_TILE.level
    windows = [Tile(level, 170, 200, 150, 200), Tile(level, 200, 170, 200, 150)]
    parts = [see(ring, window, number) for number, window in enumerate(windows)]
    (joined,) = stitch(concatenate(parts), levels=1, margin=MARGIN, score_threshold=0.2, overlap_threshold=0.2).whole
    assert not joined
    expect(join_all(concatenate([*parts, see(ring, COARSE_TILE, 2, 0.6)]), 2), [ring], 0.05)


def test_a_whole_animal_that_is_dropped_itself_explains_nothing() -> None:
    one, other = animal(500, 300, 100, 60, 0), animal(580, 300, 90, 60, 0)  # the fine tile cuts the other at x = 612
    blob = shapely.union_all([one, other]).convex_hull
    fragments = [see(one, FINE_TILE, 0, 0.6), see(other, FINE_TILE, 0, 0.6), see(blob, COARSE_TILE, 1, 0.6)]
    found = join_all(concatenate(fragments), 2)
    assert sorted(found.whole) == [False, True]
    assert found.levels.tolist() == [1, 1]


def test_a_leg_is_a_part_of_its_animal() -> None:
    moth = animal(350, 350, 300, 200, 0)
    wing = animal(420, 350, 60, 40, 0)
    found = join_all(concatenate([see(wing, FINE_TILE, 0, 0.7), see(moth, COARSE_TILE, 1, 0.6)]), 2)
    assert len(found) == 1
    assert found.polygons[0].equals(moth)


def test_a_blob_loses_against_the_animals_that_it_covers() -> None:
    pair = [animal(300, 300, 60, 60, 0), animal(362, 300, 60, 60, 0)]
    blob = shapely.union_all(pair).convex_hull
    seen = [see(one, FINE_TILE, 0, 0.6) for one in pair] + [see(blob, COARSE_TILE, 1, 0.6)]
    expect(join_all(concatenate(seen), 2), pair)


def test_levels_that_agree_are_evidence_for_each_other() -> None:
    shape = animal(300, 300, 80, 50, 0)
    alone, both = (
        join_all(concatenate([see(shape, FINE_TILE, 0, 0.5), *more]), 3).scores[0]
        for more in ([], [see(shape, COARSE_TILE, 1, 0.5)])
    )
    assert alone == pytest.approx(1 - 0.5**0.5)
    assert both == pytest.approx(1 - 0.25**0.5)
    single = join_all(see(shape, FINE_TILE, 0, 0.5), 1)
    assert single.scores[0] == pytest.approx(0.5)


def test_fragments_below_the_threshold_count_only_as_evidence() -> None:
    shape, other = animal(300, 300, 80, 50, 0), animal(500, 500, 80, 50, 0)
    weak = concatenate(
        [see(shape, FINE_TILE, 0, 0.18), see(shape, COARSE_TILE, 1, 0.19), see(other, FINE_TILE, 0, 0.18)]
    )
    found = stitch(weak, levels=2, margin=MARGIN, score_threshold=0.18, overlap_threshold=0.2)
    assert len(found) == 1
    assert found.polygons[0].equals(shape)


@pytest.mark.parametrize(
    ("metric", "threshold", "left"), [("IoU", 0.2, 2), ("IoU", 0.1, 1), ("IoS", 0.4, 1), ("IoS", 0.6, 2)]
)
def test_overlap_metrics(metric: str, threshold: float, left: int) -> None:
    large, small = shapely.box(200, 200, 300, 300), shapely.box(280, 220, 320, 280)  # IoU 1200 / 11200, IoS 0.5
    seen = concatenate([see(large, FINE_TILE, 0, 0.9), see(small, FINE_TILE, 0, 0.8)])
    assert (
        len(stitch(seen, levels=1, margin=MARGIN, score_threshold=0.2, overlap_threshold=threshold, metric=metric))
        == left
    )


def test_classes_are_not_joined_but_compete() -> None:
    bar = shapely.box(80, 300, 700, 330)
    tile, neighbour = Tile(NATIVE, 0, 200, 400, 400), Tile(NATIVE, 368, 200, 400, 400)
    same = join_all(concatenate([see(bar, tile, 0), see(bar, neighbour, 1)]), 1)
    assert same.polygons[0].equals(bar)
    apart = join_all(concatenate([see(bar, tile, 0, kind=1), see(bar, neighbour, 1, kind=2)]), 1)
    assert sorted(apart.classes) == [1, 2]
