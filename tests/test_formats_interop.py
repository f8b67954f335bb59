"""Every format is read by the program that people use it with, and says there what the table says."""

from pathlib import Path

import pytest
import shapely
from tests.collections_of_images import HEIGHT, RING, SQUARE, TWO_PARTS, WIDTH, three_images
from tests.interop import DATUMARO, FIFTYONE, GEO, LABEL_STUDIO, run_with

from flat_bug.instances.formats import FORMATS, write_formats


def written(name: str, tmp_path: Path) -> Path:
    """Write three images in a format and return its folder; the images are in ``images`` beside it."""
    return write_formats([FORMATS[name]], tmp_path / "out", three_images(tmp_path / "images"))[name]


READ_GEOJSON = """
import json, sys, geojson, geopandas
text = open(sys.argv[1], encoding="utf-8").read()
frame = geopandas.read_file(sys.argv[1])
print(json.dumps({
    "faults": geojson.loads(text).errors(),
    "shapes": [shape.wkt for shape in frame.geometry],
    "types": frame.objectType.tolist(),
}))
"""


@pytest.mark.slow
def test_geojson_is_read_by_geopandas_and_found_valid(tmp_path: Path) -> None:
    folder = written("geojson", tmp_path)
    read = run_with(GEO, READ_GEOJSON, folder / "a.geojson")
    assert read["faults"] == []
    square, ring = map(shapely.from_wkt, read["shapes"])
    assert square.equals(SQUARE)
    assert ring.equals(RING)
    assert read["types"] == ["detection", "detection"]
    (parts,) = run_with(GEO, READ_GEOJSON, folder / "ü ' b.geojson")["shapes"]
    assert shapely.from_wkt(parts).equals(TWO_PARTS)
    assert run_with(GEO, READ_GEOJSON.replace("frame.objectType.tolist()", "[]"), folder / "sub__leer.geojson") == {
        "faults": [],
        "shapes": [],
        "types": [],
    }


READ_CVAT = """
import json, sys
import datumaro
dataset = datumaro.Dataset.import_from(sys.argv[1], "cvat")
names = [label.name for label in dataset.categories()[datumaro.AnnotationType.label]]
print(json.dumps({item.id: [{
    "kind": shape.type.name, "label": names[shape.label], "group": shape.group, "score": shape.attributes["score"],
    "points": getattr(shape, "points", None),
    "pixels": int(shape.image.sum()) if shape.type.name == "mask" else None,
    "box": [float(side) for side in shape.get_bbox()],
} for shape in item.annotations] for item in dataset}))
"""


@pytest.mark.slow
def test_cvat_is_read_by_datumaro_which_cvat_is_built_on(tmp_path: Path) -> None:
    folder = written("cvat", tmp_path)
    (folder / "images").symlink_to(tmp_path / "images")
    read = run_with(DATUMARO, READ_CVAT, folder)
    assert read["sub/leer"] == []
    square, ring = read["a"]
    assert (square["kind"], square["label"], square["score"], square["group"]) == ("polygon", "insect", "0.9", 0)
    assert square["box"] == [2.5, 3.25, 10, 5]
    assert (ring["kind"], ring["label"], ring["pixels"]) == ("mask", "spider & co", RING.area)
    assert ring["box"] == [20, 20, 20, 20]
    parts = read["ü ' b"]
    assert [part["box"] for part in parts] == [[45, 5, 5, 5], [52, 5, 3, 5]]
    assert {part["group"] for part in parts} == {1}


READ_LABEL_STUDIO = """
import json, pathlib, sys, tempfile
from label_studio_sdk.converter import Converter
from label_studio_sdk.label_interface import LabelInterface
folder, images = map(pathlib.Path, sys.argv[1:])
interface = LabelInterface((folder / "interface.xml").read_text())
interface.validate()
tasks = json.loads((folder / "tasks.json").read_text())
faults = [fault for task in tasks for found in task["predictions"]
          for fault in interface.validate_prediction(found, return_errors=True)]
# As if a person had accepted all of them.
accepted = [{"id": row, "data": task["data"], "annotations": [{"id": row, **task["predictions"][0]}]}
            for row, task in enumerate(tasks)]
with tempfile.TemporaryDirectory() as place:
    place = pathlib.Path(place)
    (place / "accepted.json").write_text(json.dumps(accepted))
    converter = Converter(interface.config, project_dir=None, upload_dir=str(images), download_resources=False)
    converter.convert_to_coco(str(place / "accepted.json"), str(place), is_dir=False)
    coco = json.loads((place / "result.json").read_text())
print(json.dumps({"faults": faults, "tasks": tasks, "coco": coco}))
"""


