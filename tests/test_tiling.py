"""The published promise: what is found does not depend on how an image is cut into tiles.

With a segmenter that is always right, whatever differs is the fault of the tiling. With a real network, which answers a
little differently wherever a tile lies, the tolerances are what ``benchmarks/tiling.py`` measured, and some air; see
``docs/internals/stitching.md``.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from shapely.affinity import rotate, scale, translate
from tests.oracle import BLUE, RED, Oracle, draw

from flat_bug.config import PredictSettings
from flat_bug.imaging import lazy
from flat_bug.instances.table import Instances
from flat_bug.predict import Predictor, plan_grids

WIDTH, HEIGHT = 900, 700
IMAGE = shapely.box(0, 0, WIDTH, HEIGHT)
GRID = plan_grids(WIDTH, HEIGHT, Oracle().card, PredictSettings())[-1]
SIDE = Oracle().card.tile
# Where the first tile ends, in both directions; three more tiles look there.
EDGE = GRID[0].width

OUTLINE, OUTLINE_OF_WINDOWS = 0.99, 0.98
"""Least IoU of the outlines of an animal in two tilings: when all tiles are looked at, and when some are chosen.

Which level draws an animal may depend on what else a window shows; edges are antialiased over a pixel of the level.
"""
SCORE, SCORE_OF_WINDOWS = 1e-9, 0.1
"""Most that its scores differ: when tiles are chosen, one level more or less may have seen it."""

TILINGS = (((1, 1), 40), ((97, 40), 32), ((160, 160), 32), ((200, 31), 120))
"""Shifts of the grid, and overlaps of its tiles, that move tile edges all over an animal."""

Picture = npt.NDArray[np.uint8]
Shape = tuple[shapely.Geometry, tuple[int, int, int]]


def beetle(x: float, y: float, length: float, width: float, angle: float) -> shapely.Geometry:
    return translate(rotate(scale(shapely.Point(0, 0).buffer(0.5, 32), length, width), angle), x, y)


def leg(width: float, *points: tuple[float, float]) -> shapely.Geometry:
    return shapely.LineString(points).buffer(width / 2, cap_style="flat", join_style="mitre")


def find(picture: Picture, **chosen: object) -> Instances:
    return Predictor(Oracle(), PredictSettings.model_validate(chosen))(picture)


def overlaps(ones: npt.NDArray[np.object_], others: npt.NDArray[np.object_]) -> npt.NDArray[np.float64]:
    """Return the IoU of each with each, ``(n, m)``."""
    shared = shapely.area(shapely.intersection(ones[:, None], others))
    return np.asarray(shared / (shapely.area(ones)[:, None] + shapely.area(others) - shared))


def expect_same(before: Instances, after: Instances, *, exhaustive: bool) -> None:
    """Check that each animal is found in both, with the same outline and score."""
    assert len(before) == len(after)
    overlap = overlaps(before.polygons, after.polygons)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    assert overlap[rows, columns].min() >= (OUTLINE if exhaustive else OUTLINE_OF_WINDOWS)
    differences = np.abs(before.scores[rows] - after.scores[columns])
    assert differences.max() <= (SCORE if exhaustive else SCORE_OF_WINDOWS)


def expect_each_once(shapes: list[Shape]) -> None:
    """Check that each shape is found once and whole, wherever the edges of tiles lie."""
    picture, truth = draw(WIDTH, HEIGHT, shapes), np.array([shape for shape, _ in shapes])
    for mode in ({"exhaustive": True}, {"exhaustive": False}, {"single_scale": True}):
        first = find(picture, **mode)
        for shift, overlap in TILINGS:
            found = find(picture, **mode, grid_shift=shift, minimum_tile_overlap=overlap)
            expect_same(first, found, exhaustive=mode.get("exhaustive", True))
            assert overlaps(truth, found.polygons).max(axis=1).min() >= OUTLINE_OF_WINDOWS


def cut_by(shape: shapely.Geometry) -> int:
    """Return how many native tiles see some of a shape, and not all of it."""
    tiles = shapely.box(*np.array([(t.x, t.y, t.x + t.width, t.y + t.height) for t in GRID]).T)
    return int((shapely.intersects(tiles, shape) & ~shapely.covers(tiles, shape)).sum())


CORNER = beetle(EDGE, EDGE, 90, 60, 30)
LONG = beetle(400, EDGE, 360, 44, 4)
LONGEST = shapely.intersection(beetle(450, 350, 1000, 40, 35), IMAGE)
RING = beetle(EDGE, EDGE, 150, 120, 0) - beetle(EDGE, EDGE, 90, 60, 0)
HORSESHOE = leg(30, (190, 330), (190, 190), (330, 190), (330, 330)) | leg(12, (260, 190), (260, 300))
LEGGED = beetle(190, 170, 110, 70, 0) | leg(8, (190, 170), (300, 300))


def test_an_animal_on_the_corner_of_four_tiles() -> None:
    assert cut_by(CORNER) == 4
    expect_each_once([(CORNER, RED)])


def test_an_animal_longer_than_a_tile() -> None:
    assert LONG.bounds[2] - LONG.bounds[0] > SIDE
    expect_each_once([(LONG, BLUE)])


def test_an_animal_across_many_tiles_in_both_directions() -> None:
    assert cut_by(LONGEST) >= 6
    expect_each_once([(LONGEST, RED)])


def test_animals_on_the_border_of_the_image_and_in_its_corner() -> None:
    ends = [beetle(WIDTH, 350, 120, 80, 0), beetle(EDGE, HEIGHT, 140, 90, 20), beetle(0, 0, 160, 120, 0)]
    expect_each_once(list(zip([shapely.intersection(end, IMAGE) for end in ends], [RED, BLUE, RED], strict=True)))


def test_animals_that_touch_where_tiles_meet() -> None:
    pair = [shapely.box(EDGE - 56, 230, EDGE, 290), shapely.box(EDGE, 230, EDGE + 64, 290)]
    stacked = [shapely.box(600, 150, 700, 190), shapely.box(600, 190, 700, 226)]
    expect_each_once(list(zip(pair + stacked, [RED, BLUE, RED, BLUE], strict=True)))


def test_a_ring_around_the_corner_of_four_tiles() -> None:
    assert len(RING.interiors) == 1
    expect_each_once([(RING, RED)])


def test_a_horseshoe_of_which_a_tile_sees_nothing_but_its_unequal_arms() -> None:
    expect_each_once([(HORSESHOE, BLUE)])


def test_a_thin_leg_across_the_corner_of_four_tiles() -> None:
    assert cut_by(LEGGED) == 4
    expect_each_once([(LEGGED, RED)])


CROWD = [
    (beetle(90, 90, 60, 36, 20), RED),
    (beetle(256, 240, 90, 50, 60), RED),
    (beetle(560, 120, 420, 50, 5), BLUE),
    (beetle(110, 400, 60, 60, 0), RED),
    (beetle(170, 400, 60, 60, 0), BLUE),
    (shapely.intersection(beetle(300, HEIGHT, 120, 90, 0), IMAGE), RED),
    (beetle(560, 440, 14, 10, 30), BLUE),
    (beetle(560, 440, 120, 120, 0) - beetle(560, 440, 80, 80, 0), RED),
    (translate(LEGGED, 560, 330), BLUE),
]
PICTURE = draw(WIDTH, HEIGHT, CROWD)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    shift=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    overlap=st.integers(32, 150),
    batch=st.integers(1, 20),
    exhaustive=st.booleans(),
)
def test_no_shift_overlap_or_batch_changes_a_detection(
    shift: tuple[int, int], overlap: int, batch: int, exhaustive: bool
) -> None:
    before = find(PICTURE, exhaustive=exhaustive)
    assert len(before) == len(CROWD)
    changed = {"grid_shift": shift, "minimum_tile_overlap": overlap, "batch_size": batch}
    expect_same(before, find(PICTURE, exhaustive=exhaustive, **changed), exhaustive=exhaustive)


@pytest.mark.parametrize("exhaustive", [True, False])
def test_the_size_of_the_copy_that_coarse_levels_are_made_from_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, exhaustive: bool
) -> None:
    """Nothing is read in strips; what memory decides is from which reduced copy coarse levels are made, if any."""
    without = find(PICTURE, exhaustive=exhaustive)
    # For pictures of 0.6 Mpx: copies of half and of a quarter of the size.
    for kept in (160_000, 40_000):
        monkeypatch.setattr(lazy, "KEPT_PIXELS", kept)
        expect_same(without, find(PICTURE, exhaustive=exhaustive), exhaustive=exhaustive)


MARGIN = 0.1
"""A detection of a real network that scores above the threshold by more than this is never lost, nor new."""
REAL_SCORE, REAL_OUTLINE = 0.05, 0.9
"""Most that its score differs, and least IoU of its outlines; 0.015 and 0.956 were measured."""
CROPS = (
    ("spohf-yellow-sticky/IMG_0484.jpg", 300, 20),
    ("collembola-dish/r1c2.jpg", 700, 700),
    ("ami-moth-sheets/panama_01-20231110214539-snapshot.jpg", 1200, 400),
)
CROP = 1500


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("crop", CROPS, ids=["sticky card", "collembola", "moths"])
def test_moving_the_tiles_loses_nothing_that_a_real_network_is_sure_of(
    real_data: Path, real_weights: Path, crop: tuple[str, int, int]
) -> None:
    name, x, y = crop
    pixels = pyvips.Image.new_from_file(str(real_data / name)).crop(x, y, CROP, CROP).numpy()
    plain = PredictSettings(score_threshold=0.2, exhaustive=True)
    before = Predictor(real_weights, plain)(pixels)
    for change in (
        {"grid_shift": (300, 211)},
        {"grid_shift": (77, 450)},
        {"minimum_tile_overlap": 150, "batch_size": 7},
    ):
        after = Predictor(real_weights, plain.model_copy(update=change))(pixels)
        outlines = _overlaps_of_the_sure(before, after)
        assert len(outlines) >= 10
        assert min(outlines) >= REAL_OUTLINE


def _overlaps_of_the_sure(before: Instances, after: Instances) -> list[float]:
    """Return how well the outlines agree of what scores above the margin, after checking that none is lost or new."""
    overlap = overlaps(before.polygons, after.polygons)
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    sure = np.maximum(before.scores[rows], after.scores[columns]) > 0.2 + MARGIN
    assert (before.scores > 0.2 + MARGIN)[np.setdiff1d(np.arange(len(before)), rows)].sum() == 0
    assert (after.scores > 0.2 + MARGIN)[np.setdiff1d(np.arange(len(after)), columns)].sum() == 0
    assert np.abs(before.scores[rows] - after.scores[columns])[sure].max(initial=0) <= REAL_SCORE
    return list(overlap[rows, columns][sure])
