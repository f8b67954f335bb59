"""Reading COCO files: every form of outline, and every way in which a file can be broken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as oracle

from flat_bug.datasets.coco import CocoFile, dataset_of, read_coco
from flat_bug.datasets.rle import rle_polygon
from flat_bug.errors import DatasetError

SQUARE = [10, 10, 30, 10, 30, 30, 10, 30]
BOW_TIE = [0, 0, 10, 10, 10, 0, 0, 10]
IMAGE = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}


def annotation(number: int = 1, **values: Any) -> dict[str, Any]:
    return {"id": number, "image_id": 1, "category_id": 1, "segmentation": [SQUARE], **values}


def document(*annotations: dict[str, Any], **members: Any) -> dict[str, Any]:
    categories = [{"id": 1, "name": "insect"}]
    return {"images": [IMAGE], "annotations": list(annotations), "categories": categories, **members}


@pytest.fixture
def read(tmp_path: Path):
    """Return a function that reads what it is given: a document, or the text of a file."""

    def read(content: Any, **options: Any) -> CocoFile:
        path = tmp_path / "instances_default.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return read_coco(path, **options)

    return read


class TestOutlines:
    def test_a_ring_is_a_polygon_in_image_pixels(self, read):
        (image,) = read(document(annotation(bbox=[10, 10, 20, 20]))).images
        assert image.polygons[0].equals(shapely.box(10, 10, 30, 30))
        assert image.boxes.tolist() == [[10, 10, 30, 30]]
        assert not image.repaired.any()
        assert not image.box_only.any()
        assert not image.crowd.any()
        assert image.scores is None

    def test_a_closed_ring_is_the_same_as_an_open_one(self, read):
        (image,) = read(document(annotation(segmentation=[[*SQUARE, 10, 10]]))).images
        assert image.polygons[0].area == 400

    def test_the_box_is_the_given_one_and_the_bounds_where_none_is_given(self, read):
        (image,) = read(document(annotation(1, bbox=[9, 8, 25, 26]), annotation(2))).images
        assert image.boxes.tolist() == [[9, 8, 34, 34], [10, 10, 30, 30]]

    def test_parts_become_one_multipolygon(self, read):
        (image,) = read(document(annotation(segmentation=[SQUARE, [50, 50, 60, 50, 60, 60]]), annotation(2))).images
        assert image.polygons[0].geom_type == "MultiPolygon"
        assert image.polygons[0].area == 450
        assert image.polygons[1].area == 400
        assert not image.repaired.any()

    def test_parts_that_overlap_count_once_and_are_no_repair(self, read):
        (image,) = read(document(annotation(segmentation=[SQUARE, [20, 10, 40, 10, 40, 30, 20, 30]]))).images
        assert image.polygons[0].area == 600
        assert image.polygons[0].is_valid
        assert not image.repaired[0]

    def test_a_ring_that_crosses_itself_is_taken_apart(self, read):
        (image,) = read(document(annotation(segmentation=[BOW_TIE]))).images
        assert image.polygons[0].is_valid
        assert image.polygons[0].area == 50
        assert image.repaired[0]

    def test_a_ring_that_covers_itself_twice_makes_no_hole(self, read):
        twice = [0, 0, 20, 0, 20, 20, 5, 20, 5, -5, 10, -5, 10, 10, 0, 10]
        (image,) = read(document(annotation(segmentation=[twice]))).images
        assert not shapely.get_num_interior_rings(shapely.get_parts(image.polygons[0])).any()

    def test_an_outline_without_area_is_empty_but_keeps_its_box(self, read):
        (image,) = read(document(annotation(segmentation=[[1, 1, 5, 5, 9, 9]]))).images
        assert image.polygons[0].is_empty
        assert image.boxes.tolist() == [[1, 1, 9, 9]]
        assert not image.repaired[0]

    @pytest.mark.parametrize("segmentation", [[], None, [[]]])
    def test_an_annotation_without_an_outline_is_its_box(self, read, segmentation):
        (image,) = read(document(annotation(segmentation=segmentation, bbox=[5, 6, 7, 8]))).images
        assert image.polygons[0].equals(shapely.box(5, 6, 12, 14))
        assert image.box_only.tolist() == [True]

    def test_coordinates_outside_the_image_are_kept_as_they_are(self, read):
        (image,) = read(document(annotation(segmentation=[[-5, -5, 200, -5, 200, 200, -5, 200]]))).images
        assert image.polygons[0].bounds == (-5, -5, 200, 200)

    def test_thousands_of_annotations_keep_their_order(self, read):
        boxes = [[k % 90, k % 70, 1 + k % 9, 1 + k % 7] for k in range(5000)]
        rings = [[x, y, x + w, y, x + w, y + h, x, y + h] for x, y, w, h in boxes]
        (image,) = read(document(*(annotation(k, segmentation=[ring]) for k, ring in enumerate(rings)))).images
        assert image.annotation_ids.tolist() == list(range(5000))
        assert shapely.area(image.polygons).tolist() == [w * h for _, _, w, h in boxes]


class TestRunLengthMasks:
    @given(
        arrays.arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 1)),
        st.booleans(),
    )
    def test_the_outline_encloses_exactly_the_pixels_of_the_mask(self, mask, compressed):
        height, width = mask.shape
        counts = oracle.encode(np.asfortranarray(mask))["counts"].decode() if compressed else _runs(mask)
        outline = rle_polygon({"size": [height, width], "counts": counts})
        y, x = np.mgrid[:height, :width] + 0.5
        assert outline.is_valid
        assert outline.area == mask.sum()
        assert np.array_equal(shapely.contains_xy(outline, x, y), mask.astype(bool))

    def test_a_large_mask_with_long_runs(self):
        mask = np.zeros((3000, 2000), np.uint8)
        mask[100:2900, 50:1950] = 1
        mask[1000:1100, 900:1000] = 0
        counts = oracle.encode(np.asfortranarray(mask))["counts"].decode()
        outline = rle_polygon({"size": [3000, 2000], "counts": counts})
        assert outline.equals(shapely.box(50, 100, 1950, 2900) - shapely.box(900, 1000, 1000, 1100))

    def test_the_outline_has_corners_only(self):
        outline = rle_polygon({"size": [10, 10], "counts": [22, 4, 6, 4, 6, 4, 54]})
        assert outline.equals(shapely.box(2, 2, 5, 6))
        assert len(outline.exterior.coords) == 5

    def test_in_a_file_it_stands_beside_rings(self, read):
        counts = [0, 80 * 100]
        (image,) = read(
            document(annotation(1), annotation(2, segmentation={"size": [80, 100], "counts": counts}))
        ).images
        assert shapely.area(image.polygons).tolist() == [400, 8000]
        assert image.boxes[1].tolist() == [0, 0, 100, 80]

    @pytest.mark.parametrize(
        ("mask", "reason"),
        [
            ({"size": [100, 80], "counts": [8000]}, r"size \[100, 80\], its image \[80, 100\]"),
            ({"counts": [4]}, "size None"),
            ({"size": [80, 100]}, "no counts"),
            ({"size": [80, 100], "counts": [1, 2]}, "hold 3 pixels"),
            ({"size": [80, 100], "counts": [8002, -2]}, "negative"),
            ({"size": [80, 100], "counts": "PPP"}, "broken"),
            ({"size": [80, 100], "counts": "é"}, "broken"),
            ({"size": [80, 100], "counts": "o" * 40 + "1"}, "broken"),
            ({"size": [80, 100], "counts": ["1", "3"]}, "no counts"),
            ({"size": [80, 100], "counts": [10**24]}, "no counts"),
            ({"size": [80, 100], "counts": [-(10**24)]}, "no counts"),
        ],
    )
    def test_a_broken_mask_is_refused_by_name(self, read, mask, reason):
        with pytest.raises(DatasetError, match=rf"annotation 7: .*{reason}"):
            read(document(annotation(7, segmentation=mask)))

    @pytest.mark.parametrize("size", [None, [4], [0, 4], [2.0, 2.0], [10**9, 10**9]])
    def test_a_mask_of_impossible_size_is_refused(self, size):
        with pytest.raises(ValueError, match=r"size|too large"):
            rle_polygon({"size": size, "counts": [4]})


def _runs(mask: np.ndarray) -> list[int]:
    flat = np.concatenate([[0], mask.ravel(order="F"), [-1]])
    edges = np.flatnonzero(np.diff(flat) != 0)
    return np.diff(np.concatenate([[0], edges])).tolist()


class TestWhatElseIsRead:
    def test_any_ids_and_several_categories(self, read):
        (image,) = read(
            document(
                annotation(10**12, image_id=0, category_id=90),
                annotation(0, image_id=0, category_id=-3, iscrowd=1),
                images=[{**IMAGE, "id": 0}],
                categories=[{"id": 90, "name": "moth"}, {"id": -3, "name": "fly"}],
            )
        ).images
        assert image.annotation_ids.tolist() == [10**12, 0]
        assert image.classes.tolist() == [90, -3]
        assert image.crowd.tolist() == [False, True]

    def test_images_without_annotations_and_none_at_all(self, read):
        assert len(read(document()).images[0]) == 0
        assert read(document(images=[])).images == ()

    @pytest.mark.parametrize("key", ["score", "conf"])
    def test_scores_of_predictions_of_either_kind(self, read, key):
        (image,) = read(document(annotation(1, **{key: 0.25}), annotation(2, **{key: 1}))).images
        assert image.scores.tolist() == [0.25, 1.0]

    def test_members_beyond_coco_are_kept(self, read):
        coco = read(document(annotation(attributes={"sex": "f"}), info={"year": 2024}))
        assert coco.extras == {"info": {"year": 2024}}
        assert coco.images[0].annotations[0]["attributes"] == {"sex": "f"}

    def test_the_real_datasets(self, real_data):
        for path in sorted(real_data.glob("*/instances_default.json")):
            coco = read_coco(path)
            annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
            assert sum(map(len, coco.images)) == len(annotations)
            assert {image.dataset for image in coco.images} == {path.parent.name}
            polygons = np.concatenate([image.polygons for image in coco.images])
            assert shapely.is_valid(polygons).all()
            assert (shapely.area(polygons) > 0).all()


class TestDataset:
    def test_the_entry_itself_comes_first(self):
        assert dataset_of({"file_name": "b_x.jpg", "dataset": "a"}, ["b"]) == "a"

    def test_a_known_name_is_not_cut_at_an_underscore(self):
        known = ["moth", "moth_traps", "moth_traps_2"]
        assert dataset_of({"file_name": "moth_traps_2_x.jpg"}, known) == "moth_traps_2"
        assert dataset_of({"file_name": "sub/moth_traps_3_x.jpg"}, known) == "moth_traps"

    def test_without_known_names_it_is_what_stands_before_the_first_underscore(self):
        assert dataset_of({"file_name": "moth_traps_2_x.jpg"}) == "moth"
        assert dataset_of({"file_name": "x.jpg"}) == ""

    def test_images_beside_the_file_belong_to_the_folder(self, read, tmp_path):
        (tmp_path / "a.jpg").touch()
        assert read(document()).images[0].dataset == tmp_path.name


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ([1, 2], "it is a list"),
        ("null", "it is a null"),
        ({"images": [], "annotations": []}, "no list 'categories'"),
        (document(images={}), "no list 'images'"),
        (document(images=[3]), "entry 0 of 'images' is a number"),
        (document(categories=[{"name": "x"}]), "category has the id None"),
        (document(categories=[{"id": 1}, {"id": 1}]), "two categories have the id 1"),
        (document(images=[IMAGE, IMAGE]), "two images have the id 1"),
        (document(images=[{**IMAGE, "id": "1"}]), "image 'a.jpg' has the id '1'"),
        (document(images=[{**IMAGE, "file_name": ""}]), "image 1 has no file_name"),
        (document(images=[{"id": 1, "file_name": "a.jpg", "width": 5}]), r"image 'a.jpg' \(id 1\) has no height"),
        (document(images=[{**IMAGE, "width": 0}]), "impossible value 0 as width"),
        (document(images=[{**IMAGE, "width": float("inf")}]), "impossible value inf as width"),
        (document(images=[{**IMAGE, "width": "5"}]), "impossible value '5' as width"),
        (document(images=[{**IMAGE, "width": 10**400}]), "impossible value 1000*0 as width"),
        (document(images=[{**IMAGE, "file_name": "é" * 130 + ".jpg"}]), "file_name of image 1 is longer"),
        (document(annotation(7, iscrowd="0")), "annotation 7: iscrowd is '0', not 0 or 1"),
        (document({"image_id": 1, "category_id": 1}), "annotation has the id None"),
        (document(annotation(2**70)), "annotation has the id"),
        (document(annotation(1), annotation(1)), "two annotations have the id 1"),
        (document(annotation(7, image_id=9)), "annotation 7: there is no image with the id 9"),
        (document(annotation(7, image_id=[1])), r"annotation 7: there is no image with the id \[1\]"),
        (document(annotation(7, category_id=9)), "annotation 7: there is no category with the id 9"),
        (document(annotation(7, segmentation=[[1, 2, 3]])), "annotation 7: a ring has 3 coordinates, an odd number"),
        (document(annotation(7, segmentation=[[1, 2, 3, 4]])), "annotation 7: a ring has 2 points"),
        (document(annotation(7, segmentation=[[1, 2, 3, 4, 1, 2]])), "annotation 7: a ring has 3 points"),
        (document(annotation(7, segmentation=SQUARE)), "annotation 7: the outline is neither"),
        (document(annotation(7, segmentation="x")), "annotation 7: the outline is neither"),
        (document(annotation(1), annotation(7, segmentation=[[*SQUARE, None, 4]])), "annotation 7: .*not a number"),
        (document(annotation(1), annotation(7, segmentation=[[*SQUARE, "a", 4]])), "annotation 7: .*not a number"),
        (document(annotation(1), annotation(7, segmentation=[[*SQUARE, 1, float("nan")]])), "annotation 7: .* nan"),
        (document(annotation(7, segmentation=[SQUARE, [*SQUARE, float("-inf"), 1]])), "annotation 7: .* -inf"),
        (document(annotation(1), annotation(7, segmentation=[[*SQUARE, 10**400, 1]])), "annotation 7: .*beyond any"),
        (document(annotation(7, bbox=[1, 2, 10**400, 4])), "annotation 7: the bbox .* impossible"),
        (document(annotation(7, segmentation=[])), "annotation 7: it has neither an outline"),
        (document(annotation(7, bbox=[1, 2, 3])), "annotation 7: the bbox is"),
        (document(annotation(7, bbox=[1, 2, -3, 4])), "annotation 7: the bbox .* negative"),
        (document(annotation(7, bbox=[1, 2, float("nan"), 4])), "annotation 7: the bbox .* impossible"),
        (document(annotation(7, bbox=[1, 2, "3", 4])), "annotation 7: the bbox is"),
        (document(annotation(1), annotation(7, score=0.5)), "annotation 1: the score is None"),
        (document(annotation(7, score=1.5)), "annotation 7: the score is 1.5"),
    ],
)
def test_what_is_wrong_is_named(read, content, reason):
    with pytest.raises(DatasetError, match=reason) as caught:
        read(content)
    assert caught.value.where.endswith("instances_default.json")


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match="cannot be read") as caught:
        read_coco(tmp_path / "none.json")
    assert caught.value.where == str(tmp_path / "none.json")
