"""How large a pixel is: every way to say it, what is refused, and what becomes of the numbers when it changes."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shapely import affinity
from tests.bodies import ellipse
from tests.oracle import RED, Oracle, draw
from tests.spots import fb, spots

from flat_bug.cli.predict_options.measurements import MeasurementOptions
from flat_bug.config import PredictSettings
from flat_bug.errors import UsageError
from flat_bug.instances.measurement_table import MEASURED, SCHEMA
from flat_bug.instances.metadata import read_metadata
from flat_bug.measurement import Scale, measured
from flat_bug.measurement.resolution import scale_of_resolution
from flat_bug.measurement.scale import scale_of_bar, scale_of_px_per_mm
from flat_bug.measurement.scale_csv import read_scales, scales_of
from flat_bug.predict import Predictor
from flat_bug.prediction_run import InputImage, OutputSettings


class TestBar:
    """A scale bar or ruler is two points and the length between them."""

    @pytest.mark.parametrize(
        ("text", "mm_per_px"),
        [
            ("0,0,300,400,50", 0.1),
            ("0,0,300,400,50mm", 0.1),
            ("300,400,0,0, 5 cm", 0.1),
            ("10.5,20,510.5,20,50000um", 0.1),
            ("0,0,0,254,1in", 0.1),
        ],
    )
    def test_it_gives_the_size_of_a_pixel(self, text: str, mm_per_px: float) -> None:
        assert scale_of_bar(text).mm_per_px == pytest.approx(mm_per_px)

    def test_a_longer_bar_is_more_certain(self) -> None:
        assert scale_of_bar("0,0,100,0,10").relative_sd == pytest.approx(np.sqrt(2) / 100)
        assert scale_of_bar("0,0,1000,0,100").relative_sd == pytest.approx(np.sqrt(2) / 1000)

    @pytest.mark.parametrize(
        "text",
        [
            *["", "1,2,3", "1,2,3,4", "1,2,3,4,5,6", "a,2,3,4,5", "5,5,5,5,10", "0,0,9,0,0", "0,0,9,0,-1"],
            *["0,0,9,0,5parsec", "nan,0,9,0,5", "0,0,inf,0,5", "0,0,9,0,nan", "0,0,1e-9,0,5"],
        ],
    )
    def test_anything_else_is_refused(self, text: str) -> None:
        with pytest.raises(UsageError):
            scale_of_bar(text)

    @given(st.text(max_size=30))
    def test_no_text_leads_to_another_error(self, text: str) -> None:
        with suppress(UsageError):
            assert scale_of_bar(text).mm_per_px > 0


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), 1e-9, 1e9])
def test_impossible_pixels_per_millimetre_are_refused(value: float) -> None:
    with pytest.raises(UsageError):
        scale_of_px_per_mm(value, None, "--px-per-mm")


def test_an_uncertainty_becomes_a_share() -> None:
    assert scale_of_px_per_mm(20, 0.5, "") == Scale(0.05, 0.025)
    for sd in (-1, 20, float("nan")):
        with pytest.raises(UsageError, match="uncertainty"):
            scale_of_px_per_mm(20, sd, "")


class TestTable:
    """A CSV says how large a pixel of each image is."""

    def scales(self, tmp_path: Path, text: str) -> dict[str, Scale]:
        path = tmp_path / "scales.csv"
        path.write_text(text, encoding="utf-8")
        return read_scales(path)

    @pytest.mark.parametrize(
        "text",
        [
            "image,px_per_mm\na.jpg,10\n",
            "image,mm_per_px\na.jpg,0.1",
            "\ufeffimage;px_per_mm;by\r\na.jpg;10;me\r\n",
            "px_per_mm\timage\n10\t a.jpg \n",
            "image,px_per_mm,px_per_mm_sd\na.jpg,10,\n",
        ],
    )
    def test_it_is_read_as_spreadsheets_write_it(self, tmp_path: Path, text: str) -> None:
        assert self.scales(tmp_path, text) == {"a.jpg": Scale(0.1)}

    @pytest.mark.parametrize("name", ["two\nlines.jpg", "a\x0bb.jpg", "a\u2028b.jpg", 'a "b", c.jpg'])
    def test_a_name_may_hold_what_separates_lines_and_fields(self, tmp_path: Path, name: str) -> None:
        quoted = name.replace('"', '""')
        assert self.scales(tmp_path, f'image,px_per_mm\n"{quoted}",10\nb.jpg,5\n') == {
            name: Scale(0.1),
            "b.jpg": Scale(0.2),
        }

    @pytest.mark.parametrize(
        "text", ["image,px_per_mm,px_per_mm_sd\na,10,1", "image,mm_per_px,mm_per_px_sd\na,0.1,0.01"]
    )
    def test_it_may_say_how_certain_that_is(self, tmp_path: Path, text: str) -> None:
        assert self.scales(tmp_path, text)["a"].relative_sd == pytest.approx(0.1)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no column image"),
            ("image\na.jpg", "none of px_per_mm"),
            ("px_per_mm\n10", "no column image"),
            ("image,px_per_mm,mm_per_px\na.jpg,10,0.1", "both px_per_mm and mm_per_px"),
            ("image,px_per_mm\na.jpg,10\na.jpg,10", "line 3"),
            ("image,px_per_mm\na.jpg,0", "line 2"),
            ("image,px_per_mm\na.jpg,-1", "line 2"),
            ("image,px_per_mm\na.jpg,nan", "line 2"),
            ("image,mm_per_px\na.jpg,0", "line 2"),
            ("image,mm_per_px\na.jpg,inf", "line 2"),
            ("image,mm_per_px\na.jpg,ten", "'ten' is not a number"),
            ("image,mm_per_px\na.jpg", "not a number"),
        ],
    )
    def test_what_is_wrong_is_said_with_its_line(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(UsageError) as caught:
            self.scales(tmp_path, text)
        assert message in str(caught.value)
        assert "scales.csv" in caught.value.where

    def test_no_table_and_no_text(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read"):
            read_scales(tmp_path / "none.csv")
        (tmp_path / "b.csv").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UsageError, match="cannot be read"):
            read_scales(tmp_path / "b.csv")

    def test_images_are_named_with_or_without_their_folder(self) -> None:
        table = {"a.jpg": Scale(1), "t/b.jpg": Scale(2), "other.jpg": Scale(3)}
        names = ["t/a.jpg", "t/b.jpg", "c.jpg"]
        assert scales_of(names, table, Path("x")) == ([Scale(1), Scale(2), None], ["other.jpg"])
        with pytest.raises(UsageError, match=r"several images are called a\.jpg"):
            scales_of(["1/a.jpg", "2/a.jpg"], table, Path("x"))


class TestResolution:
    """The resolution in an image's header is taken where a scanner wrote it."""

    @pytest.mark.parametrize("name", ["a.tif", "a.jpg", "a.png"])
    def test_that_of_a_scan_is_found(self, tmp_path: Path, name: str) -> None:
        Image.new("RGB", (30, 20)).save(tmp_path / name, dpi=(1200, 1200))
        found = scale_of_resolution(tmp_path / name)
        assert isinstance(found, Scale)
        assert found.mm_per_px == pytest.approx(25.4 / 1200, rel=1e-3)
        assert found.relative_sd == 0.005

    @pytest.mark.parametrize("dpi", [(72, 72), (96, 96), (1, 1), (600, 1200)])
    @pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
    def test_placeholders_are_not(self, tmp_path: Path, name: str, dpi: tuple[int, int]) -> None:
        Image.new("RGB", (30, 20)).save(tmp_path / name, dpi=dpi)
        assert isinstance(scale_of_resolution(tmp_path / name), str)

    @pytest.mark.parametrize("name", ["a.tif", "a.jpg", "a.png", "a.webp"])
    def test_nor_is_none(self, tmp_path: Path, name: str) -> None:
        Image.new("RGB", (30, 20)).save(tmp_path / name)
        assert isinstance(scale_of_resolution(tmp_path / name), str)

    @pytest.mark.parametrize(("unit", "mm_per_px"), [(1, None), (2, 25.4 / 300), (3, 10 / 300)])
    def test_that_of_a_tiff_counts_only_with_its_unit(self, tmp_path: Path, unit: int, mm_per_px: float | None) -> None:
        x_resolution, y_resolution, resolution_unit = 282, 283, 296
        tags = {x_resolution: 300.0, y_resolution: 300.0, resolution_unit: unit}
        Image.new("RGB", (30, 20)).save(tmp_path / "a.tif", tiffinfo=tags)
        found = scale_of_resolution(tmp_path / "a.tif")
        if mm_per_px is None:
            assert found == "its resolution has no unit"
        else:
            assert isinstance(found, Scale)
            assert found.mm_per_px == pytest.approx(mm_per_px, rel=1e-6)


