"""Any image that a scanner or camera writes opens as upright 8-bit sRGB; anything else is a clear error."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from tests.conftest import missing

from flat_bug.errors import ImageError, UsageError
from flat_bug.imaging import LazyImage, open_image

Pixels = npt.NDArray[np.uint8]


@pytest.fixture
def photo() -> Pixels:
    """Return a 48 × 32 RGB picture without symmetry: a red-green ramp and a blue corner."""
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[..., 0] = np.linspace(0, 255, 48)
    picture[..., 1] = np.linspace(0, 255, 32)[:, None]
    picture[:8, :8, 2] = 255
    return picture


def everything(image: LazyImage) -> Pixels:
    return image.read(0, 0, image.width, image.height)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".gif", ".jpg"])
def test_reads_what_was_written(photo: Pixels, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    exact = {".webp": {"lossless": True}, ".jpg": {"quality": 100, "subsampling": 0}}
    Image.fromarray(photo).save(path, **exact.get(suffix, {}))
    image = open_image(path)
    assert (image.width, image.height) == (48, 32)
    tolerance = {".jpg": 3, ".gif": 40}.get(suffix, 0)
    assert np.abs(everything(image).astype(int) - photo).max() <= tolerance


def test_reads_heif(photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.heic"
    try:
        pyvips.Image.new_from_array(photo).copy(interpretation="srgb").write_to_file(str(path), compression="av1")
    except pyvips.Error:
        missing("a libvips that writes HEIF")
    assert np.abs(everything(open_image(path)).astype(int) - photo).mean() < 10


def test_a_region_is_a_crop(photo: Pixels) -> None:
    region = open_image(photo).read(5, 7, 20, 11)
    assert region.dtype == np.uint8
    np.testing.assert_array_equal(region, photo[7:18, 5:25])


def test_the_suffix_does_not_matter(photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "really a png.jpg"
    Image.fromarray(photo).save(path, format="png")
    np.testing.assert_array_equal(everything(open_image(path)), photo)


@pytest.mark.parametrize(
    "name",
    ["käfer.png", "two words.png", 'it\'s "quoted".png', "[0]$(date);.png", "a%20b.png", "x.png[page=3]"],
)
def test_names_are_names(photo: Pixels, tmp_path: Path, name: str) -> None:
    with (tmp_path / name).open("wb") as stream:
        Image.fromarray(photo).save(stream, format="png")
    np.testing.assert_array_equal(everything(open_image(tmp_path / name)), photo)


def test_a_name_that_is_not_unicode(photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "\udcff.png"
    with path.open("wb") as stream:
        Image.fromarray(photo).save(stream, format="png")
    with pytest.raises(ImageError, match="not UTF-8") as caught:
        open_image(path)
    str(caught.value).encode()  # the message can be printed


def test_a_file_that_changed_is_read_again(photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    for picture in (photo, 255 - photo):
        Image.fromarray(picture).save(path)
        np.testing.assert_array_equal(everything(open_image(path)), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_undone(photo: Pixels, tmp_path: Path, orientation: int) -> None:
    # What the camera stored, for each orientation, of a scene that looks like `photo` when upright.
    stored = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo),
        7: np.rot90(photo[:, ::-1], -1),
        8: np.rot90(photo, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.png"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif)
    image = open_image(path)
    assert (image.width, image.height) == (48, 32)
    np.testing.assert_array_equal(everything(image), photo)


def test_grey_has_three_equal_bands(photo: Pixels, tmp_path: Path) -> None:
    grey = photo[..., 0]
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "grey.png")), np.dstack([grey] * 3))


def test_one_bit_and_palette(photo: Pixels, tmp_path: Path) -> None:
    black_white = np.where(photo[..., :1] > 127, 255, 0).astype(np.uint8).repeat(3, axis=2)
    Image.fromarray(black_white).convert("1", dither=Image.Dither.NONE).save(tmp_path / "bit.png")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "bit.png")), black_white)
    Image.fromarray(black_white).convert("1", dither=Image.Dither.NONE).save(tmp_path / "bit.tif", compression="group4")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "bit.tif")), black_white)
    Image.fromarray(black_white).convert("P").save(tmp_path / "palette.png")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "palette.png")), black_white)


def test_transparency_lies_over_white(photo: Pixels, tmp_path: Path) -> None:
    clear = np.dstack([photo, np.zeros(photo.shape[:2], np.uint8)])
    clear[:, 24:, 3] = 255
    Image.fromarray(clear).save(tmp_path / "clear.png")
    seen = everything(open_image(tmp_path / "clear.png"))
    assert (seen[:, :24] == 255).all()
    np.testing.assert_array_equal(seen[:, 24:], photo[:, 24:])
    Image.fromarray(clear[..., 2:]).save(tmp_path / "grey.png")
    grey = everything(open_image(tmp_path / "grey.png"))
    assert (grey[:, :24] == 255).all()
    np.testing.assert_array_equal(grey[:, 24:, 1], photo[:, 24:, 2])


def test_sixteen_bits_lose_their_low_byte(photo: Pixels, tmp_path: Path) -> None:
    deep = photo.astype(np.uint16) * 256 + 77
    tifffile.imwrite(tmp_path / "deep.tif", deep, photometric="rgb")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "deep.tif")), photo)
    tifffile.imwrite(tmp_path / "grey.tif", deep[..., 0], photometric="minisblack")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "grey.tif"))[..., 1], photo[..., 0])
    pyvips.Image.new_from_array(deep).copy(interpretation="rgb16").write_to_file(str(tmp_path / "deep.png"))
    np.testing.assert_array_equal(everything(open_image(tmp_path / "deep.png")), photo)


@pytest.mark.parametrize("full", [1.0, 255.0, 65535.0])
def test_floats_are_scaled_by_their_range(photo: Pixels, tmp_path: Path, full: float) -> None:
    tifffile.imwrite(tmp_path / "float.tif", photo.astype(np.float32) / 255 * full, photometric="rgb")
    np.testing.assert_allclose(everything(open_image(tmp_path / "float.tif")), photo, atol=1)


def test_cmyk_becomes_rgb(tmp_path: Path) -> None:
    Image.new("CMYK", (40, 40), (0, 255, 255, 0)).save(tmp_path / "red.jpg", quality=100)
    red, green, blue = everything(open_image(tmp_path / "red.jpg"))[20, 20].astype(int)
    assert red > 180
    assert green < 90
    assert blue < 90


def test_colour_profiles_are_followed_and_broken_ones_ignored(tmp_path: Path) -> None:
    grey = Image.new("RGB", (16, 16), (120, 80, 40))
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for name, profile in {"srgb": srgb, "broken": b"not a profile" * 20, "of another space": lab}.items():
        grey.save(tmp_path / f"{name}.png", icc_profile=profile)
        assert (everything(open_image(tmp_path / f"{name}.png")) == [120, 80, 40]).all(), name
    display_p3 = pyvips.Image.new_from_array(np.full((8, 8, 3), [255, 0, 0], np.uint8)).copy(interpretation="srgb")
    display_p3.icc_transform("p3", input_profile="srgb").write_to_file(str(tmp_path / "p3.png"))
    stored = np.asarray(Image.open(tmp_path / "p3.png"))[4, 4]
    assert stored[0] < 250  # pure sRGB red is not at the corner of the wider space
    np.testing.assert_allclose(everything(open_image(tmp_path / "p3.png"))[4, 4], [255, 0, 0], atol=3)


def test_the_first_page_counts(photo: Pixels, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "pages.tif", np.stack([photo, 255 - photo]), photometric="rgb")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "pages.tif")), photo)


def test_many_bands_show_the_first_three(photo: Pixels, tmp_path: Path) -> None:
    bands = np.dstack([photo, photo, photo])[..., :7]
    tifffile.imwrite(tmp_path / "bands.tif", bands, photometric="minisblack", planarconfig="contig")
    np.testing.assert_array_equal(everything(open_image(tmp_path / "bands.tif")), photo)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 1)])
def test_extreme_shapes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (9, 8, 7)).save(tmp_path / "thin.png")
    image = open_image(tmp_path / "thin.png")
    assert (image.width, image.height) == size
    assert (everything(image) == [9, 8, 7]).all()
    half = max(1, size[0] // 2), max(1, size[1] // 2)
    assert (image.read(0, 0, *half, half) == [9, 8, 7]).all()


@settings(deadline=None)
@given(
    width=st.integers(1, 90),
    height=st.integers(1, 90),
    scale=st.floats(0.05, 2.5),
    where=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)),
)
def test_a_scaled_region_is_a_crop_of_the_scaled_image(
    width: int, height: int, scale: float, where: tuple[float, float, float, float]
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = open_image(picture)
    whole = image.read(0, 0, *size, size)
    x, y = int(where[0] * (size[0] - 1)), int(where[1] * (size[1] - 1))
    wide, high = 1 + int(where[2] * (size[0] - x - 1)), 1 + int(where[3] * (size[1] - y - 1))
    assert whole.shape == (size[1], size[0], 3)
    np.testing.assert_array_equal(open_image(picture).read(x, y, wide, high, size), whole[y : y + high, x : x + wide])


def test_scaling_averages_and_keeps_places() -> None:
    picture = np.zeros((600, 900, 3), np.uint8)
    picture[200:400, 300:600] = 255
    image = open_image(picture)
    for factor in (1.5, 2.25, 5.0625, 11.4):
        size = round(900 / factor), round(600 / factor)
        small = image.read(0, 0, *size, size)[..., 0].astype(float)
        assert small.mean() == pytest.approx(picture.mean(), rel=0.02)
        xs, ys = np.arange(size[0]) + 0.5, np.arange(size[1]) + 0.5
        centre = (small.sum(0) @ xs / small.sum() / size[0], small.sum(1) @ ys / small.sum() / size[1])
        assert centre == pytest.approx((0.5, 0.5), abs=0.002)


@pytest.mark.parametrize("factor", [1.5, 2, 3.1, 4])
def test_enlarging_keeps_places(factor: float) -> None:
    picture = np.zeros((60, 90, 3), np.uint8)
    picture[20:40, 30:60] = 255
    size = round(90 * factor), round(60 * factor)
    large = open_image(picture).read(0, 0, *size, size)[..., 0] / 255.0
    xs, ys = (np.arange(side) + 0.5 for side in size)
    assert large.sum() == pytest.approx(600 * factor**2, rel=0.005)
    assert large.sum(0) @ xs / large.sum() / size[0] * 90 == pytest.approx(45, abs=0.02)
    assert large.sum(1) @ ys / large.sum() / size[1] * 60 == pytest.approx(30, abs=0.02)


def test_coarse_levels_of_large_images_are_exact() -> None:
    """They are made from a reduced copy in memory: nothing may shift by that, whatever is left over at the edges."""
    width, height = 5003, 4001
    picture = np.zeros((height, width), np.uint8)
    picture[2000:2600, 4000:4800] = 255
    size = round(width / 11.4), round(height / 11.4)
    small = open_image(picture).read(0, 0, *size, size)[..., 0] / 255.0
    xs, ys = (np.arange(side) + 0.5 for side in size)
    assert small.sum(0) @ xs / small.sum() * width / size[0] == pytest.approx(4400, abs=1)
    assert small.sum(1) @ ys / small.sum() * height / size[1] == pytest.approx(2300, abs=1)
    assert small.sum() * (width / size[0]) * (height / size[1]) == pytest.approx(600 * 800, rel=0.003)


def test_one_page_of_several(photo: Pixels, tmp_path: Path) -> None:
    pages = [photo, 255 - photo, photo[::-1]]
    tifffile.imwrite(tmp_path / "pages.tif", np.stack(pages), photometric="rgb")
    for number, page in enumerate(pages, start=1):
        np.testing.assert_array_equal(everything(open_image(tmp_path / "pages.tif", page=number)), page)
    for absent in (0, -1, 4):
        with pytest.raises(ImageError, match="there is no page"):
            open_image(tmp_path / "pages.tif", page=absent)


GIF_OF_65535_SQUARE = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02\x44\x01\0;"


def test_a_few_bytes_that_claim_more_pixels_than_anything_holds(
    photo: Pixels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bomb.gif").write_bytes(GIF_OF_65535_SQUARE)
    with pytest.raises(ImageError, match="claims 65535 × 65535 pixels") as caught:
        open_image(tmp_path / "bomb.gif")
    assert "FLAT_BUG_MAX_MEGAPIXELS=4295" in caught.value.mend
    Image.fromarray(np.tile(photo, (50, 50, 1))).save(tmp_path / "large.png")
    monkeypatch.setenv("FLAT_BUG_MAX_MEGAPIXELS", "3.8")
    with pytest.raises(ImageError, match="are the limit"):
        open_image(tmp_path / "large.png")
    monkeypatch.setenv("FLAT_BUG_MAX_MEGAPIXELS", "4")
    assert open_image(tmp_path / "large.png").width == 2400
    monkeypatch.setenv("FLAT_BUG_MAX_MEGAPIXELS", "many")
    with pytest.raises(UsageError, match="not a number of megapixels"):
        open_image(tmp_path / "large.png")


def test_a_tiff_whose_pages_lead_back_to_the_first_ends(photo: Pixels, tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    tifffile.imwrite(path, np.stack([photo, 255 - photo]), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path) as pages:
        first, last = pages.pages.first.offset, pages.pages[1]
        entries = len(last.tags)
        link = last.offset + 2 + 12 * entries
    content = bytearray(path.read_bytes())
    assert content[link : link + 4] == bytes(4)
    content[link : link + 4] = first.to_bytes(4, "little")
    path.write_bytes(content)
    np.testing.assert_array_equal(everything(open_image(path)), photo)
    with pytest.raises(ImageError):
        open_image(path, page=3)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_file_is_an_error_not_a_grey_half(tmp_path: Path, suffix: str, share: float) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 300, 3)).astype(np.uint8)
    path = tmp_path / f"cut{suffix}"
    Image.fromarray(noise).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError) as caught:
        everything(open_image(path))
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello, I am no image\n", "not an image"),
        (b"1,2,3\n4,5,6\n", "not an image"),
        (b"\xff\xd8\xff\xe0 starts like a JPEG", "cannot be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>", "not an image"),
        (b"%PDF-1.4\n", "not an image"),
    ],
)
@pytest.mark.parametrize("name", ["file.jpg", "file.csv"])
def test_what_is_no_image_is_said_to_be_none(tmp_path: Path, content: bytes, words: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageError, match=words) as caught:
        open_image(tmp_path / name)
    assert caught.value.where == str(tmp_path / name)


def test_absent_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        open_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="this is a folder"):
        open_image(tmp_path)
