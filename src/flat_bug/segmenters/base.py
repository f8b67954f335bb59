"""What a segmenter is: a batch of tiles in, box-local masks out; and the card that describes its weights."""

import hashlib
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Literal, Protocol, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

CARD_SUFFIX = ".card.json"
"""The card of ``model.onnx`` is ``model.card.json`` beside it."""

Kind = Literal["yolo", "maskrcnn"]

ASSUMED_SCORE_THRESHOLD = 0.2
"""That of weights whose card does not say another one, or that have no card."""
DESCRIPTIVE = {
    "name",
    "score_threshold",
    "sha256",
    "licence",
    "description",
    "data",
    "command",
    "created",
    "scores",
    "notes",
}
"""Fields of a card that change nothing in what the same weights find, or are compared by themselves."""


class ModelCard(BaseModel):
    """What must be known of weights to use them, and to know what they are worth.

    Attributes:
        name: Short name, used in tables and folder names.
        kind: Kind of network: YOLO, or the Mask R-CNN of torchvision.
        backbone: The ResNet in a Mask R-CNN.
        tile: Side of the square tile, in pixels, that the network takes.
        stride: The tile side must be a multiple of this.
        classes: Name of each class index.
        mean: Per-channel value subtracted after scaling to 0–1.
        std: Per-channel value divided by.
        smallest_object: sqrt(w·h) in tile pixels below which detections mean little.
        largest_object: Longest side in tile pixels above which an animal was not seen in training; the pyramid goes
            down until the whole image is no longer than this.
        max_detections: Most detections per tile.
        score_threshold: Instances that score above this are kept unless the user says otherwise.
        mask_threshold: A mask cell is the animal's where the network is surer than this. Networks that blur their masks
            draw outlines too large at 0.5.
        sha256: Digest of the weight file.
        licence: Licence of the weights.
        description: What it is, one paragraph.
        data: Each data set trained on: name, licence, source, images, instances.
        command: Command that made the weights.
        created: ISO date.
        scores: Honest scores: a row per dataset.
        notes: Known limits, free text.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    kind: Kind = "yolo"
    backbone: str = ""
    tile: PositiveInt
    stride: PositiveInt = 32
    classes: tuple[str, ...] = ("insect",)
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    smallest_object: float = 4.0
    largest_object: PositiveInt = 1024
    max_detections: PositiveInt = 1000
    score_threshold: float = Field(ASSUMED_SCORE_THRESHOLD, ge=0, le=1)
    mask_threshold: float = Field(0.5, gt=0, lt=1)
    sha256: str = ""
    licence: str = "unknown"
    description: str = ""
    data: tuple[dict[str, str | int], ...] = ()
    command: str = ""
    created: str = ""
    scores: tuple[dict[str, str | float | int | None], ...] = ()
    notes: tuple[str, ...] = Field(default_factory=tuple)

    @model_validator(mode="after")
    def _tile_fits_stride(self) -> Self:
        if self.tile % self.stride:
            raise ValueError(f"tiles of {self.tile} px are no multiple of the stride, {self.stride}")
        return self

    @property
    def digest(self) -> str:
        """SHA-256 of what decides which instances are found, beside the weights and the score threshold."""
        return hashlib.sha256(self.model_dump_json(exclude=DESCRIPTIVE).encode()).hexdigest()


def card_path(weights: Path) -> Path:
    """Return where the card of a weight file lies."""
    return weights.with_name(weights.stem + CARD_SUFFIX)


def note_without_card(weights: Path) -> str | None:
    """Return what a user should know of weights that lie without a card, one sentence; nothing where they have one.

    The same weights find other animals with another score threshold, so nobody should be left to guess which it is.
    """
    card = card_path(weights)
    if card.is_file():
        return None
    return (
        f"{weights} has no card beside it; a score threshold of {ASSUMED_SCORE_THRESHOLD:g} is assumed "
        f"(copy {card.name} along)"
    )


@dataclass(frozen=True)
class TileInstances:
    """What a segmenter saw in one tile of side T; coordinates are float64 tile pixels, (0, 0) the outer corner.

    Attributes:
        boxes: ``(n, 4)`` x1, y1, x2, y2.
        scores: ``(n,)``.
        classes: ``(n,)``.
        masks: ``n`` float32 arrays ``(h, w)`` of logits (positive inside), each covering its own box only.
        frames: ``(n, 4)`` x1, y1, x2, y2: the rectangle in tile pixels whose cells ``masks[i]`` samples at their
            centres, so cell (r, c) lies at ``(x1 + (c + .5) * (x2 - x1) / w, y1 + (r + .5) * (y2 - y1) / h)``.
    """

    boxes: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    classes: npt.NDArray[np.int64]
    masks: tuple[npt.NDArray[np.float32], ...]
    frames: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, rows: npt.NDArray[np.bool_]) -> "TileInstances":
        masks = tuple(compress(self.masks, rows))
        return TileInstances(self.boxes[rows], self.scores[rows], self.classes[rows], masks, self.frames[rows])


class Segmenter(Protocol):
    """A network, whatever library runs it; nothing else in the program knows which."""

    @property
    def card(self) -> ModelCard:
        """The card of the weights."""

    def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
        """Segment a batch of RGB tiles.

        Args:
            tiles: ``uint8 (n, T, T, 3)`` with T the tile of the card.
            score_threshold: Candidates at or below this are left out.

        Returns:
            One ``TileInstances`` per tile, in order.
        """
