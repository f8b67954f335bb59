"""The share of each pixel that an outline covers is exact."""

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from tests.outlines import outlines

from flat_bug.instances.coverage import CELLS_AT_ONCE, alpha, coverage, strips


def test_a_shape_on_pixel_borders_covers_whole_pixels() -> None:
    covered = coverage(shapely.box(1, 1, 3, 2), 0, 0, 4, 3)
    assert covered.tolist() == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0]]


def test_a_diagonal_halves_the_pixels_it_crosses() -> None:
    covered = coverage(shapely.Polygon([(0, 0), (2, 0), (0, 2)]), 0, 0, 2, 2)
    assert covered.tolist() == [[1, 0.5], [0.5, 0]]


def test_a_hole_is_not_covered_and_all_parts_are() -> None:
    ring = shapely.box(0, 0, 3, 3).difference(shapely.box(1, 1, 2, 2))
    both = shapely.union(ring, shapely.box(4, 0, 5, 1))
    assert coverage(both, 0, 0, 5, 3).tolist() == [[1, 1, 1, 0, 1], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0]]


def test_nothing_is_covered_by_an_empty_outline() -> None:
    assert not coverage(shapely.Polygon(), 0, 0, 3, 2).any()


@given(outlines(size=12))
@settings(max_examples=60)
def test_each_pixel_is_covered_as_far_as_geometry_says(outline: shapely.Geometry) -> None:
    x, y = np.meshgrid(np.arange(-3, 14), np.arange(2, 16))
    expected = shapely.area(shapely.intersection(outline, shapely.box(x, y, x + 1, y + 1)))
    assert coverage(outline, -3, 2, 17, 14) == pytest.approx(expected, abs=1e-6)


@given(outlines())
@settings(max_examples=60)
def test_all_pixels_together_are_the_area(outline: shapely.Geometry) -> None:
    covered = coverage(outline, -40, -40, 240, 200)
    assert covered.sum(dtype=np.float64) == pytest.approx(outline.area, rel=1e-5)


@given(outlines())
@settings(max_examples=30)
def test_the_way_a_ring_runs_does_not_matter(outline: shapely.Geometry) -> None:
    there, back = coverage(outline, 0, 0, 50, 50), coverage(shapely.reverse(outline), 0, 0, 50, 50)
    assert there == pytest.approx(back, abs=1e-6)


def test_large_shapes_are_worked_through_in_strips_that_leave_no_seam() -> None:
    width = 3000
    height = CELLS_AT_ONCE // width + 100
    assert [rows for _, rows in strips(width, height)] == [height - 100, 100]
    opacity = alpha(shapely.box(0.5, 0.25, width, height), 0, 0, width, height)
    assert (opacity[1:, 1:] == 255).all()
    assert (opacity[1:, 0] == 128).all()
    assert (opacity[0, 1:] == 191).all()
