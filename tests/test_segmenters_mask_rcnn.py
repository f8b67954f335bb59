"""A Mask R-CNN of torchvision behind the same protocol: other masks, other outputs, the same command."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.spots import fb, spots

from flat_bug.errors import WeightsError
from flat_bug.segmenters.base import ModelCard, card_path
from flat_bug.segmenters.load import load_segmenter

pytestmark = [pytest.mark.train, pytest.mark.slow]

TILE = 64
CARD = ModelCard(
    name="discs", kind="maskrcnn", backbone="resnet18", tile=TILE, largest_object=TILE, score_threshold=0.5
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network of random numbers, with its card."""
    import torch

    from flat_bug.segmenters.torchvision import build_mask_rcnn

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "discs.pt"
    torch.save(build_mask_rcnn(CARD).state_dict(), path)
    card_path(path).write_text(CARD.model_dump_json(), encoding="utf-8")
    return path


def test_it_answers_as_every_segmenter_does(weights: Path) -> None:
    tiles = np.random.default_rng(0).integers(0, 255, (2, TILE, TILE, 3), np.uint8)
    seen = load_segmenter(weights, "cpu").segment(tiles, 0.05)
    assert len(seen) == 2
    for instances in seen:
        assert len(instances) > 0
        assert all(mask.dtype == np.float32 and np.isfinite(mask).all() for mask in instances.masks)
        assert (instances.boxes >= 0).all()
        assert (instances.boxes <= TILE).all()
        middles = [(boxes[:, :2] + boxes[:, 2:]) / 2 for boxes in (instances.boxes, instances.frames)]
        np.testing.assert_allclose(*middles, atol=1)


def test_the_command_takes_it_without_trust_since_nothing_but_numbers_is_read(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(spots(90, 70, [(40, 30)], 16)).save(tmp_path / "in" / "card.png")
    assert fb("predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "-w", weights, "-g", "cpu") == 0
    assert (tmp_path / "out" / "coco_instances.json").is_file()


def test_other_classes_or_backbones_than_the_card_names_are_refused(weights: Path, tmp_path: Path) -> None:
    copy = tmp_path / "discs.pt"
    copy.write_bytes(weights.read_bytes())
    for change in ({"classes": ("beetle", "fly")}, {"backbone": "resnet34"}, {"backbone": "vgg"}):
        card_path(copy).write_text(CARD.model_copy(update=change).model_dump_json(), encoding="utf-8")
        with pytest.raises(WeightsError):
            load_segmenter(copy, "cpu")


@pytest.mark.parametrize("content", [b"", b"not a network", b"PK\x03\x04" + b"\0" * 100])
def test_a_damaged_file_is_said_to_be_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "discs.pt"
    path.write_bytes(content)
    card_path(path).write_text(CARD.model_dump_json(), encoding="utf-8")
    with pytest.raises(WeightsError, match="not the state of a network"):
        load_segmenter(path, "cpu")


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "discs.pt"
    torch.save({"weight": Path("/")}, path)
    card_path(path).write_text(CARD.model_dump_json(), encoding="utf-8")
    with pytest.raises(WeightsError, match="not the state of a network"):
        load_segmenter(path, "cpu")
