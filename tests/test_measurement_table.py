"""The table of all animals as CSV and Parquet: each row says what it is about, whatever images are called."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pytest
import shapely
from tests.collections_of_images import HEIGHT, RING, SQUARE, WIDTH, table_of

from flat_bug.instances.formats import FORMATS, write_formats
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.measurement_table import CSV_NAME, PARQUET_NAME, SCHEMA

HOSTILE = ["=cmd|' C calc'!A0.png", "@SUM(1).png", "+1.png", "-1.png", "\t=1.png", 'new\nline, "q".png', "虫 <é>.png"]


def written(folder: Path, *names: str, classes: tuple[str, str] = ("insect", "spider & co")) -> None:
    images = [ImageResult(name, name, replace(table_of(SQUARE, RING), class_names=classes)) for name in names]
    write_formats([FORMATS["measurements"], FORMATS["parquet"]], folder, images)


def test_parquet_has_every_name_as_it_is(tmp_path: Path) -> None:
    written(tmp_path, *HOSTILE, classes=("=HYPERLINK(1)", "a"))
    frame = pl.read_parquet(tmp_path / PARQUET_NAME)
    assert frame["image"].to_list() == [name for name in HOSTILE for _ in range(2)]
    assert frame["class"].to_list() == ["=HYPERLINK(1)", "a"] * len(HOSTILE)
    assert frame["area_px2"].to_list() == [SQUARE.area, RING.area] * len(HOSTILE)


def test_no_spreadsheet_takes_a_name_in_the_csv_for_a_formula(tmp_path: Path) -> None:
    written(tmp_path, *HOSTILE, classes=("=HYPERLINK(1)", "a"))
    frame = pd.read_csv(tmp_path / CSV_NAME)
    assert frame["image"].tolist()[::2] == [f"'{name}" for name in HOSTILE[:5]] + HOSTILE[5:]
    assert frame["class"].tolist()[:2] == ["'=HYPERLINK(1)", "a"]


@pytest.mark.parametrize("names", [(), ("a.png",)])
def test_tables_without_animals_have_all_columns(tmp_path: Path, names: tuple[str, ...]) -> None:
    images = [ImageResult(name, name, table_of()) for name in names]
    write_formats([FORMATS["measurements"], FORMATS["parquet"]], tmp_path, images)
    for frame in (pl.read_csv(tmp_path / CSV_NAME, schema=SCHEMA), pl.read_parquet(tmp_path / PARQUET_NAME)):
        assert frame.schema == SCHEMA
        assert len(frame) == 0


def test_an_animal_that_the_image_cuts_off_is_marked(tmp_path: Path) -> None:
    whole, nearly = SQUARE, shapely.box(1, 1, WIDTH - 1, HEIGHT - 1)
    cut = [
        shapely.box(0, 9, 5, 12),
        shapely.box(9, 0, 12, 5),
        shapely.box(50, 9, WIDTH, 12),
        shapely.box(9, 40, 12, 49.9),
    ]
    write_formats([FORMATS["parquet"]], tmp_path, [ImageResult("a.png", "a", table_of(whole, nearly, *cut))])
    assert pl.read_parquet(tmp_path / PARQUET_NAME)["at_border"].to_list() == [False, False, True, True, True, True]
