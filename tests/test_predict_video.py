"""``fb predict`` on videos: each frame is an image of the run, and damage costs what is damaged."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.films import HEIGHT, WIDTH, cut, damage, walk, write_film
from tests.spots import fb, spots

from flat_bug.errors import UsageError
from flat_bug.experiments.predict_shard import read_images, write_images
from flat_bug.instances.formats import FORMATS
from flat_bug.prediction_run import Every, find_images
from flat_bug.prediction_run.opener import Opener
from flat_bug.prediction_run.pace import megapixels_of

FRAMES = 12


def predict(network: Path, images: Path, output: Path, *words: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """Return the exit code and the rows of the summary by the names of their images."""
    code = fb("predict", "-i", images, "-o", output, "-w", network, "--single-scale", *words)
    return code, {row["image"]: row for row in pl.read_csv(output / "summary.csv", infer_schema_length=None).to_dicts()}


def metadata(output: Path, name: str) -> dict[str, Any]:
    (path,) = (output / name).glob(f"metadata_{name}_*.json")
    return dict(json.loads(path.read_text()))


def without_times(rows: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows.values()]


@pytest.mark.parametrize(
    ("name", "codec"), [("film.mp4", "libx264"), ("film.avi", "mpeg4"), ("film.avi", "mjpeg"), ("film.MOV", "libx264")]
)
def test_each_frame_is_an_image_that_says_where_it_is_from(
    spots_network: Path, tmp_path: Path, name: str, codec: str
) -> None:
    film = write_film(tmp_path / name, walk(FRAMES), codec)
    code, rows = predict(spots_network, film, tmp_path / "out")
    assert code == 0
    assert [row["instances"] for row in rows.values()] == [2] * FRAMES
    assert [row["frame_index"] for row in rows.values()] == list(range(FRAMES))
    assert [row["time_s"] for row in rows.values()] == pytest.approx(np.arange(FRAMES) / 10)
    row = rows["film_f000007.png"]
    assert (row["file"], row["width"], row["height"]) == (name, WIDTH, HEIGHT)
    written = metadata(tmp_path / "out", "film_f000007")
    assert (written["image_path"], written["frame_index"]) == (str(film), 7)
    assert written["time_s"] == pytest.approx(0.7)
    lefts = sorted((box[0] + box[2]) / 2 for box in written["boxes"])
    assert lefts == pytest.approx([20 + 70, 172 - 70], abs=3)
    assert (tmp_path / "out" / "film_f000007" / f"overview_film_f000007_UUID_{written['identifier']}.jpg").is_file()
    assert len(list((tmp_path / "out" / "film_f000007" / "crops").iterdir())) == 2
    coco = json.loads((tmp_path / "out" / "coco_instances.json").read_text())
    assert [image["frame_index"] for image in coco["images"]] == list(range(FRAMES))
    animals = pl.read_csv(tmp_path / "out" / "measurements.csv")
    assert animals["frame_index"].to_list() == [number for number in range(FRAMES) for _ in range(2)]


@pytest.mark.parametrize(
    ("words", "chosen"), [("5", [0, 5, 10]), ("0.5s", [0, 5, 10]), ("1 s", [0, 10]), (".25s", [0, 3, 5, 8, 10])]
)
def test_some_frames_only(tmp_path: Path, words: str, chosen: list[int]) -> None:
    film = write_film(tmp_path / "film.mp4", walk(FRAMES))
    found = find_images([film], every=Every.parse(words))
    assert [image.part.frame_index for image in found] == chosen


@pytest.mark.parametrize("words", ["", "s", "0", "0s", "-1", "1.5", "2m", "nan s", "1e3", "five"])
def test_what_is_no_number_of_frames_nor_of_seconds(words: str) -> None:
    with pytest.raises(UsageError, match="neither a number of frames nor of seconds"):
        Every.parse(words)


def test_a_folder_and_a_list_may_hold_videos_and_same_stems_are_kept_apart(tmp_path: Path) -> None:
    for name in ("film.mp4", "film.mov", "sub/film.mp4"):
        write_film(tmp_path / "in" / name, walk(2))
    for name in ("film.png", "film_f000001.png"):
        Image.fromarray(walk(1)[0]).save(tmp_path / "in" / name)
    expected = {
        "film.mov": ["film_f000000", "film.mov_f000001"],
        "film.mp4": ["film.mp4_f000000", "film.mp4_f000001"],
        "film.png": ["film"],
        "film_f000001.png": ["film_f000001"],
        "sub/film.mp4": ["sub__film_f000000", "sub__film_f000001"],
    }
    (tmp_path / "list.txt").write_text("\n".join(f"in/{name}" for name in expected))
    for given in (tmp_path / "in", tmp_path / "list.txt"):
        found = find_images([given], recursive=True)
        assert {file: [image.name for image in found if image.source == file] for file in expected} == expected
        assert len({image.file_name for image in found}) == len(found)
        assert all(image.file_name.endswith(".png") for image in found)


def test_an_input_of_a_run_on_a_cluster_is_read_back_with_its_frame(tmp_path: Path) -> None:
    found = find_images([write_film(tmp_path / "film.mp4", walk(3))])
    write_images(tmp_path / "images.json", found)
    assert read_images(tmp_path / "images.json") == found
    assert [megapixels_of(image) for image in found] == [WIDTH * HEIGHT / 1e6] * 3


def test_frames_that_are_done_are_skipped_by_memory_and_by_content(spots_network: Path, tmp_path: Path) -> None:
    film, output = write_film(tmp_path / "film.mp4", walk(FRAMES)), tmp_path / "out"
    predict(spots_network, film, output, "-n", "5")
    _, rows = predict(spots_network, film, output)
    assert [row["status"] for row in rows.values()] == ["skipped"] * 5 + ["done"] * (FRAMES - 5)
    (output / ".done.json").unlink()
    _, rows = predict(spots_network, film, output)
    assert {row["status"] for row in rows.values()} == {"skipped"}
    # Another film under the same name is no reason to skip a frame.
    write_film(film, [spots(WIDTH, HEIGHT, [(60, 60)])] * FRAMES)
    _, rows = predict(spots_network, film, output)
    assert [(row["status"], row["instances"]) for row in rows.values()] == [("done", 1)] * FRAMES


@pytest.mark.slow
def test_several_processes_find_the_same(spots_network: Path, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", walk(FRAMES))
    _, alone = predict(spots_network, film, tmp_path / "alone")
    _, several = predict(spots_network, film, tmp_path / "several", "--jobs", "2", "-g", "cpu")
    assert without_times(several) == without_times(alone)
    name = "film_f000005"
    assert metadata(tmp_path / "several", name)["polygons"] == metadata(tmp_path / "alone", name)["polygons"]


def test_every_format_and_the_viewer_take_frames(spots_network: Path, tmp_path: Path) -> None:
    film, output = write_film(tmp_path / "film.mp4", walk(3)), tmp_path / "out"
    assert predict(spots_network, film, output, "--formats", ",".join(FORMATS), "--viewer")[0] == 0
    for kind in FORMATS.values():
        assert (output / kind.target).exists()
    assert len(list((output / "geojson").glob("film_f*.geojson"))) == 3
    assert len({path.parent for path in (output / "viewer").rglob("tiles-*")}) == 3
    again = tmp_path / "again"
    assert fb("export", output, "-o", again, "--formats", "coco,yolo", "--viewer") == 0
    files = [json.loads((each / "coco_instances.json").read_text())["images"] for each in (output, again)]
    assert [image["file_name"] for image in files[1]] == [image["file_name"] for image in files[0]]
    assert len({path.parent for path in (again / "viewer").rglob("tiles-*")}) == 3


def test_a_line_of_the_table_of_scales_is_for_all_frames_of_a_film(spots_network: Path, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", walk(2))
    (tmp_path / "scales.csv").write_text("image,px_per_mm\nfilm.mp4,20\n")
    predict(spots_network, film, tmp_path / "out", "--scale-csv", str(tmp_path / "scales.csv"))
    assert metadata(tmp_path / "out", "film_f000001")["mm_per_px"] == pytest.approx(0.05)


def test_a_video_says_no_resolution_and_an_image_beside_it_may(
    spots_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_film(tmp_path / "in" / "film.mp4", walk(2))
    Image.fromarray(walk(1)[0]).save(tmp_path / "in" / "a.png", dpi=(254, 254))
    assert predict(spots_network, tmp_path / "in", tmp_path / "out", "--scale-from-dpi")[0] == 0
    assert "2 of 3 images are measured in pixels only: film_f000000.png: a video says no" in capsys.readouterr().err
    assert metadata(tmp_path / "out", "a")["mm_per_px"] == pytest.approx(0.1)
    assert metadata(tmp_path / "out", "film_f000000")["mm_per_px"] is None


class TestWithoutPyAV:
    """Videos need it, and images do not."""

    @pytest.fixture(autouse=True)
    def without(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        write_film(tmp_path / "in" / "film.mp4", walk(2))
        monkeypatch.setitem(sys.modules, "av", None)

    def test_a_video_alone_says_what_to_install(
        self, spots_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert fb("predict", "-i", tmp_path / "in", "-o", tmp_path / "out", "-w", spots_network) == 3
        assert "Install flat-bug[video]." in capsys.readouterr().err

    def test_images_beside_a_video_are_done(self, spots_network: Path, tmp_path: Path) -> None:
        Image.fromarray(walk(1)[0]).save(tmp_path / "in" / "a.png")
        code, rows = predict(spots_network, tmp_path / "in", tmp_path / "out")
        assert (code, rows["a.png"]["instances"]) == (1, 2)
        assert rows["film.mp4"]["reason"] == "videos need PyAV: Install flat-bug[video]."


class TestDamage:
    """What is wrong with a video is a row of its own, and everything else is done."""

    def test_of_a_film_that_is_cut_off_there_is_what_there_is(self, spots_network: Path, tmp_path: Path) -> None:
        cut(write_film(tmp_path / "in" / "film.mkv", walk(FRAMES)), 0.6)
        Image.fromarray(walk(1)[0]).save(tmp_path / "in" / "a.png")
        code, rows = predict(spots_network, tmp_path / "in", tmp_path / "out")
        assert code == 1
        assert rows["a.png"]["instances"] == 2
        assert "the video is cut off or damaged after" in rows["film.mkv"]["reason"]
        done = [row for row in rows.values() if row["frame_index"] is not None and row["status"] == "done"]
        assert 3 <= len(done) < FRAMES
        assert all(row["instances"] == 2 for row in done)

    def test_frames_that_cannot_be_decoded_are_named(self, spots_network: Path, tmp_path: Path) -> None:
        film = damage(write_film(tmp_path / "film.mp4", walk(FRAMES), "mpeg4"), 4)
        code, rows = predict(spots_network, film, tmp_path / "out")
        failed = [row for row in rows.values() if row["status"] == "failed"]
        assert code == 1
        assert 0 < len(failed) <= FRAMES / 2
        assert all(f"frame {row['frame_index']} at" in row["reason"] for row in failed)
        assert all(row["instances"] == 2 for row in rows.values() if row["status"] == "done")

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", "the video cannot be read"), (b"no film", "the video cannot be read"), (None, "has no frames")],
    )
    def test_what_is_no_film_costs_a_row(
        self, spots_network: Path, tmp_path: Path, content: bytes | None, reason: str
    ) -> None:
        film = write_film(tmp_path / "in" / "film.avi", walk(0 if content is None else 1), "mjpeg")
        if content is not None:
            film.write_bytes(content)
        Image.fromarray(walk(1)[0]).save(tmp_path / "in" / "a.png")
        code, rows = predict(spots_network, tmp_path / "in", tmp_path / "out")
        assert code == 1
        assert reason in rows["film.avi"]["reason"]
        assert rows["a.png"]["instances"] == 2


def test_a_film_that_was_replaced_while_it_was_open_is_opened_again(tmp_path: Path) -> None:
    film, opener = write_film(tmp_path / "film.mp4", walk(4)), Opener()
    before = opener.open(film, frame_index=1).read(0, 0, WIDTH, HEIGHT)
    digest = opener.digest(film)
    write_film(film, [spots(WIDTH, HEIGHT, [])] * 5)
    after = opener.open(film, frame_index=4).read(0, 0, WIDTH, HEIGHT)
    assert before.min() < 50
    assert after.min() > 200
    assert opener.digest(film) != digest
