"""Weights are verified before use, raw network output becomes boxes and outlines, and outlines have the right area."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tests.conftest import needs

from flat_bug.errors import MissingPartError, UsageError, WeightsError
from flat_bug.files import sha256_of
from flat_bug.imaging import open_image
from flat_bug.segmenters import yolo
from flat_bug.segmenters.base import ModelCard, TileInstances, card_path
from flat_bug.segmenters.load import load_segmenter
from flat_bug.segmenters.outlines import trace
from flat_bug.segmenters.yolo import YoloSegmenter, check_output, decode

TILE = 256
CELL = 4
CARD = ModelCard(name="test", tile=TILE)
GRID = TILE // CELL


def raw_output(
    rows: list[tuple[float, float, float, float, float]], shapes: list[shapely.Geometry], classes: int = 1
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return raw predictions and prototypes of a network that sees boxes (x, y, w, h, score) with these shapes."""
    prototypes = np.stack([signed_distance(shape, (0, 0, TILE, TILE), (GRID, GRID)) for shape in shapes])
    predictions = np.zeros((4 + classes + len(shapes), len(rows)), np.float32)
    for column, row in enumerate(rows):
        predictions[:4, column] = row[:4]
        predictions[4 + column % classes, column] = row[4]
        predictions[4 + classes + column % len(shapes), column] = 1
    return predictions, prototypes.astype(np.float32)


def signed_distance(
    shape: shapely.Geometry, frame: tuple[float, float, float, float], cells: tuple[int, int]
) -> npt.NDArray[np.float32]:
    """Return the distance to the outline at cell centres, positive inside: the ideal logits."""
    rows, columns = cells
    xs = frame[0] + (np.arange(columns) + 0.5) * (frame[2] - frame[0]) / columns
    ys = frame[1] + (np.arange(rows) + 0.5) * (frame[3] - frame[1]) / rows
    points = shapely.points(*np.meshgrid(xs, ys))
    distance = shapely.distance(points, shapely.boundary(shape))
    return np.where(shapely.contains(shape, points), distance, -distance).astype(np.float32)


