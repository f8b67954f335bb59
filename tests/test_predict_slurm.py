"""fb predict as a run of tasks, on this machine and on a real Slurm: the same results as in one process."""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tests.slurm_runs import fb_states, wait
from tests.spots import fb, spots, write_network

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.local import LocalSubmitter
from flat_bug.experiments.predict_plan import begin_prediction, plan_prediction, run_folder_of, shares_of
from flat_bug.experiments.predict_shard import predict_shard, read_images, write_images
from flat_bug.experiments.predict_task import FINISHED, PredictImages
from flat_bug.experiments.record import NoProgressError, OutOfTimeError, read_record
from flat_bug.experiments.results import write_results
from flat_bug.experiments.run_folder import RunFolder, attempts_in
from flat_bug.experiments.submitter import resume
from flat_bug.files import sha256_of, write_json
from flat_bug.prediction_run import InputImage, OutputSettings, Recipe, find_images

NAMES = ["plain.png", "two words.png", "it's.png", 'say "so".png', "$HOME `id` ;.png", "new\nline.png", "ünï.png"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Return images whose names mean something to a shell, and among them one that is none."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.fromarray(spots(80 + 10 * number, 64, [(25 + number, 30)])).save(folder / name)
    (folder / "bad.png").write_text("no image")
    return folder


def contents_of(folder: Path) -> dict[str, str]:
    """Return name → digest of all results but the summary, whose times are never the same."""
    names = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    own = ("run/", "summary.csv", ".done.json")
    return {name: sha256_of(path) for name, path in names.items() if not name.startswith(own)}


def rows_of(output: Path) -> list[dict[str, Any]]:
    return pl.read_csv(output / "summary.csv").drop("seconds", "status").to_dicts()


@st.composite
def sizes_and_counts(draw: st.DrawFn) -> tuple[list[float], int | None]:
    sizes = draw(st.lists(st.floats(0, 5000), min_size=1, max_size=60))
    return sizes, draw(st.none() | st.integers(1, 80))


@given(sizes_and_counts())
def test_each_image_is_in_one_share(case: tuple[list[float], int | None]) -> None:
    sizes, count = case
    shares = shares_of(sizes, count)
    assert [position for share in shares for position in share] == list(range(len(sizes)))
    assert all(shares)
    if count is not None:
        assert len(shares) <= count


def test_shares_are_of_about_one_size() -> None:
    sizes = np.random.default_rng(1).uniform(1, 100, 1000)
    sums = [sum(sizes[share.start : share.stop]) for share in shares_of(list(sizes), 10)]
    assert max(sums) - min(sums) < 200
    assert len(shares_of([3000.0] * 7)) == 7
    assert len(shares_of([12.0] * 10_000)) == 60
    assert len(shares_of([0.01] * 10)) == 1
    assert len(shares_of([1e9] * 5000)) <= 1000


def test_names_come_back_as_they_were(tmp_path: Path) -> None:
    names = [*NAMES, os.fsdecode(b"not \xff utf-8.png"), "$" + "{$}.png"]
    images = [InputImage(tmp_path / name, name, f"name {number}") for number, name in enumerate(names)]
    write_images(tmp_path / "images.json", images)
    assert read_images(tmp_path / "images.json") == images


def test_a_relative_path_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_images(tmp_path / "images.json", [InputImage(Path("a.png"), "a.png", "a")])
    assert [image.path for image in read_images(tmp_path / "images.json")] == [tmp_path / "a.png"]


class TestCommand:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["--shards", "3"], "is for predictions on SLURM"),
            (["--dry-run"], "is for predictions on SLURM"),
            (["-S", "--slurm"], "nothing would be left of it"),
            (["--slurm", "memm=3G"], "memm"),
        ],
    )
    def test_wrong_use(
        self, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        weights = write_network(tmp_path / "spots.onnx")
        assert fb("predict", "-i", images, "-w", weights, "-o", tmp_path / "out", *words) == 2
        assert said in capsys.readouterr().err
        assert not (tmp_path / "out").exists()

    def test_a_dry_run_shows_the_jobs_and_makes_nothing(
        self, images: Path, tmp_path: Path, spots_network: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ("predict", "-i", images, "-w", spots_network, "-o", tmp_path / "out", "--shards", "3", "--dry-run")
        assert fb(*words, "--slurm", "time=01:00:00", "--mem", "3G") == 0
        shown = capsys.readouterr().out
        assert "#SBATCH --time=01:00:00" in shown
        assert "images-1-3, images-4-6, images-7-8" in shown
        assert not (tmp_path / "out").exists()


@pytest.fixture
def whole(images: Path, tmp_path: Path, spots_network: Path) -> Path:
    """Return the results of one process."""
    assert fb("predict", "-i", images, "-w", spots_network, "-o", tmp_path / "whole") == 1
    return tmp_path / "whole"


@pytest.mark.slow
@pytest.mark.parametrize("settings", [OutputSettings(), OutputSettings(metadata=False, crops=False, long_format=True)])
def test_tasks_on_this_machine_leave_what_one_process_leaves(
    images: Path, tmp_path: Path, spots_network: Path, settings: OutputSettings
) -> None:
    recipe, output, found = Recipe(spots_network), tmp_path / "out", find_images([images])
    made = plan_prediction(found, recipe, output, settings, shards=3, jobs=2)
    with RunFolder.create(run_folder_of(output), made) as run:
        begin_prediction(run, found, output, settings)
        # The first task is left out, as if nobody had got round to it.
        LocalSubmitter(1).submit(run, made.tasks[1:])
    results = write_results(run)
    assert results.table["status"].to_list() == ["missing", "done", "done"]
    reasons = pl.read_csv(output / "summary.csv")["reason"].to_list()
    assert [reason is not None and "images-1-3 is not done" in reason for reason in reasons] == [True] * 3 + [False] * 5
    assert [task.id for task in resume(RunFolder.open(output), LocalSubmitter(1))] == ["images-1-3"]
    write_results(run)
    words = ["--no-metadata", "--no-crops", "--long-format"] if settings.long_format else []
    assert fb("predict", "-i", images, "-w", spots_network, "-o", tmp_path / "whole", *words) == 1
    assert contents_of(output) == contents_of(tmp_path / "whole")
    assert rows_of(output) == rows_of(tmp_path / "whole")


@pytest.mark.slow
def test_what_one_process_has_done_is_skipped_by_a_task(
    images: Path, whole: Path, spots_network: Path, tmp_path: Path
) -> None:
    recipe, found = Recipe(spots_network), find_images([images])
    made = plan_prediction(found, recipe, whole, OutputSettings())
    before = contents_of(whole)
    with RunFolder.create(run_folder_of(whole), made) as run:
        begin_prediction(run, found, whole, OutputSettings())
        assert not (whole / "summary.csv").exists(), "it would describe a former command"
    outcome = predict_shard(dict(made.tasks[0].args), tmp_path / "attempt")
    assert outcome.values["skipped"] == len(NAMES)
    assert [item.partition(":")[0] for item in outcome.failed_items] == ["bad.png"]
    statuses = json.loads((tmp_path / "attempt" / FINISHED).read_text())
    assert [each["row"]["image"] for each in statuses] == [image.file_name for image in found]
    after = contents_of(whole)
    del before["coco_instances.json"], before["measurements.csv"]
    assert after == before


def test_a_time_limit_shorter_than_an_image_does_not_go_round_for_ever(
    tmp_path: Path, spots_network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own, as a task is: here libraries of other tests would get the signal.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    task = multiprocessing.get_context("spawn").Process(target=run_out_of_time, args=(tmp_path, spots_network))
    task.start()
    task.join()
    assert task.exitcode == 0


def run_out_of_time(tmp_path: Path, spots_network: Path) -> None:
    """The image is a pipe that nobody fills, so that it takes for ever, and tells when it is opened."""
    pipe = tmp_path / "slow.png"
    os.mkfifo(pipe)
    write_images(tmp_path / "images.json", [InputImage(pipe, "slow.png", "slow")])
    wanted = PredictImages(
        images=str(tmp_path / "images.json"),
        first=0,
        count=1,
        output=str(tmp_path / "out"),
        weights=str(spots_network),
    )

    def out_of_time(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    def signal_when_opened() -> None:
        writing = os.open(pipe, os.O_WRONLY)
        os.kill(os.getpid(), signal.SIGUSR1)
        time.sleep(1)
        os.close(writing)

    before = signal.signal(signal.SIGUSR1, out_of_time)
    thread = threading.Thread(target=signal_when_opened)
    thread.start()
    try:
        with pytest.raises(NoProgressError, match="before a single image was done"):
            predict_shard(wanted.model_dump(mode="json"), tmp_path / "attempt")
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)


def test_a_run_is_not_rehearsed_into_its_own_results(
    images: Path, tmp_path: Path, spots_network: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = find_images([images])
    made = plan_prediction(found, Recipe(spots_network), tmp_path / "out", OutputSettings(), command=["fb", "predict"])
    with RunFolder.create(run_folder_of(tmp_path / "out"), made):
        pass
    assert fb("rehearse", tmp_path / "out") == 2
    assert "fb rehearse -- fb predict" in capsys.readouterr().err


@pytest.mark.slurm
class TestOnSlurm:
    @pytest.mark.slow
    def test_an_array_leaves_what_one_process_leaves(
        self, slurm: LocalSlurm, images: Path, whole: Path, tmp_path: Path, spots_network: Path
    ) -> None:
        made = Submitted(slurm, tmp_path, images, spots_network, "--shards", "3")
        made.wait_until_ended()
        assert set(fb_states(made.output).values()) == {"done"}, made.report()
        assert contents_of(made.output) == contents_of(whole)
        assert rows_of(made.output) == rows_of(whole)
        # Two submissions: one array of three, and the job that writes what describes all images.
        assert [len(each.submission.elements) for each in submissions(made.run)] == [3, 0]
        assert fb("predict", "-i", images, "-w", spots_network, "-o", made.output, "--slurm") == 2

    @pytest.mark.slow
    def test_a_run_that_was_cancelled_goes_on(
        self, slurm: LocalSlurm, images: Path, tmp_path: Path, spots_network: Path
    ) -> None:
        words = ("--shards", "2", "-s", "8", "-j", "2")
        made = Submitted(slurm, tmp_path, images, spots_network, *words)
        made.wait(lambda: any(made.output.rglob("metadata_*.json")))
        slurm.ask("scancel", *made.jobs())
        made.wait_until_ended()
        done = {path: path.stat().st_mtime_ns for path in made.output.rglob("metadata_*.json")}
        assert len(done) < len(NAMES)
        assert not list(made.output.glob("*/.tmp-*"))
        assert fb("resume", made.output) == 0
        made.wait_until_ended()
        assert set(fb_states(made.output).values()) == {"done"}, made.report()
        assert {path: path.stat().st_mtime_ns for path in done} == done
        assert len(list(made.output.rglob("metadata_*.json"))) == len(NAMES)
        one = tmp_path / "whole"
        assert fb("predict", "-i", images, "-w", spots_network, "-o", one, "-s", "8") == 1
        assert contents_of(made.output) == contents_of(one)

    @pytest.mark.slow
    def test_a_task_that_is_out_of_time_is_queued_again_and_goes_on(
        self, slurm: LocalSlurm, images: Path, tmp_path: Path, spots_network: Path
    ) -> None:
        made = Submitted(slurm, tmp_path, images, spots_network, "-s", "8")
        made.wait(lambda: any(made.output.rglob("metadata_*.json")))
        slurm.ask("scancel", "--signal=USR1", "--batch", f"{made.jobs()[0]}_0")
        made.wait_until_ended()
        assert set(fb_states(made.output).values()) == {"done"}, made.report()
        first, second = attempts_in(made.run.task_folder(made.run.plan.tasks[0]))
        stopped, ended = read_record(first), read_record(second)
        assert stopped is not None
        assert stopped.failure is not None
        assert (stopped.failure.kind, stopped.failure.goes_on) == ("time limit", True)
        assert ended is not None
        assert isinstance(ended.values["skipped"], int)
        assert ended.values["skipped"] > 0


class Submitted:
    """Images that ``fb predict --slurm`` has submitted."""

    def __init__(self, cluster: LocalSlurm, folder: Path, images: Path, weights: Path, *words: str) -> None:
        self.cluster, self.output = cluster, folder / "out"
        small = {"cpus_per_task": 1, "mem": "2G", "time": "00:10:00"}
        write_json(folder / "profile.yaml", {"name": "test", "resources": {"all": small}})  # JSON is YAML
        after = ("--slurm", f"profile={folder / 'profile.yaml'}")
        assert fb("predict", "-i", images, "-w", weights, "-o", self.output, *words, *after) == 0
        self.run = RunFolder.open(self.output)

    def jobs(self) -> list[str]:
        return [name for submitted in submissions(self.run) for name in submitted.jobs.ids()]

    def wait_until_ended(self) -> None:
        self.wait(lambda: not any(state.task_state for state in ask_queue(self.jobs())))

    def wait(self, condition: Callable[[], bool]) -> None:
        wait(condition, 300, self.report)

    def report(self) -> str:
        """Return what is worth knowing when a test fails."""
        logs = [*self.output.glob("run/slurm/*/*.log"), *self.output.glob("run/tasks/*/*/log.txt")]
        texts = [f"{log}:\n{log.read_text(errors='replace')[-2000:]}" for log in sorted(logs)]
        return "\n".join([self.cluster.ask("squeue", "--states=all", check=False), *texts])
