"""Animals keep their numbers from frame to frame: through crossings, gaps and jitter, whoever predicted the frames."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.films import walk, write_film
from tests.spots import fb

from flat_bug.config import PredictSettings
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.predict_plan import begin_prediction, plan_prediction, run_folder_of
from flat_bug.experiments.results import write_results
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.prediction_run import OutputSettings, Recipe, find_images, remembered
from flat_bug.prediction_run.remembered import read_memory, stamp_of
from flat_bug.tracking import MOST_MISSED, Sight, generalised_overlaps, track


def sight(time: float, *middles: tuple[float, float], side: float = 20, classes: list[int] | None = None) -> Sight:
    points = np.array(middles, np.float64).reshape(-1, 2)
    kinds = np.zeros(len(points), np.int64) if classes is None else np.array(classes)
    return Sight(time, np.hstack([points - side / 2, points + side / 2]), kinds)


def numbers(*sights: Sight) -> list[list[int]]:
    return [found.tolist() for found in track(sights)]


def test_numbers_count_from_one_in_the_order_of_rows_and_frames() -> None:
    assert numbers(sight(0, (50, 50), (200, 50)), sight(1, (202, 52), (52, 50), (400, 400))) == [[1, 2], [2, 1, 3]]


def test_a_video_without_animals_has_no_numbers() -> None:
    assert numbers() == []
    assert numbers(sight(0), sight(1)) == [[], []]


def test_animals_that_cross_go_on_as_they_did() -> None:
    # They meet in the middle of frames five and six, where each is nearer to where the other one was.
    crossing = [sight(t, (40 + 12 * t, 100), (172 - 12 * t, 104)) for t in range(12)]
    assert numbers(*crossing) == [[1, 2]] * 12


def test_a_fast_animal_is_the_same_though_its_boxes_do_not_overlap() -> None:
    assert numbers(*(sight(t / 25, (40 + 45 * t, 100)) for t in range(8))) == [[1]] * 8


def test_what_appears_far_away_is_another_animal() -> None:
    assert numbers(sight(0, (50, 50)), sight(1, (500, 50))) == [[1], [2]]


def test_an_animal_that_is_missed_for_a_while_is_found_where_it_was_going() -> None:
    path = [(40 + 15 * t, 100.0) for t in range(4 + MOST_MISSED)]
    seen = [sight(t, path[t]) if t not in range(2, 2 + MOST_MISSED) else sight(t) for t in range(len(path))]
    assert [each for each in numbers(*seen) if each] == [[1]] * 4
    gone = [sight(0, (50, 50)), *(sight(t + 1) for t in range(MOST_MISSED + 1)), sight(MOST_MISSED + 2, (50, 50))]
    assert numbers(*gone)[-1] == [2]


def test_frames_at_unequal_times_and_ones_that_are_not_there_change_nothing() -> None:
    times = [0, 0.1, 0.2, 0.5, 0.6, 1.3]
    assert numbers(*(sight(t, (40 + 80 * t, 100), (200 - 80 * t, 100)) for t in times)) == [[1, 2]] * len(times)


def test_an_animal_keeps_its_class() -> None:
    assert numbers(sight(0, (50, 50), classes=[0]), sight(1, (50, 50), classes=[1])) == [[1], [2]]


def test_the_pairs_are_those_that_overlap_most_together() -> None:
    # The nearest box of the first animal is the only one near the second.
    assert numbers(sight(0, (100, 100), (130, 100)), sight(1, (118, 100), (75, 100))) == [[1, 2], [2, 1]]


@pytest.mark.parametrize(("apart", "overlap"), [(0, 1), (5, 0.6), (20, 0), (40, -1 / 3), (60, -0.5)])
def test_generalised_overlaps(apart: float, overlap: float) -> None:
    boxes = sight(0, (50, 50), (50 + apart, 50)).boxes
    assert generalised_overlaps(boxes[:1], boxes[1:])[0, 0] == pytest.approx(overlap)


@given(st.lists(st.lists(st.tuples(st.floats(0, 500), st.floats(0, 500)), max_size=6), max_size=8))
def test_no_two_animals_of_a_frame_have_one_number_and_no_number_is_left_out(frames: list[Any]) -> None:
    found = track([sight(time, *middles) for time, middles in enumerate(frames)])
    assert all(len(set(each.tolist())) == len(each) for each in found)
    used = {number for each in found for number in each.tolist()}
    assert used == set(range(1, len(used) + 1))


class TestOfARun:
    """``fb predict --track``."""

    @pytest.fixture
    def film(self, tmp_path: Path) -> Path:
        return write_film(tmp_path / "film.mp4", walk(10))

    def predict(self, network: Path, film: Path, output: Path, *words: str) -> list[list[int]]:
        assert fb("predict", "-i", film, "-o", output, "-w", network, "--single-scale", "--no-crops", *words) == 0
        return self.numbers_in(output)

    def numbers_in(self, output: Path) -> list[list[int]]:
        """Return the number of the upper and the lower animal of each frame."""
        rows = []
        for path in sorted(output.glob("film_f*/metadata_*.json")):
            values = json.loads(path.read_text())
            pairs = zip([box[1] for box in values["boxes"]], values.get("track_ids", []), strict=False)
            rows.append([number for _, number in sorted(pairs)])
        return rows

    def test_each_animal_has_its_number_in_all_files(self, spots_network: Path, film: Path, tmp_path: Path) -> None:
        found = self.predict(spots_network, film, tmp_path / "out", "--track")
        assert len(found) == 10
        assert found == [found[0]] * 10
        assert sorted(found[0]) == [1, 2]
        coco = json.loads((tmp_path / "out" / "coco_instances.json").read_text())
        assert sorted(each["track_id"] for each in coco["annotations"]) == [1] * 10 + [2] * 10
        header, first, *_ = (tmp_path / "out" / "measurements.csv").read_text().splitlines()
        assert first.split(",")[header.split(",").index("track_id")] in ("1", "2")

    @pytest.mark.slow
    def test_numbers_do_not_depend_on_who_did_the_frames_nor_when(
        self, spots_network: Path, film: Path, tmp_path: Path
    ) -> None:
        at_once = self.predict(spots_network, film, tmp_path / "once", "--track")
        self.predict(spots_network, film, tmp_path / "parts", "--track", "-n", "3")
        self.predict(spots_network, film, tmp_path / "parts", "-n", "7")
        assert self.predict(spots_network, film, tmp_path / "parts", "--track") == at_once
        assert self.predict(spots_network, film, tmp_path / "jobs", "--track", "--jobs", "2", "-g", "cpu") == at_once

    @pytest.mark.slow
    def test_tasks_that_share_a_film_leave_what_one_process_leaves(
        self, spots_network: Path, film: Path, tmp_path: Path
    ) -> None:
        alone = self.predict(spots_network, film, tmp_path / "alone", "--track")
        found, output = find_images([film]), tmp_path / "out"
        recipe = Recipe(spots_network, PredictSettings(single_scale=True))
        wanted = OutputSettings(crops=False, tracks=True)
        made = plan_prediction(found, recipe, output, wanted, shards=3)
        assert len(made.tasks) == 3
        with RunFolder.create(run_folder_of(output), made) as run:
            begin_prediction(run, found, output, wanted)
            LocalSubmitter(1).submit(run, made.tasks)
        assert write_results(run).table["status"].to_list() == ["done"] * 3
        assert self.numbers_in(output) == alone
        for name in ("measurements.csv", "coco_instances.json"):
            assert (output / name).read_text() == (tmp_path / "alone" / name).read_text()

    def test_a_second_command_changes_no_file_and_one_without_it_takes_the_numbers_away(
        self, spots_network: Path, film: Path, tmp_path: Path
    ) -> None:
        output = tmp_path / "out"
        found = self.predict(spots_network, film, output, "--track")
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*.json") if path.name != ".done.json"}
        assert self.predict(spots_network, film, output, "--track") == found
        assert {path: path.stat().st_mtime_ns for path in before} == before
        assert self.predict(spots_network, film, output) == [[]] * 10
        assert "track_id" not in (output / "coco_instances.json").read_text()

    def test_frames_whose_numbers_were_written_are_remembered_as_they_are_then(
        self, spots_network: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(remembered, "SECONDS_TO_SETTLE", 0.0)
        self.predict(spots_network, film, tmp_path / "out", "--track")
        known = read_memory(tmp_path / "out").images
        assert len(known) == 10
        for name, each in known.items():
            (written,) = (tmp_path / "out" / name).glob("metadata_*.json")
            assert each.metadata == stamp_of(written)

    def test_without_the_json_there_is_nowhere_to_write_numbers(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb("predict", "-i", tmp_path, "-o", tmp_path / "out", "--track", "--no-metadata") == 2
        assert "--track" in capsys.readouterr().err
