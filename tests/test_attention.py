"""The adaptive pyramid looks closely only where that may help, and finds what looking everywhere finds."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from shapely.affinity import rotate, scale, translate
from shapely.geometry import Point
from tests.oracle import BLUE, RED, Oracle, draw

from flat_bug.config import PredictSettings
from flat_bug.imaging import open_image
from flat_bug.imaging.contrast import SAMPLE, contrast
from flat_bug.instances.table import Instances
from flat_bug.predict import Predictor
from flat_bug.pyramid.attention import CONTEXT, Sightings, is_worth_choosing, stands_out, tiles_worth_a_look, unsettled
from flat_bug.pyramid.tiling import Level, tiles

SIZE = 1800
LEVEL = Level(1.0, SIZE, SIZE, (1.0, 1.0))
GRID = tiles(LEVEL, 256, 32)
FLAT = np.zeros((SIZE // SAMPLE, SIZE // SAMPLE), np.uint8)
NOTHING = Sightings(np.empty((0, 4)), np.empty(0), np.empty(0))

animals = st.tuples(
    st.integers(1, 8), st.integers(1, 8), st.floats(12, 150), st.floats(0.3, 1), st.floats(0, 180), st.booleans()
)


def looks(picture: npt.NDArray[np.uint8], *, exhaustive: bool) -> tuple[Instances, int]:
    oracle = Oracle()
    found = Predictor(oracle, PredictSettings(exhaustive=exhaustive))(picture)
    return found, sum(oracle.batches)


@pytest.mark.parametrize(("size", "worth"), [((600, 700), False), ((702, 702), True), ((700, 750), True)])
def test_whether_to_choose_depends_on_the_level_and_not_on_how_it_is_cut(size: tuple[int, int], worth: bool) -> None:
    level = Level(1.0, *size, (1.0, 1.0))
    grids = [tiles(level, 256, overlap, shift) for overlap in (16, 32, 128) for shift in ((0, 0), (90, 70))]
    assert len({len(grid) for grid in grids}) > 1
    assert {is_worth_choosing(grid) for grid in grids} == {worth}
    assert not is_worth_choosing(tiles(Level(0.25, 3000, 3000, (4.0, 4.0)), 256, 32))


@settings(deadline=None, max_examples=5)
@given(st.lists(animals, max_size=8, unique_by=lambda animal: animal[:2]))
def test_it_finds_what_looking_everywhere_finds(scene: list[tuple[int, int, float, float, float, bool]]) -> None:
    disc = Point(0, 0).buffer(0.5, 32)
    shapes = [
        (translate(rotate(scale(disc, length, length * slender), angle), 200 * x, 200 * y), RED if red else BLUE)
        for x, y, length, slender, angle, red in scene
    ]
    picture = draw(SIZE, SIZE, shapes)
    (few, less), (all_of_them, everything) = (looks(picture, exhaustive=choice) for choice in (False, True))
    assert len(few) == len(all_of_them) == len(scene)
    assert less < everything / 2
    order = [np.lexsort(table.boxes.round(-1).T) for table in (few, all_of_them)]
    np.testing.assert_allclose(few.boxes[order[0]], all_of_them.boxes[order[1]], atol=4)


def test_an_empty_sheet_is_looked_at_on_coarse_levels_only() -> None:
    paper = ndimage.gaussian_filter(np.random.default_rng(0).normal(230, 60, (SIZE, SIZE)), 1.5)
    picture = np.repeat(paper.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    found, count = looks(picture, exhaustive=False)
    assert (len(found), count) == (0, 6)  # four tiles of the level of 450 px, and one of each level below


@pytest.mark.parametrize("size", [(255, 255), (300, 200), (1, 1), (40, 1200)])
def test_small_images_are_looked_at_as_a_whole(size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 255, np.uint8)
    found, count = looks(picture, exhaustive=False)
    assert (len(found), count) == (0, looks(picture, exhaustive=True)[1])


def test_what_is_seen_but_small_calls_for_a_look_around_it() -> None:
    seen = Sightings(np.array([[400.0, 500.0, 430.0, 520.0]]), np.array([0.1]), np.array([0.5]))
    (tile,) = tiles_worth_a_look(GRID, 256, seen, FLAT, 0.2)
    assert (tile.x, tile.y) == (400 - CONTEXT, 500 - CONTEXT)
    assert (tile.width, tile.height) == (30 + 2 * CONTEXT, 20 + 2 * CONTEXT)


def test_what_was_seen_well_needs_no_second_look() -> None:
    seen = Sightings(np.array([[400.0, 500.0, 600.0, 700.0]]), np.array([0.5]), np.array([0.5]))
    assert tiles_worth_a_look(GRID, 256, seen, FLAT, 0.2) == ()
    assert len(tiles_worth_a_look(GRID, 256, seen, FLAT, 0.6)) == 0  # uncertain, but a finer level shows no more


def test_what_a_finer_level_took_for_nothing_is_forgotten() -> None:
    boxes = np.array([[400.0, 500.0, 430.0, 520.0], [900.0, 900.0, 930.0, 920.0]])
    seen = Sightings(boxes, np.array([0.1, 0.1]), np.array([0.25, 0.5]))
    assert unsettled(seen, 0.2).tolist() == [boxes[1].tolist()]


def test_what_stands_out_unseen_calls_for_a_look_and_what_was_seen_does_not() -> None:
    spot = FLAT.copy()
    spot[100:104, 200:204] = 90
    (tile,) = tiles_worth_a_look(GRID, 256, NOTHING, spot, 0.2)
    assert (tile.x, tile.x + tile.width) == (800 - CONTEXT, 816 + CONTEXT)
    assert (tile.y, tile.y + tile.height) == (400 - CONTEXT, 416 + CONTEXT)
    seen = Sightings(np.array([[790.0, 390.0, 990.0, 590.0]]), np.array([0.5]), np.array([0.5]))
    assert tiles_worth_a_look(GRID, 256, seen, spot, 0.2) == ()


def test_grain_and_hairs_and_what_is_usual_around_call_for_nothing() -> None:
    grain = FLAT.copy()
    grain[::7, ::9] = 200  # single samples
    grain[:, 300] = 200  # a line of one sample
    assert tiles_worth_a_look(GRID, 256, NOTHING, grain, 0.2) == ()
    rough = np.random.default_rng(1).integers(20, 60, FLAT.shape).astype(np.uint8)
    assert tiles_worth_a_look(GRID, 256, NOTHING, rough, 0.2) == ()


def test_a_crowded_tile_is_looked_at_as_a_whole() -> None:
    crowd = FLAT.copy()
    for row in range(0, 60, 8):
        for column in range(0, 60, 8):
            crowd[row : row + 2, column : column + 2] = 200
    assert GRID[0] in tiles_worth_a_look(GRID, 256, NOTHING, crowd, 0.2)


def test_what_is_longer_than_a_tile_is_looked_at_by_all_tiles_around_it() -> None:
    seen = Sightings(np.array([[100.0, 300.0, 700.0, 304.0]]), np.array([0.5]), np.array([0.5]))
    chosen = tiles_worth_a_look(GRID, 256, seen, FLAT, 0.2)
    assert set(chosen) <= set(GRID)
    covered = [tile for tile in chosen if tile.y <= 300 and tile.y + tile.height >= 304]
    assert min(tile.x for tile in covered) <= 100
    assert max(tile.x + tile.width for tile in covered) >= 700


def test_contrast_is_that_of_a_sample_to_its_surroundings() -> None:
    picture = np.full((400, 600, 3), 200, np.uint8)
    picture[200:208, 300:308] = (200, 50, 200)
    found = contrast(open_image(picture), 600)
    assert found.shape == (100, 150)
    assert found[50:52, 75:77].min() > 140
    assert found[:30].max() == 0


def test_contrast_of_strips_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.random.default_rng(2).integers(0, 255, (301, 203, 3), np.uint8)
    whole = contrast(open_image(picture), 203)
    monkeypatch.setattr("flat_bug.imaging.contrast.STRIP", 10)
    np.testing.assert_array_equal(contrast(open_image(picture), 203), whole)


def test_what_stands_out_does_so_from_the_noise_of_its_neighbourhood() -> None:
    halves = np.zeros((320, 640), np.uint8)
    halves[:, 320:] = 20
    halves[100, [100, 500]] = 100
    halves[200, 100] = 29
    assert np.argwhere(stands_out(halves)).tolist() == [[100, 100]]
