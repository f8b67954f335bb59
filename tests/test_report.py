"""The report: one page from the evaluations of some models, whatever became of them."""

import itertools
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from tests.evaluated import GroundTruth, make_ground_truth, make_model

from flat_bug.errors import OutputError
from flat_bug.evaluation.report import ReportModel, write_report
from flat_bug.evaluation.scores import POOLED
from flat_bug.evaluation.standings import Standing, lead_of_best, notes_of, paired_counts, read_standings
from flat_bug.evaluation.tables import OBJECT_SCHEMA
from flat_bug.segmenters.base import ModelCard

PROVENANCE = {"command": "fb run compare-models -i 'a b'", "ground_truth": {"sha256": "fe" * 32}, "seeds": [1, 2]}
HOSTILE = "<script>alert(1)</script> \"q\" 'x' & {{ 7*7 }} 虫🐜"


class Page(HTMLParser):
    """What a page holds: its visible text, its tags, and every attribute."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.source = path.read_text(encoding="utf-8")
        self._silent = False
        self.feed(self.source)
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self._silent = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._silent = False

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> GroundTruth:
    return make_ground_truth(tmp_path_factory.mktemp("truth"))


@pytest.fixture(scope="module")
def good(truth: GroundTruth, tmp_path_factory: pytest.TempPathFactory) -> ReportModel:
    return make_model(
        tmp_path_factory.mktemp("good"),
        truth,
        "good",
        recall=1,
        spurious=0,
        seconds=4,
        megapixels=8,
        peak_memory_mb=300,
    )


@pytest.fixture(scope="module")
def poor(truth: GroundTruth, tmp_path_factory: pytest.TempPathFactory) -> ReportModel:
    return make_model(tmp_path_factory.mktemp("poor"), truth, "poor", recall=0.5, spurious=2)


@pytest.fixture(scope="module")
def page(good: ReportModel, poor: ReportModel, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """Return the page of two models, for tests that only read it."""
    return page_of(tmp_path_factory.mktemp("page"), poor, good, **PROVENANCE)


def page_of(tmp_path: Path, *models: ReportModel, title: str = "A comparison", **provenance: object) -> Page:
    return Page(write_report(models, tmp_path / "report.html", title=title, provenance=provenance))


def test_the_best_model_comes_first_with_its_lead(page: Page) -> None:
    assert re.search(r"good is best: its F1 of 1\.000 is 0\.\d+ above that of poor\.", page.text)
    assert "good is ahead on 2 of 2 datasets" in page.text
    assert "good finds 100 % of the 36 animals" in page.text
    for dataset in ("forest", "meadow"):
        assert dataset in page.text


def test_equal_models_are_not_told_apart(tmp_path: Path, good: ReportModel) -> None:
    twin = ReportModel(name="twin", evaluation=good.evaluation)
    page = page_of(tmp_path, good, twin)
    assert "good scores highest, but twin may be as good." in page.text
    assert "holds zero" in page.text
    assert "good is ahead on 0 of 2 datasets" in page.text


def test_a_failed_model_costs_its_own_row_only(tmp_path: Path, good: ReportModel) -> None:
    failed = ReportModel(name="broken", status="failed", reason="the weights are not an ONNX file")
    page = page_of(tmp_path, failed, good)
    assert "1 of 2 models has no result" in page.text
    assert "failed: the weights are not an ONNX file" in page.text
    assert "good reaches an F1 of 1.000." in page.text


@pytest.mark.parametrize("file", ["objects.parquet", "scores.csv", "evaluation.json"])
@pytest.mark.parametrize("content", [None, b"", b"\x00\xffnonsense"])
def test_an_unreadable_evaluation_is_a_failed_model(
    tmp_path: Path, poor: ReportModel, file: str, content: bytes | None
) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    assert poor.evaluation is not None
    for path in poor.evaluation.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(content)
    first, second = read_standings([ReportModel(name="odd", evaluation=folder), poor])
    assert (first.model.name, first.done) == ("poor", True)
    assert (second.model.name, second.model.status) == ("odd", "failed")
    assert second.model.reason.startswith("its evaluation cannot be read")


def test_without_models_or_results_the_page_says_so(tmp_path: Path) -> None:
    assert "This report holds no model." in page_of(tmp_path).text
    lost = ReportModel(name="lost", status="missing", reason="its task never started")
    page = page_of(tmp_path, lost)
    assert "No model has finished" in page.text
    assert "its task never started" in page.text


def test_no_detections_and_no_ground_truth(tmp_path: Path, truth: GroundTruth) -> None:
    blind = make_model(tmp_path / "blind", truth, "blind", recall=0, spurious=0)
    assert "blind reaches an F1 of 0.000." in page_of(tmp_path, blind).text
    nothing = make_ground_truth(tmp_path / "nothing", animals=0)
    silent = make_model(tmp_path / "silent", nothing, "silent", spurious=0)
    assert "There is nothing to score" in page_of(tmp_path, silent).text
    noisy = make_model(tmp_path / "noisy", nothing, "noisy", spurious=2)
    assert "noisy" in page_of(tmp_path, noisy, silent).text


def test_one_dataset_and_one_image(tmp_path: Path) -> None:
    truth = make_ground_truth(tmp_path / "truth", ["only"], images=1, animals=2)
    page = page_of(tmp_path, make_model(tmp_path / "a", truth, "a"), make_model(tmp_path / "b", truth, "b", seed=5))
    assert "only" in page.text
    assert "2 animals in 1 image" in page.text
    # One image drawn again is the same image, which would look like certainty.
    assert not [value for _, value in page.attributes if value == "whisker"]


def test_names_are_text_wherever_they_appear(tmp_path: Path) -> None:
    truth = make_ground_truth(tmp_path / "truth", [HOSTILE])
    card = ModelCard(name=HOSTILE, tile=640, licence=HOSTILE, data=({"name": HOSTILE},))
    model = make_model(tmp_path / "a", truth, HOSTILE, device=HOSTILE, card=card)
    failed = ReportModel(name=HOSTILE, weights=HOSTILE, sha256=HOSTILE, status=HOSTILE, reason=HOSTILE)
    page = page_of(tmp_path, model, failed, title=HOSTILE, command=HOSTILE, config={HOSTILE: [HOSTILE]})
    assert page.tags.count("script") == 1
    assert "alert(1)</script> \"q\" 'x' & {{ 7*7 }} 虫🐜" in page.text
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    # Each title holds the whole name: no quote has ended an attribute early.
    titles = [value for name, value in page.attributes if name == "title" and "F1" in value]
    assert titles
    assert all(HOSTILE in title for title in titles)


def test_the_page_needs_nothing_else(page: Page) -> None:
    loaded = [value for name, value in page.attributes if name in ("src", "srcset", "data", "action", "poster")]
    assert loaded
    assert all(value.startswith("data:image/webp;base64,") for value in loaded)
    assert [value for name, value in page.attributes if name == "href" and not value.startswith(("#", "data:"))] == [
        "https://doi.org/10.1111/2041-210X.70249"
    ]
    assert "@import" not in page.source
    assert "url(http" not in page.source


def test_the_same_input_gives_the_same_page(tmp_path: Path, page: Page, good: ReportModel, poor: ReportModel) -> None:
    assert page_of(tmp_path, good, poor, **PROVENANCE).source == page.source


def test_identifiers_are_unique_and_headings_in_order(page: Page) -> None:
    # matplotlib names clip paths and markers by their content: the same name is the same thing.
    names = [value for name, value in page.attributes if name == "id" and not re.fullmatch(r"[mp][0-9a-f]{10}", value)]
    assert len(names) == len(set(names))
    levels = [int(tag[1]) for tag in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_provenance_is_shown(page: Page, good: ReportModel) -> None:
    for text in ("fb run compare-models -i 'a b'", "fe" * 32, good.sha256, "iou threshold", "Svenning"):
        assert text in page.text


def test_speed_is_per_megapixel(page: Page, good: ReportModel, poor: ReportModel) -> None:
    assert good.seconds_per_megapixel == 0.5
    assert poor.seconds_per_megapixel is None
    assert ReportModel(name="x", seconds=1, megapixels=0).seconds_per_megapixel is None
    assert "0.500" in page.text


def test_it_says_which_animals_count(tmp_path: Path) -> None:
    truth = make_ground_truth(tmp_path / "truth")
    document = json.loads(truth.path.read_text())
    for annotation in document["annotations"][:2]:
        annotation["bbox"][2:] = [8, 8]
    truth.path.write_text(json.dumps(document))
    page = page_of(tmp_path, make_model(tmp_path / "m", truth, "m"))
    assert "34 animals of 32 px or more; 2 smaller ones do not count; matched at mask IoU ≥ 0.5" in page.text
    assert "every animal that counts was found" in page.text


def test_nothing_is_said_of_smaller_animals_where_there_are_none(page: Page) -> None:
    assert "36 animals of 32 px or more; matched at mask IoU ≥ 0.5" in page.text


def test_the_lines_of_each_model_do_not_contradict_the_comparison_of_both(
    tmp_path: Path, page: Page, good: ReportModel
) -> None:
    assert "The lines are for each model alone. Whether the two best differ is said at the top" in page.text
    assert "is said at the top" not in page_of(tmp_path, good).text


def test_names_of_files_are_shown_as_they_are(tmp_path: Path, good: ReportModel) -> None:
    page = page_of(tmp_path, good, **{"SHA-256": {"/my_runs/a_model.onnx": "fe"}, "some_label": 1})
    assert "/my_runs/a_model.onnx" in page.text
    assert "some label" in page.text


def test_the_same_weights_without_their_card_are_seen_to_be_the_same(
    tmp_path: Path, good: ReportModel, poor: ReportModel
) -> None:
    card = ModelCard(name="good", tile=640, licence="CC0")
    original = replace(good, card=card, score_threshold=0.4)
    copy = replace(poor, name="copy", sha256=good.sha256, card=card, card_is_assumed=True, score_threshold=0.2)
    page = page_of(tmp_path, original, copy, poor)
    assert "good and copy have the same weights; they differ in the score threshold: 0.4 and 0.2." in page.text
    assert "Both have the same weights." in page.text
    assert "good CC0 same weights as copy" in page.text
    assert "copy no card same weights as good" in page.text
    assert "score threshold 0.4" in page.text.replace("threshold0", "threshold 0")
    assert page.text.count("same weights as") == 2
    other_tile = replace(copy, card=card.model_copy(update={"tile": 160}), score_threshold=0.4)
    assert "good and copy have the same weights; their cards differ." in page_of(tmp_path, original, other_tile).text


@pytest.mark.slow
def test_many_models_and_datasets(tmp_path: Path) -> None:
    truth = make_ground_truth(tmp_path / "truth", [f"dataset {n}" for n in range(30)], images=1, animals=3)
    models = [make_model(tmp_path / str(n), truth, f"model {n}", recall=n / 12, seed=n) for n in range(12)]
    path = write_report(models, tmp_path / "report.html", title="Many")
    assert path.stat().st_size < 10_000_000
    page = Page(path)
    assert page.tags.count("table") == 2
    assert all(f"dataset {n}" in page.text for n in range(30))
    assert all(f"model {n}" in page.text for n in range(12))


def test_a_page_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        write_report([], tmp_path / "file" / "report.html", title="x")


def objects(rows: list[tuple[str, str, str]]) -> pl.DataFrame:
    names = ("dataset", "image", "kind")
    full = [{**dict.fromkeys(OBJECT_SCHEMA), **dict(zip(names, row, strict=True)), "ignored": False} for row in rows]
    return pl.DataFrame(full, schema=OBJECT_SCHEMA)


def test_models_are_compared_on_the_datasets_that_both_have() -> None:
    first = objects([("a", "1", "matched"), ("a", "2", "missed"), ("b", "3", "matched")])
    second = objects([("a", "1", "spurious")])
    # Animals, predictions, matches: of image 1 and image 2, for each of the two models.
    assert paired_counts(first, second).tolist() == [[[1, 1, 1], [0, 1, 0]], [[1, 0, 0], [0, 0, 0]]]


def test_the_lead_is_the_difference_of_pooled_f1(good: ReportModel, poor: ReportModel) -> None:
    standings = read_standings([poor, good])
    assert [standing.model.name for standing in standings] == ["good", "poor"]
    assert [standing.slot for standing in standings] == [0, 1]
    lead = lead_of_best(standings)
    assert lead is not None
    best, second = (standing.scores[POOLED].f1 for standing in standings)
    assert best is not None
    assert second is not None
    assert lead.gap == pytest.approx(best - second)
    assert lead.low <= lead.gap <= lead.high
    assert lead_of_best(standings[:1]) is None


def test_models_that_were_not_scored_alike_do_not_compare() -> None:
    def scored(name: str, truth: str, min_size: float, *warnings: str) -> Standing:
        summary = {"sha256": {"ground_truth": truth}, "settings": {"min_size": min_size}, "warnings": list(warnings)}
        return Standing(ReportModel(name=name), summary=summary)

    assert notes_of([]) == ()
    assert notes_of([scored("a", "x", 32), scored("b", "x", 32)]) == ()
    (note,) = notes_of([scored("a", "x", 32), scored("b", "y", 32)])
    assert "on different ground truth" in note
    (note,) = notes_of([scored("a", "x", 32), scored("b", "x", 8)])
    assert "with different settings" in note
    assert notes_of([scored("a", "x", 32, "w1", "w2"), scored("b", "x", 32, "w2")]) == ("a: w1", "w2")
