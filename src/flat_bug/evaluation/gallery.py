"""The best and the worst images of a report: a part of each, and what every model made of it as vector outlines."""

import base64
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from flat_bug.errors import ImageError
from flat_bug.evaluation.shapes import ImageOutlines, Shape, Window, draw_shapes, object_boxes, read_outlines
from flat_bug.evaluation.standings import COUNTS, Standing, f1_of
from flat_bug.evaluation.tables import image_table
from flat_bug.imaging import LazyImage, open_image
from flat_bug.vips import pyvips

SCENES_PER_KIND = 4
LONGEST_SIDE = 960
"""Of a picture on the page, in pixels; eight pictures of this size take about one megabyte."""

LEAST_WINDOW = 480
OBJECTS_ACROSS = 16
"""A window is about this many typical animals wide, so that each can be made out."""

ASPECT = 4 / 3
CANDIDATE_PLACES = 500
WEBP_QUALITY = 78

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """What one model made of an image; the counts are of the whole image, the shapes of the part shown."""

    slot: int
    f1: float | None
    matched: int
    missed: int
    spurious: int
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Scene:
    """A part of an image, as a data URI of ``width`` × ``height`` pixels, with a layer per model."""

    kind: str
    dataset: str
    image: str
    source: str
    width: int
    height: int
    layers: tuple[Layer, ...]


def make_scenes(standings: Sequence[Standing], per_kind: int = SCENES_PER_KIND) -> tuple[Scene, ...]:
    """Cut out the worst and the best images of the best model whose images are at hand.

    Images that cannot be found or read are passed over for the next ones.
    """
    scored = [standing for standing in standings if standing.done]
    leader = next((standing for standing in scored if standing.model.images is not None), None)
    if leader is None or leader.model.images is None:
        return ()
    find = image_finder(leader.model.images)
    layers = [(standing, _outlines(standing)) for standing in scored]
    ranked = rank_images(leader.objects)
    # An image is among the worst or the best, not both, however few there are.
    half = (len(ranked) + 1) // 2
    scenes: list[Scene] = []
    for kind, keys in (("worst", ranked[:half]), ("best", ranked[half:][::-1])):
        made = (_scene(kind, key, find(*key), leader, layers) for key in spread(keys))
        scenes += itertools.islice((scene for scene in made if scene is not None), per_kind)
    return tuple(scenes)


def rank_images(objects: pl.DataFrame) -> list[tuple[str, str]]:
    """Return dataset and name of each image in which something counts, the worst first.

    Images of the same F1 are ordered by how much there is to see: many errors first, many matches last.
    """
    table = image_table(objects, objects.select("dataset", "image").unique().sort("dataset", "image"))
    counts = table.select(COUNTS).to_numpy()
    f1 = f1_of(counts)
    errors = counts[:, 0] + counts[:, 1] - 2 * counts[:, 2]
    order = np.lexsort((counts[:, 2], -errors, f1))
    names = table.select("dataset", "image").rows()
    return [names[row] for row in order if not np.isnan(f1[row])]


