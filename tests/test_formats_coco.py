"""The COCO file is understood by the tools that people use, and says what the table says."""

import contextlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import faster_coco_eval
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from pycocotools.coco import COCO
from tests.outlines import outlines

from flat_bug.instances.coco import annotations, segmentation, write_coco
from flat_bug.instances.coverage import coverage
from flat_bug.instances.table import Instances, Provenance

WIDTH, HEIGHT = 60, 50


def table_of(*found: shapely.Geometry) -> Instances:
    column = np.empty(len(found), object)
    column[:] = found
    scores = np.linspace(0.9, 0.3, len(found))
    origin = Provenance(image_sha256="ab" * 32)
    return Instances.from_polygons(column, scores, width=WIDTH, height=HEIGHT, provenance=origin)


SQUARE = shapely.box(2.5, 3.25, 12.5, 8.25)
RING = shapely.box(20, 20, 40, 40).difference(shapely.box(25, 25, 30, 35))
TWO_PARTS = shapely.MultiPolygon([shapely.box(45, 5, 50, 10), shapely.box(52, 5, 55, 10)])


@pytest.fixture
def coco_file(tmp_path: Path) -> Path:
    path = tmp_path / "coco_instances.json"
    images = [("a.jpg", table_of(SQUARE, RING)), ("sub/leer.jpg", table_of()), ("ü ' b.jpg", table_of(TWO_PARTS))]
    write_coco(path, iter(images))
    return path


@pytest.mark.parametrize("library", [COCO, faster_coco_eval.COCO])
def test_libraries_load_it(coco_file: Path, library: Any) -> None:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = library(str(coco_file))
    assert [coco.imgs[number]["file_name"] for number in (1, 2, 3)] == ["a.jpg", "sub/leer.jpg", "ü ' b.jpg"]
    assert sorted(coco.anns) == [1, 2, 3]
    assert coco.getAnnIds(imgIds=[2]) == []
    assert [coco.annToMask(coco.anns[number]).sum() for number in (2, 3)] == [400 - 50, 25 + 15]
    assert coco.cats[1]["name"] == "insect"


@pytest.mark.parametrize("library", [COCO, faster_coco_eval.COCO])
def test_libraries_load_run_lengths_of_all_outlines(tmp_path: Path, library: Any) -> None:
    path = tmp_path / "coco_instances.json"
    whole = shapely.box(0, 0, WIDTH, HEIGHT)
    write_coco(path, [("a.jpg", table_of(RING, TWO_PARTS, whole))], run_lengths=True)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = library(str(path))
    assert [coco.annToMask(coco.anns[number]).sum() for number in (1, 2, 3)] == [400 - 50, 25 + 15, WIDTH * HEIGHT]


SPIRAL = shapely.LineString([(60 + 3 * t * np.cos(t), 60 + 3 * t * np.sin(t)) for t in np.linspace(2, 18, 200)])
TURNS = np.arange(14) * np.pi / 7
STAR = shapely.Polygon(
    90.3 + (80 - 50 * (np.arange(14) % 2))[:, None] * np.stack([np.cos(TURNS), np.sin(TURNS)], axis=1)
)
ODD = {
    "bent": SPIRAL.buffer(6),
    "star": STAR,
    "hole that touches the rim": shapely.Polygon(
        [(20.3, 20.7), (120, 20.7), (120, 90), (20.3, 90)], [[(20.3, 50), (60, 30), (60, 70)]]
    ),
    "parts and holes": shapely.MultiPolygon(
        [shapely.Point(70.2, 80.9).buffer(45).difference(shapely.Point(70, 80).buffer(30)), shapely.box(60, 70, 80, 90)]
    ),
    "cut by the border": shapely.Point(5, 100).buffer(60).intersection(shapely.box(0, 0, 200, 200)),
}


