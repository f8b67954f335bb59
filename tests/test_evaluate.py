"""``fb evaluate`` from files to files: tables, overlays, warnings, errors."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import pyvips

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.errors import ConfigError, DatasetError, OutputError
from flat_bug.evaluation.overlays import COLOURS, extremes
from flat_bug.evaluation.run import Evaluation, evaluate
from flat_bug.evaluation.scores import POOLED, SCORE_SCHEMA
from flat_bug.evaluation.settings import EvaluationSettings
from flat_bug.evaluation.tables import OBJECT_SCHEMA

Box = tuple[float, float, float, float]
WIDTH, HEIGHT = 400, 300
FIRST: Box = (20, 20, 100, 100)
SECOND: Box = (200, 40, 290, 120)
NOWHERE: Box = (300, 200, 380, 290)


def write_coco(
    path: Path, images: dict[str, Sequence[Box]], *, first_id: int = 1, category: int = 1, **extras: Any
) -> Path:
    """Write rectangles as COCO; ``extras`` are further keys of every annotation."""
    annotations = [
        {
            "id": first_id + len(images) * row + number,
            "image_id": first_id + number,
            "category_id": category,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
            "iscrowd": 0,
            **extras,
        }
        for number, boxes in enumerate(images.values())
        for row, (x1, y1, x2, y2) in enumerate(boxes)
    ]
    document = {
        "images": [
            {"id": first_id + number, "file_name": name, "width": WIDTH, "height": HEIGHT}
            for number, name in enumerate(images)
        ],
        "annotations": annotations,
        "categories": [{"id": category, "name": "insect"}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))
    return path


def write_picture(path: Path, level: int = 200, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyvips.Image.new_from_array(np.full((size[1], size[0], 3), level, np.uint8)).write_to_file(str(path))
    return path


def test_names_that_are_not_utf8_are_written_as_escapes(tmp_path: Path) -> None:
    truth = write_coco(tmp_path / "truth.json", {"caf\udce9.jpg": [FIRST], "b.jpg": [FIRST]})
    found = evaluate(truth, truth, tmp_path / "out")
    assert found.images["image"].to_list() == ["b.jpg", r"caf\udce9.jpg"]
    assert found.images["matched"].to_list() == [1, 1]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Return a folder ``meadow`` with two images and their ground truth."""
    folder = tmp_path / "meadow"
    write_coco(folder / "instances_default.json", {"a.jpg": [FIRST, SECOND], "b.jpg": [FIRST]})
    for name in ("a.jpg", "b.jpg"):
        write_picture(folder / name)
    return folder


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    """Return predictions: of three animals one is missed, and one report is none."""
    return write_coco(tmp_path / "predictions.json", {"a.jpg": [FIRST, NOWHERE], "b.jpg": [FIRST]}, score=0.8)


def truth_of(dataset: Path) -> Path:
    return dataset / "instances_default.json"


def pooled(evaluation: Evaluation) -> dict[str, Any]:
    return evaluation.scores.row(by_predicate=pl.col("dataset") == POOLED, named=True)


def fb(*words: str | Path) -> int:
    return run(build_app(), ["evaluate", *map(str, words)])