def instance_of(shape: shapely.Geometry, box: tuple[float, float, float, float] | None = None) -> TileInstances:
    """Return what a perfect network says of one shape."""
    x1, y1, x2, y2 = box or shape.bounds
    predictions, prototypes = raw_output([((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1, 0.9)], [shape])
    return decode(predictions, prototypes, CARD, 0.5)


def disc(x: float, y: float, diameter: float) -> shapely.Geometry:
    return shapely.Point(x, y).buffer(diameter / 2, 64)


# Outlines


@settings(deadline=None, max_examples=40)
@given(diameter=st.floats(40, 200), x=st.floats(-8, 8), y=st.floats(-8, 8))
def test_a_disc_keeps_its_area_and_place(diameter: float, x: float, y: float) -> None:
    shape = disc(128 + x, 128 + y, diameter)
    (outline,) = trace(instance_of(shape))
    assert outline.area == pytest.approx(shape.area, rel=0.01)
    assert outline.centroid.distance(shape.centroid) < 0.1


@settings(deadline=None, max_examples=40)
@given(width=st.floats(40, 120), height=st.floats(40, 120), angle=st.floats(0, 90))
def test_a_rectangle_keeps_its_area(width: float, height: float, angle: float) -> None:
    shape = shapely.affinity.rotate(
        shapely.box(128 - width / 2, 128 - height / 2, 128 + width / 2, 128 + height / 2), angle
    )
    (outline,) = trace(instance_of(shape))
    assert outline.area == pytest.approx(shape.area, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(angle=st.floats(0, 180), thickness=st.floats(6.5, 20))
def test_a_thin_leg_keeps_its_area(angle: float, thickness: float) -> None:
    leg = shapely.affinity.rotate(shapely.LineString([(48, 128), (208, 128)]), angle).buffer(thickness / 2)
    (outline,) = trace(instance_of(leg))
    assert outline.area == pytest.approx(leg.area, rel=0.0125)


def test_an_outline_lies_where_the_network_is_as_sure_as_the_threshold() -> None:
    shape = disc(128, 128, 100)
    (outline,) = trace(instance_of(shape), 1 / (1 + np.exp(-3)))
    assert outline.area == pytest.approx(shape.buffer(-3).area, rel=0.01)
    (none,) = trace(instance_of(shape), 1 / (1 + np.exp(-60)))
    assert none.is_empty


def test_holes_are_kept() -> None:
    ring = disc(128, 128, 120).difference(disc(128, 128, 60))
    (outline,) = trace(instance_of(ring))
    assert len(outline.interiors) == 1
    assert outline.area == pytest.approx(ring.area, rel=0.01)


def test_detached_parts_are_kept_and_islands_dropped() -> None:
    body, leg, speck = shapely.box(60, 60, 120, 120), shapely.box(140, 60, 150, 120), shapely.box(134, 134, 140, 140)
    (outline,) = trace(instance_of(shapely.union_all([body, leg, speck])))
    assert outline.geom_type == "MultiPolygon"
    assert outline.area == pytest.approx(body.area + leg.area, rel=0.01)


def test_an_animal_that_the_tile_cuts_ends_on_its_edge() -> None:
    (outline,) = trace(instance_of(shapely.box(-50, 100, 60, 150), (0, 100, 60, 150)))
    assert outline.bounds[0] == pytest.approx(0, abs=1e-9)
    assert outline.area == pytest.approx(60 * 50, rel=0.02)


def test_an_outline_stays_near_its_box() -> None:
    """The mask of a touching neighbour does not leak in, and small animals end where their box ends."""
    both = shapely.box(60, 60, 200, 120)
    (outline,) = trace(instance_of(both, (60, 60, 130, 120)))
    assert outline.bounds[2] < 138
    blurred = disc(100, 100, 30)
    (small,) = trace(instance_of(blurred, (91, 91, 109, 109)))
    assert small.bounds == pytest.approx((91, 91, 109, 109))


def test_nothing_to_trace() -> None:
    assert trace(decode(*raw_output([], [disc(9, 9, 9)]), CARD, 0.5)).shape == (0,)
    (nothing,) = trace(instance_of(disc(40, 40, 20), (150, 150, 170, 170)))
    assert nothing.is_empty


# Raw output


def test_duplicates_give_way_to_the_best_and_neighbours_stay() -> None:
    rows = [(100, 100, 40, 40, 0.6), (101, 100, 40, 40, 0.9), (130, 100, 40, 40, 0.5)]
    found = decode(*raw_output(rows, [disc(100, 100, 40)]), CARD, 0.2)
    np.testing.assert_allclose(found.scores, [0.9, 0.5], atol=1e-6)
    np.testing.assert_allclose(found.boxes, [[81, 80, 121, 120], [110, 80, 150, 120]])


def test_classes_do_not_suppress_each_other() -> None:
    rows = [(100, 100, 40, 40, 0.6), (101, 100, 40, 40, 0.9)]
    found = decode(*raw_output(rows, [disc(100, 100, 40)], classes=2), CARD, 0.2)
    assert found.classes.tolist() == [1, 0]


def test_threshold_is_strict_and_the_cap_keeps_the_best() -> None:
    rows = [(20.0 + 10 * index, 100, 8, 8, 0.25 + 0.03125 * index) for index in range(20)]
    output = raw_output(rows, [disc(100, 100, 40)])
    assert len(decode(*output, CARD, 0.5)) == 11
    capped = decode(*output, CARD.model_copy(update={"max_detections": 3}), 0.1)
    np.testing.assert_allclose(capped.scores, [0.84375, 0.8125, 0.78125])


def test_boxes_outside_the_tile_or_without_area_are_no_instances() -> None:
    rows = [(-50, 50, 40, 40, 0.9), (50, 50, 0, 10, 0.9), (250, 250, 40, 40, 0.8)]
    found = decode(*raw_output(rows, [disc(250, 250, 40)]), CARD, 0.2)
    np.testing.assert_allclose(found.boxes, [[230, 230, 256, 256]])


def test_masks_cover_their_boxes_only() -> None:
    found = instance_of(disc(100, 140, 30))
    x1, y1, x2, y2 = found.frames[0]
    assert found.masks[0].shape == ((y2 - y1) / CELL, (x2 - x1) / CELL)
    assert found.masks[0].size < 150
    assert x1 <= found.boxes[0, 0]
    assert x2 >= found.boxes[0, 2]


def test_a_network_that_suppresses_duplicates_itself() -> None:
    shape = disc(100, 100, 60)
    _, prototypes = raw_output([], [shape, shape])
    predictions = np.zeros((300, 6 + 2), np.float32)
    predictions[0] = [70, 70, 130, 130, 0.9, 0, 1, 0]
    predictions[1] = [10, 10, 20, 20, 0.1, 0, 0, 1]
    found = decode(predictions, prototypes, CARD, 0.2)
    np.testing.assert_allclose(found.boxes, [[70, 70, 130, 130]])
    assert trace(found)[0].area == pytest.approx(shape.area, rel=0.01)
    predictions[0, 5] = 4
    with pytest.raises(WeightsError, match="has 5 classes, its card names 1"):
        check_output(predictions[None], prototypes[None], CARD)


def test_prototypes_of_any_size() -> None:
    shape = disc(128, 128, 100)
    predictions, _ = raw_output([(128, 128, 100, 100, 0.9)], [shape])
    prototypes = signed_distance(shape, (0, 0, TILE, TILE), (GRID * 2, GRID))[None]
    (outline,) = trace(decode(predictions, prototypes, CARD, 0.2))
    assert outline.area == pytest.approx(shape.area, rel=0.01)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("part", [0, 1])
def test_values_that_are_not_finite_are_an_error_not_an_empty_image(part: int, value: float) -> None:
    output = raw_output([(128, 128, 100, 100, 0.9)], [disc(128, 128, 100)])
    output[part][-1, ..., 0] = value
    broken = YoloSegmenter(CARD, lambda tiles: [values[None] for values in output])
    with pytest.raises(WeightsError, match="not finite"):
        broken.segment(np.zeros((1, TILE, TILE, 3), np.uint8), 0.2)


def test_comparing_boxes_in_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows = [(*rng.uniform(60, 200, 2), *rng.uniform(40, 60, 2), rng.uniform(0.3, 1)) for _ in range(300)]
    output = raw_output(rows, [disc(128, 128, 100)])
    at_once = decode(*output, CARD, 0.2)
    assert 20 < len(at_once) < 280
    monkeypatch.setattr(yolo, "BLOCK", 7)
    np.testing.assert_array_equal(decode(*output, CARD, 0.2).boxes, at_once.boxes)
    few = decode(*output, CARD.model_copy(update={"max_detections": 10}), 0.2)
    np.testing.assert_array_equal(few.boxes, at_once.boxes[:10])


# Weight files


def write_network(
    path: Path, *, batch: int | str = 1, tile: int = 64, channels: int = 3, prototypes: bool = True
) -> Path:
    """Write an ONNX network that finds one square of 32 px, scored by the brightness of the tile."""
    square = np.full((1, 1, tile // 4, tile // 4), -9, np.float32)
    square[..., 4:12, 4:12] = 9
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Squeeze", ["mean", "two"], ["score"]),
        helper.make_node("Reshape", ["score", "column"], ["scores"]),
        helper.make_node("Mul", ["scores", "zero"], ["zeros"]),
        helper.make_node("Add", ["zeros", "box"], ["boxes"]),
        helper.make_node("Add", ["zeros", "one"], ["weights"]),
        helper.make_node("Concat", ["boxes", "scores", "weights"], ["output0"], axis=1),
        helper.make_node("Mul", ["mean", "zero"], ["flat"]),
        helper.make_node("Add", ["flat", "square"], ["output1"]),
    ]
    constants = {
        "two": np.array([3]),
        "column": np.array([-1, 1, 1]),
        "zero": np.zeros(1, np.float32),
        "one": np.ones(1, np.float32),
        "box": np.array([tile / 2, tile / 2, 32, 32], np.float32).reshape(1, 4, 1),
        "square": square,
    }
    outputs = [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 6, 1])]
    if prototypes:
        outputs.append(helper.make_tensor_value_info("output1", TensorProto.FLOAT, [batch, 1, tile // 4, tile // 4]))
    graph = helper.make_graph(
        nodes if prototypes else nodes[:-2],
        "square",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, channels, tile, tile])],
        outputs,
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"names": "{0: 'bee'}", "stride": "32", "license": "MIT"})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("batch", [1, 2, "n"])
def test_any_number_of_tiles_whatever_batch_the_network_takes(tmp_path: Path, batch: int | str) -> None:
    segmenter = load_segmenter(write_network(tmp_path / "square.onnx", batch=batch))
    brightness = np.array([0, 51, 102, 153, 255], np.uint8)
    tiles = np.broadcast_to(brightness[:, None, None, None], (5, 64, 64, 3)).copy()
    found = segmenter.segment(tiles, 0.3)
    assert [len(one) for one in found] == [0, 0, 1, 1, 1]
    np.testing.assert_allclose([one.scores[0] for one in found[2:]], [0.4, 0.6, 1.0], atol=1e-4)
    assert segmenter.segment(tiles[:0], 0.3) == []


