"""Draw what was matched, missed and spurious over an image."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import shapely
from matplotlib.colors import to_rgb
from matplotlib.transforms import Affine2D

from flat_bug.datasets.coco import GroundTruthImage
from flat_bug.errors import ImageError
from flat_bug.evaluation.gallery import image_finder, rank_images
from flat_bug.evaluation.marks import MARKS
from flat_bug.evaluation.names import file_stems
from flat_bug.evaluation.predictions import ImagePair, PredictedImage
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.files import atomic_path, remove
from flat_bug.imaging import LazyImage, open_image
from flat_bug.instances.canvas import Canvas, Colour, Picture, path_of, path_of_box, path_of_text
from flat_bug.instances.overview import encode_jpeg
from flat_bug.progress import track

FOLDER = "matches"
ENDING = "_matches.jpg"
LONGEST = 12_000
"""Longest side of an overlay, in pixels, whatever its scale."""

EXTREMES = 2
"""Best and worst images of each dataset, so many of each, that are drawn when not all are."""

DARK: Colour = (0.06, 0.06, 0.06)
PLATE = (28, 34, 32)
TEXT: Colour = (0.93, 0.94, 0.93)


@dataclass(frozen=True)
class Style:
    """How objects of one kind are drawn; the fill and the cross tell the kinds apart without colours too.

    Attributes:
        words: What the legend calls them.
        width: Of the outline, relative to the line width of the picture.
        filling: Opacity of the fill.
        crossed: Whether a cross marks the middle.
    """

    words: str
    width: float = 1.0
    filling: float = 0.0
    crossed: bool = False


STYLES = {
    "truth": Style("annotated", width=0.7),
    "ignored": Style("does not count", width=0.7),
    "matched": Style("found"),
    "spurious": Style("no animal", crossed=True),
    "missed": Style("missed", width=1.3, filling=0.35),
}
COLOURS: dict[str, Colour] = {kind: to_rgb(colour) for kind, colour in MARKS.items()}


@dataclass(frozen=True)
class Work:
    """An overlay to draw: the image, what is known of it, and where the overlay goes."""

    source: Path | None
    truth: GroundTruthImage
    predicted: PredictedImage | None
    objects: pl.DataFrame
    target: Path


def write_overlays(
    objects: pl.DataFrame,
    images: Sequence[ImagePair],
    roots: Sequence[Path],
    output: Path,
    settings: EvaluationSettings,
) -> tuple[str, ...]:
    """Write ``matches/<stem>_matches.jpg`` for the images that the settings ask for.

    Overlays of an earlier evaluation are removed, since they show other matches.

    Args:
        objects: A row per annotation and per prediction without one.
        images: The annotated images, each with its predictions or None.
        roots: Folders to look for the images in, the likeliest first.
        output: The folder of the evaluation.
        settings: Which images to draw, and how.

    Returns:
        A line for each image that could not be drawn.

    Raises:
        OutputError: The folder cannot be written to.
    """
    remove((output / FOLDER).glob(f"*{ENDING}"))
    if settings.overlays == "none":
        return ()
    wanted = None if settings.overlays == "all" else extremes(objects)
    finders = [image_finder(root) for root in roots if root.is_dir()]
    rows = objects.partition_by("dataset", "image", as_dict=True)
    works = []
    stems = file_stems([truth.file_name for truth, _ in images])
    for (truth, predicted), stem in zip(images, stems, strict=True):
        key = (truth.dataset, truth.file_name)
        if wanted is None or key in wanted:
            source = next(filter(None, (find(*key) for find in finders)), None)
            target = output / FOLDER / f"{stem}{ENDING}"
            works.append(Work(source, truth, predicted, rows.get(key, objects.clear()), target))
    with ThreadPoolExecutor(settings.workers) as pool:
        failures = pool.map(lambda work: _write(work, settings), works)
        return tuple(filter(None, track(failures, "Drawing", len(works))))


def extremes(objects: pl.DataFrame) -> set[tuple[str, str]]:
    """Return dataset and name of the best and the worst images of each dataset, by their F1."""
    ranked: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for dataset, image in rank_images(objects):
        ranked[dataset].append((dataset, image))
    return {key for keys in ranked.values() for key in [*keys[:EXTREMES], *keys[-EXTREMES:]]}


def _write(work: Work, settings: EvaluationSettings) -> str | None:
    """Draw and write one overlay; return why that was not possible."""
    if work.source is None:
        return f"{work.truth.file_name}: the image was not found"
    try:
        image = open_image(work.source)
        picture = draw_overlay(
            image,
            work.objects,
            work.truth,
            work.predicted,
            scale=settings.overlay_scale,
            boxes=settings.overlay_boxes,
        )
    except ImageError as error:
        return f"{work.truth.file_name}: {error.brief()}"
    with atomic_path(work.target) as temporary:
        temporary.write_bytes(encode_jpeg(picture))
    return None


def draw_overlay(
    image: LazyImage,
    objects: pl.DataFrame,
    truth: GroundTruthImage,
    predicted: PredictedImage | None,
    *,
    scale: float = 0.5,
    boxes: bool = True,
) -> Picture:
    """Return an image with its outlines over it and a legend with their numbers under it.

    Args:
        image: The image.
        objects: Its rows of a per-object table.
        truth: Its annotations.
        predicted: Its predictions, if there are any.
        scale: Size of the picture relative to the image.
        boxes: Draw boxes around the outlines.

    Returns:
        ``uint8 (h, w, 3)`` RGB.

    Raises:
        ImageError: The image is damaged, or is not the annotated one.
    """
    if (image.width, image.height) != (truth.width, truth.height):
        raise ImageError(
            f"the image is {image.width} × {image.height} pixels, its annotation says {truth.width} × {truth.height}",
            where=image.name,
        )
    scale = min(scale, LONGEST / max(image.width, image.height))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    factors = np.array(size) / (image.width, image.height)
    line = float(np.clip(max(size) / 800, 1.5, 3.0))
    counts = _counts(objects)
    legend = _Legend(counts, size[0])
    band = np.full((legend.height, size[0], 3), PLATE, np.uint8)
    canvas = Canvas(np.concatenate([image.read(0, 0, *size, size=size), band]))
    shapes = list(_shapes(objects, truth, predicted))
    for kind in MARKS:
        for outline in (outline for other, outline in shapes if other == kind):
            _draw(canvas, shapely.transform(outline, lambda points: points * factors), kind, line, boxes)
    # Outlines that leave the image must not reach into the legend.
    canvas.fill(path_of_box((0, size[1], size[0], size[1] + legend.height)), tuple(np.array(PLATE) / 255), 1.0)
    legend.draw(canvas, size[1])
    return canvas.picture()


def _shapes(
    objects: pl.DataFrame, truth: GroundTruthImage, predicted: PredictedImage | None
) -> Iterator[tuple[str, shapely.Geometry]]:
    """Yield the kind and the outline of everything to draw; the box where there is no outline."""
    annotated = dict(zip(truth.annotation_ids.tolist(), truth.polygons, strict=True))
    found = dict(enumerate(predicted.polygons)) if predicted is not None else {}
    for row in objects.iter_rows(named=True):
        mine = _outline(annotated.get(row["gt_id"]), row["gt_box"])
        theirs = _outline(found.get(row["pred_id"]), row["pred_box"])
        kind = "ignored" if row["ignored"] else row["kind"]
        if kind == "matched":
            yield "truth", mine
        yield kind, mine if theirs is None else theirs


def _outline(polygon: shapely.Geometry | None, box: list[float] | None) -> shapely.Geometry | None:
    if polygon is not None and not polygon.is_empty:
        return polygon
    return shapely.box(*box) if box is not None else None


def _counts(objects: pl.DataFrame) -> dict[str, int]:
    counted = objects.filter(~pl.col("ignored"))["kind"].value_counts()
    counts = dict(zip(counted["kind"], counted["count"], strict=True))
    found = counts.get("matched", 0)
    return {**counts, "truth": found + counts.get("missed", 0), "ignored": int(objects["ignored"].sum())}


def _draw(canvas: Canvas, outline: shapely.Geometry, kind: str, line: float, boxes: bool) -> None:
    style, colour = STYLES[kind], COLOURS[kind]
    path, width = path_of(outline), style.width * line
    if style.filling:
        canvas.fill(path, colour, style.filling)
    # A thin shade on both sides keeps the line visible on a ground of its own colour.
    canvas.stroke(path, DARK, 0.5, width + 1.6)
    canvas.stroke(path, colour, 1.0, width)
    x1, y1, x2, y2 = outline.bounds
    if boxes:
        canvas.stroke(path_of_box((x1 - width, y1 - width, x2 + width, y2 + width)), colour, 0.55, 0.6 * line)
    if style.crossed:
        x, y, arm = (x1 + x2) / 2, (y1 + y2) / 2, float(np.clip(0.15 * min(x2 - x1, y2 - y1), 3, 12))
        cross = shapely.MultiLineString(
            [[(x - arm, y - arm), (x + arm, y + arm)], [(x - arm, y + arm), (x + arm, y - arm)]]
        )
        mark = path_of(cross.buffer(0.5 * line))
        canvas.stroke(mark, DARK, 0.5, 1.6)
        canvas.fill(mark, colour, 1.0)


class _Legend:
    """A band under the picture: each kind in its style, with its number; as many lines as the width needs."""

    def __init__(self, counts: dict[str, int], width: int) -> None:
        self.digit = float(np.clip(width / 110, 9, 18))
        self.row_height = 2.6 * self.digit
        shown = [
            kind
            for kind in ("truth", "matched", "missed", "spurious", "ignored")
            if counts.get(kind) or kind != "ignored"
        ]
        self._places: list[tuple[str, str, float, int]] = []
        x, row = self.digit, 0
        for kind in shown:
            text = f"{STYLES[kind].words} {counts.get(kind, 0)}"
            needed = 2.4 * self.digit + path_of_text(text, self.digit)[1]
            if x > self.digit and x + needed > width:
                x, row = self.digit, row + 1
            self._places.append((kind, text, x, row))
            x += needed + 2 * self.digit
        self.height = round((row + 1) * self.row_height)

    def draw(self, canvas: Canvas, top: int) -> None:
        """Draw the legend; ``top`` is where its band begins."""
        for kind, text, x, row in self._places:
            y = top + (row + 0.5) * self.row_height
            half = 0.75 * self.digit
            _draw(canvas, shapely.box(x, y - half, x + 2 * half, y + half), kind, 0.11 * self.digit, boxes=False)
            words, _ = path_of_text(text, self.digit)
            place = Affine2D().translate(x + 2.4 * self.digit, y + self.digit / 2)
            canvas.fill(place.transform_path(words), TEXT, 1.0)
