"""What a network says of itself, and whether it is the one of its card; asked before an image is opened."""

import ast
from dataclasses import dataclass, field
from pathlib import Path

from flat_bug.errors import WeightsError
from flat_bug.segmenters.base import ModelCard, card_path

TILE_WITHOUT_WORD = 640
"""Side of a tile where neither the graph, nor its metadata, nor a card says one: what ultralytics exports."""
PRECISIONS = ("float32", "float16")
"""Types of the input that tiles are given in."""


@dataclass(frozen=True)
class Port:
    """An input or an output of a graph.

    Attributes:
        type: ``float32``, ``float16``, ``uint8``…
        shape: Its sizes, ``None`` where it takes any; nothing if even the number of axes is open.
    """

    type: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Graph:
    """A network as its file describes it.

    Attributes:
        inputs: What it takes.
        outputs: What it puts out.
        metadata: What its maker wrote into it: ``names``, ``stride``, ``imgsz``, ``license``, as texts of Python.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def batch(self) -> int | None:
        """Number of tiles that the graph insists on, or None if it takes any."""
        shape = self.inputs[0].shape
        return shape[0] if shape else None

    @property
    def precision(self) -> str:
        """Type of the input, ``float32`` or ``float16``."""
        return self.inputs[0].type


def describe(graph: Graph, weights: Path, card: ModelCard | None, digest: str) -> ModelCard:
    """Return the card of a network, checked against its graph, or made from it.

    Args:
        graph: The network.
        weights: Its file, for messages.
        card: Its card; if there is none, one is made.
        digest: SHA-256 of the file.

    Raises:
        WeightsError: The network does not segment as YOLO does, or is not the one of the card.
    """
    tile = _tile_of(graph, weights)
    classes = _classes_of(graph, weights)
    if card is None:
        card = _card_from(graph.metadata, weights, tile, digest)
    if tile not in (None, card.tile):
        raise WeightsError(
            f"the network takes tiles of {tile} px, its card says {card.tile} px",
            where=weights,
            mend="Give the weights their own card.",
        )
    if classes not in (None, len(card.classes)):
        raise WeightsError(
            f"the network has {classes} classes, its card names {len(card.classes)}",
            where=weights,
            mend="Give the weights their own card.",
        )
    _check_stride(graph.metadata, weights, card)
    return card


def _tile_of(graph: Graph, weights: Path) -> int | None:
    """Return the side of the tile that the graph fixes, or None if it takes any."""
    if len(graph.inputs) != 1:
        raise _another_kind(weights, f"it takes {len(graph.inputs)} inputs, not one")
    shape = graph.inputs[0].shape
    if shape is None or len(shape) != 4:
        raise _another_kind(weights, "it does not take a batch of images")
    if shape[1] != 3 and shape[3] == 3:
        raise WeightsError(
            "the network takes images with the channels last, (n, height, width, 3)",
            where=weights,
            mend="Export it with the channels first, (n, 3, height, width), as ultralytics does.",
        )
    if shape[1] not in (3, None):
        raise _another_kind(weights, f"it takes images of {shape[1]} channels")
    if graph.inputs[0].type not in PRECISIONS:
        raise WeightsError(
            f"the network takes {graph.inputs[0].type} images",
            where=weights,
            mend="Export it with an input of float32 or float16, scaled to 0–1.",
        )
    if shape[2] != shape[3] and None not in shape[2:]:
        raise WeightsError(f"the network takes tiles of {shape[3]}×{shape[2]} px, not square ones", where=weights)
    return next((side for side in shape[2:] if side is not None), None)


def _classes_of(graph: Graph, weights: Path) -> int | None:
    """Return how many classes the outputs tell apart, or None if their shapes do not say."""
    if len(graph.outputs) != 2:
        raise _another_kind(weights, f"it has {len(graph.outputs)} outputs, not two: predictions and prototypes")
    shapes = [output.shape for output in graph.outputs if output.shape is not None]
    if len(shapes) == 2 and sorted(map(len, shapes)) != [3, 4]:
        raise _another_kind(weights, "its outputs are no predictions (n, …, …) and prototypes (n, …, …, …)")
    if len(shapes) < 2:
        return None
    predictions, prototypes = sorted(shapes, key=len)
    coefficients, rows, columns = prototypes[1], predictions[1], predictions[2]
    if coefficients is None or columns == 6 + coefficients or rows is None:
        return None  # the shapes leave it open, or duplicates are suppressed and the class is a column of its own
    classes = rows - 4 - coefficients
    if classes < 1:
        raise _another_kind(
            weights, f"predictions of {rows} rows have no room for a box, a class and {coefficients} coefficients"
        )
    return classes


def _another_kind(weights: Path, why: str) -> WeightsError:
    return WeightsError(
        f"the network does not segment instances as YOLO does: {why}",
        where=weights,
        mend="Give a -seg model, as `fb train` exports it.",
    )


def _check_stride(metadata: dict[str, str], weights: Path, card: ModelCard) -> None:
    try:
        stride = int(metadata.get("stride", "1"))
    except ValueError:
        return  # a card stands in for metadata that make no sense
    if stride > 0 and card.tile % stride:
        raise WeightsError(
            f"tiles of {card.tile} px, as the card says, are no multiple of the stride of the network, {stride}",
            where=weights,
            mend="Give the weights their own card.",
        )


def _card_from(metadata: dict[str, str], weights: Path, tile: int | None, digest: str) -> ModelCard:
    """Make a card from the shapes and from the metadata that ultralytics writes."""
    try:
        side = tile or max(ast.literal_eval(metadata.get("imgsz", f"[{TILE_WITHOUT_WORD}]")))
        classes = ast.literal_eval(metadata.get("names", "{0: 'insect'}"))
        return ModelCard(
            name=weights.stem,
            tile=side,
            stride=ast.literal_eval(metadata.get("stride", "32")),
            classes=tuple(str(classes[index]) for index in sorted(classes)),
            # Unknown without a card; animals longer than half a tile are seen at a coarser level as well.
            largest_object=side // 2,
            sha256=digest,
            licence=metadata.get("license", "unknown"),
            description=metadata.get("description", ""),
        )
    except (ValueError, TypeError, SyntaxError) as error:
        raise WeightsError(
            f"the metadata of the network make no sense: {error}",
            where=weights,
            mend=f"Write a card, {card_path(weights).name}.",
        ) from error