def test_a_network_without_a_card_describes_itself(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "square.onnx")
    card = load_segmenter(weights).card
    assert (card.name, card.tile, card.stride, card.classes) == ("square", 64, 32, ("bee",))
    assert (card.licence, card.sha256, card.largest_object) == ("MIT", sha256_of(weights), 32)


def test_the_card_is_used_and_its_digest_verified(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "square.onnx")
    card = ModelCard(name="squares", tile=64, classes=("insect",), sha256=sha256_of(weights), mean=(0.2,) * 3)
    card_path(weights).write_text(card.model_dump_json())
    segmenter = load_segmenter(weights)
    assert segmenter.card == card
    (found,) = segmenter.segment(np.full((1, 64, 64, 3), 255, np.uint8), 0.3)
    assert found.scores[0] == pytest.approx(0.8, abs=1e-4)  # the mean is subtracted
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="not the ones that their card describes") as caught:
        load_segmenter(weights)
    assert "square.card.json" in caught.value.mend


def test_a_card_of_other_classes(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "square.onnx")
    card_path(weights).write_text(ModelCard(name="squares", tile=64, classes=("bee", "wasp")).model_dump_json())
    with pytest.raises(WeightsError, match="has 1 classes, its card names 2"):
        load_segmenter(weights).segment(np.zeros((1, 64, 64, 3), np.uint8), 0.3)


