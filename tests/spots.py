"""A tiny network, in the layout of YOLO, that finds dark spots; and pictures that have some."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from flat_bug.cli.main import main

TILE = 64
BOX = 32
STEP = 8
DARK = 0.7
"""Pixels that are darker than this (1 is black) belong to a spot."""


def write_network(path: Path, name: str = "spots") -> Path:
    """Write the network: an anchor every 8 px with a box of 32 px, scored by how much of its box is dark."""
    side = (TILE - BOX) // STEP + 1
    centres = np.arange(side) * STEP + BOX / 2
    x, y = np.meshgrid(centres, centres)
    boxes = np.stack([x, y, np.full_like(x, BOX), np.full_like(x, BOX)]).reshape(1, 4, -1)
    coefficients = np.zeros((1, 32, side * side))
    coefficients[:, 0] = 1
    constants = {
        "boxes": boxes,
        "coefficients": coefficients,
        "one": np.ones(1),
        "level": np.full(1, DARK),
        "gain": np.full(1, 20.0),
        "score_gain": np.full(1, 4.0),
        "first_only": np.eye(1, 32).reshape(1, 32, 1, 1),
    }
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["bright"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["one", "bright"], ["dark"]),
        helper.make_node("Sub", ["dark", "level"], ["above"]),
        helper.make_node("Mul", ["above", "gain"], ["logit"]),
        helper.make_node("Clip", ["logit", "zero_scalar", "one_scalar"], ["inside"]),
        helper.make_node("AveragePool", ["inside"], ["share"], kernel_shape=[BOX, BOX], strides=[STEP, STEP]),
        helper.make_node("Mul", ["share", "score_gain"], ["wild"]),
        helper.make_node("Clip", ["wild", "zero_scalar", "one_scalar"], ["grid"]),
        helper.make_node("Reshape", ["grid", "row"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores", "coefficients"], ["output0"], axis=1),
        helper.make_node("AveragePool", ["logit"], ["mask"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Mul", ["mask", "first_only"], ["output1"]),
    ]
    initialisers = [numpy_helper.from_array(value.astype(np.float32), key) for key, value in constants.items()]
    initialisers += [
        numpy_helper.from_array(np.float32(0).reshape(()), "zero_scalar"),
        numpy_helper.from_array(np.float32(1).reshape(()), "one_scalar"),
        numpy_helper.from_array(np.array([1, 1, side * side], np.int64), "row"),
    ]
    graph = helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, TILE, TILE])],
        [
            helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 37, side * side]),
            helper.make_tensor_value_info("output1", TensorProto.FLOAT, [1, 32, TILE // 4, TILE // 4]),
        ],
        initialisers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    return path


def spots(width: int, height: int, centres: Sequence[tuple[float, float]], radius: float = 9) -> npt.NDArray[np.uint8]:
    """Return a white picture ``(h, w, 3)`` with a black disc around each centre (x, y)."""
    y, x = np.mgrid[:height, :width] + 0.5
    picture = np.full((height, width, 3), 255, np.uint8)
    for centre_x, centre_y in centres:
        picture[np.hypot(x - centre_x, y - centre_y) < radius] = 0
    return picture


def fb(*words: str | Path) -> int:
    """Run ``fb`` in this process and return its exit code."""
    try:
        main([str(word) for word in words])
    except SystemExit as left:
        return int(left.code or 0)
    raise AssertionError("fb left without an exit code")