@pytest.mark.parametrize("shape", ODD.values(), ids=ODD)
@pytest.mark.parametrize("run_lengths", [False, True])
def test_pycocotools_reads_back_the_mask_that_was_written_where_it_was(
    tmp_path: Path, shape: shapely.Geometry, run_lengths: bool
) -> None:
    table = Instances.from_polygons(np.array([shape], object), np.array([0.5]), width=200, height=200)
    write_coco(tmp_path / "coco.json", [("a.png", table)], run_lengths=run_lengths)
    coco = COCO(tmp_path / "coco.json")
    (annotation,) = coco.anns.values()
    mask = coco.annToMask(annotation).astype(bool)
    covered = coverage(shape, 0, 0, 200, 200) >= 0.5
    assert (mask & covered).sum() / (mask | covered).sum() > 0.98
    assert annotation["area"] == pytest.approx(shape.area)
    assert mask.sum() == pytest.approx(shape.area, rel=0.01)


def test_it_says_what_the_table_says(coco_file: Path) -> None:
    values = json.loads(coco_file.read_text(encoding="utf-8"))
    assert values["images"][0] == {
        "id": 1,
        "file_name": "a.jpg",
        "width": WIDTH,
        "height": HEIGHT,
        "sha256": "ab" * 32,
    }
    square, ring, parts = values["annotations"]
    assert square["bbox"] == [2.5, 3.25, 10, 5]
    assert [annotation["area"] for annotation in (square, ring, parts)] == [50, 350, 40]
    assert [annotation["image_id"] for annotation in (square, ring, parts)] == [1, 1, 3]
    assert {annotation["iscrowd"] for annotation in (square, ring, parts)} == {0}
    assert square["score"] == square["conf"] == 0.9
    # Outlines keep their sub-pixel corners; only one with a hole becomes a mask.
    (corners,) = square["segmentation"]
    assert set(zip(corners[::2], corners[1::2], strict=True)) == {(2.5, 3.25), (12.5, 3.25), (12.5, 8.25), (2.5, 8.25)}
    assert ring["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert len(parts["segmentation"]) == 2


def test_no_images_make_a_valid_file(tmp_path: Path) -> None:
    path = tmp_path / "coco_instances.json"
    write_coco(path, [])
    assert json.loads(path.read_text()) == {
        "annotations": [],
        "images": [],
        "categories": [{"id": 1, "name": "insect", "supercategory": ""}],
    }


def test_the_same_tables_make_the_same_bytes(tmp_path: Path, coco_file: Path) -> None:
    again = tmp_path / "again.json"
    images = [("a.jpg", table_of(SQUARE, RING)), ("sub/leer.jpg", table_of()), ("ü ' b.jpg", table_of(TWO_PARTS))]
    write_coco(again, images)
    assert again.read_bytes() == coco_file.read_bytes()


def test_ids_go_on_from_the_first() -> None:
    assert [annotation["id"] for annotation in annotations(table_of(SQUARE, RING), 7, first_id=10)] == [10, 11]


def test_pages_and_frames_say_where_they_are_in_their_file(tmp_path: Path) -> None:
    table = Instances.from_polygons(np.array([shapely.box(0, 0, 2, 3)]), np.ones(1), width=9, height=9)
    frame = replace(table, frame_index=7, time_s=0.28, track_ids=np.array([4]))
    write_coco(tmp_path / "coco.json", [("a.tif", replace(table, page=2)), ("b.mp4", frame), ("c.jpg", table)])
    values = json.loads((tmp_path / "coco.json").read_text())
    page, second, plain = values["images"]
    assert (page["page"], second["frame_index"], second["time_s"]) == (2, 7, 0.28)
    assert set(plain) == {"id", "file_name", "width", "height", "sha256"}
    assert [annotation.get("track_id") for annotation in values["annotations"]] == [None, 4, None]


@given(outlines())
@settings(max_examples=60)
def test_run_lengths_are_the_pixels_that_are_half_covered(outline: shapely.Geometry) -> None:
    """Also where the outline leaves the image, or is so small that it holds no pixel."""
    has_holes = shapely.get_num_interior_rings(shapely.get_parts(outline)).any()
    assert isinstance(segmentation(outline, WIDTH, HEIGHT), dict if has_holes else list)
    encoded = segmentation(outline, WIDTH, HEIGHT, run_lengths=True)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
    coco.imgs = {1: {"height": HEIGHT, "width": WIDTH}}
    mask = coco.annToMask({"image_id": 1, "segmentation": encoded})
    assert (mask == (coverage(outline, 0, 0, WIDTH, HEIGHT) >= 0.5)).all()
