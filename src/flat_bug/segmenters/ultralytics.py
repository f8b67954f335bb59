"""Run an ultralytics checkpoint with torch; needs the extra `train`.

A checkpoint is a pickle: opening it can run any code, so it is opened only when the user says so.
"""

import math
from pathlib import Path
from typing import Any

from flat_bug.config import Dtype
from flat_bug.errors import MissingPartError, WeightsError
from flat_bug.segmenters.base import ModelCard
from flat_bug.segmenters.checkpoint import read_checkpoint
from flat_bug.segmenters.devices import place_of, precision_of
from flat_bug.segmenters.yolo import Floats32, YoloSegmenter

SMALLEST_TILE = 1024
"""The network takes any size; smaller tiles than this would be mostly overlap."""


def load_checkpoint(
    weights: Path, card: ModelCard | None, digest: str, device: str, *, trusted: bool, dtype: Dtype = "auto"
) -> YoloSegmenter:
    """Open a checkpoint.

    Args:
        weights: The ``.pt`` file.
        card: Its card; if there is none, one is made from what the checkpoint tells.
        digest: SHA-256 of the file.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        trusted: The user wants the file to be opened, although it can run any code.
        dtype: Precision of the network; by default float16 on a GPU and float32 elsewhere.

    Raises:
        WeightsError: The file is not trusted, or does not hold a YOLO network that segments.
        MissingPartError: The extra `train` or the GPU is not there.
        UsageError: The device has an unknown name.
    """
    if not trusted:
        raise WeightsError(
            "a .pt file can run any code when it is opened",
            where=weights,
            mend="If you know where it comes from, add --trust-weights (trust_weights=True); better, use its .onnx.",
        )
    try:
        import torch  # noqa: PLC0415  # takes seconds, and is an extra

        place = place_of(device)
        model, train_args = read_checkpoint(weights)
    except ImportError as error:
        raise MissingPartError(
            f"{error.name or 'ultralytics'} is needed for .pt files",
            where=weights,
            mend="Install flat-bug[train], or give an .onnx file.",
        ) from error
    precision = precision_of(dtype, place)
    head = model.model[-1]
    if not hasattr(head, "proto"):
        raise WeightsError("the network does not segment instances", where=weights, mend="Give a -seg model.")
    card = card or _card_from_checkpoint(model, train_args, weights.stem, digest)
    _check(model, card, weights)
    network = _for_inference(model, card.max_detections, precision).to(place, memory_format=torch.channels_last)

    def run(tiles: Floats32) -> list[Floats32]:
        batch = torch.from_numpy(tiles).to(place, precision, memory_format=torch.channels_last)
        with torch.inference_mode():
            return [part.float().cpu().numpy() for part in network(batch)]

    return YoloSegmenter(card, run)


def suppresses_duplicates(head: Any) -> bool:
    """Return whether a network is to suppress duplicates itself, as YOLO26 can.

    It does unless its checkpoint says otherwise, which is what ultralytics made of it up to 8.4.90, and so what
    flat-bug 1.2 does; newer ones leave the choice to an option, and write it into the checkpoints that they make.
    """
    return getattr(head, "one2one_cv2", None) is not None and bool(getattr(head, "_end2end", True))


def _for_inference(model: Any, max_detections: int, precision: Any) -> Any:
    """Return a network that puts out predictions and prototypes, its layers fused, in a precision."""
    if suppresses_duplicates(model.model[-1]):
        model.model[-1].end2end = True  # before the branch that is not used is removed
    network = model.fuse(verbose=False).eval().to(precision)
    head = network.model[-1]
    # Networks that suppress duplicates themselves stop at 300, too few for a sticky card.
    head.max_det = max_detections
    # Otherwise it puts out the raw feature maps as well, in an order that differs between versions.
    head.export, head.format = True, None
    # The prediction of where a box is has 11 bits in float16 and 8 in bfloat16: steps of up to 8 px in a tile of 1024.
    # So the layers compute in the lower precision, and what follows them, which takes no time, in float32.
    head.dfl.float()
    decode = head._inference
    head._inference = lambda layers: decode(_as_float32(layers))
    return network


def _as_float32(value: Any) -> Any:
    """Return tensors, and lists and dictionaries of them, as float32."""
    if isinstance(value, dict):
        return {key: _as_float32(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_as_float32(part) for part in value]
    return value.float() if hasattr(value, "float") else value


def _check(model: Any, card: ModelCard, weights: Path) -> None:
    """Refuse a card of other weights before an image is opened."""
    stride = int(model.stride.max())
    if card.tile % stride:
        raise WeightsError(
            f"tiles of {card.tile} px, as the card says, are no multiple of the stride of the network, {stride}",
            where=weights,
            mend="Give the weights their own card.",
        )
    if len(model.names) != len(card.classes):
        raise WeightsError(
            f"the network has {len(model.names)} classes, its card names {len(card.classes)}",
            where=weights,
            mend="Give the weights their own card.",
        )


def _card_from_checkpoint(model: Any, train_args: dict[str, Any], name: str, digest: str) -> ModelCard:
    asked = train_args.get("imgsz", SMALLEST_TILE)
    side = int(max(asked) if isinstance(asked, list | tuple) else asked)
    stride = int(model.stride.max())
    return ModelCard(
        name=name,
        tile=math.ceil(max(side, SMALLEST_TILE) / stride) * stride,
        stride=stride,
        classes=tuple(str(model.names[index]) for index in sorted(model.names)),
        largest_object=side if side < SMALLEST_TILE else side // 2,
        sha256=digest,
    )
