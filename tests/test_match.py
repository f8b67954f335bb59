"""Which prediction is which animal: against a slow implementation, against pycocotools, and case by case."""

from typing import Any

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.evaluation.match import NOBODY, match
from flat_bug.evaluation.objects import Objects
from flat_bug.evaluation.overlap import overlaps

Box = tuple[float, float, float, float]


def objects(
    boxes: list[Box],
    *,
    images: list[int] | None = None,
    scores: list[float] | None = None,
    crowd: list[bool] | None = None,
    polygons: list[shapely.Geometry] | None = None,
) -> Objects:
    """Return objects with rectangular outlines, all in image 0 unless said otherwise."""
    count = len(boxes)
    corners = np.array(boxes, np.float64).reshape(count, 4)
    outlines = np.empty(count, object)
    outlines[:] = polygons if polygons is not None else list(shapely.box(*corners.T))
    return Objects(
        images=np.array(images or [0] * count, np.int64),
        ids=np.arange(count),
        boxes=corners,
        polygons=outlines,
        scores=np.array(scores or [1.0] * count, np.float64),
        crowd=np.array(crowd or [False] * count, np.bool_),
    )


def taken(truth: Objects, predictions: Objects, *, iou_type: Any = "mask", **rules: Any) -> list[int]:
    pairs = overlaps(
        truth, predictions, 1 + max([0, *truth.images, *predictions.images]), iou_type=iou_type, floor=0.01
    )
    return match(truth, predictions, pairs, **rules).truth.tolist()


class TestOneByOne:
    def test_a_prediction_takes_the_animal_that_it_overlaps_most(self) -> None:
        truth = objects([(0, 0, 100, 100), (30, 0, 130, 100)])
        assert taken(truth, objects([(20, 0, 120, 100)])) == [1]

    def test_the_better_score_chooses_first(self) -> None:
        truth = objects([(0, 0, 100, 100)])
        predictions = objects([(0, 0, 100, 100), (0, 0, 100, 90)], scores=[0.5, 0.9])
        assert taken(truth, predictions) == [NOBODY, 0]

    def test_in_the_benchmark_the_better_overlap_comes_first(self) -> None:
        truth = objects([(0, 0, 100, 100)])
        predictions = objects([(0, 0, 100, 100), (0, 0, 100, 90)], scores=[0.5, 0.9])
        assert taken(truth, predictions, rules="bench") == [0, NOBODY]

    def test_who_loses_an_animal_takes_the_next_best(self) -> None:
        truth = objects([(0, 0, 100, 100), (25, 0, 125, 100)])
        predictions = objects([(5, 0, 105, 100), (10, 0, 110, 100)], scores=[0.9, 0.8])
        assert taken(truth, predictions) == [0, 1]

    def test_an_overlap_at_the_threshold_matches_and_one_below_does_not(self) -> None:
        truth = objects([(0, 0, 100, 100)])
        assert taken(truth, objects([(0, 0, 100, 50)])) == [0]
        assert taken(truth, objects([(0, 0, 100, 49.9)])) == [NOBODY]

    def test_an_outline_matches_itself_at_a_threshold_of_one(self) -> None:
        outline = shapely.Point(50.1, 49.7).buffer(40.3).difference(shapely.Point(50, 50).buffer(11.1))
        one = objects([shapely.bounds(outline).tolist()], polygons=[outline])
        assert taken(one, one, iou_threshold=1.0) == [0]

    def test_outlines_count_and_not_boxes(self) -> None:
        lower = shapely.Polygon([(0, 0), (100, 0), (0, 100)])
        upper = shapely.Polygon([(100, 100), (100, 0), (0, 100)])
        truth = objects([(0, 0, 100, 100)], polygons=[lower])
        predictions = objects([(0, 0, 100, 100)], polygons=[upper])
        assert taken(truth, predictions) == [NOBODY]
        assert taken(truth, predictions, iou_type="box") == [0]

    def test_holes_and_parts_count(self) -> None:
        ring = shapely.box(0, 0, 100, 100).difference(shapely.box(10, 10, 90, 90))
        truth = objects([(0, 0, 100, 100)], polygons=[ring])
        assert taken(truth, objects([(0, 0, 100, 100)])) == [NOBODY]
        parts = shapely.MultiPolygon([shapely.box(0, 0, 50, 100), shapely.box(60, 0, 100, 100)])
        assert taken(objects([(0, 0, 100, 100)], polygons=[parts]), objects([(0, 0, 100, 100)])) == [0]

    def test_images_do_not_mix(self) -> None:
        truth = objects([(0, 0, 100, 100)], images=[0])
        assert taken(truth, objects([(0, 0, 100, 100)], images=[1])) == [NOBODY]

    def test_outlines_without_area_match_nothing(self) -> None:
        truth = objects([(0, 0, 50, 50)], polygons=[shapely.Polygon()])
        assert taken(truth, objects([(0, 0, 50, 50)])) == [NOBODY]
        assert taken(truth, truth) == [NOBODY]
        flat = objects([(0, 0, 50, 0)])
        assert taken(flat, flat, iou_type="box") == [NOBODY]

    @pytest.mark.parametrize("rules", ["coco", "bench"])
    @pytest.mark.parametrize("iou_type", ["mask", "box"])
    def test_nothing_to_match(self, rules: str, iou_type: str) -> None:
        some = objects([(0, 0, 50, 50)])
        assert taken(objects([]), objects([]), rules=rules, iou_type=iou_type) == []
        assert taken(objects([]), some, rules=rules, iou_type=iou_type) == [NOBODY]
        assert taken(some, objects([]), rules=rules, iou_type=iou_type) == []


