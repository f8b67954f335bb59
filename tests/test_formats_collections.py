"""Formats of many images: they say exactly what the tables say, are whole or not there, and spare people's work."""

import json
import os
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.collections_of_images import table_of, three_images
from tests.outlines import outlines, tables

from flat_bug.errors import OutputError
from flat_bug.instances.coverage import coverage
from flat_bug.instances.cvat import _mask, open_cvat
from flat_bug.instances.formats import FORMATS, README, FormatOptions, write_formats
from flat_bug.instances.geojson import write_geojson
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.labelstudio import open_labelstudio
from flat_bug.instances.table import Instances
from flat_bug.instances.yolo import open_yolo

FOLDERS = [name for name, kind in FORMATS.items() if kind.is_folder]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder for the many files of properties, each of which replaces the one before."""
    return tmp_path_factory.mktemp("formats")


@given(tables())
@settings(max_examples=40)
def test_geojson_gives_every_outline_back(place: Path, table: Instances) -> None:
    path = place / "x.geojson"
    write_geojson(path, ImageResult("x.png", "x", table))
    features = json.loads(path.read_text(encoding="utf-8"))["features"]
    found = np.array([shapely.from_geojson(json.dumps(feature["geometry"])) for feature in features], object)
    assert shapely.equals(found, table.polygons).all()
    for row, feature in enumerate(features):
        properties = feature["properties"]
        assert properties["objectType"] == "detection"
        assert properties["classification"]["name"] == table.class_names[table.classes[row]]
        assert properties["measurements"]["score"] == table.scores[row]
        assert properties["measurements"]["area_px2"] == pytest.approx(table.areas[row])
        if table.mm_per_px is not None:
            assert properties["measurements"]["area_mm2"] == pytest.approx(table.areas[row] * table.mm_per_px**2)
    assert len({feature["id"] for feature in features}) == len(table)


def test_geojson_of_many_animals_takes_much_less_memory_than_it_is_long(tmp_path: Path) -> None:
    circle = shapely.Point(30, 25).buffer(20, quad_segs=128)
    image = ImageResult("a.png", "a", table_of(*[circle] * 500))
    tracemalloc.start()
    write_geojson(tmp_path / "a.geojson", image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < (tmp_path / "a.geojson").stat().st_size / 10


def test_geojson_has_what_was_measured_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    table = table_of(shapely.box(1, 1, 9, 9), shapely.box(20, 20, 29, 29))
    measured = replace(table, measurements={"length_mm": np.array([2.5, np.nan])}, track_ids=np.array([4, 9]))
    write_geojson(tmp_path / "x.geojson", ImageResult("x.png", "x", measured))
    features = json.loads((tmp_path / "x.geojson").read_text())["features"]
    first, second = (feature["properties"]["measurements"] for feature in features)
    assert (first["length_mm"], first["track_id"]) == (2.5, 4)
    assert "length_mm" not in second


@given(tables())
@settings(max_examples=40)
def test_cvat_has_a_polygon_for_each_part_or_a_mask_for_what_has_holes(place: Path, table: Instances) -> None:
    path = place / "annotations.xml"
    with open_cvat(path) as add:
        add(ImageResult("x.png", "x", table))
    (image,) = _read_cvat(path).iter("image")
    shapes = [shape for shape in image if shape.tag == "polygon"]
    drawn = [outline for outline in table.polygons if not any(part.interiors for part in shapely.get_parts(outline))]
    rings = [[tuple(map(float, pair.split(","))) for pair in shape.attrib["points"].split(";")] for shape in shapes]
    expected = [list(part.exterior.coords)[:-1] for outline in drawn for part in shapely.get_parts(outline)]
    # An outline whose pixels are all less than half covered has no mask, and its outer rings stand for it.
    assert all(ring in rings for ring in expected)
    several = [shape.attrib["group_id"] for shape in shapes if "group_id" in shape.attrib]
    assert all(several.count(group) > 1 for group in several)
    scores = {shape.findtext("attribute") for shape in image}
    assert scores == {repr(float(score)) for score in table.scores}


@given(outlines())
@settings(max_examples=60)
def test_a_mask_of_cvat_is_the_pixels_that_are_half_covered(outline: shapely.Geometry) -> None:
    width, height = 60, 50
    expected = coverage(outline, 0, 0, width, height) >= 0.5
    mask = _mask(outline, table_of(outline, width=width, height=height))
    found = np.zeros((height, width), bool)
    if mask is not None:
        left, top, columns, rows = (int(mask[name]) for name in ("left", "top", "width", "height"))
        runs = [int(run) for run in mask["rle"].split(",")]
        values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
        found[top : top + rows, left : left + columns] = values.reshape(rows, columns)
    assert (found == expected).all()


@given(tables())
@settings(max_examples=40)
def test_label_studio_has_every_outer_ring_in_percent(place: Path, table: Instances) -> None:
    with open_labelstudio(place) as add:
        add(ImageResult("x.png", "x", table))
    (task,) = json.loads((place / "tasks.json").read_text(encoding="utf-8"))
    (prediction,) = task["predictions"]
    regions = [region for region in prediction["result"] if region["type"] == "polygonlabels"]
    parts = [part for outline in table.polygons for part in shapely.get_parts(outline)]
    assert len(regions) == len(parts)
    for region, part in zip(regions, parts, strict=True):
        assert (region["original_width"], region["original_height"]) == (table.width, table.height)
        points = np.array(region["value"]["points"]) / 100 * [table.width, table.height]
        np.testing.assert_allclose(points, shapely.get_coordinates(part.exterior)[:-1], rtol=1e-12)
    relations = [region for region in prediction["result"] if region["type"] == "relation"]
    assert len(relations) == len(parts) - len(table)
    assert {end for relation in relations for end in (relation["from_id"], relation["to_id"])} <= {
        region["id"] for region in regions
    }


@given(tables(), st.sampled_from([(60, 50), (1, 1), (10**6, 3)]))
@settings(max_examples=40)
def test_yolo_labels_lie_in_the_image(place: Path, table: Instances, size: tuple[int, int]) -> None:
    """Also of outlines that leave it: ultralytics refuses a whole file for one such coordinate."""
    folder = Path(mkdtemp(dir=place))
    table = replace(table, width=size[0], height=size[1])
    with open_yolo(folder) as add:
        add(ImageResult("x.png", "x", table))
    rows = [line.split() for line in (folder / "labels" / "x.txt").read_text().splitlines()]
    assert all(0 <= float(value) <= 1 for row in rows for value in row[1:])
    assert all(len(row) >= 7 and len(row) % 2 == 1 for row in rows)
    assert len(rows) <= len(table)


@pytest.mark.parametrize("name", ["Käfer 'a\" & <b>.png", "甲虫\n\x01.png", "\udcff.png", "a: b.png"])
def test_any_name_survives_or_is_replaced_by_what_can_be_read(tmp_path: Path, name: str) -> None:
    image = ImageResult(name, name.removesuffix(".png"), table_of(shapely.box(1, 1, 9, 9)))
    targets = write_formats(FORMATS.values(), tmp_path / "out", [image])
    _read_cvat(targets["cvat"] / "annotations.xml")
    json.loads((targets["labelstudio"] / "tasks.json").read_text(encoding="utf-8"))
    json.loads((targets["fiftyone"] / "labels.json").read_text(encoding="utf-8"))
    assert yaml.safe_load((targets["yolo"] / "data.yaml").read_text())["names"] == {0: "insect", 1: "spider & co"}
    assert len(list((targets["yolo"] / "labels").iterdir())) == len(list(targets["geojson"].glob("*.geojson"))) == 1


def test_classes_of_several_models_are_numbered_together(tmp_path: Path) -> None:
    first = table_of(shapely.box(1, 1, 9, 9), shapely.box(20, 20, 29, 29))
    second = replace(first, class_names=("mite", "insect"))
    images = [ImageResult("a.png", "a", first), ImageResult("b.png", "b", second)]
    targets = write_formats(FORMATS.values(), tmp_path, images)
    coco = json.loads(targets["coco"].read_text())
    names = {category["id"]: category["name"] for category in coco["categories"]}
    expected = ["insect", "spider & co", "mite", "insect"]
    assert [names[annotation["category_id"]] for annotation in coco["annotations"]] == expected
    labels = "".join((targets["yolo"] / "labels" / f"{stem}.txt").read_text() for stem in "ab")
    yolo = yaml.safe_load((targets["yolo"] / "data.yaml").read_text())["names"]
    assert [yolo[int(line.split()[0])] for line in labels.splitlines()] == expected
    shapes = _read_cvat(targets["cvat"] / "annotations.xml").iter("polygon")
    assert [shape.attrib["label"] for shape in shapes] == expected


def test_no_images_make_valid_files(tmp_path: Path) -> None:
    targets = write_formats(FORMATS.values(), tmp_path, [])
    assert json.loads((targets["labelstudio"] / "tasks.json").read_text()) == []
    assert list(_read_cvat(targets["cvat"] / "annotations.xml").iter("image")) == []
    assert json.loads((targets["fiftyone"] / "labels.json").read_text())["images"] == []


def test_images_are_linked_where_they_are_known(tmp_path: Path) -> None:
    images = [*three_images(tmp_path / "images"), ImageResult("lost.png", "lost", table_of())]
    targets = write_formats(FORMATS.values(), tmp_path / "out", images)
    for folder in (targets["yolo"] / "images", targets["fiftyone"] / "data"):
        assert sorted(path.name for path in folder.iterdir()) == ["a.png", "sub__leer.png", "ü ' b.png"]
        assert (folder / "sub__leer.png").read_bytes() == (tmp_path / "images" / "sub" / "leer.png").read_bytes()


def test_a_link_is_never_to_another_page_or_frame(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(b"")
    places = {"first": {"page": 1}, "second": {"page": 2}, "frame": {"frame_index": 0, "time_s": 0.0}}
    images = [ImageResult(f"{name}.tif", name, replace(table_of(), **place), path) for name, place in places.items()]
    folder = write_formats([FORMATS["yolo"]], tmp_path, images)["yolo"]
    assert [link.name for link in (folder / "images").iterdir()] == ["first.tif"]
    assert len(list((folder / "labels").iterdir())) == 3


def test_every_outline_is_a_run_length_mask_if_that_is_wanted(tmp_path: Path) -> None:
    images = three_images(tmp_path)
    path = write_formats([FORMATS["coco"]], tmp_path, images, FormatOptions(coco_rle=True))["coco"]
    annotations = json.loads(path.read_text())["annotations"]
    assert [set(annotation["segmentation"]) for annotation in annotations] == [{"size", "counts"}] * 3
    # Boxes and areas stay those of the outlines.
    assert annotations[0]["bbox"] == [2.5, 3.25, 10, 5]
    assert annotations[0]["area"] == 50


def test_images_of_label_studio_may_be_on_a_server(tmp_path: Path) -> None:
    images = three_images(tmp_path / "images")
    options = FormatOptions(image_url="https://images.example.org/")
    folder = write_formats([FORMATS["labelstudio"]], tmp_path, images, options)["labelstudio"]
    tasks = json.loads((folder / "tasks.json").read_text(encoding="utf-8"))
    assert [task["data"]["image"] for task in tasks] == [
        "https://images.example.org/a.png",
        "https://images.example.org/sub/leer.png",
        "https://images.example.org/%C3%BC%20%27%20b.png",
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_an_interruption_leaves_the_former_files_whole(tmp_path: Path, name: str) -> None:
    images = three_images(tmp_path / "images")
    target = write_formats([FORMATS[name]], tmp_path / "out", images)[name]
    before = _contents(target)

    def interrupted() -> Iterator[ImageResult]:
        yield images[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_formats([FORMATS[name]], tmp_path / "out", interrupted())
    assert _contents(target) == before
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [target.name]


@pytest.mark.parametrize("name", FOLDERS)
def test_what_people_have_changed_or_made_is_not_replaced(tmp_path: Path, name: str) -> None:
    images = three_images(tmp_path / "images")
    folder = write_formats([FORMATS[name]], tmp_path / "out", images)[name]
    write_formats([FORMATS[name]], tmp_path / "out", images)
    # Caches of programs are nobody's work.
    (folder / "labels.cache").write_text("")
    write_formats([FORMATS[name]], tmp_path / "out", images)
    assert not (folder / "labels.cache").exists()
    changed = next(path for path in sorted(folder.rglob("*.*")) if path.is_file() and path.name != README)
    later = (folder / README).stat().st_mtime_ns + 10**9
    os.utime(changed, ns=(later, later), follow_symlinks=False)
    before = _contents(folder)
    with pytest.raises(OutputError, match="would be lost"):
        write_formats([FORMATS[name]], tmp_path / "out", images)
    (folder / README).unlink()
    with pytest.raises(OutputError, match="something else"):
        write_formats([FORMATS[name]], tmp_path / "out", images)
    before.pop(README)
    assert _contents(folder) == before


def _read_cvat(path: Path) -> ElementTree.Element:
    return ElementTree.parse(path).getroot()  # noqa: S314  # it is our own


def _contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in files}
