"""Crops as people want them for classifiers: squares of one size, other margins and backgrounds."""

import io
from pathlib import Path

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.collections_of_images import table_of
from tests.outlines import polygons
from tests.spots import fb, spots

from flat_bug.imaging import open_image
from flat_bug.instances.crops import CropOptions, crops, encode_png, record_of

DISC = shapely.Point(50, 40).buffer(20, quad_segs=64)


def red_disc() -> np.ndarray:
    """Return a blue picture with a red disc of radius 20 around (50, 40)."""
    y, x = np.mgrid[:80, :100] + 0.5
    inside = np.hypot(x - 50, y - 40) < 20
    return np.where(inside[..., None], [255, 0, 0], [0, 0, 255]).astype(np.uint8)


def crop_of(outline: shapely.Geometry, options: CropOptions, picture: np.ndarray | None = None) -> np.ndarray:
    image = open_image(red_disc() if picture is None else picture)
    (crop,) = crops(image, table_of(outline, width=image.width, height=image.height), options)
    return crop


@pytest.mark.parametrize("background", ["transparent", "white", "black", "image"])
@pytest.mark.parametrize("size", [None, 32, 64, 200])
def test_what_is_around_an_animal_is_as_wanted(background: str, size: int | None) -> None:
    crop = crop_of(DISC, CropOptions(size=size, background=background))  # type: ignore[arg-type]
    assert crop.shape == ((size or 50, size or 50, 4 if background == "transparent" else 3))
    centre, corner = crop[len(crop) // 2, len(crop) // 2].tolist(), crop[0, 0].tolist()
    assert centre[:3] == [255, 0, 0]
    assert {
        "transparent": corner[-1] == 0,
        "white": corner == [255, 255, 255],
        "black": corner == [0, 0, 0],
        "image": corner == [0, 0, 255],
    }[background]


@pytest.mark.parametrize("size", [32, 64, 200])
def test_a_square_shows_the_animal_in_its_middle_at_the_size_that_fits(size: int) -> None:
    opacity = crop_of(DISC, CropOptions(size=size, margin=0))[..., 3] / 255
    assert opacity.sum() == pytest.approx(np.pi * (size / 2) ** 2, rel=0.02)
    rows, columns = np.nonzero(opacity > 0.5)
    for positions in (rows, columns):
        assert positions.mean() == pytest.approx((size - 1) / 2, abs=1)
        assert np.ptp(positions) + 1 == pytest.approx(size, abs=2)
    # A margin is of image pixels, so it is scaled with the animal.
    with_margin = crop_of(DISC, CropOptions(size=size, margin=20))[..., 3] / 255
    assert with_margin.sum() == pytest.approx(opacity.sum() / 4, rel=0.03)


def test_mask_and_pixels_of_a_scaled_crop_agree() -> None:
    crop = crop_of(DISC, CropOptions(size=120, margin=0)).astype(int)
    inside, outside = crop[..., 3] == 255, crop[..., 3] == 0
    assert (crop[inside][:, 0] > crop[inside][:, 2]).mean() > 0.97
    assert (crop[outside][:, 2] > crop[outside][:, 0]).mean() > 0.97


def test_a_square_at_the_border_leaves_the_image_empty_there() -> None:
    table = shapely.box(0, 30, 10, 70)
    crop = crop_of(table, CropOptions(size=40, margin=0, background="image"))
    # The animal is 10 wide and 40 high, so 15 columns at its left are outside the image.
    assert (crop[:, :15] == 0).all()
    assert (crop[:, 15:].max(axis=2) > 0).all()
    assert (crop_of(table, CropOptions(size=40, margin=0, background="white"))[:, :14] == 255).all()


def test_tiny_animals_are_not_enlarged_without_end() -> None:
    opacity = crop_of(shapely.box(50, 40, 51, 41), CropOptions(size=256, margin=0))[..., 3]
    assert (opacity > 128).sum() == pytest.approx(16 * 16, rel=0.1)


@given(
    polygons(), st.none() | st.integers(8, 64), st.integers(0, 30), st.sampled_from(["transparent", "image", "white"])
)
@settings(max_examples=60)
def test_every_outline_has_a_crop_of_the_size_that_is_wanted(
    outline: shapely.Polygon, size: int | None, margin: int, background: str
) -> None:
    """Also across the border of the image."""
    crop = crop_of(outline, CropOptions(size, margin, background), np.full((40, 40, 3), 90, np.uint8))  # type: ignore[arg-type]
    if size is not None:
        assert crop.shape[:2] == (size, size)
    assert min(crop.shape[:2]) >= 1


def test_a_file_says_how_it_was_cut(tmp_path: Path) -> None:
    path = tmp_path / "crop.png"
    for options in (CropOptions(), CropOptions(64, 0, "white")):
        content = encode_png(crop_of(DISC, options), options.record)
        path.write_bytes(content)
        assert record_of(path) == options.record
        with Image.open(io.BytesIO(content)) as image:
            assert image.text.get("flat-bug-crop", "") == options.record  # type: ignore[attr-defined]
    path.write_bytes(b"not a picture")
    assert record_of(path) is None


class TestCommand:
    @pytest.fixture
    def command(self, tmp_path: Path, spots_network: Path) -> list[str | Path]:
        Image.fromarray(spots(110, 64, [(25, 30), (85, 40)])).save(tmp_path / "a.png")
        return ["predict", "-i", tmp_path / "a.png", "-o", tmp_path / "out", "-w", spots_network, "--no-overviews"]

    def sizes(self, tmp_path: Path) -> list[tuple[str, tuple[int, int]]]:
        found = []
        for path in sorted((tmp_path / "out").rglob("crop_*.png")):
            with Image.open(path) as image:
                found.append((image.mode, image.size))
        return found

    def test_crops_of_other_options_are_replaced_without_predicting_again(
        self, command: list[str | Path], tmp_path: Path
    ) -> None:
        assert fb(*command) == 0
        former = {path: path.read_bytes() for path in (tmp_path / "out").rglob("crop_*.png")}
        (metadata,) = (tmp_path / "out").rglob("metadata_*.json")
        before = metadata.stat().st_mtime_ns
        assert fb(*command, "--crop-size", "48", "--crop-background", "white") == 0
        assert self.sizes(tmp_path) == [("RGB", (48, 48))] * 2
        assert fb(*command, "--crop-size", "48", "--crop-margin", "0", "--crop-background", "image") == 0
        assert self.sizes(tmp_path) == [("RGB", (48, 48))] * 2
        assert fb(*command) == 0
        assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("crop_*.png")} == former
        assert metadata.stat().st_mtime_ns == before

    def test_a_change_that_was_interrupted_is_finished(self, command: list[str | Path], tmp_path: Path) -> None:
        assert fb(*command, "--crop-size", "48") == 0
        # As after all former crops were removed and the first one was written.
        next((tmp_path / "out").rglob("crop_*NUMBER_1_*")).unlink()
        assert fb(*command, "--crop-size", "48") == 0
        assert self.sizes(tmp_path) == [("RGBA", (48, 48))] * 2
        next((tmp_path / "out").rglob("crop_*NUMBER_1_*")).unlink()
        assert fb(*command, "--crop-size", "32") == 0
        assert self.sizes(tmp_path) == [("RGBA", (32, 32))] * 2

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--crop-size", "4"], "crop_size"),
            (["--crop-margin", "-1"], "crop_margin"),
            (["--crop-background", "pink"], "pink"),
        ],
    )
    def test_what_is_impossible_is_refused(
        self, command: list[str | Path], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb(*command, *words) == 2
        assert message in capsys.readouterr().err
