"""Run an ultralytics checkpoint with torch; needs the extra `train`.

A checkpoint is a pickle: opening it can run any code, so it is opened only when the user says so.
"""

import math
from pathlib import Path
from typing import Any

from flat_bug.errors import MissingPartError, UsageError, WeightsError
from flat_bug.segmenters.base import ModelCard
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter

SMALLEST_TILE = 1024
"""The network takes any size; smaller tiles than this would be mostly overlap."""


def load_checkpoint(weights: Path, card: ModelCard | None, digest: str, device: str, *, trusted: bool) -> YoloSegmenter:
    """Open a checkpoint.

    Args:
        weights: The ``.pt`` file.
        card: Its card; if there is none, one is made from what the checkpoint tells.
        digest: SHA-256 of the file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        trusted: The user wants the file to be opened, although it can run any code.

    Raises:
        WeightsError: The file is not trusted, or does not hold a YOLO network that segments.
        MissingPartError: The extra `train` or the GPU is not there.
        UsageError: The device has an unknown name.
    """
    if not trusted:
        raise WeightsError(
            "a .pt file can run any code when it is opened",
            where=weights,
            mend="If you know where it comes from, add --trust-weights; better, use its .onnx.",
        )
    try:
        import torch  # noqa: PLC0415  # takes seconds, and is an extra
        from ultralytics.nn.tasks import load_checkpoint as load  # noqa: PLC0415
    except ImportError as error:
        raise MissingPartError(
            "ultralytics is needed for .pt files", where=weights, mend="Install flat-bug[train], or give an .onnx file."
        ) from error
    place = _place(device, torch.cuda.is_available())
    read: Any = load  # untyped
    try:
        model, checkpoint = read(str(weights), device=torch.device(place), fuse=True)
    except Exception as error:  # a pickle can raise anything
        raise WeightsError(f"this is not an ultralytics checkpoint: {error}", where=weights) from error
    head = model.model[-1]
    if not hasattr(head, "proto"):
        raise WeightsError("the network does not segment instances", where=weights, mend="Give a -seg model.")
    card = card or _card_from_checkpoint(model, checkpoint, weights.stem, digest)
    # Networks that suppress duplicates themselves stop at 300, too few for a sticky card.
    head.max_det = card.max_detections
    network = model.eval().to(memory_format=torch.channels_last)

    def run(tiles: Floats32) -> list[Floats32]:
        batch = torch.from_numpy(tiles).to(place, memory_format=torch.channels_last)
        with torch.inference_mode():
            return [part.float().cpu().numpy() for part in network(batch)[0]]

    return YoloSegmenter(card, run)


def _place(device: str, has_gpu: bool) -> str:
    name = device.partition(":")[0]
    if name not in ("auto", "cpu", "cuda"):
        raise UsageError(f"unknown device {device!r}", mend="Choose auto, cpu, cuda or cuda:N.")
    if name == "cuda" and not has_gpu:
        raise MissingPartError("torch finds no GPU here", mend="Choose the device auto or cpu.")
    return device if name != "auto" else "cuda" if has_gpu else "cpu"


def _card_from_checkpoint(model: Any, checkpoint: dict[str, Any], name: str, digest: str) -> ModelCard:
    side = int((checkpoint.get("train_args") or {}).get("imgsz", SMALLEST_TILE))
    stride = int(model.stride.max())
    return ModelCard(
        name=name,
        tile=math.ceil(max(side, SMALLEST_TILE) / stride) * stride,
        stride=stride,
        classes=tuple(str(model.names[index]) for index in sorted(model.names)),
        largest_object=side if side < SMALLEST_TILE else side // 2,
        sha256=digest,
        licence=str(checkpoint.get("license") or "unknown"),
    )
