"""A checkpoint of ultralytics gives what ultralytics itself makes of it, and so does the ONNX file made from it.

Every candidate is compared before duplicates give way to the best, since there the last bit can decide: of two boxes
that overlap by 0.7 one stays or both do, and what it suppresses stays or goes. What is left then is nearly the same.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.spatial import KDTree
from tests.lively import SIDE, lively_network, pictures, save_checkpoint

from flat_bug.segmenters import yolo
from flat_bug.segmenters.base import ModelCard, TileInstances, card_path
from flat_bug.segmenters.load import load_segmenter
from flat_bug.segmenters.yolo import decode, normalised

pytestmark = [pytest.mark.train, pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

CARD = ModelCard(name="lively", tile=SIDE, largest_object=SIDE, max_detections=1300)
TILES = pictures(3)
THRESHOLD = 0.2
NETWORKS = [("yolov8n-seg", False), ("yolo11n-seg", False), ("yolo26n-seg", False), ("yolo26n-seg", True)]


@pytest.fixture(scope="module", params=NETWORKS, ids=lambda network: f"{network[0]}{'-end-to-end' * network[1]}")
def checkpoint(one_thread: None, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    name, end_to_end = request.param
    folder = tmp_path_factory.mktemp("checkpoint")
    path = save_checkpoint(lively_network(name, end_to_end=end_to_end), folder / "lively.pt")
    card_path(path).write_text(CARD.model_dump_json(), encoding="utf-8")
    return path


@pytest.fixture
def every_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no box give way to another."""
    monkeypatch.setattr(yolo, "BOX_OVERLAP", 2)


def ultralytics_of(checkpoint: Path, folder: Path) -> Any:
    """Return the checkpoint as ultralytics opens it; it writes beside what it opens."""
    from ultralytics import YOLO

    return YOLO(shutil.copy(checkpoint, folder / "theirs.pt"), task="segment")


def own_forward_pass(checkpoint: Path, folder: Path) -> list[TileInstances]:
    """Return what ultralytics' network puts out, neither fused nor exported, decoded by us."""
    import torch

    network = ultralytics_of(checkpoint, folder).model.float().eval()
    network.model[-1].max_det = CARD.max_detections
    with torch.inference_mode():
        (predictions, prototypes), _ = network(torch.from_numpy(normalised(TILES, CARD)))
    outputs = zip(predictions.numpy(), prototypes.numpy(), strict=True)
    return [decode(*output, CARD, THRESHOLD) for output in outputs]


def seen_with(weights: Path, tiles: npt.NDArray[np.uint8] = TILES) -> list[TileInstances]:
    return load_segmenter(weights, "cpu", trust_weights=True).segment(tiles, THRESHOLD)


def check_candidates(some: list[TileInstances], others: list[TileInstances], *, px: float, score: float) -> None:
    """Check that each candidate of the ones is, to so many pixels and so much of a score, one of the others."""
    assert sum(map(len, some)) > 300
    for one, other in zip(some, others, strict=True):
        places = KDTree(np.column_stack([other.boxes / px, other.scores / score]))
        certain = one.scores > THRESHOLD + score
        apart, nearest = places.query(np.column_stack([one.boxes / px, one.scores / score]), p=np.inf)
        assert (apart[certain] <= 1).all()
        for row in np.flatnonzero(certain):
            mask, same = one.masks[row], other.masks[nearest[row]]
            if np.array_equal(one.frames[row], other.frames[nearest[row]]):
                np.testing.assert_allclose(mask, same, atol=0.02 * np.abs(mask).max() + 0.01)


def share_in_common(some: list[TileInstances], others: list[TileInstances]) -> float:
    """Return which share of the ones has a box among the others that is no farther than a pixel."""
    near = [
        KDTree(other.boxes).query(one.boxes, p=np.inf)[0] < 1
        for one, other in zip(some, others, strict=True)
        if len(one) and len(other)
    ]
    return float(np.concatenate(near).sum() / sum(map(len, some)))


@pytest.mark.usefixtures("every_candidate")
def test_a_checkpoint_gives_what_ultralytics_own_forward_pass_gives(checkpoint: Path, tmp_path: Path) -> None:
    ours, theirs = seen_with(checkpoint), own_forward_pass(checkpoint, tmp_path)
    check_candidates(ours, theirs, px=0.2, score=1e-3)
    check_candidates(theirs, ours, px=0.2, score=1e-3)


@pytest.mark.usefixtures("every_candidate")
def test_a_checkpoint_gives_what_the_onnx_of_ultralytics_gives(checkpoint: Path, tmp_path: Path) -> None:
    alone = {"nms": False, "max_det": CARD.max_detections}
    options = alone if ultralytics_of(checkpoint, tmp_path).model.end2end else {}
    exported = Path(ultralytics_of(checkpoint, tmp_path).export(format="onnx", imgsz=SIDE, device="cpu", **options))
    card_path(exported).write_text(CARD.model_dump_json(), encoding="utf-8")
    ours, theirs = seen_with(checkpoint), seen_with(exported)
    check_candidates(ours, theirs, px=0.2, score=1e-3)
    check_candidates(theirs, ours, px=0.2, score=1e-3)


def test_the_onnx_that_we_export_gives_nearly_the_same_though_its_numbers_are_shorter(
    checkpoint: Path, tmp_path: Path
) -> None:
    from flat_bug.training.export import export_checkpoint

    exported = export_checkpoint(checkpoint, tmp_path / "ours.onnx", CARD)
    left = [seen_with(weights) for weights in (checkpoint, exported)]
    assert sum(map(len, left[0])) > 150
    assert share_in_common(*left) > 0.9
    assert share_in_common(*left[::-1]) > 0.9


def test_a_network_without_a_word_on_it_suppresses_duplicates_itself_as_it_was_trained_to(tmp_path: Path) -> None:
    model = lively_network("yolo26n-seg", end_to_end=True)
    said = save_checkpoint(model, tmp_path / "said.pt")
    del model.model[-1]._end2end  # checkpoints of ultralytics 8.4.90 and before have no such word
    unsaid = save_checkpoint(model, tmp_path / "unsaid.pt")
    for weights in (said, unsaid):
        card_path(weights).write_text(CARD.model_dump_json(), encoding="utf-8")
    for one, other in zip(seen_with(said), seen_with(unsaid), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
    assert sum(map(len, seen_with(unsaid))) > 100


@pytest.mark.real
def test_a_trained_checkpoint_and_its_onnx_find_the_same_animals(real_data: Path, real_weights: Path) -> None:
    from flat_bug.imaging import open_image

    onnx = load_segmenter(real_weights, "cpu")
    side = onnx.card.tile
    checkpoint = load_segmenter(real_weights.with_name("trial-yolo11n-seg.pt"), "cpu", trust_weights=True)
    checkpoint = type(checkpoint)(checkpoint.card.model_copy(update={"tile": side}), checkpoint._run)
    image = open_image(real_data / "spohf-yellow-sticky" / "IMG_0105.jpg")
    lefts, tops = (range(0, size - side, side) for size in (image.width, image.height))
    tiles = np.stack([image.read(x, y, side, side) for x in lefts for y in tops])
    ours, theirs = checkpoint.segment(tiles, THRESHOLD), onnx.segment(tiles, THRESHOLD)
    assert [len(one) for one in ours] == [len(one) for one in theirs]
    assert sum(map(len, ours)) > 2
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one.boxes, other.boxes, atol=0.05)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)
