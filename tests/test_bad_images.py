"""Odd images are predicted as anybody would expect, broken ones cost their own row only."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import tifffile
from PIL import Image
from tests.spots import fb, spots

from flat_bug.instances.metadata import read_metadata

WIDTH, HEIGHT = 100, 64
CENTRES = [(28.0, 40.0), (76.0, 25.0)]
PICTURE = spots(WIDTH, HEIGHT, CENTRES)
SIXTEEN_BITS = PICTURE.astype(np.uint16) * 257


def as_bytes(picture: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


def turned() -> bytes:
    """Return a JPEG whose pixels lie on their side, and whose EXIF says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return as_bytes(Image.fromarray(PICTURE).transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)


def see_through() -> bytes:
    """Return an RGBA picture whose ground is black but transparent."""
    ground = PICTURE[..., 0] == 255
    picture = np.dstack([np.zeros_like(PICTURE), np.where(ground, 0, 255).astype(np.uint8)])
    return as_bytes(Image.fromarray(picture, "RGBA"), "PNG")


def tiff_of(array: np.ndarray[Any, Any], **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


PLAIN = Image.fromarray(PICTURE)
JPEG = as_bytes(PLAIN, "JPEG", quality=95)
PNG = as_bytes(PLAIN, "PNG")

READABLE: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: JPEG,
    "png in disguise.jpg": lambda: PNG,
    "jpeg in disguise.PNG": lambda: JPEG,
    "grey.jpg": lambda: as_bytes(PLAIN.convert("L"), "JPEG", quality=95),
    "grey with alpha.png": lambda: as_bytes(PLAIN.convert("LA"), "PNG"),
    "one bit.png": lambda: as_bytes(PLAIN.convert("1"), "PNG"),
    "palette.png": lambda: as_bytes(PLAIN.convert("P"), "PNG"),
    "cmyk.jpg": lambda: as_bytes(PLAIN.convert("CMYK"), "JPEG", quality=95),
    "see-through.png": see_through,
    "16 bit.png": lambda: as_bytes(Image.fromarray(SIXTEEN_BITS[..., 0]), "PNG"),
    "16 bit.tif": lambda: tiff_of(SIXTEEN_BITS, photometric="rgb"),
    "16 bit grey.tiff": lambda: tiff_of(SIXTEEN_BITS[..., 0]),
    "float.tif": lambda: tiff_of((PICTURE[..., 0] / 255).astype(np.float32)),
    "tiles.tif": lambda: tiff_of(PICTURE, photometric="rgb", tile=(16, 16)),
    "turned.jpg": turned,
    "loss-free.webp": lambda: as_bytes(PLAIN, "WEBP", lossless=True),
    "ünïcødé 甲虫.png": lambda: PNG,
    "'quotes\" & $(rm -rf) ; | *?[a].png": lambda: PNG,
    " space first and last .png": lambda: PNG,
    "%s {0} %d.png": lambda: PNG,
    "new\nline.png": lambda: PNG,
    "-starts-like-an-option.png": lambda: PNG,
    "l" * 240 + ".png": lambda: PNG,
    "one/plain.jpg": lambda: JPEG,
    "two/plain.jpg": lambda: JPEG,
    "two/plain.png": lambda: PNG,
    "crops.png": lambda: PNG,
    "coco_instances.json.png": lambda: PNG,
    "summary.csv.png": lambda: PNG,
}
TINY: dict[str, Callable[[], bytes]] = {
    "one pixel.png": lambda: as_bytes(Image.new("RGB", (1, 1), "white"), "PNG"),
    "one column.png": lambda: as_bytes(Image.new("RGB", (1, 20000), "white"), "PNG"),
    "one row.png": lambda: as_bytes(Image.new("L", (3000, 1), "white"), "PNG"),
}
BROKEN: dict[str, Callable[[], bytes]] = {
    "truncated.jpg": lambda: JPEG[: len(JPEG) // 2],
    "truncated.png": lambda: PNG[: len(PNG) // 2],
    "truncated.tif": lambda: tiff_of(PICTURE, photometric="rgb")[:2000],
    "header only.jpg": lambda: JPEG[:20],
    "empty.jpg": lambda: b"",
    "text.jpg": lambda: b"this is not an image\n" * 50,
    "page.png": lambda: b"<html><body>404</body></html>",
    b"not utf-8 \xff.png".decode("utf-8", "surrogateescape"): lambda: PNG,
    "table.tif": lambda: b"1 2 3\n4 5 6\n",
}


@dataclass
class Outcome:
    """What one run over all of the images came to."""

    code: int
    errors: str
    output: Path
    rows: dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, spots_network: Path) -> Outcome:
    folder = tmp_path_factory.mktemp("images")
    for name, content in (READABLE | TINY | BROKEN).items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content())
    (folder / "folder.jpg").mkdir()
    (folder / "dangling.jpg").symlink_to(folder / "nowhere.jpg")
    output = tmp_path_factory.mktemp("output")
    errors = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", errors)
        code = fb("predict", "-i", folder, "-R", "-o", output, "-w", spots_network, "--single-scale")
    rows = {row["image"]: row for row in pl.read_csv(output / "summary.csv").iter_rows(named=True)}
    return Outcome(code, errors.getvalue(), output, rows)


