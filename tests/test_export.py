"""Exported weights: any number of tiles of any size, half the file, the same answers."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from flat_bug.errors import WeightsError
from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.load import load_segmenter
from flat_bug.training.environment import isolate

pytestmark = [pytest.mark.train, pytest.mark.slow]
Arrays = list[npt.NDArray[np.float32]]

NETWORK = """
nc: 1
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, C2PSA, [32]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
  - [[2, 3, 4], 1, Segment, [nc, 32, 32]]
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a checkpoint as ultralytics leaves it, of a network with random weights."""
    folder = tmp_path_factory.mktemp("checkpoint")
    isolate(folder / "config")
    import torch
    from ultralytics import YOLO

    (folder / "small-seg.yaml").write_text(NETWORK)
    torch.manual_seed(1)
    model = YOLO(folder / "small-seg.yaml", task="segment")
    model.model.names = {0: "insect"}
    model.model.args = {"task": "segment", "imgsz": 64, "data": "/home/somebody/tiles/data.yaml"}
    torch.save({"model": model.model.half(), "epoch": -1, "train_args": model.model.args}, folder / "best.pt")
    return folder / "best.pt"


@pytest.fixture(scope="module")
def weights(checkpoint: Path) -> Path:
    from flat_bug.training.export import export_checkpoint

    return export_checkpoint(checkpoint, checkpoint.with_name("moths.onnx"), ModelCard(name="moths", tile=96))


def tiles(count: int, side: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(0).random((count, 3, side, side), np.float32)


def run(network: Path, batch: npt.NDArray[np.float32]) -> Arrays:
    session = onnxruntime.InferenceSession(str(network))
    return [np.asarray(output) for output in session.run(["output0", "output1"], {"images": batch})]


def torch_says(checkpoint: Path, batch: npt.NDArray[np.float32]) -> Arrays:
    import torch
    from ultralytics.nn.tasks import load_checkpoint

    model, _ = load_checkpoint(str(checkpoint), device=torch.device("cpu"), fuse=True)
    with torch.inference_mode():
        return [output.numpy() for output in model.eval()(torch.from_numpy(batch))[0]]


@pytest.mark.parametrize(("side", "count"), [(64, 1), (160, 2)])
def test_the_network_answers_as_torch_does_whatever_the_size_and_number_of_tiles(
    checkpoint: Path, weights: Path, side: int, count: int
) -> None:
    batch = tiles(count, side)
    predictions, prototypes = run(weights, batch)
    expected_predictions, expected_prototypes = torch_says(checkpoint, batch)
    assert predictions.shape == expected_predictions.shape == (count, 37, predictions.shape[2])
    # Half a pixel of a box is what float16 weights can cost where nothing is seen; scores and masks hardly move.
    np.testing.assert_allclose(predictions[:, :4], expected_predictions[:, :4], atol=0.5)
    np.testing.assert_allclose(predictions[:, 4:], expected_predictions[:, 4:], atol=0.01)
    np.testing.assert_allclose(prototypes, expected_prototypes, atol=0.01)


def test_a_tile_is_answered_alone_as_in_a_batch(weights: Path) -> None:
    batch = tiles(2, 96)
    together, alone = run(weights, batch), run(weights, batch[1:])
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_allclose(many[1:], one, atol=1e-5)


def test_the_file_holds_float16_and_computes_with_float32(weights: Path, tmp_path: Path) -> None:
    network = onnx.load(weights)
    large = [tensor for tensor in network.graph.initializer if np.prod(tensor.dims) >= 256]
    assert large
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}
    onnx.checker.check_model(network, full_check=True)
    # What onnxruntime runs has no cast of weights left in it.
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(str(weights), options)
    optimised = onnx.load(tmp_path / "optimised.onnx")
    stored = {tensor.name for tensor in optimised.graph.initializer}
    assert not [node for node in optimised.graph.node if node.op_type == "Cast" and node.input[0] in stored]


def test_the_card_lies_beside_the_weights_and_vouches_for_them(weights: Path) -> None:
    card = load_segmenter(weights).card
    assert (card.name, card.tile, card.classes) == ("moths", 96, ("insect",))
    weights.write_bytes(weights.read_bytes() + b"\0")
    with pytest.raises(WeightsError, match="not the ones that their card describes"):
        load_segmenter(weights)
    weights.write_bytes(weights.read_bytes()[:-1])


def test_nothing_in_the_file_names_a_folder_of_this_machine(checkpoint: Path, weights: Path) -> None:
    assert b"/home/somebody" not in weights.read_bytes()
    assert str(checkpoint.parent).encode() not in weights.read_bytes()


def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path, checkpoint: Path) -> None:
    from flat_bug.training.export import export_checkpoint

    broken = tmp_path / "broken.pt"
    broken.write_bytes(checkpoint.read_bytes()[:1000])
    output = tmp_path / "out" / "broken.onnx"
    with pytest.raises(WeightsError, match="cannot be exported"):
        export_checkpoint(broken, output, ModelCard(name="broken", tile=96))
    assert not output.exists()
    assert not card_path(output).exists()
