"""YOLO networks of random numbers that nevertheless see something: boxes of many sizes, scored from 0 to 1.

An untrained network scores all places alike to seven digits, and which of them are left when duplicates go is decided
by the last bit. Here each level of the head is scaled until its scores and boxes differ from place to place.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

SIDE = 256


def pictures(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return tiles ``(count, SIDE, SIDE, 3)`` with discs of many sizes and colours on noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:SIDE, :SIDE]
    tiles = rng.integers(120, 255, (count, SIDE, SIDE, 3), np.uint8)
    for tile in tiles:
        for _ in range(12):
            (across, down), radius = rng.uniform(0, SIDE, 2), rng.uniform(4, 40)
            tile[np.hypot(x - across, y - down) < radius] = rng.integers(0, 255, 3)
    return tiles


def lively_network(name: str, *, end_to_end: bool = False, seed: int = 0) -> Any:
    """Return a network such as ``yolo11n-seg`` for one class, float32, in evaluation mode."""
    import torch
    from ultralytics.nn.tasks import SegmentationModel

    torch.manual_seed(seed)
    model = SegmentationModel(f"{name}.yaml", nc=1, verbose=False)
    model.names, model.task, model.args = {0: "insect"}, "segment", {}
    tiles = torch.from_numpy(pictures(8, seed)).permute(0, 3, 1, 2).float() / 255
    head = model.model[-1]
    if hasattr(head, "one2one_cv2"):
        model.end2end = end_to_end
    branch = "one2one" if end_to_end else "one2many"
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.momentum = None  # learns at once what to expect; without that every picture looks alike
        model.train()
        model(tiles)
        model.eval()
        for kind, mean, deviation in (("cls_head", -2.0, 1.5), ("box_head", 1.0, 1.5)):
            for layers in getattr(head, branch)[kind]:
                features: list[Any] = []
                hook = layers[-1].register_forward_hook(lambda *args, seen=features: seen.append(args[2]))
                model(tiles)
                hook.remove()
                layers[-1].weight *= deviation / features[0].std()
                layers[-1].bias *= deviation / features[0].std()
                layers[-1].bias += mean - deviation / features[0].std() * features[0].mean()
    return model


def save_checkpoint(model: Any, path: Path) -> Path:
    """Write a checkpoint as ultralytics does after a training, in float16, and return where it is."""
    import copy

    import torch

    torch.save({"model": copy.deepcopy(model).half(), "train_args": {"imgsz": SIDE}, "epoch": -1}, path)
    return path