def test_a_card_that_disagrees_with_the_graph(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "square.onnx")
    card_path(weights).write_text(ModelCard(name="squares", tile=128).model_dump_json())
    with pytest.raises(WeightsError, match="tiles of 64 px, its card says 128 px"):
        load_segmenter(weights)


@pytest.mark.parametrize(
    "text", ["", "{", '{"name": "no tile"}', '{"name": "x", "tile": -1}', '{"name": "x", "tile": 100}']
)
def test_a_broken_card(tmp_path: Path, text: str) -> None:
    weights = write_network(tmp_path / "square.onnx")
    card_path(weights).write_text(text)
    with pytest.raises(WeightsError, match="card of the weights is broken"):
        load_segmenter(weights)


@pytest.mark.parametrize("content", [b"", b"not a network", b"\x08\x07" * 1000])
def test_a_corrupt_network(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot load the network") as caught:
        load_segmenter(path)
    assert caught.value.where == str(path)


def test_a_truncated_network(tmp_path: Path) -> None:
    path = write_network(tmp_path / "square.onnx")
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(WeightsError):
        load_segmenter(path)


@pytest.mark.parametrize("change", [{"prototypes": False}, {"channels": 1}])
def test_a_network_of_another_kind(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(WeightsError, match="does not segment instances"):
        load_segmenter(write_network(tmp_path / "other.onnx", **change))


@pytest.mark.parametrize("properties", [{"names": "import os"}, {"names": "3"}, {"stride": "-1"}, {"stride": "'x'"}])
def test_metadata_that_make_no_sense(tmp_path: Path, properties: dict[str, str]) -> None:
    path = write_network(tmp_path / "square.onnx")
    model = onnx.load(path)
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    with pytest.raises(WeightsError, match="metadata of the network make no sense") as caught:
        load_segmenter(path)
    assert "square.card.json" in caught.value.mend
    card_path(path).write_text(ModelCard(name="squares", tile=64).model_dump_json())
    assert load_segmenter(path).card.name == "squares"


def test_absent_and_unknown_weights(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such weight file"):
        load_segmenter(tmp_path / "absent.onnx")
    (tmp_path / "weights.h5").write_bytes(b"x")
    with pytest.raises(WeightsError, match=r"kind '\.h5' are unknown"):
        load_segmenter(tmp_path / "weights.h5")


def test_devices(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "square.onnx")
    for device in ("tpu", "cuda:x", ""):
        with pytest.raises(UsageError, match="unknown device"):
            load_segmenter(weights, device)
    load_segmenter(weights, "cpu")


def test_a_gpu_that_is_not_there(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingPartError, match="cannot use a GPU"):
        load_segmenter(write_network(tmp_path / "square.onnx"), "cuda:0")


def test_openvino_sees_the_same(tmp_path: Path) -> None:
    needs("openvino", "openvino")
    weights = write_network(tmp_path / "square.onnx")
    tiles = np.full((3, 64, 64, 3), 200, np.uint8)
    ours, theirs = (load_segmenter(weights, device).segment(tiles, 0.3) for device in ("cpu", "openvino"))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(other.boxes, one.boxes, atol=0.5)
        np.testing.assert_allclose(other.scores, one.scores, atol=0.01)
        assert trace(other)[0].area == pytest.approx(trace(one)[0].area, rel=0.02)


@pytest.mark.parametrize("with_card", [False, True])
def test_a_pickle_is_not_opened_for_nothing(tmp_path: Path, with_card: bool) -> None:
    """A .pt file runs whatever it likes when it is opened, and a card that came with it is no excuse."""
    path = tmp_path / "weights.pt"
    path.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    if with_card:
        card_path(path).write_text(ModelCard(name="nice", tile=64, sha256=sha256_of(path)).model_dump_json())
    with pytest.raises(WeightsError, match="can run any code") as caught:
        load_segmenter(path)
    assert "--trust-weights" in caught.value.mend
    assert not (tmp_path / "owned").exists()


@pytest.mark.train
@pytest.mark.slow
def test_ultralytics_checkpoints(tmp_path: Path) -> None:
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(0)
    model = SegmentationModel("yolo11n-seg.yaml", nc=1, verbose=False)
    model.names = {0: "insect"}
    path = tmp_path / "random.pt"
    torch.save({"model": model, "train_args": {"imgsz": 320}, "epoch": -1}, path)
    card = load_segmenter(path, trust_weights=True).card
    assert (card.tile, card.largest_object, card.classes) == (1024, 320, ("insect",))
    card_path(path).write_text(card.model_copy(update={"tile": 64}).model_dump_json())
    segmenter = load_segmenter(path, trust_weights=True)
    (found,) = segmenter.segment(np.zeros((1, 64, 64, 3), np.uint8), 0.0)
    assert len(found) > 0
    assert trace(found).shape == (len(found),)


@pytest.mark.train
@pytest.mark.slow
def test_a_pickle_that_is_no_checkpoint(tmp_path: Path) -> None:
    import torch

    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match="not an ultralytics checkpoint"):
        load_segmenter(tmp_path / "other.pt", trust_weights=True)


@pytest.mark.real
def test_real_weights_find_a_real_insect(real_data: Path, real_weights: Path) -> None:
    image = open_image(real_data / "spohf-yellow-sticky" / "IMG_0105.jpg")
    segmenter = load_segmenter(real_weights)
    side = segmenter.card.tile
    (found,) = segmenter.segment(image.read(700, 1200, side, side)[None], 0.4)
    assert len(found) >= 1
    outlines = trace(found)
    assert shapely.is_valid(outlines).all()
    boxes = shapely.box(*found.boxes.T)
    assert (shapely.area(shapely.intersection(outlines, boxes)) > 0.3 * shapely.area(boxes)).all()