class TestSmallAnimals:
    """At the least size of 32 pixels, a small difference must not be punished twice."""

    just_above = (0.0, 0.0, 33.0, 33.0)
    just_below = (0.0, 0.0, 31.0, 31.0)

    def counted(self, truth: Objects, predictions: Objects, rules: Any) -> tuple[int, int, int]:
        """Return how many are matched, missed and spurious."""
        found = match(truth, predictions, overlaps(truth, predictions, 1), rules=rules)
        matched = int(found.correct.sum())
        return matched, int((~found.ignored_truth).sum()) - matched, int((~found.ignored).sum()) - matched

    def test_an_animal_that_is_predicted_a_little_too_small_is_found(self) -> None:
        truth, predictions = objects([self.just_above]), objects([self.just_below])
        assert self.counted(truth, predictions, "coco") == (1, 0, 0)
        assert self.counted(truth, predictions, "bench") == (0, 1, 0)

    def test_a_small_animal_that_is_predicted_a_little_too_large_does_not_count(self) -> None:
        truth, predictions = objects([self.just_below]), objects([self.just_above])
        assert self.counted(truth, predictions, "coco") == (0, 0, 0)
        assert self.counted(truth, predictions, "bench") == (0, 0, 1)

    def test_small_objects_on_both_sides_do_not_count(self) -> None:
        small = objects([self.just_below, (500, 500, 510, 510)])
        for rules in ("coco", "bench"):
            assert self.counted(small, small, rules) == (0, 0, 0)
            assert self.counted(small, objects([]), rules) == (0, 0, 0)
            assert self.counted(objects([]), small, rules) == (0, 0, 0)

    def test_an_animal_that_counts_is_preferred_to_a_small_one_that_fits_better(self) -> None:
        truth = objects([(0, 0, 31, 31), (0, 0, 31, 40)])
        predictions = objects([(0, 0, 31, 33)])
        assert taken(truth, predictions) == [1]

    def test_any_number_of_predictions_may_lie_in_a_crowd(self) -> None:
        truth = objects([(0, 0, 1000, 1000)], crowd=[True])
        predictions = objects([(0, 0, 50, 50), (100, 100, 150, 150), (2000, 0, 2050, 50)])
        assert taken(truth, predictions) == [0, 0, NOBODY]
        assert self.counted(truth, predictions, "coco") == (0, 0, 1)


