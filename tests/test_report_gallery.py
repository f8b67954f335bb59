"""The pictures of the report: which images, which part of them, and what is drawn over it."""

import base64
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import pyvips
from hypothesis import given
from hypothesis import strategies as st
from tests.evaluated import GroundTruth, make_ground_truth, make_model

from flat_bug.evaluation.gallery import (
    LONGEST_SIDE,
    choose_window,
    encode,
    image_finder,
    make_scenes,
    rank_images,
    spread,
)
from flat_bug.evaluation.shapes import ImageOutlines, Window, draw_shapes, read_outlines
from flat_bug.evaluation.standings import ReportModel, Standing, read_standings
from flat_bug.imaging import open_image


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return make_ground_truth(tmp_path_factory.mktemp("truth"), images=4)


@pytest.fixture(scope="module")
def model(truth: GroundTruth, tmp_path_factory: pytest.TempPathFactory) -> ReportModel:
    return make_model(tmp_path_factory.mktemp("model"), truth, "model", recall=0.7, spurious=1)


@pytest.fixture(scope="module")
def standing(model: ReportModel) -> Standing:
    return read_standings([model])[0]


def test_scenes_are_the_extremes_and_each_image_is_shown_once(standing: Standing) -> None:
    scenes = make_scenes([standing], per_kind=2)
    assert [scene.kind for scene in scenes] == ["worst", "worst", "best", "best"]
    assert len({scene.image for scene in scenes}) == 4
    f1 = [scene.layers[0].f1 or 0 for scene in scenes]
    assert max(f1[:2]) <= min(f1[2:])


def test_one_image_is_shown_once(tmp_path: Path) -> None:
    truth = make_ground_truth(tmp_path / "truth", ["a"], images=1)
    scenes = make_scenes(read_standings([make_model(tmp_path / "m", truth, "m")]))
    assert len(scenes) == 1


def test_pictures_are_small_and_hold_the_outlines(standing: Standing) -> None:
    scene = make_scenes([standing], per_kind=1)[0]
    content = base64.b64decode(scene.source.removeprefix("data:image/webp;base64,"))
    picture = pyvips.Image.new_from_buffer(content, "")
    assert (picture.width, picture.height) == (scene.width, scene.height)
    assert max(scene.width, scene.height) <= LONGEST_SIDE
    layer = scene.layers[0]
    kinds = [shape.kind for shape in layer.shapes]
    assert kinds.count("matched") == kinds.count("truth") <= layer.matched
    # The ellipses have 24 corners; a box would have four.
    assert all(shape.path.count("L") > 4 for shape in layer.shapes)


def test_images_that_are_lost_or_broken_are_passed_over(truth: GroundTruth, model: ReportModel, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(truth.images, images)
    names = sorted(path.name for path in images.iterdir())
    (images / names[0]).unlink()
    (images / names[1]).write_bytes(b"")
    (images / names[2]).write_bytes((images / names[3]).read_bytes()[:200])
    elsewhere = ReportModel(name="m", evaluation=model.evaluation, images=images)
    scenes = make_scenes(read_standings([elsewhere]), per_kind=8)
    assert {scene.image for scene in scenes} == set(names[3:])


def test_without_images_there_are_no_scenes(model: ReportModel, tmp_path: Path) -> None:
    assert make_scenes([]) == ()
    assert make_scenes(read_standings([ReportModel(name="m", evaluation=model.evaluation)])) == ()
    nowhere = ReportModel(name="m", evaluation=model.evaluation, images=tmp_path / "nowhere")
    assert make_scenes(read_standings([nowhere])) == ()


def test_the_worst_image_comes_first(standing: Standing) -> None:
    ranked = rank_images(standing.objects)
    assert len(ranked) == 8
    counted = standing.objects.filter(~pl.col("ignored"))

    def f1(key: tuple[str, str]) -> float:
        kinds = counted.filter((pl.col("dataset") == key[0]) & (pl.col("image") == key[1]))["kind"]
        matched = int((kinds == "matched").sum())
        return 2 * matched / (2 * matched + len(kinds) - matched)

    assert [f1(key) for key in ranked] == sorted(f1(key) for key in ranked)


def test_every_dataset_has_its_turn() -> None:
    images = [("a", "1"), ("a", "2"), ("a", "3"), ("b", "4")]
    assert spread(images) == [("a", "1"), ("b", "4"), ("a", "2"), ("a", "3")]


@pytest.mark.parametrize("place", ["x.jpg", "data/x.jpg", "deep/down/x.jpg"])
def test_images_are_found_in_any_layout(tmp_path: Path, place: str) -> None:
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).touch()
    assert image_finder(tmp_path)("data", "x.jpg") == tmp_path / place
    assert image_finder(tmp_path)("data", "val/x.jpg") == tmp_path / place
    assert image_finder(tmp_path)("data", "y.jpg") is None


