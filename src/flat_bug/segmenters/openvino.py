"""Run a network with OpenVINO, the fastest way on Intel processors; needs the extra `openvino`.

It reads ONNX files, and its own: an ``.xml`` file with the graph and beside it a ``.bin`` file with the numbers.
"""

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import yaml

from flat_bug.config import Dtype
from flat_bug.errors import MissingPartError, UsageError, WeightsError
from flat_bug.processors import usable_processors
from flat_bug.segmenters.base import ModelCard
from flat_bug.segmenters.graph import Graph, Port, describe
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter, streams_of

METADATA = "metadata.yaml"
"""What ultralytics writes beside an ``.xml`` file: the names of the classes, the stride, the size of images."""
DEVICES = ("auto", "cpu", "openvino")
"""The devices of the command line under which OpenVINO runs a network: all on the processor but ``openvino:gpu``."""
HINTS = {"auto": {}, "float32": {"INFERENCE_PRECISION_HINT": "f32"}, "float16": {"INFERENCE_PRECISION_HINT": "f16"}}
HINTS["bfloat16"] = {"INFERENCE_PRECISION_HINT": "bf16"}


def load_openvino(
    weights: Path, card: ModelCard | None, digest: str, device: str, dtype: Dtype = "auto"
) -> YoloSegmenter:
    """Open a network for ``openvino`` (the processor) or ``openvino:gpu``.

    Args:
        weights: The ``.onnx`` or ``.xml`` file.
        card: Its card; if there is none, one is made from what the graph tells.
        digest: SHA-256 of the file.
        device: Where to run it.
        dtype: Precision of the computation; by default what is fastest on the machine.

    Raises:
        WeightsError: The file is not a network, or not one that segments, or not the one of the card.
        MissingPartError: OpenVINO or the device is not there.
        UsageError: The device has an unknown name.
    """
    try:
        import openvino  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingPartError("OpenVINO is not installed", mend="Install flat-bug[openvino].") from error
    name, _, part = device.partition(":")
    if name not in DEVICES or (part and name != "openvino"):
        raise UsageError(f"OpenVINO has no device {device!r}", mend="Choose openvino, openvino:gpu, cpu or auto.")
    place = part.upper() or "CPU"
    core = openvino.Core()
    if not any(found.split(".")[0] == place.split(".")[0] for found in core.available_devices):
        raise MissingPartError(f"OpenVINO finds no device {place} here, only {', '.join(core.available_devices)}")
    try:
        network = core.read_model(weights)
        graph = _graph_of(network, weights)
        checked = describe(graph, weights, card, digest)
        streams = streams_of(len(usable_processors())) if place == "CPU" else 1
        compiled = core.compile_model(network, place, _options(streams, place) | HINTS[dtype])
    except RuntimeError as error:
        raise WeightsError(
            f"OpenVINO cannot load the network: {' '.join(str(error).split())}",
            where=weights,
            mend="Copy the file again from its source, or export it again.",
        ) from error
    requests: SimpleQueue[Any] = SimpleQueue()
    for _ in range(streams):
        requests.put(compiled.create_infer_request())

    def run(tiles: Floats32) -> list[Floats32]:
        request = requests.get()
        try:
            outputs = request.infer([tiles.astype(graph.precision, copy=False)])
            return [np.array(output, np.float32) for output in outputs.values()]
        except RuntimeError as error:
            raise WeightsError(f"OpenVINO cannot run the network: {error}", where=weights) from error
        finally:
            requests.put(request)

    if place == "CPU":
        return YoloSegmenter(checked, run, graph.batch or 1, streams)
    return YoloSegmenter(checked, run, graph.batch)


def _options(streams: int, place: str) -> dict[str, Any]:
    if place != "CPU":
        return {"PERFORMANCE_HINT": "LATENCY"}
    return {"NUM_STREAMS": streams, "INFERENCE_NUM_THREADS": len(usable_processors())}


def _graph_of(network: Any, weights: Path) -> Graph:
    return Graph(tuple(map(_port, network.inputs)), tuple(map(_port, network.outputs)), _metadata_of(network, weights))


def _port(port: Any) -> Port:
    shape = port.partial_shape
    if shape.rank.is_dynamic:
        return Port(str(port.element_type.to_dtype()), None)
    sides = tuple(side.get_length() if side.is_static else None for side in shape)
    return Port(str(port.element_type.to_dtype()), sides)


def _metadata_of(network: Any, weights: Path) -> dict[str, str]:
    """Return what the maker of the network says of it, as texts: from an ONNX file, or from beside an ``.xml`` file."""
    if network.has_rt_info(["framework"]):
        return {key: str(value.value) for key, value in network.get_rt_info()["framework"].items()}
    beside = weights.with_name(METADATA)
    if weights.suffix.lower() == ".onnx" or not beside.is_file():
        return {}
    try:
        values = yaml.safe_load(beside.read_text(encoding="utf-8"))
        return {str(key): str(value) for key, value in values.items()}
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError) as error:
        raise WeightsError(f"what is said of the network cannot be read: {error}", where=beside) from error
