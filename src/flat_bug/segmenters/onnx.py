"""Run a network with onnxruntime."""

import ast
from collections.abc import Sequence
from pathlib import Path

import onnxruntime

from flat_bug.errors import MissingPartError, UsageError, WeightsError
from flat_bug.processors import usable_processors
from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter

Provider = str | tuple[str, dict[str, str]]


def load_onnx(weights: Path, card: ModelCard | None, digest: str, device: str) -> YoloSegmenter:
    """Open a network for a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Args:
        weights: The ONNX file.
        card: Its card; if there is none, one is made from what the graph tells.
        digest: SHA-256 of the file.
        device: Where to run it.

    Raises:
        WeightsError: The file is not an ONNX network, or not one that segments, or not the one of the card.
        MissingPartError: A GPU is asked for, and this onnxruntime has none.
        UsageError: The device has an unknown name.
    """
    session = open_session(weights, _providers(device))
    if device.startswith("cuda") and "CUDAExecutionProvider" not in session.get_providers():
        raise MissingPartError(
            f"onnxruntime cannot open the device {device}", mend="Check the driver and CUDA libraries."
        )
    checked, batch = describe(session, weights, card, digest)
    name = session.get_inputs()[0].name

    def run(tiles: Floats32) -> Sequence[Floats32]:
        try:
            outputs: list[Floats32] = session.run(None, {name: tiles})
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise WeightsError(
                f"onnxruntime cannot run the network: {str(error).splitlines()[0]}", where=weights
            ) from error
        return outputs[:2]

    return YoloSegmenter(checked, run, batch)


def describe(
    session: onnxruntime.InferenceSession, weights: Path, card: ModelCard | None, digest: str
) -> tuple[ModelCard, int | None]:
    """Return the card of an open network, checked or made, and the batch size that its graph fixes, if it does.

    Raises:
        WeightsError: The network does not segment, or is not the one of the card.
    """
    tile = _tile_of(session, weights)
    if card is None:
        card = _card_from_graph(session.get_modelmeta().custom_metadata_map, weights, tile, digest)
    if tile not in (None, card.tile):
        raise WeightsError(f"the network takes tiles of {tile} px, its card says {card.tile} px", where=weights)
    batch = session.get_inputs()[0].shape[0]
    return card, batch if isinstance(batch, int) else None


def open_session(
    weights: Path, providers: Sequence[Provider] = ("CPUExecutionProvider",)
) -> onnxruntime.InferenceSession:
    """Open a network with onnxruntime.

    Raises:
        WeightsError: The file is not an ONNX network that onnxruntime can run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(usable_processors())
    # Threads that spin while they wait steal the processor from reading, tracing and other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(weights), options, providers=list(providers))
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        raise WeightsError(
            f"onnxruntime cannot load the network: {str(error).splitlines()[0]}",
            where=weights,
            mend="Copy the file again from its source, or export it again.",
        ) from error


def _providers(device: str) -> list[Provider]:
    name, _, number = device.partition(":")
    if name not in ("auto", "cpu", "cuda") or not (number or "0").isdigit():
        raise UsageError(f"unknown device {device!r}", mend="Choose auto, cpu, cuda, cuda:N or openvino.")
    has_gpu = "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    if name == "cuda" and not has_gpu:
        raise MissingPartError(
            "this onnxruntime cannot use a GPU", mend="Install flat-bug[gpu], or choose the device auto or cpu."
        )
    gpu: list[Provider] = [("CUDAExecutionProvider", {"device_id": number or "0"})]
    return [*(gpu if has_gpu and name != "cpu" else []), "CPUExecutionProvider"]


def _tile_of(session: onnxruntime.InferenceSession, weights: Path) -> int | None:
    """Return the side of the tile that the graph fixes, or None if it takes any."""
    shape = session.get_inputs()[0].shape
    ranks = sorted(len(output.shape) for output in session.get_outputs()[:2])
    if len(shape) != 4 or shape[1] != 3 or ranks != [3, 4]:
        raise WeightsError(
            "the network does not segment instances as YOLO does",
            where=weights,
            mend="Give a -seg model, as `fb train` exports it.",
        )
    # An axis that takes any size has a name instead of a number.
    if shape[2] != shape[3] and all(isinstance(side, int) for side in shape[2:]):
        raise WeightsError(f"the network takes tiles of {shape[3]}×{shape[2]} px, not square ones", where=weights)
    return next((side for side in shape[2:] if isinstance(side, int)), None)


def _card_from_graph(metadata: dict[str, str], weights: Path, tile: int | None, digest: str) -> ModelCard:
    """Make a card from the shapes and from the metadata that ultralytics writes."""
    try:
        side = tile or max(ast.literal_eval(metadata.get("imgsz", "[640]")))
        classes = ast.literal_eval(metadata.get("names", "{0: 'insect'}"))
        return ModelCard(
            name=weights.stem,
            tile=side,
            stride=ast.literal_eval(metadata.get("stride", "32")),
            classes=tuple(str(classes[index]) for index in sorted(classes)),
            # Unknown without a card; animals longer than half a tile are seen at a coarser level as well.
            largest_object=side // 2,
            sha256=digest,
            licence=metadata.get("license", "unknown"),
            description=metadata.get("description", ""),
        )
    except (ValueError, TypeError, SyntaxError) as error:
        raise WeightsError(
            f"the metadata of the network make no sense: {error}",
            where=weights,
            mend=f"Write a card, {card_path(weights).name}.",
        ) from error
