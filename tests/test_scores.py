"""Precision, recall, F1, AP and their intervals: by hand, and against pycocotools."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.datasets.coco import GroundTruthImage
from flat_bug.evaluation.average_precision import average_precision
from flat_bug.evaluation.compare import Comparison, compare
from flat_bug.evaluation.predictions import PredictedImage
from flat_bug.evaluation.scores import POOLED, SCORE_SCHEMA, bootstrap, score_table
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.evaluation.tables import OBJECT_SCHEMA

Box = tuple[float, float, float, float]
SQUARE: Box = (0, 0, 40, 40)
ELSEWHERE: Box = (200, 200, 240, 240)


def outlines(shapes: Sequence[Any]) -> tuple[Any, Any]:
    """Return the polygons and their boxes."""
    polygons = np.empty(len(shapes), object)
    polygons[:] = [shape if isinstance(shape, shapely.Geometry) else shapely.box(*shape) for shape in shapes]
    return polygons, shapely.bounds(polygons).reshape(-1, 4)


def annotated(name: str, shapes: Sequence[Any], *, dataset: str = "d", crowd: Sequence[bool] = ()) -> GroundTruthImage:
    polygons, boxes = outlines(shapes)
    none = np.zeros(len(shapes), np.bool_)
    return GroundTruthImage(
        id=1,
        file_name=name,
        width=1000,
        height=1000,
        dataset=dataset,
        polygons=polygons,
        boxes=boxes,
        annotation_ids=np.arange(1, len(shapes) + 1),
        classes=np.ones(len(shapes), np.int64),
        crowd=np.array(crowd, np.bool_) if crowd else none,
        box_only=none,
        repaired=none,
    )


def predicted(shapes: Sequence[Any], scores: Sequence[float] | None = None) -> PredictedImage:
    polygons, boxes = outlines(shapes)
    return PredictedImage("", boxes, polygons, np.array([1.0] * len(shapes) if scores is None else scores))


def scores_of(truth: Sequence[Any], predictions: Sequence[Any], **options: Any) -> dict[str, Any]:
    """Return the pooled scores of one dataset."""
    return row(compare(list(zip(truth, predictions, strict=True)), EvaluationSettings(**options)), POOLED)


def row(comparison: Comparison, dataset: str) -> dict[str, Any]:
    return comparison.scores.row(by_predicate=pl.col("dataset") == dataset, named=True)


class TestByHand:
    def test_three_of_four_with_one_too_many(self) -> None:
        animals = [(0.0, 100.0 * y, 50.0, 100.0 * y + 50) for y in range(4)]
        found = [*animals[:3], (500, 500, 550, 550)]
        scores = scores_of([annotated("a", animals)], [predicted(found, [0.9, 0.8, 0.7, 0.6])])
        assert (scores["gt"], scores["predictions"], scores["matched"]) == (4, 4, 3)
        assert scores["precision"] == scores["recall"] == scores["f1"] == 0.75
        assert scores["mean_iou"] == 1.0
        # Perfect up to a recall of 0.75, nothing above: 76 of 101 steps.
        assert scores["ap50"] == scores["ap"] == pytest.approx(76 / 101)

    def test_mean_overlap_is_of_what_matches(self) -> None:
        scores = scores_of([annotated("a", [SQUARE, ELSEWHERE])], [predicted([(0, 0, 40, 30), (600, 0, 640, 40)])])
        assert scores["mean_iou"] == 0.75

    def test_average_precision_over_thresholds_asks_for_good_outlines(self) -> None:
        # An overlap of 0.8 passes seven of the ten thresholds from 0.50 to 0.95.
        scores = scores_of([annotated("a", [(0, 0, 100, 100)])], [predicted([(0, 0, 100, 80)])])
        assert scores["ap50"] == 1.0
        assert scores["ap"] == pytest.approx(0.7)

    def test_the_score_threshold_counts_for_all_but_average_precision(self) -> None:
        truth, found = [annotated("a", [SQUARE, ELSEWHERE])], [predicted([SQUARE, ELSEWHERE], [0.9, 0.3])]
        scores = scores_of(truth, found, score_threshold=0.5)
        assert (scores["precision"], scores["recall"], scores["ap"]) == (1.0, 0.5, 1.0)
        assert scores_of(truth, found, score_threshold=0.3)["recall"] == 1.0

    def test_pooled_counts_every_animal_alike(self) -> None:
        many = [(0.0, 50.0 * y, 40.0, 50.0 * y + 40) for y in range(9)]
        truth = [annotated("a", many, dataset="many"), annotated("b", [SQUARE], dataset="one")]
        comparison = compare(list(zip(truth, [predicted(many), None], strict=True)), EvaluationSettings())
        assert comparison.scores["dataset"].to_list() == ["many", "one", POOLED]
        assert [row(comparison, name)["recall"] for name in ("many", "one", POOLED)] == [1.0, 0.0, 0.9]


class TestNothingToDivideBy:
    none = predicted([])

    @pytest.mark.parametrize("found", [None, none])
    def test_no_detections(self, found: PredictedImage | None) -> None:
        scores = scores_of([annotated("a", [SQUARE])], [found])
        assert (scores["precision"], scores["recall"], scores["f1"], scores["mean_iou"]) == (None, 0.0, 0.0, None)
        assert scores["ap"] == 0.0
        assert (scores["precision_low"], scores["recall_high"]) == (None, 0.0)

    def test_no_ground_truth(self) -> None:
        scores = scores_of([annotated("a", [])], [predicted([SQUARE])])
        assert (scores["precision"], scores["recall"], scores["f1"]) == (0.0, None, 0.0)
        assert (scores["ap50"], scores["ap"]) == (None, None)

    def test_neither(self) -> None:
        scores = scores_of([annotated("a", [])], [self.none])
        assert scores["images"] == 1
        assert {scores[name] for name in SCORE_SCHEMA if name not in ("dataset", "images")} == {0, None}

    def test_no_image_at_all(self) -> None:
        comparison = compare([], EvaluationSettings())
        assert comparison.scores["dataset"].to_list() == [POOLED]
        assert row(comparison, POOLED)["f1"] is None
        assert dict(comparison.objects.schema) == OBJECT_SCHEMA

    def test_only_what_does_not_count(self) -> None:
        scores = scores_of([annotated("a", [(0, 0, 5, 5), SQUARE], crowd=[False, True])], [predicted([(0, 0, 5, 5)])])
        assert (scores["gt"], scores["predictions"], scores["f1"], scores["ap"]) == (0, 0, None, None)


class TestObjectTable:
    def test_a_row_for_each_animal_and_each_prediction_without_one(self) -> None:
        truth = annotated("folder/a.jpg", [SQUARE, ELSEWHERE, (0, 300, 5, 305)])
        found = predicted([(0, 0, 40, 30), (600, 0, 650, 40)], [0.9, 0.4])
        table = compare([(truth, found)], EvaluationSettings()).objects
        assert dict(table.schema) == OBJECT_SCHEMA
        assert table["kind"].to_list() == ["matched", "missed", "missed", "spurious"]
        assert table["gt_id"].to_list() == [1, 2, 3, None]
        assert table["pred_id"].to_list() == [0, None, None, 1]
        assert table["iou"].to_list() == [0.75, None, None, None]
        assert table["score"].to_list() == [0.9, None, None, 0.4]
        assert table["ignored"].to_list() == [False, False, True, False]
        assert table["gt_area"].to_list() == [1600, 1600, 25, None]
        assert table["pred_size"].to_list() == [pytest.approx(np.sqrt(1200)), None, None, pytest.approx(np.sqrt(2000))]
        assert table["gt_box"].to_list() == [[0, 0, 40, 40], [200, 200, 240, 240], [0, 300, 5, 305], None]
        assert table["pred_box"].to_list() == [[0, 0, 40, 30], None, None, [600, 0, 650, 40]]
        assert set(table["image"]) == {"folder/a.jpg"}

    def test_of_several_predictions_in_a_crowd_the_best_is_its_partner(self) -> None:
        crowd = annotated("a", [(0, 0, 900, 900)], crowd=[True])
        found = predicted([(0, 0, 50, 50), (100, 0, 150, 50)], [0.3, 0.6])
        table = compare([(crowd, found)], EvaluationSettings()).objects
        assert table["kind"].to_list() == ["matched", "spurious"]
        assert table["pred_id"].to_list() == [1, 0]
        assert table["ignored"].to_list() == [True, True]

    def test_ids_of_any_size_and_sign_survive(self) -> None:
        truth = annotated("a", [SQUARE])
        object.__setattr__(truth, "annotation_ids", np.array([-(2**62)]))
        assert compare([(truth, None)], EvaluationSettings()).objects["gt_id"].to_list() == [-(2**62)]


class TestBootstrap:
    def test_an_image_alone_has_no_spread(self) -> None:
        low, high = bootstrap(np.array([[4, 5, 3]]))
        assert low.tolist() == high.tolist() == [0.6, 0.75, 6 / 9]

    def test_equal_images_have_no_spread(self) -> None:
        low, high = bootstrap(np.tile([4, 5, 3], (7, 1)))
        np.testing.assert_allclose(low, high)

    def test_a_seed_gives_the_same_and_another_one_differs(self) -> None:
        counts = np.random.default_rng(2).integers(0, 9, (30, 3)) + np.array([9, 9, 0])
        assert np.array_equal(bootstrap(counts, seed=3), bootstrap(counts, seed=3))
        assert not np.array_equal(bootstrap(counts, seed=3), bootstrap(counts, seed=4))

    def test_the_interval_is_as_wide_as_theory_says(self) -> None:
        # One animal in each of 400 images, found with a chance of 0.7: the interval of a binomial share.
        found = (np.random.default_rng(5).random(400) < 0.7).astype(np.int64)
        low, high = bootstrap(np.stack([np.ones(400, np.int64), np.ones(400, np.int64), found], axis=1), draws=4000)
        width = 2 * 1.96 * np.sqrt(found.mean() * (1 - found.mean()) / 400)
        assert high[1] - low[1] == pytest.approx(width, rel=0.08)
        assert low[1] < found.mean() < high[1]

    def test_draws_in_parts_are_the_same_draws(self, monkeypatch: pytest.MonkeyPatch) -> None:
        counts = np.random.default_rng(2).integers(0, 9, (30, 3)) + np.array([9, 9, 0])
        whole = bootstrap(counts, draws=100)
        monkeypatch.setattr("flat_bug.evaluation.scores.WEIGHTS_AT_ONCE", 90)
        assert np.array_equal(bootstrap(counts, draws=100), whole)

    def test_a_dataset_has_the_same_interval_in_any_company(self) -> None:
        images = pl.DataFrame(
            {"dataset": ["a"] * 9 + ["b"] * 9, "image": [str(n) for n in range(18)], "gt": [5] * 18}
        ).with_columns(predictions=pl.Series(range(3, 21)), matched=pl.Series([1, 2, 3] * 6), iou_sum=pl.lit(1.0))
        alone = score_table(images.filter(pl.col("dataset") == "b"), {})
        together = score_table(images, {})
        assert alone.row(0) == together.row(1)


def coco_entry(box: Box) -> dict[str, Any]:
    width, height = box[2] - box[0], box[3] - box[1]
    corners = [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
    return {
        "bbox": [box[0], box[1], width, height],
        "area": width * height,
        "segmentation": [corners],
        "category_id": 1,
    }


def pycocotools_scores(truth: list[Any], predictions: list[Any], kind: str, least: float) -> list[float | None]:
    """Return AP50 and AP as the reference implementation counts them, without limits on detections."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations = [
        {**coco_entry(box), "image_id": image, "iscrowd": int(crowd)}
        for image, boxes in enumerate(truth, start=1)
        for box, crowd in boxes
    ]
    found = [
        {**coco_entry(box), "image_id": image, "score": score}
        for image, boxes in enumerate(predictions, start=1)
        for box, score in boxes
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO()
        reference.dataset = {
            "images": [{"id": image + 1, "width": 200, "height": 200} for image in range(len(truth))],
            "annotations": [{**entry, "id": number} for number, entry in enumerate(annotations, start=1)],
            "categories": [{"id": 1, "name": "insect"}],
        }
        reference.createIndex()
        results = COCO()
        # loadRes leaves the segmentation of boxes out, so the index is made by hand; it is the same otherwise.
        results.dataset = {
            **reference.dataset,
            "annotations": [{**entry, "id": number, "iscrowd": 0} for number, entry in enumerate(found, start=1)],
        }
        results.createIndex()
        oracle = COCOeval(reference, results, kind)
        oracle.params.maxDets = [10_000]
        oracle.params.areaRng, oracle.params.areaRngLbl = [[least**2, 1e12]], ["all"]
        oracle.evaluate()
        oracle.accumulate()
    precision = oracle.eval["precision"][:, :, 0, 0, 0]
    return [None, None] if precision.max() < 0 else [float(precision[0].mean()), float(precision.mean())]


# Whole pixels, so that run-length masks are exact; a coarse grid, so that equal scores and overlaps are frequent.
spans = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6))
boxes = spans.map(lambda span: (8 * span[0], 8 * span[1], 8 * (span[0] + span[2]), 8 * (span[1] + span[3])))
images = st.lists(
    st.tuples(
        st.lists(st.tuples(boxes, st.sampled_from([False, False, False, True])), max_size=5),
        st.lists(st.tuples(boxes, st.sampled_from([0.1, 0.3, 0.5, 0.9])), max_size=7),
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.parametrize(("iou_type", "kind"), [("box", "bbox"), ("mask", "segm")])
@given(scene=images, least=st.sampled_from([0.0, 16.0, 24.0]))
@settings(max_examples=60)
def test_average_precision_is_that_of_pycocotools(iou_type: Any, kind: str, scene: list[Any], least: float) -> None:
    truth = [
        annotated(f"{number:03}", [box for box, _ in mine], crowd=[crowd for _, crowd in mine])
        for number, (mine, _) in enumerate(scene)
    ]
    found = [predicted([box for box, _ in theirs], [score for _, score in theirs]) for _, theirs in scene]
    scores = scores_of(truth, found, iou_type=iou_type, min_size=least, bootstrap_draws=1)
    expected = pycocotools_scores([mine for mine, _ in scene], [theirs for _, theirs in scene], kind, least)
    assert [scores["ap50"], scores["ap"]] == pytest.approx(expected, abs=1e-9)


def test_average_precision_of_many_boxes_is_that_of_pycocotools() -> None:
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, 700, (300, 2))
    animals = np.hstack([corners, corners + rng.uniform(20, 90, (300, 2))])
    shifted = animals + np.repeat(rng.normal(0, 4, (300, 2)), 2, axis=0).reshape(300, 4) * rng.random((300, 1))
    image_of = np.sort(rng.integers(0, 12, 300))
    scores = rng.random(300).round(2)
    truth = [[(tuple(box), False) for box in animals[image_of == number]] for number in range(12)]
    found = [
        [
            (tuple(box), score)
            for box, score in zip(shifted[image_of == number], scores[image_of == number], strict=True)
        ]
        for number in range(12)
    ]
    ours = scores_of(
        [annotated(f"{number:03}", [box for box, _ in mine]) for number, mine in enumerate(truth)],
        [predicted([box for box, _ in theirs], [score for _, score in theirs]) for theirs in found],
        iou_type="box",
    )
    assert 0.2 < ours["ap"] < 0.95
    assert [ours["ap50"], ours["ap"]] == pytest.approx(pycocotools_scores(truth, found, "bbox", 32.0), abs=1e-9)


def test_average_precision_without_animals_is_unknown() -> None:
    assert average_precision(np.array([True, False]), 0) is None
    assert average_precision(np.array([], np.bool_), 3) == 0.0
