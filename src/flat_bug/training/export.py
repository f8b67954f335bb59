"""Export a checkpoint to ONNX with its card.

The network takes any number of tiles of any size that its stride divides. Its weights are stored as float16, which is
how ultralytics stores them in a checkpoint, and cast to float32 when the network is loaded: half the file, all of the
speed.
"""

import shlex
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from flat_bug.errors import WeightsError
from flat_bug.files import atomic_path, sha256_of, write_text
from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.load import read_card
from flat_bug.segmenters.ultralytics import suppresses_duplicates
from flat_bug.training.record import exported_weights, read_record
from flat_bug.training.settings import TrainSettings

OPSET = 17
FEWEST_VALUES = 256
"""Smaller tensors stay as they are; a cast would take more bytes than it saves."""


def export_run(run: Path, checkpoint: Path) -> Path:
    """Export a checkpoint of a run as the weights of the run, and return where they are.

    Raises:
        RunError: The folder is not a training run.
        WeightsError: The checkpoint cannot be read, or does not segment.
    """
    weights = export_checkpoint(checkpoint, exported_weights(run), run_card(run))
    card = read_card(weights)
    if card is not None:
        # It says how large tiles and animals are when somebody predicts with the checkpoint.
        _write_card(checkpoint, card)
    return weights


def export_checkpoint(checkpoint: Path, output: Path, card: ModelCard) -> Path:
    """Export a checkpoint to ONNX, with its card beside it.

    Args:
        checkpoint: An ultralytics checkpoint. It is a pickle, which can run any code: the caller trusts it.
        output: The ``.onnx`` file to write.
        card: What is known of the weights; classes and digest are filled in here.

    Raises:
        WeightsError: The checkpoint cannot be read, or does not segment.
        OutputError: The output cannot be written.
    """
    network, names = _to_onnx(checkpoint, card)
    _describe(network, card)
    _store_as_float16(network)
    # Without a card the weights still load; with the card of earlier ones they would be refused.
    card_path(output).unlink(missing_ok=True)
    with atomic_path(output) as temporary:
        onnx.save(network, str(temporary))
    _write_card(output, card.model_copy(update={"classes": names}))
    return output


def _write_card(weights: Path, card: ModelCard) -> None:
    card = card.model_copy(update={"sha256": sha256_of(weights)})
    write_text(card_path(weights), card.model_dump_json(indent=1) + "\n")


def run_card(run: Path) -> ModelCard:
    """Return the card of the weights of a run, but for what only the exported file can tell.

    Raises:
        RunError: The folder is not a training run.
    """
    record = read_record(run)
    settings = TrainSettings.from_mapping(record["settings"], where=run)
    return ModelCard(
        name=run.name,
        tile=settings.fb_export_tile,
        largest_object=settings.imgsz,
        licence="AGPL-3.0",
        description=f"{Path(settings.model).stem}, trained on windows of {settings.imgsz} px at all scales of images.",
        data=tuple(record["data"]),
        command=_without_folders(record["command"]),
        created=datetime.now(UTC).date().isoformat(),
        notes=(
            "Trained with ultralytics, whose makers hold that their licence extends to the weights.",
            "Weights are stored as float16 and computed with as float32.",
        ),
    )


def _without_folders(command: str) -> str:
    """Return a command line in which absolute paths are cut to their last name: others have other folders."""
    return shlex.join(Path(word).name if Path(word).is_absolute() else word for word in shlex.split(command))


def _to_onnx(checkpoint: Path, card: ModelCard) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the network and the names of its classes."""
    # Importing ultralytics takes seconds, and it reads its environment when it is.
    from ultralytics import YOLO  # noqa: PLC0415

    # Ultralytics writes beside the checkpoint.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "checkpoint.pt"
        shutil.copyfile(checkpoint, copy)
        try:
            model = YOLO(copy, task="segment")
            if model.task != "segment":
                raise WeightsError(
                    "the network does not segment instances", where=checkpoint, mend="Give a -seg model."
                )
            # Otherwise a network that suppresses duplicates itself loses the part that was trained for it, or stops
            # at 300 animals in a tile.
            alone = (
                {"nms": False, "max_det": card.max_detections} if suppresses_duplicates(model.model.model[-1]) else {}
            )
            written = model.export(
                format="onnx", imgsz=card.tile, dynamic=True, simplify=True, opset=OPSET, device="cpu", **alone
            )
        except WeightsError:
            raise
        except Exception as error:  # a pickle can raise anything
            raise WeightsError(f"the checkpoint cannot be exported: {error}", where=checkpoint) from error
        return onnx.load(written), tuple(str(model.names[index]) for index in sorted(model.names))


def _describe(network: onnx.ModelProto, card: ModelCard) -> None:
    """Say that tiles are square, and replace what ultralytics says, which names files of this machine."""
    for axis in network.graph.input[0].type.tensor_type.shape.dim[2:]:
        axis.dim_param = "side"
    properties = {entry.key: entry.value for entry in network.metadata_props}
    properties.pop("args", None)
    helper.set_model_props(network, properties | {"description": card.description})


def _store_as_float16(network: onnx.ModelProto) -> None:
    """Store large float32 tensors as float16, each followed by a cast, which onnxruntime does once, at load."""
    casts = []
    for tensor in network.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or np.prod(tensor.dims) < FEWEST_VALUES:
            continue
        values = numpy_helper.to_array(tensor)
        if abs(values).max() > np.finfo(np.float16).max:
            continue
        name = f"{tensor.name}.float16"
        casts.append(helper.make_node("Cast", [name], [tensor.name], f"{name}.cast", to=TensorProto.FLOAT))
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), name))
    nodes = casts + list(network.graph.node)
    del network.graph.node[:]
    network.graph.node.extend(nodes)
