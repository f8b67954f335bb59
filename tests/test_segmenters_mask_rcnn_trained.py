"""A Mask R-CNN that is trained here, on discs, finds discs through the same engine as every other segmenter."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import shapely

from flat_bug import Instances, Predictor
from flat_bug.segmenters.base import ModelCard

pytestmark = [pytest.mark.train, pytest.mark.slow]

TILE = 64
CHANNELS = 24
STEPS, BATCH = 150, 4
CARD = ModelCard(name="discs", kind="maskrcnn", tile=TILE, largest_object=40, score_threshold=0.5)
Disc = tuple[float, float, float]


def picture_of(width: int, height: int, discs: list[Disc], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a noisy bright picture with dark discs (x, y, radius)."""
    y, x = np.mgrid[:height, :width] + 0.5
    picture = rng.uniform(170, 230) + rng.normal(0, 6, (height, width, 3))
    for across, down, radius in discs:
        picture[np.hypot(x - across, y - down) < radius] = rng.uniform(20, 90)
    return np.clip(picture, 0, 255).astype(np.uint8)


def scene(rng: np.random.Generator) -> tuple[Any, dict[str, Any]]:
    """Return a tile with one disc or two, and what torchvision wants to know of them."""
    import torch

    first, second = ((*rng.uniform(0, TILE, 2), rng.uniform(6, 14)) for _ in range(2))
    apart = np.hypot(first[0] - second[0], first[1] - second[1]) > first[2] + second[2]
    discs = [first, second] if apart else [first]
    y, x = np.mgrid[:TILE, :TILE] + 0.5
    masks = np.stack([np.hypot(x - across, y - down) < radius for across, down, radius in discs])
    boxes = [[*np.argwhere(mask).min(axis=0)[::-1], *np.argwhere(mask).max(axis=0)[::-1] + 1] for mask in masks]
    tile = torch.from_numpy(picture_of(TILE, TILE, discs, rng)).permute(2, 0, 1).float() / 255
    labels = torch.ones(len(discs), dtype=torch.int64)
    return tile, {"boxes": torch.tensor(boxes).float(), "labels": labels, "masks": torch.from_numpy(masks).byte()}


def tiny_mask_rcnn() -> Any:
    """Return torchvision's Mask R-CNN with five layers of convolution, without a feature pyramid, and few proposals."""
    from torch import nn
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.ops import MultiScaleRoIAlign

    def layer(channels: int, stride: int) -> nn.Module:
        return nn.Sequential(nn.LazyConv2d(channels, 3, stride, 1), nn.BatchNorm2d(channels), nn.ReLU())

    body = nn.Sequential(layer(16, 2), layer(CHANNELS, 2), *(layer(CHANNELS, 1) for _ in range(3)))
    body.out_channels = CHANNELS
    return MaskRCNN(
        body,
        min_size=TILE,
        max_size=TILE,
        image_mean=list(CARD.mean),
        image_std=list(CARD.std),
        rpn_anchor_generator=AnchorGenerator(((14, 24),), ((1.0,),)),
        rpn_pre_nms_top_n_train=100,
        rpn_pre_nms_top_n_test=100,
        rpn_post_nms_top_n_train=32,
        rpn_post_nms_top_n_test=50,
        rpn_batch_size_per_image=64,
        box_roi_pool=MultiScaleRoIAlign(["0"], 7, 2),
        box_head=TwoMLPHead(CHANNELS * 7 * 7, 64),
        box_predictor=FastRCNNPredictor(64, 2),
        box_batch_size_per_image=16,
        mask_roi_pool=MultiScaleRoIAlign(["0"], 14, 2),
        mask_head=MaskRCNNHeads(CHANNELS, (CHANNELS, CHANNELS), 1),
        mask_predictor=MaskRCNNPredictor(CHANNELS, CHANNELS, 2),
    )


@pytest.fixture(scope="module")
def predictor(one_thread: None) -> Predictor:
    """Return an engine around a Mask R-CNN that was trained for some ten seconds."""
    import torch

    from flat_bug.segmenters.torchvision import MaskRCNNSegmenter

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = tiny_mask_rcnn()
    model.train()
    model.backbone(torch.zeros(2, 3, TILE, TILE))  # the layers learn how many channels they are given
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.004)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.004, total_steps=STEPS)
    for _ in range(STEPS):
        tiles, targets = zip(*(scene(rng) for _ in range(BATCH)), strict=True)
        optimizer.zero_grad()
        sum(model(list(tiles), list(targets)).values()).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return Predictor(MaskRCNNSegmenter(model, CARD, "cpu"))


def check(found: Instances, discs: list[Disc]) -> None:
    assert len(found) == len(discs), found.boxes
    for across, down, radius in discs:
        truth = shapely.Point(across, down).buffer(radius)
        overlaps = shapely.area(shapely.intersection(found.polygons, truth)) / shapely.area(
            shapely.union(found.polygons, truth)
        )
        assert overlaps.max() > 0.7


def test_it_finds_discs_in_an_image_of_many_tiles(predictor: Predictor) -> None:
    discs = [(40, 40, 10), (120, 30, 12), (150, 110, 9), (60, 110, 13), (64, 70, 8), (190, 60, 11)]
    picture = picture_of(210, 150, discs, np.random.default_rng(7))
    check(predictor(picture), discs)


def test_an_empty_image_has_no_discs(predictor: Predictor) -> None:
    assert len(predictor(picture_of(150, 150, [], np.random.default_rng(9)))) == 0
