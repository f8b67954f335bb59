"""Synthetic datasets: pictures of small arthropods with exact outlines, the same for the same seed.

``synthesize`` writes ``<output>/<dataset>/{instances_default.json, *.jpg}``, the layout that ``fb data prepare`` reads.
An annotation is the visible part of one animal, legs, wings and antennae included, taken from the painted geometry.
"""

import multiprocessing
import signal
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import shapely

from flat_bug.datasets.synthetic.scene import Animal, draw_scene
from flat_bug.datasets.synthetic.sceneries import PLANS, SCENERIES, Scenery
from flat_bug.errors import OutputError, UsageError
from flat_bug.files import atomic_path, write_json
from flat_bug.processors import usable_processors
from flat_bug.progress import track
from flat_bug.vips import pyvips

GENERATOR_VERSION = "1.0"
"""Goes up with every change that alters pictures or outlines for the same seed."""

IMAGES_PER_EMPTY_ONE = 12
EMPTY_IMAGE = 3
"""Of every twelve images of a dataset the fourth has no animals."""

GRID = 0.01
"""Coordinates are rounded to a hundredth of a pixel."""

TOLERANCE = 0.02
"""Outlines lose the points that move them by less, in pixels: far less than a picture of 8 bits can show."""

SMALLEST_HOLE = 0.5
"""Holes below half a square pixel are slits between neighbouring parts, which no picture shows."""


@dataclass(frozen=True)
class SynthDataset:
    """What was written for one dataset.

    Args:
        name: Of its folder.
        images: Number of images.
        empty: How many of them have no animals.
        animals: Number of annotations.
        sizes: Smallest, median and largest ``sqrt(width * height)`` of the annotations' boxes, in pixels; empty if
            there are none.
    """

    name: str
    images: int
    empty: int
    animals: int
    sizes: tuple[float, ...]


@dataclass(frozen=True)
class SynthReport:
    """What ``synthesize`` wrote.

    Args:
        output: Folder that holds the datasets.
        seed: Of the generator.
        datasets: One entry per dataset, in the order asked for.
    """

    output: Path
    seed: int
    datasets: tuple[SynthDataset, ...]


@dataclass(frozen=True)
class _Job:
    """One image to draw."""

    folder: Path
    dataset: str
    index: int
    seed: int
    size: tuple[int, int]

    @property
    def file_name(self) -> str:
        return f"{self.dataset}_{self.index:04d}.jpg"


def synthesize(
    output: Path,
    *,
    seed: int = 0,
    images: int = 6,
    size: tuple[int, int] | None = None,
    datasets: Sequence[str] | None = None,
    jobs: int | None = None,
) -> SynthReport:
    """Write synthetic datasets; the same arguments give the same bytes, whatever ``jobs`` is.

    Args:
        output: Folder to make; it must not exist, or be empty.
        seed: Any non-negative integer. An image depends on the seed, its dataset's name, its number and ``size`` only,
            so a larger set repeats the images of a smaller one.
        images: Images per dataset; the fourth of every twelve has no animals.
        size: Width and height of the images in pixels; by default each dataset has its own, about 1200 × 1200.
        datasets: Names out of ``sceneries.SCENERIES``; by default all.
        jobs: Number of processes; by default one per available core.

    Raises:
        UsageError: An unknown dataset, or a number out of range.
        OutputError: The output exists already or cannot be written.
    """
    names = _checked(seed, images, size, datasets, jobs)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise OutputError("the output exists already", where=output, mend="Choose a new folder, or remove this one.")
    with atomic_path(output) as temporary:
        work = [
            _Job(temporary / name, name, index, seed, size or SCENERIES[name].size)
            for name in names
            for index in range(images)
        ]
        for name in names:
            (temporary / name).mkdir(parents=True)
        drawn = list(track(_drawn(work, jobs or len(usable_processors())), "Drawing", len(work)))
        reports = []
        for number, name in enumerate(names):
            rows = drawn[number * images : (number + 1) * images]
            entries = work[number * images : (number + 1) * images]
            write_json(temporary / name / "instances_default.json", _coco(SCENERIES[name], entries, rows), indent=None)
            reports.append(_summary(name, rows))
    return SynthReport(output, seed, tuple(reports))


def _checked(
    seed: int, images: int, size: tuple[int, int] | None, datasets: Sequence[str] | None, jobs: int | None
) -> list[str]:
    if seed < 0:
        raise UsageError("the seed is negative", where=f"seed {seed}", mend="Give 0 or more.")
    if images < 1:
        raise UsageError("there is nothing to draw", where=f"images {images}", mend="Ask for at least one image.")
    if jobs is not None and jobs < 1:
        raise UsageError("there is no process to draw with", where=f"jobs {jobs}", mend="Give 1 or more.")
    if size is not None and not all(64 <= side <= 8192 for side in size):
        raise UsageError("the image size is out of range", where=f"size {size}", mend="Give 64 to 8192 pixels a side.")
    names = list(dict.fromkeys(datasets)) if datasets is not None else list(SCENERIES)
    unknown = [name for name in names if name not in SCENERIES]
    if unknown or not names:
        raise UsageError(
            f"unknown dataset {', '.join(unknown)}" if unknown else "no dataset is named",
            where="datasets",
            mend=f"Choose from {', '.join(SCENERIES)}.",
        )
    return names


