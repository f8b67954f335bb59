"""Run a Mask R-CNN of torchvision; needs the extra `train`.

It shows that a segmenter need not be a YOLO: masks come as 28 × 28 shares of each box, and nothing else in the program
knows.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flat_bug.config import Dtype
from flat_bug.errors import MissingPartError, WeightsError
from flat_bug.segmenters.base import ModelCard, TileInstances
from flat_bug.segmenters.damage import refused_as
from flat_bug.segmenters.devices import log, place_of

BACKBONE = "resnet50"
"""That of torchvision's ready-made Mask R-CNN."""
BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
HOW_TO_WRITE = "Write it with torch.save(model.state_dict(), path)."
SHARE_LIMIT = 1e-6
"""Shares nearer than this to 0 or 1 have logits beyond what float32 can tell."""
HALF_A_PIXEL = 0.5
"""Torchvision puts the middle of a pixel, here at 0.5, at 0 when it compares masks with the image in training."""


class MaskRCNNSegmenter:
    """A Mask R-CNN of torchvision as a segmenter.

    Args:
        model: ``torchvision.models.detection.MaskRCNN`` with one class more than the card names, the first of which is
            the ground. It is put into evaluation mode, and takes tiles as they are: ``model.transform`` is replaced.
        card: Card of the weights; its tile, mean, deviation and ``max_detections`` are used.
        device: Where to run it.

    Raises:
        WeightsError: The network tells other classes apart than the card names.
        MissingPartError: The GPU is not there.
    """

    def __init__(self, model: Any, card: ModelCard, device: str = "auto") -> None:
        from torchvision.models.detection.transform import GeneralizedRCNNTransform  # noqa: PLC0415  # takes seconds

        seen = int(model.roi_heads.box_predictor.cls_score.out_features) - 1
        if seen != len(card.classes):
            raise WeightsError(
                f"the network has {seen} classes, its card names {len(card.classes)}",
                where=card.name,
                mend="Give the weights their own card.",
            )
        self.card = card
        self._place = place_of(device)
        self._model = model.eval().to(self._place)
        self._model.transform = GeneralizedRCNNTransform(card.tile, card.tile, list(card.mean), list(card.std))
        self._model.roi_heads.detections_per_img = card.max_detections

    def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
        """Segment a batch of tiles; see ``Segmenter``."""
        import torch  # noqa: PLC0415  # takes seconds

        if not len(tiles):
            return []
        model = self._model
        model.roi_heads.score_thresh = score_threshold
        batch = torch.from_numpy(tiles).to(self._place).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            # What `model(batch)` does, but for the last step: it would blow each mask up to the size of the tile.
            images, _ = model.transform(list(batch))
            features = model.backbone(images.tensors)
            if isinstance(features, torch.Tensor):
                features = {"0": features}  # of a backbone without a feature pyramid
            proposals, _ = model.rpn(images, features)
            found, _ = model.roi_heads(features, proposals, images.image_sizes)
        return [_instances(one, self.card.tile) for one in found]


def load_mask_rcnn(weights: Path, card: ModelCard, device: str, dtype: Dtype = "auto") -> MaskRCNNSegmenter:
    """Load the state of a Mask R-CNN, as ``torch.save(model.state_dict(), path)`` writes it.

    Nothing but numbers is read from the file, so that it need not be trusted.

    Args:
        weights: The file.
        card: Its card, which names the classes and the backbone: ``resnet18`` to ``resnet152``, with a feature pyramid.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
        dtype: Asked-for precision. It computes in float32, and that another is asked for is noted.

    Raises:
        WeightsError: The file holds more than numbers, or not those of this network.
        MissingPartError: The extra `train` or the GPU is not there.
        UsageError: The device has an unknown name.
    """
    try:
        import torch  # noqa: PLC0415  # takes seconds, and is an extra
        import torchvision  # noqa: F401, PLC0415
    except ImportError as error:
        raise MissingPartError(
            f"{error.name} is needed for a Mask R-CNN", where=weights, mend="Install flat-bug[train]."
        ) from error
    if dtype not in ("auto", "float32"):
        log.warning("a Mask R-CNN computes in float32, not in %s", dtype)
    with refused_as("this is not the state of a network", weights, HOW_TO_WRITE):
        state = torch.load(weights, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(
            "this is not the state of a network, a tensor for each name", where=weights, mend=HOW_TO_WRITE
        )
    model = build_mask_rcnn(card, frozen=not any(name.endswith("num_batches_tracked") for name in state))
    what = "these are not the numbers of the network that the card names"
    with refused_as(what, weights, "Check backbone and classes in the card."):
        model.load_state_dict(state)
    return MaskRCNNSegmenter(model, card, device)


def build_mask_rcnn(card: ModelCard, *, frozen: bool = False) -> Any:
    """Return a Mask R-CNN with random weights, as torchvision builds it, for the classes and the backbone of a card.

    Args:
        card: The card.
        frozen: Its normalisation does not learn, as in networks that began with torchvision's weights.

    Raises:
        WeightsError: The card names no backbone that is known.
    """
    from torch.nn import BatchNorm2d  # noqa: PLC0415  # takes seconds
    from torchvision.models.detection import MaskRCNN  # noqa: PLC0415
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone  # noqa: PLC0415
    from torchvision.ops import FrozenBatchNorm2d  # noqa: PLC0415

    backbone = card.backbone or BACKBONE
    if backbone not in BACKBONES:
        raise WeightsError(
            f"the card names the backbone {backbone!r}, which is unknown",
            where=card.name,
            mend=f"Known: {', '.join(BACKBONES)}.",
        )
    norm = FrozenBatchNorm2d if frozen else BatchNorm2d
    layers = resnet_fpn_backbone(backbone_name=backbone, weights=None, norm_layer=norm, trainable_layers=5)
    return MaskRCNN(layers, num_classes=len(card.classes) + 1)


def _instances(found: dict[str, Any], tile: int) -> TileInstances:
    """Return what was found in one tile; the mask of a box covers it from side to side."""
    boxes = found["boxes"].double().cpu().numpy().clip(0, tile)
    real = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(axis=1)
    shares = found["masks"][:, 0].clamp(SHARE_LIMIT, 1 - SHARE_LIMIT)
    logits = (shares / (1 - shares)).log().float().cpu().numpy()
    return TileInstances(
        boxes[real],
        found["scores"].double().cpu().numpy()[real],
        found["labels"].long().cpu().numpy()[real] - 1,
        tuple(logits[real]),
        boxes[real] + HALF_A_PIXEL,
    )
