"""What an output folder remembers: a second run is fast, and never wrong."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.spots import spots

from flat_bug.predict import Predictor
from flat_bug.prediction_run import OutputSettings, find_images, predict_images, remembered
from flat_bug.prediction_run.inputs import DONE_NAME, InputImage
from flat_bug.prediction_run.one_image import Done, attempt
from flat_bug.prediction_run.remembered import Memory, is_settled, look_of, read_memory, stamp_of, write_memory

LIE = 77
"""A number of animals that no image has, so that only what is remembered can have said it."""
Run = Callable[..., dict[str, dict[str, Any]]]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, centres in {"a.bmp.png": [(25, 30), (85, 40)], "b.png": [(50, 30)]}.items():
        Image.fromarray(spots(110, 64, centres)).save(folder / name, compress_level=0)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def run(images: Path, output: Path, spots_network: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that predicts the images, which are taken for settled, and returns the row of each."""
    monkeypatch.setattr(remembered, "SECONDS_TO_SETTLE", 0.0)
    predictor = Predictor(spots_network)

    def predict(**settings: Any) -> dict[str, dict[str, Any]]:
        predict_images(find_images([images]), predictor, output, OutputSettings(**settings))
        return {row["image"]: row for row in pl.read_csv(output / "summary.csv").iter_rows(named=True)}

    return predict


def lie(output: Path) -> None:
    """Have the folder remember what is not so."""
    values = json.loads((output / DONE_NAME).read_text())
    for each in values["images"].values():
        each["instances"] = LIE
    (output / DONE_NAME).write_text(json.dumps(values))


def statuses(rows: dict[str, dict[str, Any]]) -> list[tuple[str, int]]:
    return [(row["status"], row["instances"]) for row in rows.values()]


@pytest.mark.parametrize("settings", [{}, {"long_format": True}, {"crops": False, "overviews": False}])
def test_what_is_remembered_is_not_read_again(run: Run, output: Path, settings: dict[str, Any]) -> None:
    run(**settings)
    coco = (output / "coco_instances.json").stat().st_mtime_ns
    lie(output)
    assert statuses(run(**settings)) == [("skipped", LIE)] * 2
    assert (output / "coco_instances.json").stat().st_mtime_ns == coco


def test_a_file_of_the_same_size_and_date_is_noticed(run: Run, images: Path, output: Path) -> None:
    """Its ctime tells, which nobody can set."""
    run()
    path = images / "b.png"
    before = path.stat()
    Image.fromarray(spots(110, 64, [(20, 20), (60, 30), (90, 40)])).save(path, compress_level=0)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert statuses(run()) == [("skipped", 2), ("done", 3)]
    assert len(json.loads((output / "coco_instances.json").read_text())["annotations"]) == 5


def test_a_file_that_was_moved_into_its_place_is_noticed(run: Run, images: Path) -> None:
    run()
    other = images.parent / "other.png"
    Image.fromarray(spots(110, 64, [])).save(other, compress_level=0)
    before = (images / "b.png").stat()
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(images / "b.png")
    assert statuses(run()) == [("skipped", 2), ("done", 0)]


def test_a_file_that_was_touched_is_compared_and_skipped(run: Run, images: Path, output: Path) -> None:
    run()
    lie(output)
    (images / "b.png").touch()
    assert statuses(run()) == [("skipped", LIE), ("skipped", 1)]


def test_a_file_that_is_too_young_is_not_remembered(run: Run, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remembered, "SECONDS_TO_SETTLE", 3600.0)
    run()
    assert read_memory(output).images == {}


@pytest.mark.parametrize("what", ["crop", "overview", "metadata"])
def test_a_result_that_is_gone_is_made_again(run: Run, output: Path, what: str) -> None:
    run()
    (path,) = (output / "b").rglob(f"{what}_*")
    content = path.read_bytes()
    path.unlink()
    assert [row["status"] for row in run().values()] == ["skipped", "done"]
    assert path.read_bytes() == content


def test_a_json_that_was_changed_is_made_again(run: Run, output: Path) -> None:
    run()
    (path,) = (output / "b").glob("metadata_*")
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    assert [row["status"] for row in run().values()] == ["skipped", "done"]
    assert path.read_bytes() == content


def test_other_settings_are_not_what_is_remembered(run: Run, output: Path) -> None:
    run()
    lie(output)
    assert statuses(run(coco_rle=True)) == [("skipped", 2), ("skipped", 1)]


def test_files_of_all_images_are_made_again_where_they_are_gone_or_changed(run: Run, output: Path) -> None:
    run()
    coco = output / "coco_instances.json"
    content = coco.read_bytes()
    coco.unlink()
    run()
    assert coco.read_bytes() == content
    coco.write_text("{}")
    run()
    assert coco.read_bytes() == content


def test_files_of_all_images_follow_the_images(run: Run, images: Path, output: Path) -> None:
    run()
    (images / "b.png").unlink()
    run()
    assert len(json.loads((output / "coco_instances.json").read_text())["images"]) == 1
    run(coco=False)
    assert not (output / "coco_instances.json").exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "null", '{"images": 3}', '{"images": {"a": {"image": "x"}}}', "[" * 100_000, "\0\xff"]
)
def test_a_memory_that_is_broken_is_none(run: Run, output: Path, content: str) -> None:
    run()
    (output / DONE_NAME).write_text(content)
    assert statuses(run()) == [("skipped", 2), ("skipped", 1)]
    assert len(read_memory(output).images) == 2


def test_a_memory_comes_back_as_it_was(run: Run, output: Path) -> None:
    run()
    memory = read_memory(output)
    write_memory(output, memory)
    assert read_memory(output) == memory
    assert read_memory(output.with_name("absent")) == Memory()


def test_what_nobody_thought_of_is_told_with_its_place(images: Path) -> None:
    def broken(image: InputImage, *_: object) -> Done:
        raise KeyError("left")

    def hungry(image: InputImage, *_: object) -> Done:
        raise MemoryError

    image = find_images([images])[0]
    reason = attempt(image, broken).row.reason
    assert re.fullmatch(r"unexpected KeyError: 'left' \(test_predict_memory\.py:\d+\)", reason)
    assert "not enough memory" in attempt(image, hungry).row.reason


@given(st.lists(st.integers(0, 2**62), min_size=2, max_size=2), st.floats(0, 4e9))
def test_only_a_file_that_is_older_is_settled(times: list[int], at: float) -> None:
    expected = all(time < (at - remembered.SECONDS_TO_SETTLE) * 1e9 for time in times)
    assert is_settled((1, 2, times[0], times[1]), at) == expected


def test_the_look_of_a_folder_follows_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    empty = look_of(tmp_path)
    (tmp_path / "deep" / "file").write_text("one")
    one = look_of(tmp_path)
    (tmp_path / "deep" / "file").write_text("three")
    assert len({"", empty, one, look_of(tmp_path), look_of(tmp_path / "deep" / "file")}) == 5
    assert look_of(tmp_path / "absent") == ""
    with pytest.raises(FileNotFoundError):
        stamp_of(tmp_path / "absent")
