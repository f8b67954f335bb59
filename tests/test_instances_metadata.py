"""The JSON of an image gives the same table back, and flat-bug 1.x and this version read each other's."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.legacy_json import legacy
from tests.outlines import tables

from flat_bug.errors import DatasetError
from flat_bug.instances.metadata import Metadata, from_mapping, read_metadata, to_mapping, write_metadata
from flat_bug.instances.table import Instances


@given(tables(), st.text(max_size=20), st.text(max_size=20))
@settings(max_examples=60)
def test_every_table_comes_back_exactly(table: Instances, image_path: str, identifier: str) -> None:
    given = Metadata(table, image_path, identifier)
    found = from_mapping(json.loads(json.dumps(to_mapping(given))))
    assert found == given


@pytest.mark.parametrize(
    "name", ["Käfer 'a\" b.jpg", "甲虫\n.png", b"not \xff utf-8.jpg".decode("utf-8", "surrogateescape")]
)
def test_any_name_and_an_empty_table_survive_the_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "metadata.json"
    given = Metadata(Instances.empty(3, 2), name, "id")
    write_metadata(path, given)
    assert read_metadata(path) == given


def ring_with_far_part() -> shapely.MultiPolygon:
    ring = shapely.box(10, 10, 20, 20).difference(shapely.box(14, 14, 16, 16))
    return shapely.MultiPolygon([shapely.box(30, 10, 31, 11), ring])


def test_programs_for_flat_bug_find_its_keys() -> None:
    table = Instances.from_polygons(np.array([ring_with_far_part()], object), np.array([0.5]), width=40, height=30)
    values = to_mapping(Metadata(table, "a.jpg", "id"))
    # Largest part, no hole, x and y apart, the closing point left out.
    ((xs, ys),) = values["contours"]
    assert sorted(zip(xs, ys, strict=True)) == [(10, 10), (10, 20), (20, 10), (20, 20)]
    assert values["boxes"] == [[10, 10, 31, 20]]
    assert values["areas"] == [100 - 4 + 1]
    assert values["classes"] == [1]
    assert (values["mask_width"], values["mask_height"]) == (values["image_width"], values["image_height"]) == (40, 30)


def test_files_of_flat_bug_1_are_read() -> None:
    found = from_mapping(legacy())
    table = found.instances
    assert found.identifier == "some-id"
    assert table.polygons[0].equals(shapely.box(2, 2, 18, 18))
    # Two points are no outline: the box stands for it.
    assert table.polygons[1].equals(shapely.box(30, 5, 40, 12))
    assert table.classes.tolist() == [0, 0]
    assert table.scores.tolist() == [0.9, 0.4]
    assert (table.width, table.height) == (100, 60)


def test_an_outline_of_flat_bug_1_that_crosses_itself_is_mended() -> None:
    bow_tie = [[0, 10, 10, 0], [0, 10, 0, 10]]
    table = from_mapping(legacy(contours=[bow_tie, bow_tie])).instances
    assert shapely.is_valid(table.polygons).all()
    assert table.areas.tolist() == [200, 200]


def test_an_animal_of_flat_bug_1_without_outline_and_box_is_left_out() -> None:
    table = from_mapping(legacy(boxes=[[0, 0, 20, 20], [30, 5, 30, 5]])).instances
    assert table.scores.tolist() == [0.9]
    nothing = {name: [] for name in ("boxes", "contours", "confs", "classes", "scales", "areas")}
    assert len(from_mapping(legacy(**nothing)).instances) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2]",
        "{}",
        json.dumps(legacy(boxes=[[1, 2, 3]])),
        json.dumps(legacy(contours=[])),
        json.dumps(legacy(confs=[[], []])),
        json.dumps(legacy(confs=["0.9", "0.4"])),
        json.dumps(legacy(image_width=100.5)),
        json.dumps(legacy(classes=[0, 1])),
        json.dumps(legacy(classes=[1.5, 1])),
        json.dumps(legacy(classes=[1e300, 1])),
        json.dumps(legacy(mm_per_px=10**400)),
        json.dumps(legacy(mm_per_px="1")),
        json.dumps(legacy(page=2**63)),
        json.dumps(legacy(frame_index=-1)),
        json.dumps(legacy(measurements=None)),
        "[" * 100_000,
        json.dumps(legacy(mask_width=0)),
        json.dumps(legacy(schema_version=99)),
        json.dumps(legacy(schema_version=2, polygons=[{"type": "Point", "coordinates": [1, 2]}] * 2)),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(text)
    with pytest.raises(DatasetError) as caught:
        read_metadata(path)
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"measurements": [1]},
        {"measurements": {"length_px": [1.0]}},
        {"measurements": {"length_px": ["long", "short"]}},
        {"measurements": {"length_px": 3}},
        {"mm_per_px_relative_sd": -1},
        {"mm_per_px_relative_sd": "some"},
    ],
)
def test_measurements_that_do_not_belong_to_the_animals_are_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "metadata.json"
    path.write_text(json.dumps(legacy(**changes)))
    with pytest.raises(DatasetError):
        read_metadata(path)
