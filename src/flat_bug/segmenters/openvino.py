"""Run an ONNX network with OpenVINO, the fastest way on Intel processors; needs the extra `openvino`."""

from pathlib import Path
from typing import Any

import numpy as np

from flat_bug.errors import MissingPartError, WeightsError
from flat_bug.segmenters.base import ModelCard
from flat_bug.segmenters.onnx import describe, open_session
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter


def load_openvino(weights: Path, card: ModelCard | None, digest: str, device: str) -> YoloSegmenter:
    """Open a network for ``openvino`` (the processor) or ``openvino:gpu``; the precision is what is fastest there.

    Args:
        weights: The ONNX file.
        card: Its card; if there is none, one is made from what the graph tells.
        digest: SHA-256 of the file.
        device: Where to run it.

    Raises:
        WeightsError: The file is not an ONNX network, or not one that segments, or not the one of the card.
        MissingPartError: OpenVINO or the device is not there.
    """
    try:
        import openvino  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise MissingPartError("OpenVINO is not installed", mend="Install flat-bug[openvino].") from error
    place = device.partition(":")[2].upper() or "CPU"
    core = openvino.Core()
    if not any(found.startswith(place) for found in core.available_devices):
        raise MissingPartError(f"OpenVINO finds no device {place} here, only {', '.join(core.available_devices)}")
    checked, batch = describe(open_session(weights), weights, card, digest)
    try:
        compiled = core.compile_model(core.read_model(weights), place, {"PERFORMANCE_HINT": "LATENCY"})
    except RuntimeError as error:
        raise WeightsError(f"OpenVINO cannot run the network: {error}", where=weights) from error
    request: Any = compiled.create_infer_request()

    def run(tiles: Floats32) -> list[Floats32]:
        try:
            return [np.array(output) for output in list(request.infer([tiles]).values())[:2]]
        except RuntimeError as error:
            raise WeightsError(f"OpenVINO cannot run the network: {error}", where=weights) from error

    return YoloSegmenter(checked, run, batch)
