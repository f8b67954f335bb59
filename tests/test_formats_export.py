"""fb predict --formats and fb export: what was found once is written for any program, without predicting again."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from tests.spots import fb, spots

from flat_bug.instances.metadata import Metadata, write_metadata
from flat_bug.instances.table import Instances
from flat_bug.prediction_run.former_results import find_results

SPOTS = {"tray/b.png": [(50, 30)], "a.png": [(25, 30), (85, 40)], "c.png": []}
TARGETS = {"coco_instances.json", "geojson", "cvat", "labelstudio", "yolo", "fiftyone"}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scans")
    for name, centres in SPOTS.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(spots(110, 64, centres)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def predicted(images: Path, spots_network: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return results with every format."""
    output = tmp_path_factory.mktemp("results") / "out"
    formats = ["--formats", "geojson,cvat,labelstudio", "--formats", "yolo,fiftyone"]
    assert fb("predict", "-i", images, "-R", "-o", output, "-w", spots_network, "--no-crops", *formats) == 0
    return output


@pytest.fixture
def results(predicted: Path, tmp_path: Path) -> Path:
    """Return a copy of the results that a test may change."""
    return Path(shutil.copytree(predicted, tmp_path / "results", symlinks=True))


def compiled(output: Path) -> dict[str, bytes]:
    """Return the content of all files about all images; that of links is the image."""
    files = [path for name in TARGETS for path in [output / name, *(output / name).rglob("*")] if path.is_file()]
    return {path.relative_to(output).as_posix(): path.read_bytes() for path in files}


def test_all_formats_are_written_beside_the_results(predicted: Path) -> None:
    assert {path.name for path in predicted.iterdir()} >= {*TARGETS, "a", "b", "c", "summary.csv"}
    assert sorted(path.name for path in (predicted / "geojson").glob("*.geojson")) == [
        "a.geojson",
        "b.geojson",
        "c.geojson",
    ]


def test_a_second_run_writes_others_from_the_results(results: Path, images: Path, spots_network: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.rglob("metadata_*")}
    words = ["predict", "-i", images, "-R", "-o", results, "-w", spots_network, "--no-crops", "--json"]
    expected = compiled(results)
    assert fb(*words, "--formats", "yolo") == 0
    assert {path: path.stat().st_mtime_ns for path in results.rglob("metadata_*")} == before
    # Those of the former command would not be of this one.
    assert {path.name for path in results.iterdir()} & TARGETS == {"yolo", "coco_instances.json"}
    assert compiled(results) == {name: text for name, text in expected.items() if name.startswith(("yolo", "coco_"))}


def test_an_export_is_what_the_prediction_would_have_written(predicted: Path, tmp_path: Path) -> None:
    formats = "coco,geojson,cvat,labelstudio,yolo,fiftyone"
    assert fb("export", predicted, "-o", tmp_path / "out", "--formats", formats) == 0
    assert compiled(tmp_path / "out") == compiled(predicted)


def test_an_export_of_the_coco_file_says_the_same(
    predicted: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.json"
    shutil.copy(predicted / "coco_instances.json", alone)
    assert fb("export", alone, "--formats", "coco,yolo,fiftyone,cvat", "-I", images, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["images"], report["instances"], report["not_found"]) == (3, 3, 0)
    found, expected = compiled(tmp_path), compiled(predicted)
    assert json.loads(found["coco_instances.json"]) == json.loads(expected["coco_instances.json"])
    same = [name for name in expected if name.startswith(("yolo", "fiftyone/data", "cvat"))]
    assert {name: found[name] for name in same} == {name: expected[name] for name in same}


def test_a_format_may_be_called_by_its_program(predicted: Path, tmp_path: Path) -> None:
    assert fb("export", predicted, "-o", tmp_path / "out", "--formats", "QuPath, Label-Studio") == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"geojson", "labelstudio"}


def test_images_that_are_gone_are_told_of(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in results.rglob("metadata_*"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"image_path": f"/nowhere/{Path(values['image_path']).name}"}))
    assert fb("export", results, "--formats", "yolo", "-o", tmp_path / "out") == 0
    assert "3 images were not found" in capsys.readouterr().out
    assert list((tmp_path / "out" / "yolo" / "images").iterdir()) == []
    assert len(list((tmp_path / "out" / "yolo" / "labels").iterdir())) == 3


def legacy(image_path: str) -> dict[str, Any]:
    return {
        "boxes": [[0, 0, 20, 20]],
        "contours": [[[1, 19, 19, 1], [1, 1, 19, 19]]],
        "confs": [0.9],
        "classes": [1.0],
        "scales": [1.0],
        "areas": [64],
        "image_path": image_path,
        "image_width": 100,
        "image_height": 60,
        "mask_width": 100,
        "mask_height": 60,
        "identifier": ["some-id"],
    }


