"""Small valid files of every kind, to be broken."""

import io
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pyvips
import shapely
import tifffile
from PIL import Image, ImageCms

from flat_bug.instances.metadata import Metadata, to_mapping
from flat_bug.instances.table import Instances, Provenance

SIDE = 40


@cache
def images() -> dict[str, bytes]:
    """Return images by kind."""
    return dict([*_jpegs(), *_pngs(), *_tiffs(), *_others()])


def _picture() -> Image.Image:
    y, x = np.mgrid[:SIDE, : SIDE + 8]
    return Image.fromarray(np.dstack([x * 5, y * 6, (x * y) % 256]).astype(np.uint8))


def _saved(kind: str, picture: Image.Image | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    (picture or _picture()).save(stream, kind, **options)
    return stream.getvalue()


def _jpegs() -> Iterator[tuple[str, bytes]]:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    yield "jpeg", _saved("JPEG", exif=exif, icc_profile=profile)
    yield "progressive jpeg", _saved("JPEG", progressive=True)
    yield "cmyk jpeg", _saved("JPEG", _picture().convert("CMYK"))


def _pngs() -> Iterator[tuple[str, bytes]]:
    yield "png", _saved("PNG")
    yield "palette png", _saved("PNG", _picture().convert("P"), transparency=3)
    deep = pyvips.Image.new_from_array(np.asarray(_picture()).astype(np.uint16) * 257).copy(interpretation="rgb16")
    yield "interlaced png", deep.pngsave_buffer(interlace=True)


def _tiffs() -> Iterator[tuple[str, bytes]]:
    pixels = np.asarray(_picture())
    ways: dict[str, dict[str, Any]] = {
        "tiff": {},
        "deflated tiff": {"compression": "zlib", "predictor": True, "rowsperstrip": 7},
        "tiled tiff": {"tile": (16, 16)},
        "big tiff": {"bigtiff": True},
        "planar tiff": {"planarconfig": "separate"},
    }
    for name, options in ways.items():
        stream = io.BytesIO()
        data = pixels.transpose(2, 0, 1) if "planarconfig" in options else pixels
        tifffile.imwrite(stream, data, photometric="rgb", **options)
        yield name, stream.getvalue()
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.stack([pixels[..., 0], pixels[..., 1]]).astype(np.float32), photometric="minisblack")
    yield "float pages tiff", stream.getvalue()
    yield "fax tiff", _saved("TIFF", _picture().convert("1"), compression="group4")
    yield "lzw tiff", _saved("TIFF", compression="tiff_lzw")
    yield "jpeg tiff", _saved("TIFF", compression="jpeg")


def _others() -> Iterator[tuple[str, bytes]]:
    more = {"save_all": True, "append_images": [_picture().rotate(90), _picture().convert("L").convert("RGB")]}
    yield "webp", _saved("WEBP")
    yield "loss-free webp", _saved("WEBP", lossless=True)
    yield "moving webp", _saved("WEBP", **more)
    yield "gif", _saved("GIF")
    yield "moving gif", _saved("GIF", **more)
    picture = pyvips.Image.new_from_array(np.asarray(_picture())).copy(interpretation="srgb")
    yield "avif", picture.heifsave_buffer(compression="av1")


@cache
def metadata() -> str:
    """Return the JSON of one image."""
    outlines = np.array(
        [shapely.box(1, 2, 9, 8), shapely.Point(20, 20).buffer(5).difference(shapely.box(19, 19, 21, 21))]
    )
    table = Instances.from_polygons(
        outlines, np.array([0.5, 0.9]), width=SIDE, height=SIDE, provenance=Provenance("a", "b", "c", {"d": 1}, "e")
    )
    return json.dumps(to_mapping(Metadata(table, "a.jpg", "b")))


@cache
def legacy_metadata() -> str:
    """Return the JSON of one image as flat-bug 1.x writes it."""
    kept = json.loads(metadata())
    for name in ("schema_version", "polygons", "class_names", "mm_per_px", "provenance"):
        del kept[name]
    return json.dumps(kept | {"identifier": ["b"]})


@cache
def coco() -> str:
    """Return a COCO file with polygons, run lengths of both kinds, boxes and scores."""
    outlines: list[Any] = [
        [[1, 1, 9, 1, 9, 9], [20, 20, 30, 20, 30, 30, 20, 30]],
        {"size": [SIDE, SIDE], "counts": [41, 5, 35, 5, SIDE * SIDE - 86]},
        {"size": [4, 4], "counts": "448"},
        [],
    ]
    annotations = [
        {"id": row, "image_id": 1 + (row == 2), "category_id": 1, "iscrowd": 0, "bbox": [1, 1, 8, 8], "area": 9}
        | {"segmentation": outline, "score": 0.5}
        for row, outline in enumerate(outlines)
    ]
    images = [
        {"id": 1, "file_name": "a/b.jpg", "width": SIDE, "height": SIDE},
        {"id": 2, "file_name": "c_d.jpg", "width": 4, "height": 4, "dataset": "x"},
    ]
    categories = [{"id": 1, "name": "insect", "supercategory": ""}]
    return json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": categories})
