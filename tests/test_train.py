"""Training from a prepared tree to weights that predict, through a kill in the middle."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest
from tests.spots import fb, spots

from flat_bug.datasets.prepare import prepare
from flat_bug.datasets.synth import synthesize
from flat_bug.errors import WeightsError
from flat_bug.files import sha256_of, write_text
from flat_bug.predict import Predictor
from flat_bug.segmenters.base import card_path
from flat_bug.segmenters.load import load_segmenter
from flat_bug.training.checkpoints import check_trusted, remember_checkpoints, written_checkpoints
from flat_bug.training.cutting import cut_tree, read_tiles
from flat_bug.training.record import read_record
from flat_bug.training.tiles import TileSettings

pytestmark = pytest.mark.train

NETWORK = """
# A few thousand weights in the layout of YOLO.
nc: 1
backbone:
  - [-1, 1, Conv, [8, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [16, 3, 2]]
head:
  - [[2, 3, 4], 1, Segment, [nc, 32, 16]]
"""
EPOCHS = 3


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a prepared tree of two datasets and a configuration for a tiny network."""
    folder = tmp_path_factory.mktemp("workshop")
    synthesize(folder / "pre-pro", images=4, size=(200, 160), datasets=["sticky_card", "scanner-tray"], jobs=1)
    prepare(folder / "pre-pro", folder / "fb_yolo", validation=0.4)
    write_text(folder / "tiny-seg.yaml", NETWORK)
    write_text(
        folder / "config.yaml",
        f"model: {folder / 'tiny-seg.yaml'}\nimgsz: 64\nbatch: 4\nnbs: 4\nepochs: {EPOCHS}\n"
        f"warmup_epochs: 0\nsave_period: 1\n"
        f"workers: 0\nfb_threads: 1\nfb_tiles_per_dataset: 12\nfb_val_tiles: 4\nfb_samples_per_epoch: 60\n"
        f"fb_export_tile: 64\nproject: {folder / 'runs'}\nname: tiny\n",
    )
    return folder


@pytest.fixture(scope="module")
def killed(workshop: Path) -> Path:
    """Return the folder of a run that was killed in its second epoch; all tests of it are slow."""
    words = ["train", "-d", workshop / "fb_yolo", "-c", workshop / "config.yaml"]
    with (workshop / "log.txt").open("wb") as log:
        program = "import sys; from flat_bug.cli.main import main; main(sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", program, *map(str, words)], stdout=log, stderr=log)
        while f"2/{EPOCHS} ".encode() not in (workshop / "log.txt").read_bytes():
            assert process.poll() is None, (workshop / "log.txt").read_text(errors="replace")
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    return workshop / "runs" / "tiny"


@pytest.fixture(scope="module")
def finished(workshop: Path, killed: Path) -> Path:
    """Return the folder of the same run after it went on to its end."""
    # A kill can come after the row of an epoch was written and before its checkpoint was.
    results = killed / "results.csv"
    header, row = results.read_text().splitlines()
    results.write_text("\n".join([header, row, "2" + row[1:]]) + "\n")
    assert fb("train", "-r", "-c", workshop / "config.yaml") == 0
    return killed