coordinates = st.floats(-50, 5000)
boxes = st.lists(st.tuples(coordinates, coordinates, st.floats(0, 900), st.floats(0, 900)), min_size=1, max_size=20)


@given(boxes, st.integers(1, 4000), st.integers(1, 4000), st.booleans())
def test_a_window_lies_inside_its_image(
    rows: list[tuple[float, float, float, float]], width: int, height: int, anything_counts: bool
) -> None:
    corners = np.array([(x, y, x + w, y + h) for x, y, w, h in rows])
    window = choose_window(corners, np.full(len(rows), float(anything_counts)), (width, height))
    assert 0 <= window.x < window.x + window.width <= width
    assert 0 <= window.y < window.y + window.height <= height
    assert 0 < window.scale <= 1


def test_a_window_shows_where_most_happens() -> None:
    crowd = [(3000 + 10 * n, 2000, 3020 + 10 * n, 2020) for n in range(9)]
    corners = np.array([(100, 100, 120, 120), *crowd], float)
    window = choose_window(corners, np.ones(10), (4000, 3000))
    assert window.x <= 3000
    assert window.x + window.width >= 3100
    assert window.y <= 2000 <= window.y + window.height


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (1500, 900)])
def test_any_image_can_be_encoded(size: tuple[int, int]) -> None:
    image = open_image(np.zeros((size[1], size[0], 3), np.uint8))
    window = choose_window(np.array([[0.0, 0, 5, 5]]), np.ones(1), size)
    source, width, height = encode(image, window)
    assert source.startswith("data:image/webp;base64,")
    assert width >= 1
    assert height >= 1


def test_boxes_are_drawn_where_outlines_are_unknown(standing: Standing) -> None:
    objects = standing.objects.filter(pl.col("image") == standing.objects["image"][0])
    window = Window(0, 0, 640, 480, 1.0)
    shapes = draw_shapes(objects, ImageOutlines(), window)
    assert shapes
    assert all(shape.path.count("L") == 3 for shape in shapes)
    assert draw_shapes(objects, ImageOutlines(), Window(5000, 5000, 10, 10, 1.0)) == ()
    assert draw_shapes(objects.clear(), ImageOutlines(), window) == ()


def test_what_is_missed_is_drawn_over_the_rest(standing: Standing) -> None:
    kinds = [shape.kind for shape in draw_shapes(standing.objects, ImageOutlines(), Window(0, 0, 640, 480, 1.0))]
    order = ["truth", "ignored", "matched", "spurious", "missed"]
    assert kinds == sorted(kinds, key=order.index)
    assert {"truth", "matched", "spurious", "missed"} <= set(kinds)


def test_unreadable_outlines_leave_boxes(truth: GroundTruth, tmp_path: Path) -> None:
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert read_outlines(broken, tmp_path / "nowhere", ["0-0.jpg"]) == {"0-0.jpg": ImageOutlines()}
    known = read_outlines(truth.path, None, ["0-0.jpg"])["0-0.jpg"]
    assert len(known.truth) == 6
    assert not known.predictions
