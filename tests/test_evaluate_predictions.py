"""Which files predictions are read from, and which annotated image each predicted image is."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.errors import DatasetError
from flat_bug.evaluation.names import file_stems
from flat_bug.evaluation.predictions import pair_images, read_predictions
from flat_bug.instances.coco import write_coco
from flat_bug.instances.metadata import Metadata, write_metadata
from flat_bug.instances.table import Instances

RING = shapely.box(10, 20, 60, 80).difference(shapely.box(20, 30, 40, 50))
OUTLINES = np.array([shapely.box(100, 100, 150, 160), RING], object)


def table(count: int = 2) -> Instances:
    return Instances.from_polygons(OUTLINES[:count], np.array([0.9, 0.4])[:count], width=300, height=200)


def prediction_folder(folder: Path) -> Path:
    """Write the JSON of two images, one of them empty, as ``fb predict`` lays them out."""
    for name, count in (("a", 2), ("b", 0)):
        (folder / name).mkdir(parents=True)
        metadata = Metadata(table(count), f"/data/{name}.jpg", "1")
        write_metadata(folder / name / f"metadata_{name}_UUID_1.json", metadata)
    return folder


class TestReading:
    def test_the_json_of_each_image_in_a_folder(self, tmp_path: Path) -> None:
        images = read_predictions(prediction_folder(tmp_path)).images
        assert [(image.name, len(image)) for image in images] == [("/data/a.jpg", 2), ("/data/b.jpg", 0)]
        assert images[0].scores.tolist() == [0.9, 0.4]
        assert images[0].boxes.tolist() == [[100, 100, 150, 160], [10, 20, 60, 80]]
        assert images[0].polygons[1].equals(RING)

    def test_the_coco_file_of_a_folder_comes_first(self, tmp_path: Path) -> None:
        prediction_folder(tmp_path)
        write_coco(tmp_path / "coco_instances.json", [("c.jpg", table())])
        images = read_predictions(tmp_path).images
        assert [image.name for image in images] == ["c.jpg"]
        assert images[0].scores.tolist() == [0.9, 0.4]
        # A hole is written as whole pixels, and these lie on whole pixels.
        assert images[0].polygons[1].area == RING.area

    def test_a_single_file_of_either_kind(self, tmp_path: Path) -> None:
        write_coco(tmp_path / "any name.json", [("c.jpg", table())])
        write_metadata(tmp_path / "one.json", Metadata(table(), "a.jpg", "1"))
        assert [image.name for image in read_predictions(tmp_path / "any name.json").images] == ["c.jpg"]
        assert [image.name for image in read_predictions(tmp_path / "one.json").images] == ["a.jpg"]

    def test_a_pattern_takes_the_json_of_images_only(self, tmp_path: Path) -> None:
        prediction_folder(tmp_path)
        write_coco(tmp_path / "coco_instances.json", [("c.jpg", table())])
        images = read_predictions(tmp_path / "**" / "*.json").images
        assert [image.name for image in images] == ["/data/a.jpg", "/data/b.jpg"]

    def test_json_of_flat_bug_1_in_a_folder_under_any_name(self, tmp_path: Path) -> None:
        old = {
            "boxes": [[10, 20, 60, 80]],
            "contours": [[[5, 30, 30, 5], [10, 10, 40, 40]]],
            "confs": [0.7],
            "classes": [1],
            "scales": [0.5],
            "areas": [3000],
            "image_path": "old.jpg",
            "image_width": 300,
            "image_height": 200,
            "mask_width": 150,
            "mask_height": 100,
            "identifier": ["x"],
        }
        (tmp_path / "old.json").write_text(json.dumps(old))
        (image,) = read_predictions(tmp_path).images
        assert image.polygons[0].equals(shapely.box(10, 20, 60, 80))
        assert image.scores.tolist() == [0.7]

    def test_an_outline_that_crosses_itself_is_mended(self, tmp_path: Path) -> None:
        bow = np.array([shapely.Polygon([(0, 0), (50, 50), (50, 0), (0, 50)])], object)
        broken = Instances.from_polygons(bow, np.ones(1), width=99, height=99)
        write_metadata(tmp_path / "metadata_x.json", Metadata(broken, "x.jpg", "1"))
        (image,) = read_predictions(tmp_path).images
        assert image.polygons[0].is_valid
        assert image.polygons[0].area == 1250

    def test_ground_truth_as_predictions_is_certain(self, tmp_path: Path) -> None:
        write_coco(tmp_path / "x.json", [("c.jpg", table())])
        document = json.loads((tmp_path / "x.json").read_text())
        for entry in document["annotations"]:
            del entry["score"], entry["conf"]
        (tmp_path / "x.json").write_text(json.dumps(document))
        assert read_predictions(tmp_path / "x.json").images[0].scores.tolist() == [1.0, 1.0]

    def test_what_a_killed_run_left_does_not_count(self, tmp_path: Path) -> None:
        folder = prediction_folder(tmp_path)
        (folder / ".tmp-1").mkdir()
        shutil.copy(next(folder.rglob("metadata_*.json")), folder / ".tmp-1" / "metadata_new.json")
        assert len(read_predictions(folder).images) == 2

    def test_the_digest_tells_contents_apart_and_not_places(self, tmp_path: Path) -> None:
        first = read_predictions(prediction_folder(tmp_path / "one")).sha256
        assert read_predictions(prediction_folder(tmp_path / "two")).sha256 == first
        shutil.rmtree(tmp_path / "two" / "b")
        assert read_predictions(tmp_path / "two").sha256 != first


class TestNothingToRead:
    def test_an_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="no predictions") as caught:
            read_predictions(tmp_path)
        assert "coco_instances.json" in caught.value.mend

    @pytest.mark.parametrize("name", ["absent", "absent.json", "**/*.json"])
    def test_a_path_that_is_not_there(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(DatasetError):
            read_predictions(tmp_path / name)

    def test_a_folder_without_coco_when_coco_was_said(self, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="cannot be read"):
            read_predictions(prediction_folder(tmp_path), coco=True)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"confs": [1]}', '{"images": []}', "\x00"])
    def test_files_that_are_something_else_are_named(self, tmp_path: Path, content: str) -> None:
        path = tmp_path / "metadata_x.json"
        path.write_text(content)
        for given_path in (path, tmp_path):
            with pytest.raises(DatasetError) as caught:
                read_predictions(given_path)
            assert caught.value.where == str(path)

    @pytest.mark.parametrize("change", [{"confs": [float("nan")]}, {"boxes": [[0, 0, float("inf"), 9]]}])
    def test_values_that_are_not_numbers(self, tmp_path: Path, change: dict[str, Any]) -> None:
        path = tmp_path / "metadata_x.json"
        write_metadata(path, Metadata(table(1), "x.jpg", "1"))
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        with pytest.raises(DatasetError, match="not a finite number"):
            read_predictions(path)


class TestPairing:
    @pytest.mark.parametrize(
        "name", ["x.jpg", "./x.jpg", "val/x.jpg", "/data/val/x.jpg", r"C:\data\val\x.jpg", "other/x.jpg"]
    )
    def test_a_name_is_found_by_its_last_part(self, name: str) -> None:
        assert pair_images(["val/x.jpg", "val/y.jpg"], [name]) == {0: 0}

    def test_folders_decide_between_equal_names(self) -> None:
        truth = ["a/x.jpg", "b/x.jpg", "b/c/x.jpg"]
        assert pair_images(truth, ["/data/b/c/x.jpg", "/data/a/x.jpg", "/data/b/x.jpg"]) == {0: 2, 1: 0, 2: 1}

    def test_a_name_that_agrees_to_its_end_comes_first(self) -> None:
        assert pair_images(["x.jpg", "a/b/x.jpg"], ["/data/b/x.jpg", "/data/a/b/x.jpg"]) == {0: 0, 1: 1}

    def test_a_better_partner_leaves_the_other_without(self) -> None:
        assert pair_images(["a/x.jpg"], ["b/x.jpg", "a/x.jpg"]) == {1: 0}

    def test_the_same_letters_written_in_two_ways(self) -> None:
        assert pair_images(["f\u00fcr.jpg"], ["fu\u0308r.jpg"]) == {0: 0}

    def test_a_prediction_that_fits_two_images_names_both(self) -> None:
        with pytest.raises(DatasetError, match=r"'x\.jpg' can be two annotated images: 'a/x\.jpg' and 'b/x\.jpg'"):
            pair_images(["a/x.jpg", "b/x.jpg"], ["x.jpg"])

    def test_an_image_with_two_predictions_names_both(self) -> None:
        with pytest.raises(DatasetError, match=r"'x\.jpg' can be two predicted images: 'a/x\.jpg' and 'b/x\.jpg'"):
            pair_images(["x.jpg"], ["a/x.jpg", "b/x.jpg"])

    def test_no_name_in_common_is_a_mistake(self) -> None:
        with pytest.raises(DatasetError, match="none of the 1 predicted images") as caught:
            pair_images(["a.jpg"], ["b.jpg"])
        assert "a.jpg" in caught.value.where
        assert "b.jpg" in caught.value.where

    def test_nothing_on_one_side_is_none(self) -> None:
        assert pair_images(["a.jpg"], []) == pair_images([], ["a.jpg"]) == {}

    @given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), unique=True, max_size=8))
    def test_names_that_differ_find_themselves(self, names: list[str]) -> None:
        assert pair_images(names, [f"/somewhere/else/{name}" for name in names]) == {
            row: row for row in range(len(names))
        }


class TestFileNames:
    def test_the_stem_is_enough_where_it_is_alone(self) -> None:
        assert file_stems(["sub/a.jpg", "b.c.png", "noend"]) == ["a", "b.c", "noend"]

    def test_folders_tell_equal_stems_apart(self) -> None:
        assert file_stems(["a.jpg", "sub/a.jpg", "other/A.png"]) == ["a", "sub__a", "other__A"]

    def test_nothing_leads_out_of_the_folder(self) -> None:
        for stem in file_stems(["../../etc/x.jpg", "/root/x.jpg", "..", "a\x00b\n.jpg", r"..\..\y.jpg", "."]):
            assert not set(stem) & set("/\\\x00\n")

    @given(st.lists(st.text(min_size=1, max_size=300), unique=True, max_size=6))
    def test_any_names_give_usable_stems(self, names: list[str]) -> None:
        stems = file_stems(names, reserved=["scores"])
        assert len({stem.casefold() for stem in stems}) == len(names)
        assert all(stem and len(stem.encode(errors="surrogatepass")) <= 220 for stem in stems)
        assert "scores" not in {stem.casefold() for stem in stems}
