"""The same card in every format that goes in: the same animals are found, wherever and however they are stored."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms
from tests.films import HEIGHT, WIDTH, write_film
from tests.spots import fb, spots

ANIMALS = [(40.0, 30.0), (150.0, 40.0), (60.0, 100.0), (200.0, 120.0)]
CARD = spots(240, 160, ANIMALS)
PILLOW = Image.fromarray(CARD)
Found = tuple[tuple[int, int], list[tuple[float, float]]]
"""Size of an image, and the middle of each animal in it."""
WIDE = (CARD.astype(np.uint16)) * 257


def vips(suffix: str, **options: object) -> Callable[[Path], None]:
    return lambda path: pyvips.Image.new_from_array(CARD).write_to_file(str(path.with_suffix(suffix)), **options)


def pillow(suffix: str, image: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path.with_suffix(suffix), **options)


def tiff(pixels: np.ndarray, **options: object) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        colours = {"photometric": "rgb" if pixels.ndim == 3 else "minisblack", "metadata": None} | options
        big = bool(colours.pop("bigtiff", False))
        with tifffile.TiffWriter(path.with_suffix(".tif"), bigtiff=big) as file:
            file.write(pixels, **colours)

    return write


def turned() -> Callable[[Path], None]:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90° clockwise
    return pillow(".jpg", PILLOW.transpose(Image.Transpose.ROTATE_90), exif=exif)


def transparent() -> Image.Image:
    """Return the card with a black ground that nobody sees."""
    alpha = np.where(CARD[..., 0] < 128, 255, 0).astype(np.uint8)
    return Image.fromarray(np.dstack([np.zeros_like(CARD), alpha]))


def with_profile() -> Callable[[Path], None]:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return pillow(".png", PILLOW, icc_profile=profile)


def cmyk_with_profile(path: Path) -> None:
    image = pyvips.Image.new_from_array(CARD).copy(interpretation="srgb")
    image.icc_transform("cmyk", input_profile="srgb").write_to_file(str(path.with_suffix(".jpg")))


def video(path: Path) -> None:
    write_film(path.with_suffix(".mp4"), [CARD[:HEIGHT, :WIDTH].copy()])


FORMATS: dict[str, Callable[[Path], None]] = {
    "jpeg": vips(".jpg", Q=95),
    "jpeg, progressive": vips(".jpg", Q=95, interlace=True),
    "jpeg, grey": pillow(".jpeg", PILLOW.convert("L")),
    "jpeg, CMYK": pillow(".jpg", PILLOW.convert("CMYK")),
    "jpeg, CMYK with its profile": cmyk_with_profile,
    "jpeg, turned by EXIF": turned(),
    "png": pillow(".png", PILLOW),
    "png, 16 bits": lambda path: (
        pyvips.Image.new_from_array(WIDE)
        .copy(interpretation="rgb16")
        .pngsave(str(path.with_suffix(".png")), bitdepth=16)
    ),
    "png, grey": pillow(".png", PILLOW.convert("L")),
    "png, 1 bit": pillow(".png", PILLOW.convert("1")),
    "png, palette": pillow(".png", PILLOW.convert("P")),
    "png, transparent": pillow(".png", transparent()),
    "png, interlaced": vips(".png", interlace=True),
    "png, profile": with_profile(),
    "tiff, strips": tiff(CARD, rowsperstrip=16),
    "tiff, tiles": tiff(CARD, tile=(64, 64)),
    "tiff, BigTIFF": tiff(CARD, tile=(64, 64), bigtiff=True),
    "tiff, big endian": lambda path: tifffile.imwrite(path.with_suffix(".tif"), CARD, byteorder=">", photometric="rgb"),
    "tiff, 16 bits": tiff(WIDE),
    "tiff, 16 bits, grey": tiff(WIDE[..., 0].copy()),
    "tiff, float": tiff((CARD / 255).astype(np.float32)),
    "tiff, CMYK": tiff(np.asarray(PILLOW.convert("CMYK")), photometric="separated"),
    "tiff, planes": tiff(CARD.transpose(2, 0, 1).copy(), planarconfig="separate"),
    "tiff, LZW": vips(".tif", compression="lzw", predictor="horizontal"),
    "tiff, JPEG": vips(".tif", compression="jpeg", tile=True, Q=95),
    "tiff, pyramid": vips(".tif", pyramid=True, tile=True, tile_width=64, tile_height=64),
    "webp": vips(".webp", Q=95),
    "webp, lossless": vips(".webp", lossless=True),
    "heic": vips(".heic", Q=95, compression="av1"),
    "avif": vips(".avif", Q=95),
    "video": video,
}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory, spots_network: Path) -> dict[str, Found]:
    """Return what one command has found in a folder with the card in every format, by format."""
    folder, output = tmp_path_factory.mktemp("cards"), tmp_path_factory.mktemp("found")
    names = {f"card{number:02d}": name for number, name in enumerate(FORMATS)}
    for stem, name in names.items():
        FORMATS[name](folder / stem)
    assert fb("predict", "-i", folder, "-o", output, "-w", spots_network, "--single-scale", "--no-crops") == 0
    rows = pl.read_csv(output / "summary.csv", infer_schema_length=None).to_dicts()
    animals = pl.read_csv(output / "measurements.csv", infer_schema_length=None).with_columns(
        x=(pl.col("box_x1") + pl.col("box_x2")) / 2, y=(pl.col("box_y1") + pl.col("box_y2")) / 2
    )
    return {
        names[row["image"][:6]]: (
            (row["width"], row["height"]),
            sorted(animals.filter(pl.col("image") == row["image"]).select("x", "y").rows()),
        )
        for row in rows
    }


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "video"])
def test_a_card_shows_the_same_animals_in_every_format(found: dict[str, Found], name: str) -> None:
    size, animals = found[name]
    assert size == (240, 160)
    assert animals == [pytest.approx(animal, abs=2) for animal in sorted(ANIMALS)]


def test_a_folder_holds_images_and_videos(found: dict[str, Found]) -> None:
    size, animals = found["video"]
    assert size == (192, 128)
    assert len(animals) == 3
