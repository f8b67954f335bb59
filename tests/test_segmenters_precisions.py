"""The shipped model in half precision, eight bits and OpenVINO's own files; networks that are not their card's."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import shapely
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from tests.conftest import needs

from flat_bug.datasets.synth import synthesize
from flat_bug.errors import WeightsError
from flat_bug.segmenters.base import ModelCard, TileInstances, card_path
from flat_bug.segmenters.load import default_weights, load_segmenter, read_card

THRESHOLD = 0.25


@pytest.fixture(scope="module")
def tile(tmp_path_factory: pytest.TempPathFactory) -> npt.NDArray[np.uint8]:
    """Return a tile of the shipped model, ``(1, T, T, 3)``, with animals on it."""
    side = load_segmenter().card.tile
    folder = tmp_path_factory.mktemp("drawn") / "data"
    synthesize(folder, seed=3, images=1, size=(side, side), datasets=["ir-arena"], jobs=1)
    (picture,) = folder.rglob("*.jpg")
    return np.asarray(Image.open(picture).convert("RGB"))[None]


@pytest.fixture(scope="module")
def shipped(tile: npt.NDArray[np.uint8]) -> TileInstances:
    """Return what the shipped model sees as it is."""
    (seen,) = load_segmenter(device="cpu").segment(tile, THRESHOLD)
    assert len(seen) >= 4
    return seen


def seen_by(weights: Path, tile: npt.NDArray[np.uint8], device: str = "cpu") -> TileInstances:
    """Return what weights see that are the shipped ones in another form, under the card of these."""
    card = read_card(default_weights())
    assert card is not None
    card_path(weights).write_text(card.model_copy(update={"sha256": ""}).model_dump_json(), encoding="utf-8")
    (seen,) = load_segmenter(weights, device).segment(tile, THRESHOLD)
    return seen


def check_near(seen: TileInstances, shipped: TileInstances, *, iou: float, score: float) -> None:
    """Check that what is seen well is the same: boxes that overlap by so much, whose scores differ by less."""
    for some, others in ((seen, shipped), (shipped, seen)):
        clear = some.scores > THRESHOLD + score
        assert clear.any()
        one, other = shapely.box(*some.boxes[clear].T)[:, None], shapely.box(*others.boxes.T)
        overlap = shapely.area(shapely.intersection(one, other)) / shapely.area(shapely.union(one, other))
        assert (overlap.max(axis=1) > iou).all()
        np.testing.assert_allclose(others.scores[overlap.argmax(axis=1)], some.scores[clear], atol=score)


def test_half_precision_sees_the_same(
    tile: npt.NDArray[np.uint8], shipped: TileInstances, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    half = convert_float_to_float16(onnx.load(default_weights()))
    assert half.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    onnx.save(half, tmp_path / "half.onnx")
    check_near(seen_by(tmp_path / "half.onnx", tile), shipped, iou=0.98, score=0.01)
    load_segmenter(tmp_path / "half.onnx", "cpu", dtype="float32")
    assert "not in float32" in caplog.text


@pytest.mark.slow
def test_openvino_sees_the_same_in_its_own_files_and_half_precision(
    tile: npt.NDArray[np.uint8], shipped: TileInstances, tmp_path: Path
) -> None:
    needs("openvino", "openvino")
    import openvino

    network = openvino.convert_model(str(default_weights()))
    openvino.save_model(network, str(tmp_path / "own.xml"), compress_to_fp16=True)
    check_near(seen_by(tmp_path / "own.xml", tile), shipped, iou=0.98, score=0.02)


@pytest.fixture(scope="module")
def ready_to_quantise(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    path = tmp_path_factory.mktemp("ready") / "ready.onnx"
    quant_pre_process(str(default_weights()), str(path), skip_symbolic_shape=True)
    return path


@pytest.mark.slow
def test_weights_of_eight_bits_see_nearly_the_same(
    tile: npt.NDArray[np.uint8], shipped: TileInstances, ready_to_quantise: Path, tmp_path: Path
) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    quantize_dynamic(str(ready_to_quantise), str(tmp_path / "eight.onnx"), weight_type=QuantType.QUInt8)
    assert (tmp_path / "eight.onnx").stat().st_size < 0.6 * default_weights().stat().st_size
    check_near(seen_by(tmp_path / "eight.onnx", tile), shipped, iou=0.9, score=0.05)


@pytest.mark.slow
def test_weights_and_activations_of_eight_bits_see_nearly_the_same(
    tile: npt.NDArray[np.uint8], shipped: TileInstances, ready_to_quantise: Path, tmp_path: Path
) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class OneTile(CalibrationDataReader):
        def __init__(self) -> None:
            self._tiles: Iterator[npt.NDArray[np.float32]] = iter([tile.transpose(0, 3, 1, 2).astype(np.float32) / 255])

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            return next(({"images": images} for images in self._tiles), None)

    path = tmp_path / "eight.onnx"
    quantize_static(str(ready_to_quantise), str(path), OneTile(), op_types_to_quantize=["Conv"], per_channel=True)
    check_near(seen_by(path, tile), shipped, iou=0.85, score=0.08)


# Cards of other networks


def write_network(path: Path, rows: int, coefficients: int, stride: int = 32) -> Path:
    """Write a network that puts out nothing: ``rows`` of predictions, and so many prototypes, for tiles of 64 px."""
    constants = {
        "zero": np.zeros((1, 1, 1), np.float32),
        "rows": np.zeros((1, rows, 84), np.float32),
        "zeros": np.zeros((1, 1, 1, 1), np.float32),
        "maps": np.zeros((1, coefficients, 16, 16), np.float32),
        "flat": np.array([1, 1, 1]),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], axes=[1, 2, 3], keepdims=1),
        helper.make_node("Mul", ["mean", "zeros"], ["nothing"]),
        helper.make_node("Reshape", ["nothing", "flat"], ["none"]),
        helper.make_node("Add", ["none", "rows"], ["output0"]),
        helper.make_node("Add", ["nothing", "maps"], ["output1"]),
    ]
    graph = helper.make_graph(
        nodes,
        "nothing",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, rows, 84]),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, [1, coefficients, 16, 16]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"stride": str(stride)})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("device", ["cpu", "openvino"])
@pytest.mark.parametrize(
    ("network", "card", "words"),
    [
        ({"rows": 37, "coefficients": 32}, {"tile": 128}, "tiles of 64 px, its card says 128 px"),
        ({"rows": 39, "coefficients": 32}, {}, "has 3 classes, its card names 1"),
        ({"rows": 37, "coefficients": 32}, {"classes": ("bee", "fly")}, "has 1 classes, its card names 2"),
        ({"rows": 37, "coefficients": 31}, {}, "has 2 classes, its card names 1"),
        ({"rows": 37, "coefficients": 33}, {}, "no room for a box, a class and 33 coefficients"),
        ({"rows": 37, "coefficients": 32, "stride": 48}, {}, "no multiple of the stride of the network, 48"),
    ],
)
def test_a_card_that_is_another_networks_is_refused_before_an_image_is_opened(
    tmp_path: Path, device: str, network: dict[str, int], card: dict[str, object], words: str
) -> None:
    if device == "openvino":
        needs("openvino", "openvino")
    weights = write_network(tmp_path / "nothing.onnx", **network)
    values = ModelCard(name="nothing", tile=64).model_dump() | card
    card_path(weights).write_text(ModelCard.model_validate(values).model_dump_json(), encoding="utf-8")
    with pytest.raises(WeightsError, match=words) as caught:
        load_segmenter(weights, device)
    assert caught.value.mend


def test_the_card_that_is_the_networks_is_taken(tmp_path: Path) -> None:
    weights = write_network(tmp_path / "nothing.onnx", 37, 32)
    card_path(weights).write_text(ModelCard(name="nothing", tile=64).model_dump_json(), encoding="utf-8")
    assert len(load_segmenter(weights).segment(np.zeros((1, 64, 64, 3), np.uint8), 0.1)[0]) == 0