def spread(images: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Order images so that every dataset shows one before any shows its second."""
    seen: dict[str, int] = {}
    turns = []
    for dataset, image in images:
        seen[dataset] = turn = seen.get(dataset, 0) + 1
        turns.append((turn, dataset, image))
    return [(dataset, image) for _, dataset, image in sorted(turns, key=lambda turn: turn[0])]


def image_finder(root: Path) -> Callable[[str, str], Path | None]:
    """Return a function from dataset and image name to its file below ``root``, in whichever layout it has."""
    below: dict[str, Path] = {}

    def find(dataset: str, image: str) -> Path | None:
        for candidate in (root / image, root / dataset / image):
            if candidate.is_file():
                return candidate
        if not below:
            below.update({path.name: path for path in sorted(root.rglob("*"), reverse=True)})
        return below.get(Path(image).name)

    return find


def choose_window(boxes: Floats, weights: Floats, size: tuple[int, int]) -> Window:
    """Choose the part of an image that shows most, in the aspect of the page, wide enough to make animals out.

    Args:
        boxes: ``(n, 4)`` x1, y1, x2, y2 of all objects of the image; n > 0.
        weights: ``(n,)`` how much each is worth showing.
        size: Width and height of the image.
    """
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    typical = float(np.median(np.sqrt(sides.prod(axis=1))))
    wanted = max(LEAST_WINDOW, OBJECTS_ACROSS * typical, 1.2 * float(np.median(sides.max(axis=1))))
    width = round(min(size[0], wanted, max(size[1], LEAST_WINDOW) * ASPECT))
    height = round(min(size[1], width / ASPECT))
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.array([width, height]) / 2
    places = np.clip(centres[weights > 0][:CANDIDATE_PLACES], half, np.maximum(np.array(size) - half, half))
    if not len(places):
        places = np.array(size)[None, :] / 2
    inside = (np.abs(places[:, None, :] - centres[None, :, :]) < half).all(axis=2)
    x, y = np.floor(places[np.argmax(inside @ weights)] - half).clip(0).astype(int)
    x, y = min(int(x), size[0] - width), min(int(y), size[1] - height)
    return Window(x, y, width, height, min(1.0, LONGEST_SIDE / max(width, height)))


def encode(image: LazyImage, window: Window) -> tuple[str, int, int]:
    """Return the part of the image as a data URI, with its width and height in pixels."""
    size = (max(1, round(image.width * window.scale)), max(1, round(image.height * window.scale)))
    x, y = round(window.x * window.scale), round(window.y * window.scale)
    width = max(1, min(round(window.width * window.scale), size[0] - x))
    height = max(1, min(round(window.height * window.scale), size[1] - y))
    picture = pyvips.Image.new_from_array(image.read(x, y, width, height, size))
    encoded = picture.webpsave_buffer(Q=WEBP_QUALITY, keep="none")
    return "data:image/webp;base64," + base64.b64encode(encoded).decode("ascii"), width, height


def _scene(
    kind: str,
    key: tuple[str, str],
    picture: Path | None,
    leader: Standing,
    layers: Sequence[tuple[Standing, Mapping[str, ImageOutlines]]],
) -> Scene | None:
    """Return the scene, or nothing when the image is not at hand or cannot be read."""
    if picture is None:
        return None
    shown = _of_image(leader.objects, key)
    is_error = (shown["kind"] != "matched").to_numpy() & ~shown["ignored"].to_numpy()
    is_match = (shown["kind"] == "matched").to_numpy() & ~shown["ignored"].to_numpy()
    try:
        image = open_image(picture)
        # Errors are what a bad image is looked at for; matches give them context.
        weights = np.where(is_error, 1.0, 0.0) + np.where(is_match, 0.01 if kind == "worst" else 1.0, 0.0)
        window = choose_window(object_boxes(shown), weights, (image.width, image.height))
        source, width, height = encode(image, window)
    except ImageError:
        return None
    return Scene(
        kind=kind,
        dataset=key[0],
        image=Path(key[1]).name,
        source=source,
        width=width,
        height=height,
        layers=tuple(
            _layer(standing.slot, _of_image(standing.objects, key), outlines.get(key[1], ImageOutlines()), window)
            for standing, outlines in layers
        ),
    )


def _layer(slot: int, objects: pl.DataFrame, outlines: ImageOutlines, window: Window) -> Layer:
    counts = objects.filter(~pl.col("ignored"))["kind"].value_counts()
    matched, missed, spurious = (
        int(counts.filter(pl.col("kind") == kind)["count"].sum()) for kind in ("matched", "missed", "spurious")
    )
    total = 2 * matched + missed + spurious
    return Layer(
        slot=slot,
        f1=2 * matched / total if total else None,
        matched=matched,
        missed=missed,
        spurious=spurious,
        shapes=draw_shapes(objects, outlines, window),
    )


def _of_image(objects: pl.DataFrame, key: tuple[str, str]) -> pl.DataFrame:
    return objects.filter((pl.col("dataset") == key[0]) & (pl.col("image") == key[1]))


def _outlines(standing: Standing) -> dict[str, ImageOutlines]:
    names = standing.objects["image"].unique().sort().to_list()
    return read_outlines(standing.model.ground_truth, standing.model.predictions, names)
