"""One fault after another befalls a comparison on a real Slurm, and its matrix is that of an undisturbed one."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl
import pytest
import yaml
from polars.testing import assert_frame_equal
from tests.comparison import make_network, make_place, scores_of
from tests.conftest import missing
from tests.slurm_runs import SMALL, fb, wait
from tests.spots import write_network

from flat_bug.cluster.observe import observe
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.running import RunningTask, running_tasks
from flat_bug.datasets.archive import pack
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.segmenters.base import ModelCard, card_path

MODELS = ("good", "aside", "spots")
ASIDE = (26.0, 8.0, 62.0, 44.0)


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with three models and two datasets, which are packed."""
    monkeypatch.chdir(make_place(tmp_path))
    make_network(tmp_path / "models" / "aside" / "weights" / "best.onnx", ASIDE)
    weights = tmp_path / "models" / "spots" / "weights" / "best.onnx"
    weights.parent.mkdir(parents=True)
    card_path(write_network(weights)).write_text(ModelCard(name="spots", tile=64, largest_object=64).model_dump_json())
    move_one_animal(tmp_path / "truth.json")
    for source, name in (("images", "images/val"), ("truth.json", "labels/val/instances_default.json")):
        target = tmp_path / "tree" / "insects" / name
        target.parent.mkdir(parents=True)
        (tmp_path / source).rename(target)
    return pack(tmp_path / "tree", tmp_path / "data.zip").archive


def move_one_animal(truth: Path) -> None:
    """Have each of two models find what is in one dataset."""
    document = json.loads(truth.read_text())
    x1, y1, x2, y2 = ASIDE
    document["annotations"][1] |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    document["annotations"][1]["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    truth.write_text(json.dumps(document))


def caught(cluster: LocalSlurm, *names: str) -> dict[str, RunningTask]:
    """Wait until tasks have begun, each on a node of its own, and return them; they stand still from then on."""
    found: dict[str, RunningTask] = {}

    def look() -> bool:
        for running in running_tasks(cluster):
            if running.task in names and running.task not in found:
                running.process.send(signal.SIGSTOP)
                found[running.task] = running
        return len(found) == len(names)

    wait(look, 90)
    assert len({each.node for each in found.values()}) == len(names)
    return found


@contextmanager
def no_room(cluster: LocalSlurm) -> Iterator[None]:
    """Leave hardly any room on the disks of all nodes during the block."""
    with ExitStack() as mounted:
        for name in cluster.node_names:
            disk = str(cluster.node_disk(name))
            subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", disk], check=True)
            mounted.callback(subprocess.run, ["/bin/umount", "-l", disk], check=True)
        yield


def failures(run: str) -> dict[str, str]:
    """Return task → class of its failure, of those that are not done."""
    statuses = observe(RunFolder.open(Path(run))).statuses
    return {
        status.task.id: status.failure.kind if status.failure else "" for status in statuses if status.state != "done"
    }


def resume() -> None:
    again = fb("resume", "run")
    assert again.returncode == 0, again.stderr


@pytest.mark.slurm
@pytest.mark.slow
def test_the_matrix_after_all_faults_is_that_of_an_undisturbed_run(slurm: LocalSlurm, archive: Path) -> None:
    if os.geteuid() != 0:
        missing("root, to mount a small disk")
    words = ["run", "compare-models", "-a", str(archive), "-d", "models/*"]
    assert fb(*words, "-o", "undisturbed").returncode == 0
    expected = scores_of(Path("undisturbed"))
    scores = expected.filter(pl.col("dataset") == "(all)")
    assert dict(zip(scores["model"], scores["f1"], strict=True)) == {
        "good": 0.5,
        "aside": 0.5,
        "spots": pytest.approx(2 / 3),
    }

    # A picture in the archive has lost a bit.
    sound = archive.read_bytes()
    picture = Path("tree/insects/images/val/forest_1.png").read_bytes()
    archive.write_bytes(sound.replace(picture, picture[:-1] + bytes([picture[-1] ^ 1]), 1))
    assert archive.read_bytes() != sound
    Path("small.yaml").write_text(yaml.safe_dump({"name": "small", "resources": {"all": SMALL}}))
    # As many processors as a node has: each task is on a node of its own.
    asked = ["--slurm", "profile=small.yaml", "mem=1G", "cpus_per_task=4", "retries=0"]
    submitted = fb(*words, "-o", "run", *asked)
    assert submitted.returncode == 0, submitted.stderr
    assert slurm.wait_drained()
    assert failures("run") == dict.fromkeys(MODELS, "setup failed")

    # It is mended; then a process is killed, a node crashes, a job is cancelled, and the controller restarts.
    archive.write_bytes(sound)
    resume()
    tasks = caught(slurm, *MODELS)
    slurm.ask("scancel", tasks["spots"].job)
    slurm.stop_controller()
    tasks["good"].process.send(signal.SIGKILL)
    slurm.crash_node(tasks["aside"].node)
    slurm.start_controller()
    wait(lambda: slurm.node_states()[tasks["aside"].node].startswith("down"), 120)
    slurm.start_node(tasks["aside"].node)
    assert slurm.wait_drained()
    # Slurm itself has repeated the job whose node crashed.
    assert failures("run") == {"good": "killed", "spots": "cancelled"}

    # The disks of the nodes are full.
    with no_room(slurm):
        resume()
        assert slurm.wait_drained()
    assert failures("run") == {"good": "setup failed", "spots": "setup failed"}
    assert fb("status", "run").stdout.count("not enough space") == 2

    resume()
    assert slurm.wait_drained()
    assert failures("run") == {}
    assert_frame_equal(scores_of(Path("run")), expected)
    # The one whose node crashed was done by then, and was left alone.
    attempts = {path.name for path in Path("run/tasks/aside").glob("attempt-*")}
    assert attempts == {"attempt-1", "attempt-2", "attempt-3"}