# Coordinates on a coarse grid make equal overlaps, shared edges and doubles frequent.
spans = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 6), st.integers(1, 6))
boxes = spans.map(lambda span: (8.0 * span[0], 8.0 * span[1], 8.0 * (span[0] + span[2]), 8.0 * (span[1] + span[3])))
annotated = st.lists(st.tuples(boxes, st.sampled_from([False, False, False, True])), max_size=7)
predicted = st.lists(st.tuples(boxes, st.sampled_from([0.1, 0.3, 0.5, 0.9])), max_size=9)
thresholds = st.sampled_from([0.05, 0.3, 0.5, 0.75, 1.0])


def slow_overlap(mine: Box, theirs: Box, crowd: bool) -> float:
    width = min(mine[2], theirs[2]) - max(mine[0], theirs[0])
    height = min(mine[3], theirs[3]) - max(mine[1], theirs[1])
    shared = max(width, 0) * max(height, 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (mine, theirs)]
    return shared / (area[1] if crowd else area[0] + area[1] - shared)


def size(box: Box) -> float:
    return float(np.sqrt((box[2] - box[0]) * (box[3] - box[1])))


def slow_coco(truth: list[Any], predictions: list[Any], threshold: float, least: float) -> list[int]:
    """Take turns, one prediction after the other."""
    result = [NOBODY] * len(predictions)
    for row in sorted(range(len(predictions)), key=lambda row: -predictions[row][1]):
        best = None
        for other, (box, crowd) in enumerate(truth):
            overlap = slow_overlap(box, predictions[row][0], crowd)
            if overlap < min(threshold, 1 - 1e-10) or (other in result and not crowd):
                continue
            rank = (not (crowd or size(box) < least), overlap, other)
            best = max(rank, best) if best else rank
        if best:
            result[row] = best[2]
    return result


def slow_bench(truth: list[Any], predictions: list[Any], threshold: float, least: float) -> list[int]:
    """Take the best of all pairs that are left, again and again."""
    result = [NOBODY] * len(predictions)
    while True:
        free = [
            (not crowd, slow_overlap(box, predicted_box, crowd), other, row)
            for other, (box, crowd) in enumerate(truth)
            for row, (predicted_box, _) in enumerate(predictions)
            if result[row] == NOBODY and (crowd or other not in result) and min(size(box), size(predicted_box)) >= least
        ]
        free = [pair for pair in free if pair[1] >= min(threshold, 1 - 1e-10)]
        if not free:
            return result
        *_, other, row = max(free)
        result[row] = other


@pytest.mark.parametrize("iou_type", ["box", "mask"])
@pytest.mark.parametrize(("rules", "slow"), [("coco", slow_coco), ("bench", slow_bench)])
@given(case=st.tuples(annotated, predicted, thresholds, st.sampled_from([0.0, 16.0, 24.0])))
@settings(max_examples=80)
def test_the_same_as_the_slow_way(rules: str, slow: Any, iou_type: str, case: tuple[Any, ...]) -> None:
    truth, predictions, threshold, least = case
    mine = objects([box for box, _ in truth], crowd=[crowd for _, crowd in truth])
    theirs = objects([box for box, _ in predictions], scores=[score for _, score in predictions])
    found = taken(mine, theirs, iou_type=iou_type, iou_threshold=threshold, min_size=least, rules=rules)
    assert found == slow(truth, predictions, threshold, least)


@given(truth=annotated, predictions=predicted)
@settings(max_examples=40)
def test_a_high_floor_and_several_workers_change_nothing(truth: list[Any], predictions: list[Any]) -> None:
    images = [row % 3 for row in range(len(truth))]
    mine = objects([box for box, _ in truth], crowd=[crowd for _, crowd in truth], images=sorted(images))
    theirs = objects([box for box, _ in predictions], images=sorted(row % 3 for row in range(len(predictions))))
    low = match(mine, theirs, overlaps(mine, theirs, 3, floor=0.01), iou_threshold=0.5)
    high = match(mine, theirs, overlaps(mine, theirs, 3, floor=0.5, workers=3), iou_threshold=0.5)
    assert low.truth.tolist() == high.truth.tolist()
    assert low.iou.tolist() == high.iou.tolist()