@pytest.mark.parametrize(
    ("folder", "names"),
    [("/data/", ["x.jpg", "tray/x.jpg"]), ("C:\\data\\", ["x.jpg", "tray\\x.jpg"]), ("", ["x.jpg", "tray/x.jpg"])],
)
def test_results_of_flat_bug_1_are_exported(tmp_path: Path, folder: str, names: list[str]) -> None:
    """Wherever they were made, and images of one name are kept apart."""
    for number, name in enumerate(names):
        path = tmp_path / f"image{number}" / f"metadata_x_UUID_{number}.json"
        path.parent.mkdir()
        path.write_text(json.dumps(legacy(folder + name)))
    assert fb("export", tmp_path, "--formats", "coco,yolo") == 0
    coco = json.loads((tmp_path / "coco_instances.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["tray/x.jpg", "x.jpg"]
    assert [annotation["area"] for annotation in coco["annotations"]] == [324, 324]
    assert sorted(path.name for path in (tmp_path / "yolo" / "labels").iterdir()) == ["tray__x.txt", "x.txt"]


def test_pages_of_one_file_are_kept_apart(tmp_path: Path) -> None:
    """What a page of a file is called is in the name of its JSON only."""
    for page in (1, 2):
        path = tmp_path / f"metadata_scan_page{page}_UUID_x.json"
        write_metadata(path, Metadata(Instances.empty(9, 9, page=page), "/data/scan.tif", "x"))
    assert fb("export", tmp_path, "--formats", "coco,yolo") == 0
    coco = json.loads((tmp_path / "coco_instances.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["scan_page1.tif", "scan_page2.tif"]
    assert len(list((tmp_path / "yolo" / "labels").iterdir())) == 2


def test_a_broken_result_costs_its_own_image_only(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    next(results.rglob("metadata_a_*")).write_text('{"boxes": [')
    assert fb("export", results, "--formats", "coco", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["images"] == 2
    assert "metadata_a_" in said.err


def test_a_table_of_several_classes_comes_back_from_coco(tmp_path: Path) -> None:
    outlines = np.array([shapely.box(1, 1, 9, 9), shapely.box(20, 20, 29, 28)], object)
    table = Instances.from_polygons(
        outlines, np.array([0.5, 0.25]), width=40, height=30, classes=np.array([1, 0]), class_names=("insect", "mite")
    )
    write_metadata(tmp_path / "metadata_x.json", Metadata(table, "x.jpg", "id"))
    assert fb("export", tmp_path, "--formats", "coco") == 0
    (back,) = find_results(tmp_path / "coco_instances.json")
    assert back.table == table


class TestRefusals:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["none", "--formats", "yolo"], "no results here"),
            (["."], "no format is named"),
            ([".", "--formats", "geojsn"], "did you mean geojson?"),
            ([".", "--formats", "yolo"], "no results here"),
            ([".", "--formats", "yolo", "-I", "none"], "no such folder of images"),
        ],
    )
    def test_wrong_use(
        self,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
        words: list[str],
        message: str,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert fb("export", *words) == 2
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_coco_file_is_not_replaced_by_itself(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = results / "coco_instances.json"
        assert fb("export", path, "--formats", "coco") == 2
        assert "would be replaced" in capsys.readouterr().err

    def test_two_results_of_one_image(self, results: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = next(results.rglob("metadata_a_*"))
        shutil.copy(path, path.with_name("metadata_a_UUID_other.json"))
        assert fb("export", results, "--formats", "coco") == 2
        assert "two results of the image" in capsys.readouterr().err

    def test_work_in_a_folder_is_spared_before_anything_is_predicted(
        self, tmp_path: Path, images: Path, spots_network: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "yolo").mkdir()
        (tmp_path / "yolo" / "notes.txt").write_text("mine")
        words = ["predict", "-i", images, "-o", tmp_path, "-w", spots_network, "--no-crops"]
        assert fb(*words, "--formats", "yolo") == 2
        assert "Move it away" in capsys.readouterr().err
        assert not list(tmp_path.rglob("metadata_*"))
        # It is in nobody's way where the format is not asked for.
        assert fb(*words) == 0
        assert (tmp_path / "yolo" / "notes.txt").read_text() == "mine"

    def test_formats_that_leave_each_other_out(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb("predict", "-i", images, "-o", tmp_path / "out", "-C", "--formats", "coco") == 2
        assert "leaves it out" in capsys.readouterr().err
