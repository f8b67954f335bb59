"""Run a network with onnxruntime."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from flat_bug.config import Dtype
from flat_bug.errors import MissingPartError, UsageError, WeightsError
from flat_bug.processors import usable_processors
from flat_bug.segmenters.base import ModelCard
from flat_bug.segmenters.graph import Graph, Port, describe
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter, streams_of

log = logging.getLogger(__name__)

GPU = "CUDAExecutionProvider"
Provider = str | tuple[str, dict[str, str]]


def load_onnx(weights: Path, card: ModelCard | None, digest: str, device: str, dtype: Dtype = "auto") -> YoloSegmenter:
    """Open a network for a device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.

    Args:
        weights: The ONNX file.
        card: Its card; if there is none, one is made from what the graph tells.
        digest: SHA-256 of the file.
        device: Where to run it.
        dtype: Asked-for precision. An ONNX file says itself in which it computes; that another is asked for is noted.

    Raises:
        WeightsError: The file is not an ONNX network, or not one that segments, or not the one of the card.
        MissingPartError: A GPU is asked for, and this onnxruntime has none.
        UsageError: The device has an unknown name.
    """
    streams = streams_of(len(usable_processors()))
    session = open_session(weights, _providers(device), streams)
    on_gpu = GPU in session.get_providers()
    if device.startswith("cuda") and not on_gpu:
        raise MissingPartError(
            f"onnxruntime cannot open the device {device}", mend="Check the driver and CUDA libraries."
        )
    graph = graph_of(session)
    checked = describe(graph, weights, card, digest)
    if dtype not in ("auto", graph.precision):
        log.warning("%s computes in the precision that was written into it, not in %s", weights, dtype)
    name = session.get_inputs()[0].name

    def run(tiles: Floats32) -> Sequence[Floats32]:
        try:
            outputs: list[Floats32] = session.run(None, {name: tiles.astype(graph.precision, copy=False)})
        except Exception as error:  # onnxruntime raises a dozen unrelated types
            raise WeightsError(
                f"onnxruntime cannot run the network: {str(error).splitlines()[0]}", where=weights
            ) from error
        return [output.astype(np.float32, copy=False) for output in outputs]

    if on_gpu:
        return YoloSegmenter(checked, run, graph.batch)
    return YoloSegmenter(checked, run, graph.batch or 1, streams)


def graph_of(session: onnxruntime.InferenceSession) -> Graph:
    """Return what an open network says of itself."""
    return Graph(
        tuple(_port(port) for port in session.get_inputs()),
        tuple(_port(port) for port in session.get_outputs()),
        dict(session.get_modelmeta().custom_metadata_map),
    )


def _port(port: onnxruntime.NodeArg) -> Port:
    # An axis that takes any size has a name instead of a number; a port of an unknown number of axes has none.
    kind = port.type.removeprefix("tensor(").removesuffix(")")
    shape = tuple(side if isinstance(side, int) else None for side in port.shape)
    return Port({"float": "float32"}.get(kind, kind), shape or None)


def open_session(
    weights: Path, providers: Sequence[Provider] = ("CPUExecutionProvider",), streams: int = 1
) -> onnxruntime.InferenceSession:
    """Open a network with onnxruntime, to be run for so many tiles at the same time.

    Raises:
        WeightsError: The file is not an ONNX network that onnxruntime can run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, len(usable_processors()) // streams)
    # Threads that spin while they wait steal the processor from reading, tracing and other processes.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Memory that is planned for a whole run is planned for each that runs at the same time: half as much again.
    options.enable_mem_pattern = False
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
    has_gpu = GPU in onnxruntime.get_available_providers()
    if name == "cuda" and not has_gpu:
        raise MissingPartError(
            "this onnxruntime cannot use a GPU", mend="Install flat-bug[gpu], or choose the device auto or cpu."
        )
    gpu: list[Provider] = [(GPU, {"device_id": number or "0"})]
    return [*(gpu if has_gpu and name != "cpu" else []), "CPUExecutionProvider"]
