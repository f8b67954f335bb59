"""From an image to its instances with a segmenter that is always right: what is left is what tiling does to them."""

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import pyvips
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from shapely.affinity import rotate, scale, translate
from tests.oracle import BLUE, RED, Oracle, draw

import flat_bug
from flat_bug.config import PredictSettings
from flat_bug.errors import ImageError, UsageError, WeightsError
from flat_bug.files import sha256_of
from flat_bug.instances.table import Instances
from flat_bug.predict import Predictor, plan_grids
from flat_bug.segmenters.base import TileInstances

AREA_TOLERANCE = 0.03
"""Stated tolerance of an outline's area when the grid moves; edges are antialiased over a pixel."""


def beetle(x: float, y: float, length: float, width: float, angle: float) -> shapely.Geometry:
    return translate(rotate(scale(shapely.Point(0, 0).buffer(0.5, 32), length, width), angle), x, y)


BEETLES = [
    (beetle(60, 60, 40, 24, 20), RED),
    (beetle(250, 240, 90, 50, 60), RED),  # on the corner of four tiles
    (beetle(420, 120, 360, 40, 5), BLUE),  # longer than a tile
    (beetle(100, 400, 60, 60, 0), RED),
    (beetle(160, 400, 60, 60, 0), BLUE),  # touches its neighbour
    (shapely.intersection(beetle(300, 500, 120, 90, 0), shapely.box(0, 0, 700, 500)), RED),  # on the border
    (beetle(560, 380, 14, 9, 30), BLUE),
    (beetle(560, 380, 120, 120, 0).difference(beetle(560, 380, 80, 80, 0)), RED),  # a ring around it
]
PICTURE = draw(700, 500, BEETLES)


def check(instances: Instances, shapes: list[shapely.Geometry], tolerance: float = AREA_TOLERANCE) -> None:
    """Check that the instances are the shapes, each once."""
    assert len(instances) == len(shapes)
    left = list(instances.polygons)
    for shape in shapes:
        match = min(left, key=lambda one: shapely.symmetric_difference(one, shape).area)
        assert shapely.symmetric_difference(match, shape).area < 2 * tolerance * shape.area + 0.2 * shape.length
        assert match.area == pytest.approx(shape.area, rel=tolerance, abs=0.15 * shape.length)
        left.remove(match)
    assert shapely.is_valid(instances.polygons).all()
    np.testing.assert_allclose(instances.boxes, shapely.bounds(instances.polygons))


def test_every_animal_once() -> None:
    instances = Predictor(Oracle())(PICTURE)
    check(instances, [shape for shape, _ in BEETLES])
    assert (instances.width, instances.height) == (700, 500)
    assert instances.boxes.min() >= 0
    assert (instances.boxes <= [700, 500, 700, 500]).all()
    assert (np.diff(instances.scores) <= 0).all()


@settings(deadline=None, max_examples=4)
@given(
    dx=st.integers(0, 224),
    dy=st.integers(0, 224),
    overlap=st.integers(32, 120),
    batch=st.integers(1, 9),
    exhaustive=st.booleans(),
)
def test_grid_overlap_and_batch_change_nothing(dx: int, dy: int, overlap: int, batch: int, exhaustive: bool) -> None:
    moved = np.pad(PICTURE, ((dy, 30), (dx, 30), (0, 0)), constant_values=255)
    chosen = PredictSettings(minimum_tile_overlap=overlap, batch_size=batch, exhaustive=exhaustive)
    border = BEETLES[5][0]  # no longer on the border, it ends there all the same
    assert border.bounds[3] == 500
    check(Predictor(Oracle(), chosen)(moved), [translate(shape, dx, dy) for shape, _ in BEETLES])


def test_batches_are_as_large_as_asked_and_progress_is_told() -> None:
    oracle, told = Oracle(), []
    Predictor(oracle, PredictSettings(batch_size=4, exhaustive=True))(
        PICTURE, on_progress=lambda done, total: told.append((done, total))
    )
    count = sum(oracle.batches)
    assert oracle.batches == [4] * (count // 4) + [count % 4] * bool(count % 4)
    assert told == [(min(4 * (index + 1), count), count) for index in range(len(oracle.batches))]


@pytest.mark.parametrize("exhaustive", [False, True])
@pytest.mark.parametrize(
    "how", [{"tile": True}, {"tile": True, "bigtiff": True, "compression": "deflate"}, {"compression": "lzw"}]
)
def test_a_file_that_is_read_piece_by_piece_gives_what_its_pixels_in_memory_give(
    tmp_path: Path, how: dict[str, object], exhaustive: bool
) -> None:
    picture = np.tile(PICTURE, (2, 2, 1))
    path = tmp_path / "scan.tif"
    pyvips.Image.new_from_array(picture, interpretation="srgb").tiffsave(str(path), **how)
    predictor = Predictor(Oracle(), PredictSettings(exhaustive=exhaustive))
    streamed, whole = predictor(path), predictor(picture)
    assert len(streamed) > 9
    assert streamed == replace(whole, provenance=streamed.provenance)


def test_progress_ends_with_all_looks_though_they_become_fewer() -> None:
    oracle, told = Oracle(), []
    picture = np.full((900, 2000, 3), 255, np.uint8)
    Predictor(oracle)(picture, on_progress=lambda done, total: told.append((done, total)))
    done, totals = zip(*told, strict=True)
    assert sorted(set(done)) == list(np.cumsum(oracle.batches))
    assert list(totals) == sorted(totals, reverse=True)
    assert totals[0] > totals[-1] == done[-1]


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.7])
def test_scale_before_gives_coordinates_of_the_original(factor: float) -> None:
    for exhaustive in (False, True):
        chosen = PredictSettings(scale_before=factor, exhaustive=exhaustive)
        instances = Predictor(Oracle(), chosen)(PICTURE)
        check(instances[instances.areas > 400], [shape for shape, _ in BEETLES if shape.area > 400], 0.06)
        assert instances.levels.max() <= factor
    assert instances.levels.max() == factor