class TestWhichComesFirst:
    """An image's own scale comes before that of all images, and that before its resolution."""

    def images(self, tmp_path: Path) -> list[InputImage]:
        for name in ("a.png", "b.png"):
            Image.new("RGB", (30, 20)).save(tmp_path / name, dpi=(1270, 1270))
        (tmp_path / "scales.csv").write_text("image,px_per_mm\na.png,10\n")
        return [InputImage(tmp_path / name, name, name[0]) for name in ("a.png", "b.png")]

    def sizes(self, tmp_path: Path, **options: Any) -> list[float | None]:
        images = MeasurementOptions(**options).with_scales(self.images(tmp_path))
        return [None if image.scale is None else round(image.scale.mm_per_px, 3) for image in images]

    def test_of_table_bar_and_resolution(self, tmp_path: Path) -> None:
        table = tmp_path / "scales.csv"
        assert self.sizes(tmp_path) == [None, None]
        assert self.sizes(tmp_path, px_per_mm=5, scale_from_dpi=True) == [0.2, 0.2]
        assert self.sizes(tmp_path, scale_csv=table, px_per_mm=5) == [0.1, 0.2]
        assert self.sizes(tmp_path, scale_csv=table, scale_bar="0,0,100,0,50") == [0.1, 0.5]
        assert self.sizes(tmp_path, scale_csv=table, scale_from_dpi=True) == [0.1, 0.02]

    def test_an_image_without_a_line_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"lacks 1 of 2 images: b\.png"):
            self.sizes(tmp_path, scale_csv=tmp_path / "scales.csv")

    def test_contradictions_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="both say"):
            self.sizes(tmp_path, px_per_mm=5, scale_bar="0,0,100,0,50")
        with pytest.raises(UsageError, match="missing"):
            self.sizes(tmp_path, px_per_mm_sd=5)

    def test_no_resolution_anywhere_is_refused_and_one_missing_is_noted(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        images = self.images(tmp_path)
        Image.new("RGB", (30, 20)).save(tmp_path / "b.png", dpi=(72, 72))
        (tmp_path / "c.png").write_text("no image")
        images.append(InputImage(tmp_path / "c.png", "c.png", "c"))
        found = MeasurementOptions(scale_from_dpi=True).with_scales(images)
        assert [image.scale is None for image in found] == [False, True, True]
        assert "2 of 3 images are measured in pixels only: b.png: 72 dpi" in capsys.readouterr().err
        with pytest.raises(UsageError, match="no image says"):
            MeasurementOptions(scale_from_dpi=True).with_scales(images[1:])


@pytest.fixture
def command(tmp_path: Path, spots_network: Path) -> list[str | Path]:
    """Return a command on two images, of two black discs of 18 px and of none."""
    (tmp_path / "in").mkdir()
    Image.fromarray(spots(110, 64, [(25, 30), (85, 40)])).save(tmp_path / "in" / "a.png")
    Image.fromarray(spots(110, 64, [])).save(tmp_path / "in" / "none.png")
    return ["predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "-w", spots_network]


def rows_in(output: Path) -> pl.DataFrame:
    return pl.read_csv(output / "measurements.csv", schema=SCHEMA)


def test_the_command_measures_in_pixels_and_millimetres(command: list[str | Path], tmp_path: Path) -> None:
    assert fb(*command, "--px-per-mm", "10", "--px-per-mm-sd", "0.1", "--formats", "parquet") == 0
    rows = rows_in(tmp_path / "out")
    assert rows["image"].to_list() == ["a.png", "a.png"]
    assert rows["animal"].to_list() == [0, 1]
    assert rows["length_mm"].to_list() == pytest.approx([1.8, 1.8], rel=0.2)
    assert rows["length_mm"].to_list() == pytest.approx((rows["length_px"] / 10).to_list())
    assert (rows["red"] < 60).all()
    assert rows["mm_per_px_relative_sd"].to_list() == pytest.approx([0.01, 0.01])
    (path,) = (tmp_path / "out" / "a").glob("metadata_*.json")
    values = json.loads(path.read_text())
    assert set(values["measurements"]) == set(MEASURED)
    assert values["measurements"]["length_mm"] == rows["length_mm"].to_list()
    assert read_metadata(path).instances.mm_per_px == 0.1


def test_other_programs_read_the_tables(command: list[str | Path], tmp_path: Path) -> None:
    import pyarrow.parquet

    fb(*command, "--px-per-mm", "10", "--formats", "parquet")
    rows, output = rows_in(tmp_path / "out"), tmp_path / "out"
    assert pl.read_parquet(output / "measurements.parquet").equals(rows)
    assert pyarrow.parquet.read_table(output / "measurements.parquet").to_pylist() == rows.to_dicts()
    frame = pd.read_csv(output / "measurements.csv")
    assert list(frame.columns) == rows.columns
    assert frame["length_mm"].tolist() == pytest.approx(rows["length_mm"].to_list(), rel=1e-15)
    assert pd.read_parquet(output / "measurements.parquet")["length_mm"].tolist() == rows["length_mm"].to_list()


def test_another_scale_rewrites_the_numbers_and_predicts_nothing(
    command: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fb(*command)
    before, output = rows_in(tmp_path / "out"), tmp_path / "out"
    assert before["length_mm"].is_null().all()

    def predict_again(*_: object) -> None:
        raise AssertionError("the network ran again")

    monkeypatch.setattr("flat_bug.predict.Predictor.__call__", predict_again)
    for px_per_mm in (10, 20):
        assert fb(*command, "--px-per-mm", str(px_per_mm)) == 0
        rows = rows_in(output)
        assert rows["length_mm"].to_list() == pytest.approx((before["length_px"] / px_per_mm).to_list())
        assert rows["lab_l"].to_list() == before["lab_l"].to_list()
    assert fb(*command) == 0
    assert rows_in(output).equals(before)
    assert fb(*command, "--no-measurements") == 0
    assert not (output / "measurements.csv").exists()
    assert fb(*command) == 0
    assert rows_in(output).equals(before)


def test_a_second_run_with_the_same_scale_skips_all(command: list[str | Path], tmp_path: Path) -> None:
    fb(*command, "--px-per-mm", "10")
    fb(*command, "--px-per-mm", "10")
    assert set(pl.read_csv(tmp_path / "out" / "summary.csv")["status"]) == {"skipped"}


@pytest.mark.parametrize("factor", [0.5, 2])
def test_scaling_an_image_before_it_is_predicted_does_not_distort(factor: float) -> None:
    shape = affinity.translate(ellipse(60, 24, 30), 100, 90)
    picture = draw(200, 180, [(shape, RED)])
    plain, scaled = (
        measured(Predictor(Oracle(), settings)(picture), None, Scale(0.1)).measurements
        for settings in (PredictSettings(scale_before=each, single_scale=True) for each in (1, factor))
    )
    assert scaled["length_mm"] == pytest.approx([6], rel=0.05)
    assert scaled["centroid_x"] == pytest.approx(plain["centroid_x"], abs=0.5)
    # What is seen magnified is better known.
    assert scaled["area_mm2_sd"] == pytest.approx(plain["area_mm2_sd"] / factor, rel=0.01)


def test_tables_can_be_written_later(command: list[str | Path], tmp_path: Path) -> None:
    fb(*command, "--px-per-mm", "10")
    assert fb("export", tmp_path / "out", "-o", tmp_path / "later", "--formats", "measurements,parquet") == 0
    assert rows_in(tmp_path / "later").equals(rows_in(tmp_path / "out"))


def test_a_table_that_is_asked_for_and_left_out_is_refused(command: list[str | Path]) -> None:
    assert fb(*command, "--no-measurements", "--formats", "parquet") == 2
    assert OutputSettings(measurements=False).all_formats == ("coco",)