def printable(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def test_every_image_has_a_row_and_the_command_says_that_some_failed(outcome: Outcome) -> None:
    expected = [*READABLE, *TINY, *BROKEN, "dangling.jpg"]
    assert sorted(outcome.rows) == sorted(map(printable, expected))
    assert outcome.code == 1
    assert f"{len(BROKEN) + 1} of {len(expected)} images failed" in outcome.errors


@pytest.mark.parametrize("name", READABLE)
def test_animals_are_found_in_any_kind_of_image(outcome: Outcome, name: str) -> None:
    row = outcome.rows[printable(name)]
    assert (row["status"], row["reason"] or "") == ("done", "")
    assert (row["width"], row["height"], row["instances"]) == (WIDTH, HEIGHT, 2)


@pytest.mark.parametrize("name", TINY)
def test_images_with_room_for_nothing_are_done(outcome: Outcome, name: str) -> None:
    assert (outcome.rows[name]["status"], outcome.rows[name]["instances"]) == ("done", 0)


@pytest.mark.parametrize("name", [*BROKEN, "dangling.jpg"])
def test_broken_files_fail_with_a_reason(outcome: Outcome, name: str) -> None:
    row = outcome.rows[printable(name)]
    assert row["status"] == "failed"
    assert row["reason"]
    # An error that nobody thought of would be called so.
    assert "unexpected" not in row["reason"]
    assert f"{printable(name)}: {row['reason']}" in outcome.errors


def test_all_results_lie_where_they_are_found(outcome: Outcome) -> None:
    """No two images share a folder, and none is outside the output."""
    done = len(READABLE) + len(TINY)
    assert len(list(outcome.output.rglob("metadata_*.json"))) == done
    assert len(list(outcome.output.rglob("overview_*.jpg"))) == done
    assert len([path for path in outcome.output.iterdir() if path.is_dir()]) == done
    assert len(list(outcome.output.rglob("crop_*.png"))) == 2 * len(READABLE)
    assert not list(outcome.output.parent.glob("metadata_*"))
    assert (outcome.output / "plain").is_dir()
    assert (outcome.output / "one__plain").is_dir()
    assert {path.name for path in outcome.output.glob("two__plain*")} == {"two__plain", "two__plain__png"}


def test_all_outlines_lie_on_the_animals_of_the_upright_image(outcome: Outcome) -> None:
    for path in outcome.output.rglob("metadata_*.json"):
        table = read_metadata(path).instances
        centres = sorted(((x1 + x2) / 2, (y1 + y2) / 2) for x1, y1, x2, y2 in table.boxes)
        assert centres == [pytest.approx(centre, abs=2) for centre in CENTRES[: len(table)]], path


def test_crops_of_a_turned_image_are_upright(outcome: Outcome) -> None:
    crops = sorted((outcome.output / "turned" / "crops").iterdir())
    assert len(crops) == 2
    for path in crops:
        with Image.open(path) as crop:
            pixels = np.asarray(crop)
        assert pixels[pixels[..., 3] == 255][:, :3].mean() < 40


def test_the_coco_file_has_all_that_were_done(outcome: Outcome) -> None:
    values = pl.read_json(outcome.output / "coco_instances.json")
    assert len(values["images"][0]) == len(READABLE) + len(TINY)
    assert len(values["annotations"][0]) == 2 * len(READABLE)


def test_a_second_run_tries_the_broken_ones_again_only(outcome: Outcome, spots_network: Path, tmp_path: Path) -> None:
    done = outcome.output / "plain"
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*")}
    mended = tmp_path / "images"
    mended.mkdir()
    (mended / "plain.jpg").write_bytes(JPEG)
    (mended / "truncated.jpg").write_bytes(JPEG)
    code = fb("predict", "-i", mended, "-o", outcome.output, "-w", spots_network, "--single-scale")
    rows = {row["image"]: row["status"] for row in pl.read_csv(outcome.output / "summary.csv").iter_rows(named=True)}
    assert (code, rows) == (0, {"plain.jpg": "skipped", "truncated.jpg": "done"})
    assert {path: path.stat().st_mtime_ns for path in done.rglob("*")} == before