def test_a_single_scale_looks_at_native_pixels_only() -> None:
    oracle = Oracle()
    instances = Predictor(oracle, PredictSettings(single_scale=True))(PICTURE)
    assert (
        sum(oracle.batches) == sum(map(len, plan_grids(700, 500, oracle.card, PredictSettings(single_scale=True)))) == 9
    )
    assert (instances.levels == 1).all()
    np.testing.assert_allclose(instances.scores, 0.9)
    check(instances, [shape for shape, _ in BEETLES])


def test_sizes_can_be_limited() -> None:
    instances = Predictor(Oracle(), PredictSettings(min_max_obj_size=(30, 100)))(PICTURE)
    sides = np.sqrt(np.prod(instances.boxes[:, 2:] - instances.boxes[:, :2], axis=1))
    assert len(sides) == 5
    assert sides.min() >= 30
    assert sides.max() <= 100


def test_a_threshold_that_nothing_reaches() -> None:
    assert len(Predictor(Oracle(), PredictSettings(score_threshold=0.9999))(PICTURE)) == 0


def test_the_card_says_how_sure_a_network_must_be_of_an_outline() -> None:
    disc = draw(300, 300, [(shapely.Point(150, 150).buffer(60), RED)])
    areas = []
    for threshold in (0.4, 0.5, 0.6):
        oracle = Oracle()
        oracle.card = oracle.card.model_copy(update={"mask_threshold": threshold})
        (outline,) = Predictor(oracle)(disc).polygons
        areas.append(outline.area)
    assert areas[0] > areas[1] + 50 > areas[2] + 100


def test_the_card_says_which_scores_are_kept_unless_somebody_else_does() -> None:
    oracle = Oracle()
    oracle.card = oracle.card.model_copy(update={"score_threshold": 0.95})
    picture = draw(90, 80, [(beetle(45, 40, 60, 30, 10), RED)])
    assert len(Predictor(oracle)(picture)) == 0
    assert len(Predictor(oracle, PredictSettings(score_threshold=0.5))(picture)) == 1


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (256, 256), (257, 100), (128, 128)])
def test_images_without_animals_of_any_shape(size: tuple[int, int]) -> None:
    instances = Predictor(Oracle())(np.full((size[1], size[0], 3), 255, np.uint8))
    assert len(instances) == 0
    assert (instances.width, instances.height) == size


def test_an_image_that_is_one_animal() -> None:
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[..., 0] = 255
    instances = Predictor(Oracle())(picture)
    assert len(instances) == 1
    assert instances.boxes[0] == pytest.approx([0, 0, 400, 300], abs=1)


def test_small_images_are_padded_without_a_trace() -> None:
    shape = beetle(45, 40, 60, 30, 10)
    check(Predictor(Oracle())(draw(90, 80, [(shape, RED)])), [shape])


def test_provenance_tells_where_a_table_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "beetles.png"
    Image.fromarray(PICTURE).save(path)
    chosen = PredictSettings(batch_size=3)
    predictor = Predictor(Oracle(), chosen)
    provenance = predictor(path).provenance
    assert provenance.image_sha256 == sha256_of(path)
    assert provenance.weights_name == predictor.card.name
    # With the threshold that was used, which comes from the card.
    assert PredictSettings.model_validate(provenance.settings) == chosen.model_copy(update={"score_threshold": 0.2})
    assert provenance.flat_bug_version == flat_bug.__version__
    of_array = predictor(PICTURE).provenance.image_sha256
    assert of_array == predictor(PICTURE.copy()).provenance.image_sha256 != provenance.image_sha256


def test_a_truncated_image_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    noise: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (600, 600, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(ImageError, match="cannot be read"):
        Predictor(Oracle())(path)


def test_a_network_that_fails_leaves_no_thread_behind() -> None:
    class Failing(Oracle):
        def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
            raise WeightsError("the network broke")

    before = threading.active_count()
    with pytest.raises(WeightsError, match="broke"):
        Predictor(Failing(), PredictSettings(batch_size=1))(PICTURE)
    assert threading.active_count() == before


def test_an_overlap_as_large_as_a_tile_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot overlap by 256 px"):
        Predictor(Oracle(tile=256), PredictSettings(minimum_tile_overlap=256))(PICTURE)


def test_classes_have_names() -> None:
    assert Predictor(Oracle())(PICTURE).class_names == ("insect",)


@pytest.mark.real
@pytest.mark.slow
def test_a_real_image_with_real_weights(real_data: Path, real_weights: Path) -> None:
    instances = Predictor(real_weights)(real_data / "ammod-lightboard" / "2021-07-02_Weinschale_0007.jpg")
    assert 5 <= len(instances) <= 40
    assert shapely.is_valid(instances.polygons).all()
    assert (instances.scores > 0.2).all()
