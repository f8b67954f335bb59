"""One command at a time predicts into a folder, and nothing stays of one that was killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image
from tests.spots import fb, spots

from flat_bug.errors import RunError
from flat_bug.experiments.predict_plan import plan_prediction
from flat_bug.experiments.run_folder import LOCK_NAME as LOCK_OF_TASK
from flat_bug.experiments.run_folder import RunFolder
from flat_bug.files import atomic_path, remove_leftovers
from flat_bug.locks import hold, hold_for_now
from flat_bug.prediction_run import OutputSettings, Recipe, find_images
from flat_bug.prediction_run.claim import claimed
from flat_bug.prediction_run.inputs import LOCK_NAME
from flat_bug.prediction_run.layout import Layout


@pytest.fixture
def command(tmp_path: Path, spots_network: Path) -> list[str | Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(spots(110, 64, [(25, 30), (85, 40)])).save(folder / "a.png")
    return ["predict", "-i", folder, "-w", spots_network, "-o", tmp_path / "out"]


def kill_while_writing(target: Path) -> None:
    """Have a process die of ``kill -9`` in the middle of writing a file."""
    code = (
        "import os, signal, sys; from pathlib import Path; from flat_bug.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as path:\n"
        "    path.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, target], check=False).returncode == -signal.SIGKILL


@pytest.mark.parametrize("layout", [[], ["--long-format"]])
def test_what_a_killed_command_has_left_is_gone_after_the_next_one(
    command: list[str | Path], tmp_path: Path, layout: list[str]
) -> None:
    output = tmp_path / "out"
    places = ["metadata", "overviews", "crops"] if layout else ["a", "a/crops"]
    for place in ["", *places]:
        kill_while_writing(output / place / "file.json")
    assert len(list(output.rglob(".tmp-*"))) == 1 + len(places)
    assert fb(*command, *layout) == 0
    assert list(output.rglob(".tmp-*")) == []


def test_nothing_else_is_cleared_away(command: list[str | Path], tmp_path: Path) -> None:
    output = tmp_path / "out"
    others = [output / ".tmp-abcdefgh" / "thesis.txt", output / "a" / ".tmp-mine" / "new.txt", output / ".tmp-file"]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    (output / ".tmp-linkfile").symlink_to(tmp_path / "elsewhere")
    assert fb(*command) == 0
    assert [path.read_text() for path in others] == ["mine"] * 3
    assert (output / ".tmp-linkfile").is_symlink()


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path: Path) -> None:
    remove_leftovers(tmp_path / "absent")


def test_a_second_command_is_refused_while_the_first_one_works(
    command: list[str | Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    with claimed(Layout(output, long_format=False)), atomic_path(output / "file.json") as path:
        path.write_text("whole")
        assert fb(*command) == 2
        assert f"the output folder is in use by process {os.getpid()}" in capsys.readouterr().err
    assert (output / "file.json").read_text() == "whole"
    assert fb(*command) == 0
    assert not (output / LOCK_NAME).exists()


def test_a_task_on_a_cluster_that_predicts_into_the_folder_is_waited_for(
    command: list[str | Path], tmp_path: Path, spots_network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    plan = plan_prediction(find_images([tmp_path / "images"]), Recipe(spots_network), output, OutputSettings())
    with RunFolder.create(output / "run", plan) as run:
        pass
    (task,) = plan.tasks
    run.write_spec(task)
    with hold(run.task_folder(task) / LOCK_OF_TASK, "the task"):
        assert fb(*command) == 2
        assert f"a task of the run for this folder is running: {task.id}" in capsys.readouterr().err
    assert fb(*command) == 0


def test_the_lock_of_a_command_that_was_killed_is_nobodys(command: list[str | Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOCK_NAME).write_text("process 1 on another machine")
    assert fb(*command) == 0
    assert not (tmp_path / "out" / LOCK_NAME).exists()


def test_a_lock_that_leaves_no_file_is_never_held_twice(tmp_path: Path) -> None:
    """Though its file is removed and made all the time, while others have just opened it."""
    inside, most, refused = 0, 0, 0
    guard = threading.Lock()

    def take_turns() -> None:
        nonlocal inside, most, refused
        for _ in range(200):
            try:
                with hold_for_now(tmp_path / "lock", "the folder"):
                    with guard:
                        inside += 1
                        most = max(most, inside)
                    time.sleep(0.0005)  # in which others come and are refused
                    with guard:
                        inside -= 1
            except RunError:
                refused += 1

    threads = [threading.Thread(target=take_turns) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert refused < 800
