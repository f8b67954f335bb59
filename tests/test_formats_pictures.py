"""Crops are transparent outside the outline; overviews show every instance on a picture of bounded size."""

import io

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from PIL import Image

from flat_bug.imaging import open_image
from flat_bug.instances.crops import crop_frames, crops, encode_png
from flat_bug.instances.overview import LONGEST, PALETTE, encode_jpeg, overview, overview_size
from flat_bug.instances.table import Instances


def table_of(*found: shapely.Geometry, width: int = 100, height: int = 80) -> Instances:
    column = np.empty(len(found), object)
    column[:] = found
    return Instances.from_polygons(column, np.linspace(0.99, 0.3, len(found)), width=width, height=height)


def gradient(width: int = 100, height: int = 80) -> npt.NDArray[np.uint8]:
    """Return a picture whose red is x and whose green is y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)


def test_a_crop_is_the_box_rounded_outwards_with_a_margin() -> None:
    (crop,) = crops(open_image(gradient()), table_of(shapely.box(20.5, 30.5, 29.5, 34.5)))
    assert crop.shape == (5 + 5 + 5, 10 + 5 + 5, 4)
    # Its pixels are those of the image, the ones outside the outline too.
    assert crop[0, 0].tolist() == [15, 25, 7, 0]
    assert crop[-1, -1].tolist() == [34, 39, 7, 0]
    # Inside it is opaque; the outer pixels are half covered, the corners a quarter.
    assert (crop[6:9, 6:14, 3] == 255).all()
    assert (crop[6:9, 5, 3] == 128).all()
    assert crop[5, 5, 3] == 64


@pytest.mark.parametrize(
    ("box", "frame"),
    [
        ((0, 0, 3, 4), (0, 0, 8, 9)),
        ((97.5, 76, 100, 80), (92, 71, 100, 80)),
        ((0, 0, 100, 80), (0, 0, 100, 80)),
        ((40.2, 40.2, 40.3, 40.3), (35, 35, 46, 46)),
    ],
)
def test_a_crop_stays_in_the_image(box: tuple[float, ...], frame: tuple[int, ...]) -> None:
    assert crop_frames(table_of(shapely.box(*box))) == [frame]


def test_no_instances_no_crops() -> None:
    assert list(crops(open_image(gradient()), table_of())) == []


def test_a_crop_is_kept_by_its_file() -> None:
    (crop,) = crops(open_image(gradient()), table_of(shapely.Point(50, 40).buffer(9)))
    with Image.open(io.BytesIO(encode_png(crop))) as image:
        assert image.format == "PNG"
        assert (np.asarray(image.convert("RGBA")) == crop).all()


@pytest.mark.parametrize(
    ("size", "fast", "expected"),
    [
        ((100, 80), False, (100, 80)),
        ((8000, 4000), False, (4000, 2000)),
        ((100, 80), True, (50, 40)),
        ((30720, 1000), True, (3072, 100)),
        ((1, 1), True, (1, 1)),
        ((1, 20000), False, (1, 4000)),
    ],
)
def test_an_overview_is_as_large_as_needed(size: tuple[int, int], fast: bool, expected: tuple[int, int]) -> None:
    assert overview_size(*size, fast=fast) == expected


def is_line(pixels: npt.NDArray[np.uint8], colour: tuple[float, float, float]) -> bool:
    """Return whether the most colourful of some pixels has nearly the colour; the line covers no pixel whole."""
    strongest = pixels[np.ptp(pixels.astype(int), axis=1).argmax()]
    return bool(np.abs(strongest / 255 - np.array(colour)).max() < 0.15)


def test_an_overview_shows_outline_fill_and_box() -> None:
    white = np.full((200, 300, 3), 255, np.uint8)
    ring = shapely.Point(150, 100).buffer(60).difference(shapely.Point(150, 100).buffer(20))
    picture = overview(open_image(white), table_of(ring, width=300, height=200))
    assert is_line(picture[100, 87:93], PALETTE[0])
    assert is_line(picture[100, 127:133], PALETTE[0])
    filled = picture[60, 150]
    assert filled[2] < filled[1] < filled[0] < 255
    # The hole and what is outside the box stay as they were.
    assert picture[100, 150].tolist() == [255, 255, 255]
    assert picture[100, 20].tolist() == [255, 255, 255]
    # The box runs just outside the outline.
    assert picture[50, 88].tolist() != [255, 255, 255]


def test_all_parts_of_an_instance_are_drawn() -> None:
    white = np.full((100, 200, 3), 255, np.uint8)
    parts = shapely.MultiPolygon([shapely.box(20, 40, 60, 80), shapely.box(120, 40, 160, 80)])
    picture = overview(open_image(white), table_of(parts, width=200, height=100))
    assert picture[60, 40].tolist() == picture[60, 140].tolist() != [255, 255, 255]


def test_small_animals_are_drawn_without_a_score_and_none_leave_the_picture_as_it_is() -> None:
    white = np.full((80, 100, 3), 255, np.uint8)
    small = overview(open_image(white), table_of(shapely.box(50, 40, 53, 43)))
    assert (small[39:44, 49:54] < 255).any()
    small[35:48, 45:58] = 255
    assert (small == 255).all()
    assert (overview(open_image(white), table_of()) == white).all()


def test_scores_do_not_cover_each_other() -> None:
    """Many animals in one place: one label is drawn there, the others are left out."""
    white = np.full((200, 300, 3), 255, np.uint8)
    here = shapely.box(100, 80, 160, 140)
    one = overview(open_image(white), table_of(here, width=300, height=200))
    two = overview(open_image(white), table_of(here, here, here, width=300, height=200))
    # Room over the box and under it is for two; the third is left out.
    assert (one[144:170] == 255).all()
    assert (two[144:170] < 255).any()
    assert (two[:50] == 255).all()


def test_animals_across_the_border_and_one_pixel_images_are_drawn() -> None:
    across = shapely.box(-20, -20, 30, 30)
    assert overview(open_image(gradient()), table_of(across)).shape == (80, 100, 3)
    dot = open_image(np.zeros((1, 1, 3), np.uint8))
    assert overview(dot, table_of(shapely.box(0, 0, 1, 1), width=1, height=1), fast=True).shape == (1, 1, 3)


def test_a_large_image_gives_a_picture_of_bounded_size() -> None:
    large = open_image(np.full((30, 3 * LONGEST, 3), 200, np.uint8))
    table = table_of(shapely.box(3000, 0, 6000, 30), width=3 * LONGEST, height=30)
    picture = overview(large, table)
    assert picture.shape == (10, LONGEST, 3)
    # The instance lies where it belongs on the smaller picture.
    assert picture[5, 1500].tolist() != picture[5, 500].tolist() == [200, 200, 200]


def test_an_overview_is_kept_by_its_file() -> None:
    picture = overview(open_image(gradient()), table_of(shapely.Point(50, 40).buffer(20)))
    with Image.open(io.BytesIO(encode_jpeg(picture))) as image:
        assert image.format == "JPEG"
        assert np.abs(np.asarray(image, int) - picture).mean() < 4