@pytest.mark.slow
def test_label_studio_takes_its_tasks_and_exports_what_was_given(tmp_path: Path) -> None:
    folder = written("labelstudio", tmp_path)
    read = run_with(LABEL_STUDIO, READ_LABEL_STUDIO, folder, tmp_path / "images")
    assert read["faults"] == []
    assert read["tasks"][1]["data"]["image"] == "/data/local-files/?d=images/sub/leer.png"
    coco = read["coco"]
    assert [(image["width"], image["height"]) for image in coco["images"][::2]] == [(WIDTH, HEIGHT)] * 2
    assert sorted(category["name"] for category in coco["categories"]) == ["insect", "spider & co"]
    boxes = [annotation["bbox"] for annotation in coco["annotations"]]
    expected = [[2.5, 3.25, 10, 5], [20, 20, 20, 20], [45, 5, 5, 5], [52, 5, 3, 5]]
    assert [pytest.approx(box) for box in boxes] == expected


READ_FIFTYONE = """
import json, sys
import fiftyone
found = {}
for polylines in (False, True):
    kinds = {"dataset_type": fiftyone.types.COCODetectionDataset, "label_types": "segmentations"}
    dataset = fiftyone.Dataset.from_dir(sys.argv[1], **kinds, label_field="animals", use_polylines=polylines)
    kind = "polylines" if polylines else "detections"
    for sample in dataset:
        labels = [] if sample.animals is None else sample.animals[kind]
        found.setdefault(sample.filename, {})[kind] = [{
            "label": one.label, "confidence": one.confidence,
            "shape": one.points if polylines else [one.bounding_box, int(one.mask.sum())],
        } for one in labels]
    dataset.delete()
print(json.dumps(found))
"""


@pytest.mark.slow
def test_fiftyone_loads_its_dataset(tmp_path: Path) -> None:
    folder = written("fiftyone", tmp_path)
    settings = {
        "FIFTYONE_DATABASE_DIR": str(tmp_path / "database"),
        "FIFTYONE_DATABASE_VALIDATION": "false",
        "FIFTYONE_DO_NOT_TRACK": "true",
    }
    read = run_with(FIFTYONE, READ_FIFTYONE, folder, **settings)
    assert read["sub__leer.png"] == {"detections": [], "polylines": []}
    square, ring = read["a.png"]["detections"]
    assert (square["label"], square["confidence"]) == ("insect", 0.9)
    assert square["shape"][0] == pytest.approx([2.5 / WIDTH, 3.25 / HEIGHT, 10 / WIDTH, 5 / HEIGHT])
    assert (ring["label"], ring["shape"][1]) == ("spider & co", RING.area)
    (parts,) = read["ü ' b.png"]["polylines"]
    assert len(parts["shape"]) == 2


@pytest.mark.train
def test_ultralytics_reads_its_dataset(tmp_path: Path) -> None:
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    folder = written("yolo", tmp_path)
    data = check_det_dataset(str(folder / "data.yaml"), autodownload=False)
    assert data["names"] == {0: "insect", 1: "spider & co"}
    dataset = YOLODataset(img_path=data["train"], data=data, task="segment", augment=False, imgsz=64)
    labels = {Path(label["im_file"]).name: label for label in dataset.labels}
    assert list(labels) == ["a.png", "sub__leer.png", "ü ' b.png"]
    assert labels["a.png"]["cls"].ravel().tolist() == [0, 1]
    size = (WIDTH, HEIGHT)
    square, filled = (shapely.Polygon(ring * size) for ring in labels["a.png"]["segments"])
    assert square.symmetric_difference(SQUARE).area < 1e-3
    # A row has one ring: the hole is filled, and the parts are joined by a bridge of no width.
    assert filled.symmetric_difference(shapely.Polygon(RING.exterior)).area < 1e-3
    (joined,) = (shapely.Polygon(ring * size) for ring in labels["ü ' b.png"]["segments"])
    assert joined.area == pytest.approx(TWO_PARTS.area, abs=1e-3)
    assert len(labels["sub__leer.png"]["cls"]) == 0
