"""The command fb predict: what it writes, what it keeps, what it refuses."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image
from tests.spots import TILE, fb, spots, write_network

from flat_bug.instances.metadata import read_metadata
from flat_bug.segmenters.base import ModelCard, card_path

MANY = 20
"""So many images take long enough to be interrupted in between."""
SPOTS = {"a.png": [(25, 30), (85, 40)], "b.png": [(50, 30)], "c.png": []}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return a folder with three images that have two, one and no spots."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name, centres in SPOTS.items():
        Image.fromarray(spots(110, 64, centres)).save(folder / name)
    return folder


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out"


Words = list[str | Path]


@pytest.fixture
def inputs(images: Path) -> Words:
    return ["predict", "-i", images]


@pytest.fixture
def command(inputs: Words, output: Path, spots_network: Path) -> Words:
    return [*inputs, "-o", output, "-w", spots_network]


def files_in(folder: Path) -> list[str]:
    """Return the names of all files, the identifiers left out."""
    names = contents_of(folder)
    return sorted(name.partition("_UUID_")[0] + Path(name).suffix if "_UUID_" in name else name for name in names)


def contents_of(folder: Path) -> dict[str, bytes]:
    """Return the content of all files but the one that remembers what was done."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".done.json")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def summary_in(output: Path) -> dict[str, dict[str, Any]]:
    return {row["image"]: row for row in pl.read_csv(output / "summary.csv").iter_rows(named=True)}


