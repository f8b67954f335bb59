"""A small collection of images with every kind of outline, as the tests of formats write it."""

from pathlib import Path

import numpy as np
import shapely
from PIL import Image

from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.table import Instances, Provenance

WIDTH, HEIGHT = 60, 50
SQUARE = shapely.box(2.5, 3.25, 12.5, 8.25)
RING = shapely.box(20, 20, 40, 40).difference(shapely.box(25, 25, 30, 35))
TWO_PARTS = shapely.MultiPolygon([shapely.box(45, 5, 50, 10), shapely.box(52, 5, 55, 10)])


def table_of(*found: shapely.Geometry, width: int = WIDTH, height: int = HEIGHT) -> Instances:
    column = np.empty(len(found), object)
    column[:] = found
    origin = Provenance(image_sha256="ab" * 32, weights_sha256="cd" * 32, weights_name="spots")
    return Instances.from_polygons(
        column,
        np.linspace(0.9, 0.3, len(found)),
        width=width,
        height=height,
        classes=np.arange(len(found), dtype=np.int64) % 2,
        class_names=("insect", "spider & co"),
        provenance=origin,
    )


def three_images(folder: Path) -> list[ImageResult]:
    """Write three images and return what was found in them: two animals, none, and one in two parts."""
    found = {"a.png": (SQUARE, RING), "sub/leer.png": (), "ü ' b.png": (TWO_PARTS,)}
    results = []
    for file_name, outlines in found.items():
        path = folder / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (WIDTH, HEIGHT), "white").save(path)
        results.append(
            ImageResult(file_name, file_name.replace("/", "__").removesuffix(".png"), table_of(*outlines), path)
        )
    return results