class TestTables:
    def test_everything_is_written_and_read_back(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        output = tmp_path / "out"
        evaluation = evaluate(truth_of(dataset), predictions, output)
        assert sorted(path.name for path in output.iterdir()) == [
            "evaluation.json",
            "images.csv",
            "objects.csv",
            "objects.parquet",
            "scores.csv",
        ]
        objects = pl.read_parquet(output / "objects.parquet")
        assert objects.equals(evaluation.objects)
        assert dict(objects.schema) == OBJECT_SCHEMA
        assert pl.read_csv(output / "scores.csv", schema=SCORE_SCHEMA).equals(evaluation.scores)
        flat = pl.read_csv(output / "objects.csv")
        assert flat.columns == objects.columns
        assert flat["gt_box"].to_list()[:2] == ["20.0 20.0 100.0 100.0", "200.0 40.0 290.0 120.0"]
        assert evaluation.images.select("image", "gt", "predictions", "matched").rows() == [
            ("a.jpg", 2, 2, 1),
            ("b.jpg", 1, 1, 1),
        ]

    def test_the_summary_says_what_was_compared_and_how(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        evaluation = evaluate(truth_of(dataset), predictions, tmp_path / "out", EvaluationSettings(iou_threshold=0.6))
        summary = json.loads((tmp_path / "out" / "evaluation.json").read_text())
        assert summary["settings"]["iou_threshold"] == 0.6
        assert set(summary["sha256"]) == {"ground_truth", "predictions"}
        assert all(len(digest) == 64 for digest in summary["sha256"].values())
        assert "flat_bug" in summary["versions"]
        assert summary["scores"] == evaluation.scores.to_dicts()
        assert summary["macro"]["f1"] == summary["scores"][0]["f1"]

    def test_the_dataset_is_the_folder_of_the_images(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        assert evaluate(truth_of(dataset), predictions, tmp_path / "out").scores["dataset"].to_list() == [
            "meadow",
            POOLED,
        ]

    def test_known_names_are_found_in_file_names(self, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "t.json", {"wet_meadow_1.jpg": [FIRST], "forest_1.jpg": [FIRST]})
        settings = EvaluationSettings(datasets=("wet_meadow", "forest"))
        scores = evaluate(truth, truth, tmp_path / "out", settings).scores
        assert scores["dataset"].to_list() == ["forest", "wet_meadow", POOLED]

    @pytest.mark.parametrize("first_id", [0, 1, 7, 10**12])
    @pytest.mark.parametrize("category", [0, 1, 90])
    def test_ids_do_not_matter(self, tmp_path: Path, dataset: Path, first_id: int, category: int) -> None:
        images = {"b.jpg": [FIRST], "a.jpg": [FIRST, SECOND]}
        other = write_coco(tmp_path / "p.json", images, first_id=first_id, category=category, conf=0.5)
        scores = pooled(evaluate(truth_of(dataset), other, tmp_path / "out"))
        assert (scores["f1"], scores["ap"], scores["matched"]) == (1.0, 1.0, 3)

    def test_twice_the_same_gives_the_same_bytes(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        for name in ("one", "two"):
            evaluate(truth_of(dataset), predictions, tmp_path / name, EvaluationSettings(workers=1 + (name == "two")))
        for file in ("objects.parquet", "objects.csv", "images.csv", "scores.csv"):
            assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()

    def test_the_first_images_only(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        evaluation = evaluate(truth_of(dataset), predictions, tmp_path / "out", EvaluationSettings(max_images=1))
        assert evaluation.images["image"].to_list() == ["a.jpg"]
        assert evaluation.unknown == ()


class TestImagesOnOneSide:
    def test_without_an_entry_an_image_counts_as_one_without_detections(self, dataset: Path, tmp_path: Path) -> None:
        some = write_coco(tmp_path / "p.json", {"a.jpg": [FIRST, SECOND]})
        evaluation = evaluate(truth_of(dataset), some, tmp_path / "out")
        assert evaluation.missing == ("b.jpg",)
        assert "1 annotated images have no entry in the predictions: b.jpg" in evaluation.warnings
        assert pooled(evaluation)["recall"] == pytest.approx(2 / 3)

    def test_what_is_not_annotated_does_not_count(self, dataset: Path, tmp_path: Path) -> None:
        more = write_coco(tmp_path / "p.json", {"a.jpg": [FIRST, SECOND], "b.jpg": [FIRST], "c.jpg": [FIRST]})
        evaluation = evaluate(truth_of(dataset), more, tmp_path / "out")
        assert evaluation.unknown == ("c.jpg",)
        assert pooled(evaluation)["precision"] == 1.0

    def test_no_predictions_at_all(self, dataset: Path, tmp_path: Path) -> None:
        evaluation = evaluate(truth_of(dataset), write_coco(tmp_path / "p.json", {}), tmp_path / "out")
        assert evaluation.missing == ("a.jpg", "b.jpg")
        assert (pooled(evaluation)["precision"], pooled(evaluation)["recall"]) == (None, 0.0)

    def test_no_annotated_image_at_all(self, predictions: Path, tmp_path: Path) -> None:
        evaluation = evaluate(write_coco(tmp_path / "t.json", {}), predictions, tmp_path / "out")
        assert len(evaluation.unknown) == 2
        assert pooled(evaluation)["images"] == 0

    def test_predictions_of_other_images_are_a_mistake(self, dataset: Path, tmp_path: Path) -> None:
        with pytest.raises(DatasetError, match="none of the 1 predicted images"):
            evaluate(truth_of(dataset), write_coco(tmp_path / "p.json", {"z.jpg": [FIRST]}), tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_annotations_without_an_outline_are_mentioned(self, predictions: Path, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "t.json", {"a.jpg": [FIRST], "b.jpg": [FIRST]}, segmentation=[])
        assert any("no outline" in warning for warning in evaluate(truth, predictions, tmp_path / "out").warnings)
        boxes = EvaluationSettings(iou_type="box")
        assert evaluate(truth, predictions, tmp_path / "out", boxes).warnings == ()

    def test_two_images_of_one_name_are_refused(self, predictions: Path, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "t.json", {"a.jpg": [FIRST], "b.jpg": [FIRST]})
        truth.write_text(truth.read_text().replace("b.jpg", "a.jpg"))
        with pytest.raises(DatasetError, match=r"two images have the name 'a\.jpg'"):
            evaluate(truth, predictions, tmp_path / "out")


class TestOverlays:
    def picture(self, output: Path, name: str = "a_matches.jpg") -> np.ndarray:
        return pyvips.Image.new_from_file(str(output / "matches" / name)).numpy()

    def near(self, picture: np.ndarray, kind: str) -> np.ndarray:
        """Return where the colour of a kind is."""
        colour = np.array(COLOURS[kind]) * 255
        return np.abs(picture.astype(float) - colour).max(axis=2) < 40

    def test_every_kind_is_drawn_where_it_is(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        settings = EvaluationSettings(overlays="all", overlay_scale=1.0)
        evaluation = evaluate(truth_of(dataset), predictions, tmp_path / "out", settings)
        assert evaluation.failures == ()
        picture = self.picture(tmp_path / "out")
        assert picture.shape[1] == WIDTH
        assert picture.shape[0] > HEIGHT
        for kind, (x1, y1, x2, y2) in (("matched", FIRST), ("missed", SECOND), ("spurious", NOWHERE)):
            rows, columns = np.nonzero(self.near(picture[:HEIGHT], kind))
            # The box around the outline lies a line's width outside of it.
            np.testing.assert_allclose([columns.min(), rows.min(), columns.max(), rows.max()], [x1, y1, x2, y2], atol=5)
            assert self.near(picture[HEIGHT:], kind).any()

    def test_the_default_is_half_the_size(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        evaluate(truth_of(dataset), predictions, tmp_path / "out", EvaluationSettings(overlays="all"))
        assert self.picture(tmp_path / "out").shape[1] == WIDTH // 2

    @pytest.mark.parametrize("boxes", [True, False])
    def test_boxes_can_be_left_out(self, dataset: Path, tmp_path: Path, boxes: bool) -> None:
        triangle = [[20, 20, 100, 20, 20, 100]]
        truth = write_coco(truth_of(dataset), {"a.jpg": [FIRST]}, segmentation=triangle)
        settings = EvaluationSettings(overlays="all", overlay_boxes=boxes, overlay_scale=1.0)
        evaluate(truth, truth, tmp_path / "out", settings)
        corner_without_outline = self.picture(tmp_path / "out")[90:110, 90:110]
        assert (np.abs(corner_without_outline.astype(int) - 200).max() > 50) == boxes

    def test_a_tiny_image_has_a_legend_too(self, tmp_path: Path) -> None:
        folder = tmp_path / "tiny"
        truth = write_coco(folder / "t.json", {"a.png": [(0, 0, 1, 1)]})
        truth.write_text(truth.read_text().replace(f'"width": {WIDTH}, "height": {HEIGHT}', '"width": 1, "height": 1'))
        write_picture(folder / "a.png", size=(1, 1))
        evaluation = evaluate(truth, truth, tmp_path / "out", EvaluationSettings(overlays="all", min_size=0))
        assert evaluation.failures == ()
        assert self.picture(tmp_path / "out").shape[1] == 1

    def test_images_are_found_in_a_prepared_tree_and_where_they_are_said_to_be(self, tmp_path: Path) -> None:
        tree = tmp_path / "insects"
        truth = write_coco(tree / "labels" / "val" / "instances_default.json", {"m_a.jpg": [FIRST]})
        write_picture(tree / "images" / "val" / "m_a.jpg")
        settings = EvaluationSettings(overlays="all")
        assert evaluate(truth, truth, tmp_path / "out", settings).failures == ()
        elsewhere = write_picture(tmp_path / "elsewhere" / "deep" / "m_a.jpg").parents[1]
        (tree / "images" / "val" / "m_a.jpg").unlink()
        assert len(evaluate(truth, truth, tmp_path / "out", settings).failures) == 1
        assert evaluate(truth, truth, tmp_path / "out", settings, elsewhere).failures == ()

    def test_an_image_that_cannot_be_drawn_leaves_the_others(
        self, dataset: Path, predictions: Path, tmp_path: Path
    ) -> None:
        (dataset / "a.jpg").write_bytes(b"")
        write_picture(dataset / "b.jpg", size=(HEIGHT, WIDTH))
        write_picture(dataset / "c.jpg")
        truth = write_coco(truth_of(dataset), {"a.jpg": [FIRST], "b.jpg": [FIRST], "c.jpg": [FIRST], "d.jpg": []})
        evaluation = evaluate(truth, predictions, tmp_path / "out", EvaluationSettings(overlays="all"))
        empty, turned, absent = evaluation.failures
        assert "zero bytes" in empty
        assert "its annotation says 400 × 300" in turned
        assert absent == "d.jpg: the image was not found"
        assert [path.name for path in (tmp_path / "out" / "matches").iterdir()] == ["c_matches.jpg"]

    def test_overlays_of_an_earlier_evaluation_do_not_stay(
        self, dataset: Path, predictions: Path, tmp_path: Path
    ) -> None:
        evaluate(truth_of(dataset), predictions, tmp_path / "out", EvaluationSettings(overlays="all"))
        evaluate(truth_of(dataset), predictions, tmp_path / "out")
        assert list((tmp_path / "out").glob("matches/*")) == []

    def test_the_extremes_are_the_best_and_worst_of_each_dataset(self) -> None:
        kinds = {"worst": ["missed"] * 4, "bad": ["missed"] * 3 + ["matched"], "middle": ["missed", "matched"]}
        kinds |= {"good": ["missed"] + ["matched"] * 3, "best": ["matched"] * 4}
        rows = [("d", image, kind) for image, all_kinds in kinds.items() for kind in all_kinds]
        rows.append(("other", "alone", "matched"))
        table = pl.DataFrame(
            [{"dataset": d, "image": image, "kind": kind, "ignored": False} for d, image, kind in rows],
            schema=OBJECT_SCHEMA,
        )
        chosen = {("d", name) for name in ("worst", "bad", "good", "best")} | {("other", "alone")}
        assert extremes(table) == chosen


class TestLegacyTables:
    def test_one_for_each_image_and_one_for_all(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        evaluate(truth_of(dataset), predictions, tmp_path / "out", EvaluationSettings(legacy_tables=True))
        lines = (tmp_path / "out" / "a.csv").read_text().splitlines()
        assert lines[0] == "idx_1;idx_2;conf1;conf2;IoU;contourArea_1;contourArea_2;bbox_1;bbox_2;contour_1;contour_2"
        ring = "[[20.0, 20.0], [100.0, 20.0], [100.0, 100.0], [20.0, 100.0]]"
        box = "[20.0, 20.0, 100.0, 100.0]"
        assert lines[1] == f"0;0;NA;0.8;1.0;6400.0;6400.0;{box};{box};{ring};{ring}"
        assert lines[2].startswith("1;-1;NA;NA;0.0;7200.0;0.0;[200.0, 40.0, 290.0, 120.0];[];[[200.0")
        assert lines[3].startswith("-1;1;NA;0.8;0.0;0.0;7200.0;[];[300.0, 200.0, 380.0, 290.0];[];[[300.0")
        combined = pl.read_csv(tmp_path / "out" / "combined_results.csv", separator=";")
        assert combined["image"].to_list() == ["a", "a", "a", "b"]
        assert combined.columns[1:] == lines[0].split(";")

    def test_images_called_like_our_tables_do_not_overwrite_them(self, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "t.json", {"scores.jpg": [FIRST], "combined_results.jpg": []})
        evaluate(truth, truth, tmp_path / "out", EvaluationSettings(legacy_tables=True))
        assert pl.read_csv(tmp_path / "out" / "scores.csv").columns == list(SCORE_SCHEMA)
        assert len(list((tmp_path / "out").glob("*.csv"))) == 6

    def test_without_images_there_is_a_header(self, tmp_path: Path) -> None:
        truth = write_coco(tmp_path / "t.json", {})
        evaluate(truth, truth, tmp_path / "out", EvaluationSettings(legacy_tables=True))
        assert (tmp_path / "out" / "combined_results.csv").read_text().startswith("image;idx_1;")


class TestConfiguration:
    def test_of_a_flat_bug_1_configuration_only_the_score_threshold_counts(self, tmp_path: Path) -> None:
        path = tmp_path / "old.yaml"
        path.write_text("SCORE_THRESHOLD: 0.3\nIOU_THRESHOLD: 0.2\nMIN_MAX_OBJ_SIZE: [16, 1024]\nTILE_SIZE: 1024\n")
        assert EvaluationSettings.from_yaml(path) == EvaluationSettings(score_threshold=0.3)

    def test_a_configuration_of_predictions_can_be_given_too(self, tmp_path: Path) -> None:
        path = tmp_path / "predict.yaml"
        path.write_text("overlap_threshold: 0.4\nbatch_size: 4\nscore_threshold: 0.25\niou_threshold: 0.7\n")
        assert EvaluationSettings.from_yaml(path) == EvaluationSettings(score_threshold=0.25, iou_threshold=0.7)

    @pytest.mark.parametrize("text", ["iou_treshold: 0.5", "iou_threshold: 0", "min_size: -1", "rules: v1"])
    def test_mistakes_are_named(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "wrong.yaml"
        path.write_text(text)
        with pytest.raises(ConfigError, match=text.split(":", maxsplit=1)[0]):
            EvaluationSettings.from_yaml(path)


class TestCommand:
    def test_prints_the_rules_and_a_row_for_each_dataset(
        self, dataset: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb("-p", predictions, "-g", truth_of(dataset), "-o", tmp_path / "out") == 0
        printed = capsys.readouterr().out
        assert "mask IoU ≥ 0.5, objects of 32 pixels or more" in printed
        assert "meadow" in printed
        assert "0.667" in printed
        assert str(tmp_path / "out") in printed

    def test_all_options_of_flat_bug_1(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        output = tmp_path / "out"
        words = ["-p", predictions, "-g", truth_of(dataset), "-I", dataset, "-o", output]
        assert fb(*words, "-P", "-b", "-c", "-s", "1", "-n", "-1", "--workers", "2", "--combine") == 0
        assert (output / "combined_results.csv").is_file()
        assert (output / "matches" / "b_matches.jpg").is_file()
        long = ["--predictions", predictions, "--ground_truth", truth_of(dataset), "--output_directory", output]
        assert fb(*long, "--image_directory", dataset, "--plot", "--no_boxes", "--coco_predictions") == 0

    def test_options_come_before_the_configuration(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        config = tmp_path / "c.yaml"
        config.write_text("iou_threshold: 0.9\nmin_size: 10\n")
        words = ["-p", predictions, "-g", truth_of(dataset), "-o", tmp_path / "out", "--config", config]
        assert fb(*words, "--iou-threshold", "0.25", "--iou-type", "box", "--rules", "bench") == 0
        used = json.loads((tmp_path / "out" / "evaluation.json").read_text())["settings"]
        assert (used["iou_threshold"], used["min_size"], used["iou_type"], used["rules"]) == (0.25, 10, "box", "bench")

    def test_one_object_for_machines(
        self, dataset: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb("-p", predictions, "-g", truth_of(dataset), "-o", tmp_path / "out", "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["scores"][-1]["f1"] == pytest.approx(2 / 3)

    def test_an_image_that_could_not_be_drawn_is_named_and_the_exit_code_is_1(
        self, dataset: Path, predictions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (dataset / "b.jpg").unlink()
        assert fb("-p", predictions, "-g", truth_of(dataset), "-o", tmp_path / "out", "-P") == 1
        assert "Not drawn: b.jpg: the image was not found" in capsys.readouterr().out
        assert (tmp_path / "out" / "scores.csv").is_file()

    @pytest.mark.parametrize(
        "change",
        [
            ["-g", "absent.json"],
            ["-p", "absent"],
            ["-I", "absent"],
            ["--iou-threshold", "2"],
            ["--iou-type", "contour"],
            ["-n", "0"],
        ],
    )
    def test_mistakes_end_with_exit_code_2(
        self, dataset: Path, predictions: Path, tmp_path: Path, change: list[str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = {
            "-p": str(predictions),
            "-g": str(truth_of(dataset)),
            "-o": str(tmp_path / "out"),
            change[0]: change[1],
        }
        assert fb(*(part for pair in words.items() for part in pair)) == 2
        assert capsys.readouterr().err.startswith("fb: ")

    def test_an_output_that_is_a_file_is_refused(self, dataset: Path, predictions: Path, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("")
        with pytest.raises(OutputError):
            evaluate(truth_of(dataset), predictions, tmp_path / "out")


@pytest.mark.real
class TestRealData:
    def test_ground_truth_against_itself_is_perfect(self, real_data: Path, tmp_path: Path) -> None:
        for name in ("alus", "ami-moth-sheets", "bumblebees", "collembola-dish"):
            truth = real_data / name / "instances_default.json"
            for rules in ("coco", "bench"):
                settings = EvaluationSettings(bootstrap_draws=10, rules=rules, min_size=0)
                scores = pooled(evaluate(truth, truth, tmp_path / name, settings))
                assert (scores["precision"], scores["recall"], scores["ap50"]) == (1.0, 1.0, 1.0), name
                assert scores["mean_iou"] == pytest.approx(1.0)

    def test_worse_outlines_score_worse(self, real_data: Path, tmp_path: Path) -> None:
        truth = real_data / "ami-moth-sheets" / "instances_default.json"
        before = 1.1
        for shift in (0.02, 0.1, 0.3):
            document = json.loads(truth.read_text())
            for entry in document["annotations"]:
                moved = shift * min(entry["bbox"][2:])
                entry["segmentation"] = [[value + moved for value in ring] for ring in entry["segmentation"]]
                entry["bbox"][:2] = [value + moved for value in entry["bbox"][:2]]
            other = tmp_path / "moved.json"
            other.write_text(json.dumps(document))
            scores = pooled(evaluate(truth, other, tmp_path / "out", EvaluationSettings(bootstrap_draws=10)))
            assert scores["ap"] < before
            before = scores["ap"]

    def test_overlays_of_real_images(self, real_data: Path, tmp_path: Path) -> None:
        truth = real_data / "spohf-yellow-sticky" / "instances_default.json"
        settings = EvaluationSettings(overlays="all", max_images=2, bootstrap_draws=10)
        assert evaluate(truth, truth, tmp_path / "out", settings).failures == ()
        assert len(list((tmp_path / "out" / "matches").iterdir())) == 2
