"""The mean colour is that of the animal: no pixel beside it, and each pixel as far as the outline covers it."""

import tracemalloc

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from tests.bodies import ellipse

from flat_bug.imaging import open_image
from flat_bug.instances.table import Instances
from flat_bug.measurement.colour import NAMES, mean_colours


def colours_of(picture: npt.NDArray[np.uint8], *shapes: shapely.Geometry) -> npt.NDArray[np.float64]:
    column = np.empty(len(shapes), object)
    column[:] = shapes
    height, width = picture.shape[:2]
    table = Instances.from_polygons(column, np.full(len(shapes), 0.5), width=width, height=height)
    found = mean_colours(table, open_image(picture))
    return np.stack([found[name] for name in NAMES], axis=1)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (200, 30, 90), (12, 250, 3)])
def test_a_flat_colour_is_found_exactly_and_its_lab_is_that_of_scikit_image(colour: tuple[int, int, int]) -> None:
    from skimage.color import rgb2lab

    picture = np.zeros((40, 60, 3), np.uint8)
    picture[10:30, 20:50] = colour
    (found,) = colours_of(picture, shapely.box(20, 10, 50, 30))
    assert found[:3].tolist() == pytest.approx(list(colour))
    assert found[3:] == pytest.approx(rgb2lab(np.array([[colour]], np.uint8))[0, 0], abs=0.1)


def test_pixels_count_as_far_as_they_are_covered() -> None:
    picture = np.zeros((2, 4, 3), np.uint8)
    picture[:, 2:] = 100
    # Two black columns, and half of a grey one.
    (found,) = colours_of(picture, shapely.box(0, 0, 2.5, 2))
    assert found[:3] == pytest.approx([20, 20, 20])


def test_holes_and_what_lies_between_parts_do_not_count() -> None:
    picture = np.full((20, 40, 3), 255, np.uint8)
    picture[5:15, 5:15] = picture[5:15, 25:35] = 80
    picture[8:12, 8:12] = 255
    shape = shapely.box(5, 5, 15, 15).difference(shapely.box(8, 8, 12, 12)).union(shapely.box(25, 5, 35, 15))
    (found,) = colours_of(picture, shape)
    assert found[:3] == pytest.approx([80, 80, 80])


def test_what_is_not_on_the_image_has_no_colour() -> None:
    picture = np.full((10, 10, 3), 50, np.uint8)
    found = colours_of(picture, shapely.Polygon(), shapely.box(20, 20, 30, 30), shapely.box(-5, -5, 5, 5))
    assert np.isnan(found[:2]).all()
    assert found[2, :3] == pytest.approx([50, 50, 50])


class FlatPixels:
    """An image of one colour of any size, that notes how much of it is read at a time."""

    width = height = 6_000

    def __init__(self) -> None:
        self.largest = 0

    def read(
        self, x: int, y: int, width: int, height: int, size: tuple[int, int] | None = None
    ) -> npt.NDArray[np.uint8]:
        assert x >= 0
        assert y >= 0
        assert x + width <= self.width
        assert y + height <= self.height
        self.largest = max(self.largest, width * height)
        return np.full((height, width, 3), (10, 120, 250), np.uint8)


@pytest.mark.slow
def test_a_huge_animal_is_read_in_strips() -> None:
    column = np.empty(1, object)
    column[0] = shapely.affinity.translate(ellipse(5900, 5900), 3000, 3000)
    table, pixels = Instances.from_polygons(column, np.ones(1), width=6_000, height=6_000), FlatPixels()
    tracemalloc.start()
    found = mean_colours(table, pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [found[name][0] for name in NAMES[:3]] == pytest.approx([10, 120, 250])
    assert pixels.largest <= 1 << 19
    assert peak < 100e6