def _drawn(work: Sequence[_Job], jobs: int) -> Iterator[list[dict[str, Any]]]:
    if min(jobs, len(work)) == 1:
        yield from map(_draw, work)
        return
    # libvips runs threads, which a fork would leave behind in an unknown state.
    context = multiprocessing.get_context("spawn")
    # Ctrl-C reaches every process of a terminal; this one answers it, and the others would only print where they were.
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(min(jobs, len(work)), context, initializer=signal.signal, initargs=ignore) as pool:
        try:
            yield from pool.map(_draw, work)
        finally:
            pool.shutdown(cancel_futures=True)


def _draw(job: _Job) -> list[dict[str, Any]]:
    """Draw and write one image; return its annotations without their ids."""
    scenery = SCENERIES[job.dataset]
    rng = np.random.default_rng([job.seed, zlib.crc32(job.dataset.encode()), job.index])
    width, height = job.size
    scene = draw_scene(scenery, rng, width, height, empty=job.index % IMAGES_PER_EMPTY_ONE == EMPTY_IMAGE)
    picture = pyvips.Image.new_from_array(scene.pixels, interpretation="srgb")
    picture.jpegsave(str(job.folder / job.file_name), Q=scene.quality, keep="none")
    return [_annotation(animal) for animal in scene.animals]


def _annotation(animal: Animal) -> dict[str, Any]:
    visible = _without_slits(shapely.set_precision(shapely.simplify(animal.visible, TOLERANCE), GRID))
    x1, y1, x2, y2 = (float(bound) for bound in shapely.bounds(visible))
    return {
        "category_id": 1,
        "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
        "area": round(float(visible.area), 4),
        "iscrowd": 0,
        "segmentation": [_flat(piece) for piece in without_holes(visible)],
        "attributes": {"plan": animal.plan, "visible": round(float(visible.area / animal.whole_area), 4)},
    }


def _flat(polygon: Any) -> list[float]:
    coordinates = shapely.get_coordinates(polygon)[:-1]
    return [round(float(value), 2) for value in coordinates.ravel()]


def _without_slits(shape: Any) -> Any:
    filled = [
        shapely.Polygon(part.exterior, [ring for ring in part.interiors if shapely.Polygon(ring).area >= SMALLEST_HOLE])
        for part in shapely.get_parts(shape)
        if part.area >= GRID
    ]
    return shapely.MultiPolygon(filled)


def without_holes(shape: Any) -> list[Any]:
    """Return polygons without holes whose union is the shape.

    COCO's polygon lists cannot say "hole", and its run lengths lose everything thinner than a pixel; so a shape is cut
    upright through its holes, and the pieces meet in the cuts.
    """
    pieces = []
    waiting = [part for part in shapely.get_parts(shape) if part.geom_type == "Polygon"]
    while waiting:
        part = waiting.pop()
        if not part.interiors:
            pieces.append(part)
            continue
        x1, y1, x2, y2 = shapely.bounds(part)
        left, _, right, _ = shapely.bounds(part.interiors[0])
        cut = round((left + right) / 2, 2)
        halves = (shapely.box(x1 - 1, y1 - 1, cut, y2 + 1), shapely.box(cut, y1 - 1, x2 + 1, y2 + 1))
        split = shapely.get_parts(shapely.intersection(part, halves, grid_size=GRID))
        waiting.extend(piece for piece in split if piece.geom_type == "Polygon" and piece.area > 0)
    return pieces


def _coco(scenery: Scenery, work: Sequence[_Job], rows: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    pairs = [(number, row) for number, annotations in enumerate(rows, start=1) for row in annotations]
    return {
        "info": {
            "description": f"Synthetic images: {scenery.description}",
            "synthetic": True,
            "version": GENERATOR_VERSION,
            "contributor": "flat-bug, fb data synth",
            "seed": work[0].seed,
            "dataset": scenery.name,
            "license": "CC0-1.0",
            "license_url": "https://creativecommons.org/publicdomain/zero/1.0/",
            "segmentation_source": "exact: the visible part of the painted geometry",
            "body_plans": sorted(PLANS.keys() & scenery.plans.keys()),
        },
        "licenses": [{"id": 1, "name": "CC0-1.0", "url": "https://creativecommons.org/publicdomain/zero/1.0/"}],
        "categories": [{"id": 1, "name": "insect", "supercategory": ""}],
        "images": [
            {"id": number, "file_name": job.file_name, "width": job.size[0], "height": job.size[1], "license": 1}
            for number, job in enumerate(work, start=1)
        ],
        "annotations": [{"id": i, "image_id": image, **row} for i, (image, row) in enumerate(pairs, start=1)],
    }


def _summary(name: str, rows: Sequence[Sequence[dict[str, Any]]]) -> SynthDataset:
    boxes = [row["bbox"] for annotations in rows for row in annotations]
    sizes = np.sqrt([box[2] * box[3] for box in boxes])
    spread = (float(sizes.min()), float(np.median(sizes)), float(sizes.max())) if boxes else ()
    return SynthDataset(name, len(rows), sum(not annotations for annotations in rows), len(boxes), spread)