@pytest.mark.slow
def test_a_killed_run_leaves_a_whole_checkpoint_that_it_knows(killed: Path) -> None:
    assert sha256_of(killed / "weights" / "epoch0.pt") in written_checkpoints(killed)
    assert read_record(killed)["data"]


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(finished: Path) -> None:
    import torch

    rows = list(csv.DictReader((finished / "results.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    steps = []
    for epoch in range(EPOCHS):
        state = torch.load(finished / "weights" / f"epoch{epoch}.pt", weights_only=False)["optimizer"]["state"]
        steps.append(float(state[0]["step"]))
    # The optimiser was not started anew: it counts its steps on.
    assert steps == [15, 30, 45]
    (resumption,) = read_record(finished)["resumed"]
    assert resumption["epoch"] == 1


@pytest.mark.slow
def test_what_comes_out_predicts(finished: Path) -> None:
    weights = finished / "weights" / "tiny.onnx"
    segmenter = load_segmenter(weights)
    assert segmenter.card.tile == 64
    assert segmenter.card.classes == ("insect",)
    instances = Predictor(weights)(spots(150, 100, [(50, 50)]))
    assert (instances.width, instances.height) == (150, 100)


@pytest.mark.slow
def test_the_card_says_what_was_trained_on_and_names_no_folder_of_this_machine(finished: Path, workshop: Path) -> None:
    text = card_path(finished / "weights" / "tiny.onnx").read_text()
    card = json.loads(text)
    assert [row["name"] for row in card["data"]] == ["scanner-tray", "sticky_card"]
    assert all(row["licence"] == "CC0-1.0" and row["images"] > 0 and row["instances"] > 0 for row in card["data"])
    assert card["largest_object"] == 64
    graph = onnx.load(finished / "weights" / "tiny.onnx")
    properties = {entry.key: entry.value for entry in graph.metadata_props}
    assert str(workshop) not in text + str(properties)
    assert {"names", "stride", "task", "imgsz"} <= set(properties)


@pytest.mark.slow
def test_its_checkpoints_predict_only_on_request(finished: Path) -> None:
    best = finished / "weights" / "best.pt"
    with pytest.raises(WeightsError, match="can run any code"):
        load_segmenter(best)
    assert load_segmenter(best, trust_weights=True).card.largest_object == 64


def test_what_a_run_has_noted_opens_its_checkpoints_for_nothing_but_going_on_with_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever sends a checkpoint can send a folder that says that it wrote it."""
    other, mine = tmp_path / "other", tmp_path / "mine"
    (other / "weights").mkdir(parents=True)
    strange = other / "weights" / "last.pt"
    strange.write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    remember_checkpoints(other, [sha256_of(strange)])
    check_trusted(strange, other, trust_weights=False)
    with pytest.raises(WeightsError, match="not written by this run"):
        check_trusted(strange, mine, trust_weights=False)
    assert fb("train", "-d", tmp_path, "--model", strange, "--project", tmp_path / "runs") == 2
    assert "--trust-weights" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "owned").exists()


@pytest.mark.slow
def test_a_finished_run_says_so_and_is_left_as_it_is(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sha256_of(finished / "weights" / "tiny.onnx")
    assert fb("train", "-r", finished) == 0
    assert "finished already" in capsys.readouterr().out
    assert fb("train", "-r", finished, "--epochs", "9") == 2
    assert "--model" in capsys.readouterr().err
    assert sha256_of(finished / "weights" / "tiny.onnx") == before


@pytest.mark.slow
def test_only_some_settings_can_change_when_a_run_goes_on(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("train", "-r", finished, "--lr0", "0.5") == 2
    assert "'lr0' cannot change from 0.002 to 0.5" in capsys.readouterr().err


@pytest.mark.slow
def test_a_damaged_checkpoint_is_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = (finished / "weights" / "epoch1.pt").read_bytes()
    damaged = finished / "weights" / "damaged.pt"
    damaged.write_bytes(whole[: len(whole) // 2])
    assert fb("train", "-r", damaged) == 2
    assert "damaged" in capsys.readouterr().err
    assert fb("train", "-r", damaged, "--trust-weights") == 2
    assert "not an ultralytics checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_goes_on_from_an_older_checkpoint_for_more_epochs(finished: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "tiny"
    shutil.copytree(finished, moved)
    assert fb("train", "-r", moved / "weights" / "epoch1.pt", "--epochs", str(EPOCHS + 1)) == 0
    rows = list(csv.DictReader((moved / "results.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4]
    assert card_path(moved / "weights" / "tiny.onnx").exists()


def test_no_tree_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("train", "-d", tmp_path / "nowhere", "--project", tmp_path / "runs") == 2
    assert "not a prepared tree" in capsys.readouterr().err
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_tree_without_animals_to_learn_from_is_refused(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = tmp_path / "fb_yolo"
    shutil.copytree(workshop / "fb_yolo", tree)
    train = tree / "insects" / "labels" / "train" / "instances_default.json"
    train.write_text(json.dumps(json.loads(train.read_text()) | {"images": [], "annotations": []}))
    assert fb("train", "-d", tree, "--project", tmp_path / "runs") == 2
    assert "no animal to learn from" in capsys.readouterr().err


def test_a_tree_without_validation_images_is_validated_on_a_few_training_tiles(
    workshop: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    prepare(workshop / "pre-pro", tmp_path / "fb_yolo", validation=0)
    settings = TileSettings(side=96, val_side=64, val_tiles=4)
    tiles = cut_tree(tmp_path / "fb_yolo", tmp_path / "tiles", settings, processes=1)
    assert 0 < len(tiles.val) <= 4
    assert {tile.image for tile in tiles.val} <= {tile.image for tile in tiles.train}
    assert "no validation images" in caplog.text
    # What lies there is not cut again, and what was cut otherwise is not taken for it.
    assert read_tiles(tmp_path / "tiles", tiles.digest) == tiles
    assert read_tiles(tmp_path / "tiles", "0" * 64) is None


def test_an_unknown_dataset_to_exclude_is_refused(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "-d", workshop / "fb_yolo", "--project", tmp_path / "runs", "--fb_exclude_datasets", "[stick]"]
    assert fb(*words) == 2
    assert "scanner-tray, sticky_card" in capsys.readouterr().err


def test_a_project_that_cannot_be_written_is_refused(
    workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert fb("train", "-d", workshop / "fb_yolo", "--project", tmp_path / "file" / "runs") == 2
    assert "cannot write" in capsys.readouterr().err


def test_nothing_to_resume_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert fb("train", "-r", "--project", tmp_path) == 2
    assert "no run to resume" in capsys.readouterr().err
    assert fb("train", "-r", tmp_path) == 2
    assert "not a training run" in capsys.readouterr().err
