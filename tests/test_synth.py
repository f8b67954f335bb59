"""Synthetic datasets: the same every time, with outlines that agree with the pictures."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.datasets.coco import read_coco
from flat_bug.datasets.synth import EMPTY_IMAGE, IMAGES_PER_EMPTY_ONE, SynthReport, synthesize, without_holes
from flat_bug.datasets.synthetic.litter import LITTER
from flat_bug.datasets.synthetic.raster import Light, Window, coverage, paint
from flat_bug.datasets.synthetic.scene import LEAST_VISIBLE, draw_scene, posed
from flat_bug.datasets.synthetic.sceneries import PLANS, SCENERIES
from flat_bug.datasets.synthetic.shapes import Figure
from flat_bug.errors import OutputError, UsageError

SEED, IMAGES, SIZE = 3, 4, (240, 200)
NO_SHADOW = Light(direction=0.0, shadow=0.0, height=0.0)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> SynthReport:
    """Every dataset, four small images each, so that one of each has no animals."""
    return synthesize(tmp_path_factory.mktemp("synth") / "pre pro", seed=SEED, images=IMAGES, size=SIZE, jobs=2)


def documents(report: SynthReport) -> dict[str, dict[str, Any]]:
    folders = {dataset.name: report.output / dataset.name for dataset in report.datasets}
    return {name: json.loads((folder / "instances_default.json").read_text()) for name, folder in folders.items()}


def pieces(annotation: dict[str, Any]) -> Any:
    return shapely.MultiPolygon([shapely.Polygon(np.reshape(ring, (-1, 2))) for ring in annotation["segmentation"]])


def annotations(report: SynthReport) -> list[dict[str, Any]]:
    return [row for document in documents(report).values() for row in document["annotations"]]


# Same arguments, same bytes


def test_the_number_of_processes_changes_no_byte(written: SynthReport, tmp_path: Path) -> None:
    synthesize(tmp_path / "alone", seed=SEED, images=IMAGES, size=SIZE, datasets=["ir-arena"], jobs=1)
    assert digests(tmp_path / "alone" / "ir-arena") == digests(written.output / "ir-arena")


def test_another_seed_draws_other_pictures(tmp_path: Path) -> None:
    for seed in (0, 1):
        synthesize(tmp_path / str(seed), seed=seed, images=1, size=(128, 128), datasets=["light-sheet"], jobs=1)
    one, other = (digests(tmp_path / str(seed)) for seed in (0, 1))
    assert one.keys() == other.keys()
    assert all(one[name] != other[name] for name in one)


def test_a_larger_set_repeats_the_images_of_a_smaller_one(tmp_path: Path) -> None:
    synthesize(tmp_path / "small", images=1, size=(128, 128), datasets=["petri-dish"], jobs=1)
    synthesize(tmp_path / "large", images=2, size=(128, 128), datasets=["scanner-tray", "petri-dish"], jobs=1)
    name = "petri-dish/petri-dish_0000.jpg"
    assert digests(tmp_path / "small")[name] == digests(tmp_path / "large")[name]


# What is written


def test_every_dataset_is_a_coco_folder_with_its_pictures(written: SynthReport) -> None:
    names = [dataset.name for dataset in written.datasets]
    assert len(names) >= 5
    assert any("_" in name for name in names)
    assert sorted(path.name for path in written.output.iterdir()) == sorted(names)
    for name in names:
        coco = read_coco(written.output / name / "instances_default.json")
        assert list(coco.categories.values()) == ["insect"]
        for image in coco.images:
            picture = pyvips.Image.new_from_file(str(written.output / name / image.file_name))
            assert (picture.width, picture.height, picture.bands) == (image.width, image.height, 3)
            assert not image.repaired.any()


def test_info_says_that_it_is_synthetic_free_and_from_which_seed(written: SynthReport) -> None:
    for name, document in documents(written).items():
        info = document["info"]
        assert info["synthetic"] is True
        assert (info["license"], info["seed"], info["dataset"]) == ("CC0-1.0", 3, name)
        assert info["version"]
        plans = {row["attributes"]["plan"] for row in document["annotations"]}
        assert plans <= set(info["body_plans"])


def test_the_report_counts_what_is_in_the_files(written: SynthReport) -> None:
    for dataset in written.datasets:
        coco = read_coco(written.output / dataset.name / "instances_default.json")
        counts = [len(image.polygons) for image in coco.images]
        assert (dataset.images, dataset.animals, dataset.empty) == (len(counts), sum(counts), counts.count(0))


def test_the_fourth_of_twelve_images_has_no_animals(written: SynthReport) -> None:
    for dataset in written.datasets:
        coco = read_coco(written.output / dataset.name / "instances_default.json")
        empty = [number for number, image in enumerate(coco.images) if len(image.polygons) == 0]
        assert empty == [number for number in range(4) if number % IMAGES_PER_EMPTY_ONE == EMPTY_IMAGE]


# Outlines


def test_outlines_are_valid_inside_the_image_and_agree_with_box_and_area(written: SynthReport) -> None:
    rows = annotations(written)
    assert len(rows) > 20
    for row in rows:
        shape = pieces(row)
        assert all(part.is_valid for part in shape.geoms)
        x1, y1, x2, y2 = shape.bounds
        assert (x1, y1, x2 - x1, y2 - y1) == pytest.approx(row["bbox"], abs=0.011)
        assert 0 <= x1 < x2 <= SIZE[0]
        assert 0 <= y1 < y2 <= SIZE[1]
        assert shapely.union_all(shape.geoms).area == pytest.approx(row["area"], rel=1e-3)
        assert sum(part.area for part in shape.geoms) == pytest.approx(row["area"], rel=1e-3)


def test_animals_hide_one_another_so_outlines_do_not_overlap(written: SynthReport) -> None:
    touching = 0
    for document in documents(written).values():
        for image in document["images"]:
            shapes = [pieces(row).buffer(0) for row in document["annotations"] if row["image_id"] == image["id"]]
            for number, shape in enumerate(shapes):
                others = [other for other in shapes[number + 1 :] if other.intersects(shape)]
                touching += len(others)
                assert all(other.intersection(shape).area < 0.5 for other in others)
    assert touching > 0


def test_pycocotools_rasterises_the_outlines_to_the_same_area(written: SynthReport) -> None:
    from pycocotools import mask

    rows = [row for row in annotations(written) if row["area"] > 400]
    rastered = [mask.area(mask.merge(mask.frPyObjects(row["segmentation"], *reversed(SIZE)))) for row in rows]
    # Its raster has whole pixels, and widens legs that are thinner; the total evens out.
    assert sum(map(int, rastered)) == pytest.approx(sum(row["area"] for row in rows), rel=0.04)


@pytest.mark.parametrize("plan", sorted(PLANS))
def test_an_animal_darkens_exactly_the_area_of_its_outline(plan: str) -> None:
    for size in (12.0, 150.0):
        rng = np.random.default_rng(1)
        figure = posed(PLANS[plan](rng, "natural"), rng, bend=0.3)
        opaque = Figure(plan, tuple(_black(part) for part in figure.parts))
        shape = opaque.silhouette()
        x1, y1, x2, y2 = shapely.bounds(shape)
        scale = size / max(x2 - x1, y2 - y1)
        placed = opaque.warped(lambda xy, scale=scale, x1=x1, y1=y1: (xy - (x1, y1)) * scale + 5.3)
        picture = np.ones((int(size) + 12, int(size) + 12, 3), dtype=np.float32)
        paint(picture, [placed], NO_SHADOW)
        dark = 1 - picture[..., 0]
        outline = placed.silhouette()
        assert coverage(outline, Window(0, len(dark), 0, len(dark))).sum() == pytest.approx(outline.area, rel=0.01)
        assert dark.sum() == pytest.approx(outline.area, rel=0.01)
        weights = dark / dark.sum()
        rows, columns = np.mgrid[: len(dark), : len(dark)] + 0.5
        assert (weights * columns).sum() == pytest.approx(outline.centroid.x, abs=0.05)
        assert (weights * rows).sum() == pytest.approx(outline.centroid.y, abs=0.05)


def _black(part: Any) -> Any:
    return type(part)(part.shape, (0.0, 0.0, 0.0))


def test_a_written_picture_shows_its_animals_where_the_outlines_are(written: SynthReport) -> None:
    document = documents(written)["ir-arena"]
    row = max(document["annotations"], key=lambda row: row["area"])
    image = next(image for image in document["images"] if image["id"] == row["image_id"])
    picture = pyvips.Image.new_from_file(str(written.output / "ir-arena" / image["file_name"])).numpy().mean(axis=2)
    shape = pieces(row).buffer(0)
    everything = Window(0, image["height"], 0, image["width"])
    inside = coverage(shape.buffer(-1.5), everything) > 0.99
    outside = (coverage(shape.buffer(12), everything) > 0.99) & (coverage(shape.buffer(3), everything) < 0.01)
    assert picture[inside].mean() < 0.7 * picture[outside].mean()


@pytest.mark.slow
def test_sizes_run_from_tiny_to_large() -> None:
    smallest, largest = 1e9, 0.0
    for name, seed in (("sticky_card", 3), ("light-sheet", 3)):
        scene = draw_scene(SCENERIES[name], np.random.default_rng(seed), 700, 700)
        for animal in scene.animals:
            x1, y1, x2, y2 = shapely.bounds(animal.visible)
            size = float(np.sqrt((x2 - x1) * (y2 - y1)))
            smallest, largest = min(smallest, size), max(largest, size)
            assert animal.visible.area >= 0.99 * LEAST_VISIBLE * animal.whole_area
    assert smallest < 12
    assert largest > 180


@given(st.lists(st.tuples(*[st.floats(5, 95)] * 2, st.floats(0.5, 12)), max_size=8))
@settings(max_examples=60)
def test_cutting_through_holes_keeps_every_point(holes: list[tuple[float, float, float]]) -> None:
    discs = shapely.union_all([shapely.buffer(shapely.Point(x, y), radius) for x, y, radius in holes])
    shape = shapely.set_precision(shapely.difference(shapely.box(0, 0, 100, 100), discs), 0.01)
    cut = without_holes(shape)
    assert all(len(piece.interiors) == 0 and piece.is_valid for piece in cut)
    assert sum(piece.area for piece in cut) == pytest.approx(shape.area, rel=1e-4)
    assert shapely.symmetric_difference(shapely.union_all(cut), shape).area == pytest.approx(0, abs=0.5)


# Litter is never annotated; it belongs to every dataset all the same


@pytest.mark.parametrize("kind", sorted(LITTER))
def test_litter_can_be_painted(kind: str) -> None:
    rng = np.random.default_rng(0)
    figure = posed(LITTER[kind](rng), rng, bend=0.0).warped(lambda xy: xy * 60 + 50)
    picture = np.full((100, 100, 3), 0.5, dtype=np.float32)
    paint(picture, [figure], Light(0.5, 0.4, 0.1))
    assert np.isfinite(picture).all()
    assert np.abs(picture - 0.5).max() > 0.02


def test_an_empty_scene_has_litter_but_no_animal() -> None:
    scenery = SCENERIES["leaf-litter"]
    scene = draw_scene(scenery, np.random.default_rng(0), 300, 200, empty=True)
    assert scene.animals == ()
    assert scene.pixels.shape == (200, 300, 3)
    assert scene.pixels.std() > 5


# Wrong use


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        ({"datasets": ["nowhere"]}, "datasets"),
        ({"datasets": []}, "datasets"),
        ({"images": 0}, "images 0"),
        ({"seed": -1}, "seed -1"),
        ({"jobs": 0}, "jobs 0"),
        ({"size": (10, 200)}, "size (10, 200)"),
        ({"size": (200, 100_000)}, "size (200, 100000)"),
    ],
)
def test_impossible_arguments_are_named_and_nothing_is_written(
    tmp_path: Path, arguments: dict[str, Any], where: str
) -> None:
    with pytest.raises(UsageError) as raised:
        synthesize(tmp_path / "out", **arguments)
    assert raised.value.where == where
    assert raised.value.mend
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_an_output_that_exists_is_left_alone(tmp_path: Path, kind: str) -> None:
    output = tmp_path / "out"
    mine = output if kind == "file" else output / "mine.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        synthesize(output, images=1)
    assert mine.read_text() == "mine"


def test_an_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("flat_bug.datasets.synth.write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        synthesize(tmp_path / "out", images=1, size=(64, 64), datasets=["ir-arena"], jobs=1)
    assert list(tmp_path.iterdir()) == []


def test_the_smallest_images_work(tmp_path: Path) -> None:
    report = synthesize(tmp_path / "out", images=1, size=(64, 64), jobs=1)
    assert [dataset.images for dataset in report.datasets] == [1] * len(SCENERIES)