def coco_in(output: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((output / "coco_instances.json").read_text(encoding="utf-8"))
    return values


def test_it_writes_a_folder_for_each_image_and_two_files_for_all(
    command: Words, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fb(*command) == 0
    assert files_in(output) == [
        "a/crops/crop_a_CROPNUMBER_0.png",
        "a/crops/crop_a_CROPNUMBER_1.png",
        "a/metadata_a.json",
        "a/overview_a.jpg",
        "b/crops/crop_b_CROPNUMBER_0.png",
        "b/metadata_b.json",
        "b/overview_b.jpg",
        "c/metadata_c.json",
        "c/overview_c.jpg",
        "coco_instances.json",
        "measurements.csv",
        "summary.csv",
    ]
    assert str(output) in capsys.readouterr().out
    assert [row["instances"] for row in summary_in(output).values()] == [2, 1, 0]
    assert {row["status"] for row in summary_in(output).values()} == {"done"}


def test_animals_are_where_they_are_in_the_image(command: Words, output: Path) -> None:
    fb(*command)
    values = coco_in(output)
    assert [image["file_name"] for image in values["images"]] == list(SPOTS)
    for image in values["images"]:
        found = [a["bbox"] for a in values["annotations"] if a["image_id"] == image["id"]]
        centres = sorted((x + w / 2, y + h / 2) for x, y, w, h in found)
        assert centres == [pytest.approx(centre, abs=2) for centre in SPOTS[image["file_name"]]]


def test_the_json_says_where_it_comes_from(command: Words, images: Path, output: Path) -> None:
    fb(*command, "--score-threshold", "0.3")
    (path,) = (output / "a").glob("metadata_a_UUID_*.json")
    found = read_metadata(path)
    assert found.image_path == str(images / "a.png")
    assert path.stem.endswith(found.identifier)
    assert found.instances.provenance.settings["score_threshold"] == 0.3
    assert found.instances.provenance.weights_name == "spots"
    assert len(found.instances.provenance.image_sha256) == len(found.instances.provenance.weights_sha256) == 64


@pytest.mark.parametrize(
    ("options", "kinds"),
    [
        (["--no-crops"], {"metadata", "overview", "coco", "measurements", "summary"}),
        (["--no-overviews"], {"crop", "metadata", "coco", "measurements", "summary"}),
        (["--no-metadata"], {"crop", "overview", "coco", "measurements", "summary"}),
        (["-C"], {"crop", "metadata", "overview", "measurements", "summary"}),
        (["--only-overviews"], {"overview", "summary"}),
        (["--no-measurements"], {"crop", "metadata", "overview", "coco", "summary"}),
        (["--no_crops", "--no_overviews", "--no_metadata"], {"coco", "measurements", "summary"}),
    ],
)
def test_what_is_not_wanted_is_not_written(command: Words, output: Path, options: list[str], kinds: set[str]) -> None:
    assert fb(*command, *options) == 0
    assert {Path(name).name.replace(".", "_").partition("_")[0] for name in files_in(output)} == kinds


def test_the_coco_file_does_not_depend_on_what_else_is_written(
    command: Words, inputs: Words, output: Path, spots_network: Path
) -> None:
    fb(*command)
    other = output.with_name("other")
    fb(*inputs, "-w", spots_network, "-o", other, "--no-metadata", "--no-crops", "--long-format")
    assert coco_in(other) == coco_in(output)


def test_nothing_is_written_with_no_save(
    inputs: Words, spots_network: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fb(*inputs, "-w", spots_network, "-S", "--json") == 0
    assert not output.exists()
    report = json.loads(capsys.readouterr().out)
    assert report["totals"]["instances"] == 3
    assert report["output"] is None


def test_long_format_has_three_shared_folders(command: Words, output: Path) -> None:
    assert fb(*command, "--long-format") == 0
    assert sorted(path.name for path in output.iterdir() if path.is_dir()) == ["crops", "metadata", "overviews"]
    assert files_in(output / "crops") == [
        "crop_a_CROPNUMBER_0.png",
        "crop_a_CROPNUMBER_1.png",
        "crop_b_CROPNUMBER_0.png",
    ]
    before = contents_of(output)
    assert fb(*command, "--long-format") == 0
    after = contents_of(output)
    assert {row["status"] for row in summary_in(output).values()} == {"skipped"}
    del before["summary.csv"], after["summary.csv"]
    assert after == before


def test_the_identifier_ends_all_names(command: Words, output: Path) -> None:
    assert fb(*command, "--id", "trap 7") == 0
    assert all(path.stem.endswith("_UUID_trap 7") for folder in output.iterdir() for path in folder.rglob("*.*"))


def test_crops_have_the_animal_in_alpha(command: Words, output: Path) -> None:
    fb(*command)
    for path in output.rglob("crop_*.png"):
        with Image.open(path) as crop:
            pixels = np.asarray(crop)
        assert crop.mode == "RGBA"
        opaque = pixels[pixels[..., 3] == 255]
        assert len(opaque) > 50
        assert opaque[:, :3].mean() < 30


@pytest.mark.parametrize("words", [["-i", "-"], ["--input", "-"], ["-i", "c.png", "-"]])
def test_the_images_may_be_named_on_standard_input(
    images: Path, output: Path, spots_network: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(images)
    monkeypatch.setattr("sys.stdin", io.StringIO("b.png\n"))
    assert fb("predict", *words, "-w", spots_network, "-o", output, "--no-crops") == 0
    assert list(summary_in(output)) == ["b.png", "c.png"][: len(words) - 1]


class TestResume:
    """A second run does what is missing and nothing else."""

    def test_what_is_done_is_skipped_and_gives_the_same_files(
        self, command: Words, inputs: Words, images: Path, output: Path, spots_network: Path
    ) -> None:
        hidden = images / "b.png"
        aside = images.parent / "b.png"
        hidden.rename(aside)
        fb(*command)
        aside.rename(hidden)
        times = {path: path.stat().st_mtime_ns for path in (output / "a").rglob("*.*")}
        assert fb(*command) == 0
        assert {name: row["status"] for name, row in summary_in(output).items()} == {
            "a.png": "skipped",
            "b.png": "done",
            "c.png": "skipped",
        }
        assert times == {path: path.stat().st_mtime_ns for path in (output / "a").rglob("*.*")}
        fresh = output.parent / "fresh"
        fb(*inputs, "-w", spots_network, "-o", fresh)
        resumed, whole = contents_of(output), contents_of(fresh)
        del resumed["summary.csv"], whole["summary.csv"]
        assert resumed == whole

    def test_pictures_that_are_wanted_later_are_made_from_the_json(self, command: Words, output: Path) -> None:
        fb(*command, "--no-crops", "--no-overviews")
        before = {path: path.stat().st_mtime_ns for path in output.rglob("metadata_*")}
        fb(*command)
        assert len(list(output.rglob("crop_*.png"))) == len(list(output.rglob("overview_*.jpg"))) == 3
        assert before == {path: path.stat().st_mtime_ns for path in output.rglob("metadata_*")}

    def test_a_missing_crop_is_made_again(self, command: Words, output: Path) -> None:
        fb(*command)
        before = contents_of(output / "a")
        next((output / "a" / "crops").glob("*NUMBER_1_*")).unlink()
        fb(*command)
        assert contents_of(output / "a") == before

    def test_overviews_of_another_size_and_broken_ones_are_made_again(self, command: Words, output: Path) -> None:
        def size_of(path: Path) -> tuple[int, int]:
            with Image.open(path) as picture:
                return picture.size

        fb(*command)
        (path,) = (output / "a").glob("overview_*")
        assert size_of(path) == (110, 64)
        fb(*command, "--fast")
        assert size_of(path) == (55, 32)
        path.write_bytes(b"broken")
        fb(*command)
        assert size_of(path) == (110, 64)

    @pytest.mark.parametrize("long_format", [[], ["--long-format"]])
    def test_results_of_other_settings_are_replaced_whole(
        self, command: Words, output: Path, long_format: list[str]
    ) -> None:
        fb(*command, *long_format)
        fb(*command, *long_format, "--score-threshold", "0.99999")
        assert len(list(output.rglob("metadata_*.json"))) == 3
        assert len(list(output.rglob("overview_*.jpg"))) == 3
        assert len(list(output.rglob("crop_*.png"))) == len(coco_in(output)["annotations"])

    def test_results_of_other_weights_are_replaced(
        self, command: Words, inputs: Words, output: Path, tmp_path: Path
    ) -> None:
        fb(*command)
        before = {path.name for path in output.rglob("*_UUID_*")}
        fb(*inputs, "-o", output, "-w", write_network(tmp_path / "other.onnx", "other"))
        after = {path.name for path in output.rglob("*_UUID_*")}
        assert len(after) == len(before)
        assert not after & before

    @pytest.mark.parametrize(
        "change",
        [{"classes": ("bee",)}, {"std": (1.01, 1.01, 1.01)}, {"largest_object": TILE // 2}, {"mask_threshold": 0.6}],
    )
    def test_results_of_another_card_of_the_same_weights_are_replaced(
        self, inputs: Words, output: Path, tmp_path: Path, change: dict[str, Any]
    ) -> None:
        weights, card = write_network(tmp_path / "own.onnx"), ModelCard(name="own", tile=TILE)
        for values, status in (({}, "done"), ({"description": "better words"}, "skipped"), (change, "done")):
            card_path(weights).write_text(card.model_copy(update=values).model_dump_json())
            assert fb(*inputs, "-o", output, "-w", weights) == 0
            assert {row["status"] for row in summary_in(output).values()} == {status}

    def test_an_image_that_changed_is_done_again(self, command: Words, images: Path, output: Path) -> None:
        fb(*command)
        Image.fromarray(spots(110, 64, [(20, 20)])).save(images / "a.png")
        fb(*command)
        assert {row["status"] for row in summary_in(output).values() if row["image"] != "a.png"} == {"skipped"}
        assert len(list((output / "a").rglob("crop_*.png"))) == 1

    def test_a_broken_json_is_done_again(self, command: Words, output: Path) -> None:
        fb(*command)
        (path,) = (output / "a").glob("metadata_*.json")
        before = path.read_bytes()
        path.write_text('{"boxes": [')
        assert fb(*command) == 0
        assert path.read_bytes() == before

    def test_files_of_others_stay(self, command: Words, output: Path) -> None:
        notes = [output / "notes.txt", output / "a" / "notes.json", output / "a" / "crops" / "crop_of_mine.png"]
        for path in notes:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("mine")
        fb(*command)
        fb(*command, "-s", "0.9")
        assert [path.read_text() for path in notes] == ["mine"] * 3


@pytest.mark.parametrize("name", ["summary.csv", "measurements.csv"])
def test_a_table_of_somebody_else_is_not_replaced(
    command: Words, output: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output.mkdir()
    (output / name).write_text("trap,date\n1,2026-06-01\n")
    assert fb(*command) == 2
    assert f"something else has the name of a table of results, and would be lost\n    {output / name}\n" in (
        capsys.readouterr().err
    )
    assert (output / name).read_text() == "trap,date\n1,2026-06-01\n"
    assert not list(output.rglob("metadata_*"))


def test_a_table_of_somebody_else_stays_where_none_is_written(command: Words, output: Path) -> None:
    output.mkdir()
    (output / "measurements.csv").write_text("mine")
    assert fb(*command, "--no-measurements") == 0
    assert (output / "measurements.csv").read_text() == "mine"


@pytest.fixture
def many_images(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MANY):
        Image.fromarray(spots(64, 64, [(15 + number, 30)])).save(folder / f"{number:03d}.png")
    return folder


@pytest.fixture
def running(many_images: Path, output: Path, spots_network: Path) -> Iterator[subprocess.Popen[str]]:
    """Yield the command as a process that has finished at least one image and has many to go."""
    words = ["predict", "-i", str(many_images), "-o", str(output), "-w", str(spots_network), "--single-scale"]
    code = "from flat_bug.cli.main import main; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not any(output.rglob("metadata_*.json")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_keeps_what_was_finished_and_goes_on(
    running: subprocess.Popen[str], many_images: Path, output: Path, spots_network: Path, stop: signal.Signals
) -> None:
    running.send_signal(stop)
    _, errors = running.communicate(timeout=60)
    if stop == signal.SIGINT:
        assert running.returncode == 130
        assert "run the same command again" in errors
        assert not list(output.rglob(".tmp-*"))
    finished = list(output.rglob("metadata_*.json"))
    assert 0 < len(finished) < MANY
    assert not (output / "coco_instances.json").exists()
    assert fb("predict", "-i", many_images, "-o", output, "-w", spots_network, "--single-scale") == 0
    assert [row["status"] for row in summary_in(output).values()].count("skipped") == len(finished)
    assert len(coco_in(output)["images"]) == MANY


class TestRefusals:
    """Each wrong use is one clear error with exit code 2, before anything is predicted."""

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["-o", "out"], "--input"),
            (["-i", "none", "-o", "out"], "no such file or folder"),
            (["-i", "none*.jpg", "-o", "out"], "no such file or folder"),
            (["-i", "."], "no output folder"),
            (["-i", ".", "-o", "out"], "no images"),
            (["-i", "a.mp4", "-o", "out"], "no such file or folder"),
            (["-i", ".", "-o", "out", "--page", "0"], "--page"),
            (["-i", ".", "-o", "out", "--every", "2m"], "neither a number of frames nor of seconds"),
            (["-i", ".", "-o", "out", "--every", "0"], "--every"),
            (["-i", ".", "-o", "out", "--every", "0.0s"], "--every"),
            (["-i", "erda://share/folder", "-o", "out"], "addresses are not supported yet"),
            (["-i", ".", "-o", "out", "-p", "*.jpg"], "not a regular expression"),
            (["-i", ".", "-o", "out", "-n", "0"], "--max-images"),
            (["-i", ".", "-o", "out", "--only-overviews", "--no-overviews"], "leave nothing to write"),
            (["-i", ".", "-o", "out", "--no-crops", "--crop-size", "64"], "--crop-size is about crops"),
            (["-i", ".", "-o", "out", "--only-overviews", "--crop-margin", "0"], "--crop-margin is about crops"),
            (["-i", ".", "-S", "--formats", "geojson"], "-S writes nothing"),
            (["-i", ".", "-S", "--viewer"], "-S writes nothing"),
            (["-i", ".", "-o", "out", "-C", "--coco-rle"], "--coco-rle is about coco, which is not written"),
            (["-i", ".", "-o", "out", "--image-url", "https://x"], "--image-url is about labelstudio"),
            (["-i", ".", "-o", "out", "-g", "0,"], "a device has no name"),
            (["-i", ".", "-o", "out", "--jobs", "0"], "--jobs"),
            (["-i", ".", "-o", "out", "-d", "float64"], "float64"),
            (["-i", ".", "-o", "out", "-s", "1000"], "scale_before"),
            (["-i", ".", "-o", "out", "--id", "../up"], "identifier"),
            (["-i", ".", "-o", "out", "--score-threshold", "2"], "score_threshold"),
            (["-i", ".", "-o", "out", "-M", "IoX"], "IoX"),
            (["-i", ".", "-o", "out", "--config", "none.yaml"], "configuration"),
            (["-i", ".", "-o", "out", "--no-no-crops"], "--no-no-crops"),
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
        assert fb("predict", *words) == 2
        assert message in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_device_that_is_not_there(self, command: Words, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert fb(*command, "--gpu", "warp:9") == 2
        assert "auto" in capsys.readouterr().err
        assert not output.exists()

    def test_weights_that_are_not_there(self, inputs: Words, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert fb(*inputs, "-o", output, "-w", "none.onnx") == 2
        assert "none.onnx" in capsys.readouterr().err

    def test_an_output_that_is_a_file(self, command: Words, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output.write_text("mine")
        assert fb(*command) == 2
        assert "cannot write" in capsys.readouterr().err
        assert output.read_text() == "mine"

    @pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder of Linux")
    def test_an_output_that_nobody_may_write(
        self, inputs: Words, spots_network: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Not even the superuser, whom permissions do not stop."""
        assert fb(*inputs, "-w", spots_network, "-o", "/proc/results") == 2
        assert "/proc/results" in capsys.readouterr().err


@pytest.mark.slow
def test_a_full_disk_stops_the_run_and_keeps_what_was_finished(images: Path, output: Path, spots_network: Path) -> None:
    """A limit on the size of files makes writing fail as a full disk does: c.png, the last, has the only large one."""
    Image.fromarray(np.random.default_rng(0).integers(180, 255, (400, 500, 3), np.uint8)).save(images / "c.png")
    code = (
        "import resource, sys; from flat_bug.cli.main import main;"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); main()"
    )
    words = ["predict", "-i", str(images), "-o", str(output), "-w", str(spots_network)]
    process = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert process.returncode == 2, process.stderr
    assert "cannot write" in process.stderr
    assert len(list(output.rglob("metadata_*.json"))) == 2
    assert not (output / "coco_instances.json").exists()
    assert not list(output.rglob(".tmp-*"))


def test_settings_come_from_the_file_and_options_before_it(command: Words, output: Path, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("SCORE_THRESHOLD: 0.4\nIOU_THRESHOLD: 0.3\nOVERLAP_METRIC: IoS\n")
    assert fb(*command, "--config", config, "--score_threshold=0.6") == 0
    settings = read_metadata(next(output.rglob("metadata_a_*"))).instances.provenance.settings
    assert (settings["score_threshold"], settings["overlap_threshold"], settings["overlap_metric"]) == (0.6, 0.3, "IoS")


def test_without_a_card_the_score_threshold_that_is_assumed_is_said(
    command: Words, spots_network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = tmp_path / "alone.onnx"
    alone.write_bytes(spots_network.read_bytes())
    assert fb(*command[:-1], alone) == 0
    note = f"note: {alone} has no card beside it; a score threshold of 0.2 is assumed (copy alone.card.json along)\n"
    assert note in capsys.readouterr().err
    assert fb(*command[:-1], alone, "--score-threshold", "0.4") == 0
    assert "note:" not in capsys.readouterr().err
    card_path(alone).write_text(ModelCard(name="alone", tile=TILE).model_dump_json())
    assert fb(*command[:-1], alone) == 0
    assert "note:" not in capsys.readouterr().err


def test_a_configuration_that_is_not_yaml_is_an_error_of_two_lines(
    command: Words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("a: [1,\nb: {")
    assert fb(*command, "--config", config) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2
    assert "not YAML" in said[0]
    assert "line 2" in said[0]
    assert said[1].strip() == str(config)


def test_every_precision_of_flat_bug_1x_is_taken(inputs: Words, spots_network: Path) -> None:
    assert fb(*inputs, "--no_save", "-w", spots_network, "-n", "1", "-d", "float16") == 0


def test_a_precision_that_is_not_that_of_the_file_is_said(
    inputs: Words, spots_network: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert fb(*inputs, "--no_save", "-w", spots_network, "-n", "1", "--dtype", "float16") == 0
    assert "computes in the precision that was written into it, not in float16" in caplog.text
    caplog.clear()
    assert fb(*inputs, "--no_save", "-w", spots_network, "-n", "1", "--dtype", "float32") == 0
    assert fb(*inputs, "--no_save", "-w", spots_network, "-n", "1") == 0
    assert caplog.text == ""


def test_files_about_all_images_do_not_outlive_their_command(command: Words, output: Path) -> None:
    """Otherwise an evaluation would read what other weights have found."""
    assert fb(*command) == 0
    assert fb(*command, "-C", "--score-threshold", "0.9") == 0
    assert not (output / "coco_instances.json").exists()


OPTIONS = """
--input --output --model-weights --input-pattern --max-images --recursive --scale-before --single-scale --gpu --dtype
--fast --config --no-crops --no-overviews --no-metadata --only-overviews --long-format --no-save --no-compiled-coco
--id --nms-metric --device --score-threshold --trust-weights --json --verbose
-i -o -w -p -n -R -s -g -d -f -S -C -v -M
"""


def test_help_names_every_option_of_the_known_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("predict", "--help") == 0
    words = capsys.readouterr().out.split()
    assert [option for option in OPTIONS.split() if option not in words] == []
