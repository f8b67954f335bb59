"""``fb run compare-models`` from the command line to the report, with networks that always answer the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from tests.comparison import ANIMAL, ELSEWHERE, make_network, make_place

from flat_bug.cli._support import run
from flat_bug.cli.main import build_app
from flat_bug.experiments.compare_models import CompareModels, plan
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.segmenters.base import card_path

SCRIPT = Path(__file__).parents[1] / "scripts" / "experiments" / "compare_models.py"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make images and a model, and stand in the folder that holds them."""
    monkeypatch.chdir(tmp_path)
    return make_place(tmp_path)


@pytest.fixture(scope="module")
def flawed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Compare on two images of which one is broken, by the script, working elsewhere and keeping everything."""
    place = make_place(tmp_path_factory.mktemp("flawed"))
    (place / "images" / "meadow_1.png").write_bytes(b"\x89PNG")
    words = ["-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "run", "--tmp", "$SLURM_TMPDIR/out"]
    command = [sys.executable, str(SCRIPT), *words, "--store_all"]
    environment = {**os.environ, "SLURM_TMPDIR": str(place / "node")}
    return place, subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def fb(*words: str) -> int:
    return run(build_app(), list(words))


def compare(*words: str) -> int:
    images = () if "-i" in words else ("-i", "images")
    truth = () if "-g" in words else ("-g", "truth.json")
    return fb("run", "compare-models", *images, *truth, "-d", "models/*", "-o", "run", *words)


def results(place: Path = Path()) -> dict[tuple[str, str], dict[str, object]]:
    rows = pl.read_parquet(place / "run/report/results.parquet").to_dicts()
    return {(row["model"], row["dataset"]): row for row in rows}


def test_one_bad_model_costs_its_row_only(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_network(place / "models" / "blind" / "weights" / "best.onnx", ELSEWHERE)
    card_path(place / "models" / "blind" / "weights" / "best.onnx").unlink()
    corrupt = place / "models" / "corrupt" / "weights" / "best.onnx"
    make_network(corrupt, ANIMAL)
    network = corrupt.read_bytes()
    corrupt.write_bytes(b"not a network")
    assert compare("--jobs", "2") == 1
    output = capsys.readouterr()
    assert "corrupt: failed: bad input: onnxruntime cannot load" in output.err
    assert "run/report/report.html" in output.out
    table = results()
    assert {key: row["status"] for key, row in table.items()} == {
        (model, dataset): "failed" if model == "corrupt" else "done"
        for model in ("blind", "corrupt", "good")
        for dataset in ("(all)", "forest", "meadow")
    }
    assert [table[name, "(all)"]["f1"] for name in ("good", "blind", "corrupt")] == [1.0, 0.0, None]
    assert table["good", "meadow"]["mean_iou"] == pytest.approx(1.0, abs=0.02)
    assert "cannot load" in str(table["corrupt", "forest"]["reason"])
    assert pl.read_csv("run/report/results.csv").height == len(table)
    report = Path("run/report/report.html").read_text()
    assert "good" in report
    assert report.count("<dt>score threshold</dt><dd>0.2</dd>") == 2  # nobody knows that of the corrupt one
    assert report.count("none lay beside the weights") == 1

    # Mended weights are the only thing that resume runs.
    finished = {path: path.stat().st_mtime_ns for path in Path("run/tasks").glob("*/attempt-1/**/*")}
    corrupt.write_bytes(network)
    assert fb("status", "run", "--json") == 0
    states = {task["task"]: task["state"] for task in json.loads(capsys.readouterr().out.splitlines()[-1])["tasks"]}
    assert states == {"blind": "done", "corrupt": "stale", "good": "done"}
    assert fb("resume", "run") == 0
    assert results()["corrupt", "(all)"]["f1"] == 1.0
    assert finished == {path: path.stat().st_mtime_ns for path in finished}
    assert [path.name for path in Path("run/tasks").glob("*/attempt-2")] == ["attempt-2"]


def test_an_unreadable_image_is_a_failed_item(flawed: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    place, ended = flawed
    assert ended.returncode == 1
    assert "good: done: 1 failed: meadow_1.png: " in ended.stderr
    assert [results(place)["good", name]["recall"] for name in ("forest", "meadow")] == [1.0, 0.0]


def test_work_is_done_in_tmp_and_all_is_stored_on_request(
    flawed: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    place, _ = flawed
    assert list((place / "node" / "out").iterdir()) == []
    attempt = place / "run" / "tasks" / "good" / "attempt-1"
    assert (attempt / "predictions" / "coco_instances.json").is_file()
    assert len(list(attempt.glob("predictions/*/crops/*.png"))) == 1
    assert len(list(attempt.glob("predictions/*/overview_*.jpg"))) == 1
    assert len(list(attempt.glob("evaluation/matches/*.jpg"))) == 1


@pytest.mark.slow
def test_a_config_is_an_input(place: Path) -> None:
    (place / "config.yaml").write_text("SCORE_THRESHOLD: 0.95\n")
    assert compare("--config", "config.yaml") == 0
    assert results()["good", "(all)"]["recall"] == 0.0
    assert not list(Path("run").glob("tasks/*/attempt-1/predictions/*/crops"))
    (place / "config.yaml").write_text("SCORE_THRESHOLD: 0.5\n")
    assert fb("resume", "run") == 0
    assert results()["good", "(all)"]["recall"] == 1.0


@pytest.mark.slow
def test_ctrl_c_is_exit_code_130_and_says_how_to_go_on(place: Path) -> None:
    words = ["run", "compare-models", "-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "run"]
    command = [sys.executable, "-c", "from flat_bug.cli.main import main; main()", *words]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not list(place.glob("run/tasks/good/attempt-1")):
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate()
    assert (process.returncode, "Go on with it: fb resume run" in error) == (130, True)
    assert fb("resume", "run") == 0
    assert results()["good", "(all)"]["f1"] == 1.0


@pytest.mark.slow
def test_predictions_of_an_interrupted_attempt_are_taken_over(place: Path) -> None:
    card_path(place / "models" / "good" / "weights" / "best.onnx").unlink()  # it names no digest to compare with
    assert compare() == 0
    attempt = place / "run" / "tasks" / "good" / "attempt-1"
    (attempt / "result.json").unlink()
    made = next((attempt / "predictions").glob("forest_1/metadata_*.json"))
    before = made.stat().st_mtime_ns
    assert fb("status", "run") == 0
    assert fb("resume", "run") == 0
    again = attempt.with_name("attempt-2") / made.relative_to(attempt)
    assert again.stat().st_mtime_ns == before
    assert made.exists()


def test_the_guides_command_is_understood(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(place))
    words = ["-i", "$SLURM_TMPDIR/images", "-g", "$SLURM_TMPDIR/truth.json", "--tmp", "$SLURM_TMPDIR/job_output"]
    words += ["-o", f"{place}/out", "-d", "~/models/g*", "--soft"]
    assert fb("run", "compare-models", *words, "--dry_run") == 0
    assert "Images: $SLURM_TMPDIR/images" in capsys.readouterr().out
    slurm = ["--slurm", "slurm_setup=setup.txt", "gres=gpu:t4:1", "cpus_per_task=12", "mem=32GB", "time=01:00:00"]
    monkeypatch.setenv("PATH", str(place))
    assert fb("run", "compare-models", *words, *slurm) == 3
    assert "Run this on a login node" in capsys.readouterr().err
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--slurm", "mem"], "has no value"),
        (["--jobs", "0"], "jobs"),
        (["--score-threshold", "3"], "score_threshold"),
        (["-i", ""], "a word of the command is empty\n    -i"),
        (["-g", "other.json"], "none of the 2 predicted images is in the ground truth"),
        (["-i", "/fb_yolo_of_nobody/images"], "Escape the variable"),
    ],
)
def test_wrong_use_is_exit_code_two_and_makes_nothing(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    (place / "other.json").write_text((place / "truth.json").read_text().replace("_1.png", "_2.png"))
    assert compare(*words) == 2
    assert message in capsys.readouterr().err
    assert not (place / "run").exists()


def test_what_is_noted_before_a_run_is_no_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = place / "models" / "copy.onnx"
    weights.write_bytes((place / "models" / "good" / "weights" / "best.onnx").read_bytes())
    assert compare("--dry-run") == 0
    said = capsys.readouterr().err
    assert said == (
        f"note: {weights.relative_to(place)} has no card beside it; "
        "a score threshold of 0.2 is assumed (copy copy.card.json along)\n"
    )


def test_an_existing_run_names_resume(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, _ = plan(CompareModels(input="images", ground_truth="truth.json", directories=("models/*",)), Path("run"))
    with RunFolder.create(Path("run"), made):
        pass
    before = (place / "run" / "plan.json").read_bytes()
    assert compare() == 2
    assert "Go on with it: fb resume run" in capsys.readouterr().err
    assert (place / "run" / "plan.json").read_bytes() == before
    assert fb("report", "run") == 0
    assert results()["good", "(all)"]["status"] == "missing"
    assert "good: missing: not started yet" in capsys.readouterr().err
    for command in ("status", "resume", "report"):
        assert fb(command, "images") == 2
        assert "this folder is not a run" in capsys.readouterr().err
