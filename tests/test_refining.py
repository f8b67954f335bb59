"""A magnified look gives a small animal a better outline, and changes nothing else."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from hypothesis import example, given, settings
from hypothesis import strategies as st
from shapely.affinity import rotate
from tests.oracle import BLUE, RED, Oracle, draw

from flat_bug.config import PredictSettings
from flat_bug.instances.table import Instances
from flat_bug.looking import Seen
from flat_bug.predict import Predictor
from flat_bug.pyramid.attention import Sightings
from flat_bug.pyramid.fragments import Animals, Fragments
from flat_bug.pyramid.packing import Sheet
from flat_bug.refining import refined
from flat_bug.segmenters.base import TileInstances

LEG = rotate(shapely.box(120, 200, 170, 203), 30)
SMALL = shapely.Point(60.3, 50.8).buffer(7)
LARGE = shapely.Point(420, 300).buffer(100)
PICTURE = shapely.box(0, 0, 600, 500)
CELL = 4
NO_BOXES, NO_SCORES = np.empty((0, 4)), np.empty(0)
NO_ROWS = np.empty(0, np.int64)
NO_SIGHTINGS = Sightings(NO_BOXES, NO_SCORES, NO_SCORES)
NO_FRAGMENTS = Fragments(
    np.empty(0, object), NO_SCORES, NO_ROWS, NO_SCORES, NO_ROWS, NO_BOXES, np.empty((0, 4), np.bool_)
)


class Coarse(Oracle):
    """Knows the animals exactly, and draws masks in cells of four by four pixels, as networks do."""

    def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
        """Segment a batch of tiles; see ``Segmenter``."""
        return [self._in_cells(seen) for seen in super().segment(tiles, score_threshold)]

    def _in_cells(self, seen: TileInstances) -> TileInstances:
        masks, frames = [], []
        for mask, frame in zip(seen.masks, seen.frames.astype(int), strict=True):
            first, last = frame[:2] // CELL, -(-frame[2:] // CELL)
            columns, rows = last - first
            whole = np.full((rows * CELL, columns * CELL), -0.5, np.float32)
            x, y = frame[:2] - first * CELL
            whole[y : y + mask.shape[0], x : x + mask.shape[1]] = mask
            masks.append(whole.reshape(rows, CELL, columns, CELL).mean(axis=(1, 3)))
            frames.append([*(first * CELL), *(last * CELL)])
        return TileInstances(
            seen.boxes, seen.scores, seen.classes, tuple(masks), np.array(frames, np.float64).reshape(-1, 4)
        )


def found(animals: list[shapely.Geometry], *, refine: bool) -> tuple[Instances, int]:
    """Return what is found of red animals in a picture of 600 × 500 px, largest first, and at how many tiles."""
    oracle = Coarse(tile=512, largest_object=256)
    picture = draw(600, 500, [(animal, RED) for animal in animals])
    table = Predictor(oracle, PredictSettings(refine=refine, single_scale=True))(picture)
    return table[np.argsort(-shapely.area(table.polygons))], sum(oracle.batches)


@pytest.mark.parametrize("animal", [LEG, SMALL], ids=["leg", "disc"])
def test_a_small_animal_is_outlined_better(animal: shapely.Geometry) -> None:
    errors = []
    for refine in (False, True):
        table, _ = found([animal], refine=refine)
        (outline,) = table.polygons
        errors.append(shapely.area(shapely.symmetric_difference(outline, animal)) / animal.area)
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    "animal",
    [
        *(rotate(shapely.box(120, 200, 200, 200 + thickness), 17) for thickness in (3, 4, 6, 10)),
        *(shapely.Point(100.2, 90.7).buffer(diameter / 2) for diameter in (14, 20, 40)),
        *(rotate(shapely.box(100.3, 90.1, 140.3, 130.1), angle) for angle in (0, 25)),
    ],
)
def test_legs_discs_and_rectangles_have_their_area_within_a_per_cent(animal: shapely.Geometry) -> None:
    (outline,) = found([animal], refine=True)[0].polygons
    assert outline.area == pytest.approx(animal.area, rel=0.01)


def test_nothing_else_changes() -> None:
    plain, _ = found([LARGE, LEG, SMALL], refine=False)
    refined, _ = found([LARGE, LEG, SMALL], refine=True)
    assert len(refined) == 3
    np.testing.assert_array_equal(refined.scores, plain.scores)
    np.testing.assert_array_equal(refined.classes, plain.classes)
    assert refined.polygons[0].equals(plain.polygons[0])
    assert refined.levels.tolist() == [plain.levels[0], 4, 4]


def test_what_is_drawn_well_is_not_looked_at_again() -> None:
    assert found([LARGE], refine=True)[1] == found([LARGE], refine=False)[1]
    assert found([], refine=True)[1] == found([], refine=False)[1]
    assert found([LARGE, SMALL], refine=True)[1] == found([LARGE, SMALL], refine=False)[1] + 1


def test_an_animal_keeps_its_outline_where_the_magnified_look_shows_nothing() -> None:
    """The network is blind to what is magnified, as one may be that was not trained on blurred animals."""

    class NearSighted(Oracle):
        def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
            shown = np.full_like(tiles, 255) if self.batches else tiles
            return super().segment(shown, score_threshold)

    picture = draw(250, 240, [(SMALL, RED), (shapely.Point(90, 52).buffer(8), BLUE)])
    plain = Predictor(Oracle(), PredictSettings(single_scale=True))(picture)
    kept = Predictor(NearSighted(), PredictSettings(single_scale=True, refine=True))(picture)
    assert len(kept) == 2
    assert shapely.equals(kept.polygons, plain.polygons).all()
    assert (kept.levels == 1).all()


@settings(deadline=None, max_examples=200)
@given(
    boxes=st.lists(st.tuples(*[st.floats(0, 4000)] * 2, *[st.floats(0.5, 1000)] * 2), min_size=1, max_size=4),
    side=st.sampled_from([64, 256, 640, 1024]),
)
@example(boxes=[(100.5, 100.5, 47.99, 10)], side=64)  # nearly as long as fits, and between pixels
def test_windows_fit_on_a_tile(boxes: list[tuple[float, float, float, float]], side: int) -> None:
    polygons = shapely.box(*np.array([(x, y, x + width, y + height) for x, y, width, height in boxes]).T)
    nothing = np.zeros(len(boxes))
    animals = Animals(polygons, nothing, nothing.astype(int), nothing + 1 / 64, nothing > 0, nothing.astype(int))

    def look(sheets: tuple[Sheet, ...]) -> Iterator[Seen]:
        for place in (place for sheet in sheets for place in sheet):
            assert 0 < place.tile.width <= side
            assert 0 < place.tile.height <= side
        yield Seen(len(sheets), NO_FRAGMENTS, NO_SIGHTINGS)

    assert refined(animals, (5000, 5000), side, look).polygons.tolist() == polygons.tolist()


def test_animals_on_the_border_and_in_corners_stay_in_the_image() -> None:
    animals = [shapely.Point(0, 0).buffer(9), shapely.Point(599, 240).buffer(9), shapely.Point(300, 500).buffer(9)]
    picture = draw(600, 500, [(animal, RED) for animal in animals])
    table = Predictor(Oracle(), PredictSettings(refine=True))(picture)
    assert (table.levels == 4).all()
    assert len(table) == 3
    for animal, outline in zip(animals, sorted(table.polygons, key=lambda polygon: polygon.centroid.y), strict=True):
        visible = animal & PICTURE
        assert outline.area == pytest.approx(visible.area, rel=0.02)
        assert PICTURE.covers(outline)
