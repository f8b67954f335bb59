"""Training as a task: stopped by a signal, a preemption or a dead node, it goes on in its next attempt."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.archives import write_tree
from tests.slurm_runs import fb_states, wait
from tests.spots import fb
from tests.test_train import NETWORK

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import submissions
from flat_bug.datasets.archive import pack
from flat_bug.datasets.prepare import prepare
from flat_bug.datasets.stage import stage
from flat_bug.datasets.synth import synthesize
from flat_bug.errors import DatasetError, UsageError, WeightsError
from flat_bug.experiments.plan import Task
from flat_bug.experiments.record import Failure, Node, NoProgressError, OutOfTimeError, Record, read_record
from flat_bug.experiments.results import write_results
from flat_bug.experiments.run_folder import RunFolder, TaskState, attempts_in
from flat_bug.experiments.train_inputs import TrainInputs
from flat_bug.experiments.train_model import gained_nothing_before, run_to_go_on_with
from flat_bug.experiments.train_plan import plan_training
from flat_bug.files import link_or_copy, sha256_of, write_json, write_text
from flat_bug.segmenters.load import load_segmenter
from flat_bug.training.checkpoints import remember_checkpoints, written_checkpoints
from flat_bug.training.settings import TrainSettings

pytestmark = pytest.mark.train

EPOCHS = 3


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a prepared tree, its archive, and a configuration for a tiny network."""
    folder = tmp_path_factory.mktemp("workshop")
    synthesize(folder / "pre-pro", images=4, size=(200, 160), datasets=["sticky_card"], jobs=1)
    prepare(folder / "pre-pro", folder / "fb_yolo", validation=0.4)
    pack(folder / "fb_yolo", folder / "fb_yolo.zip")
    write_text(folder / "tiny-seg.yaml", NETWORK)
    write_text(
        folder / "config.yaml",
        f"model: {folder / 'tiny-seg.yaml'}\nimgsz: 64\nbatch: 4\nnbs: 4\nepochs: {EPOCHS}\nwarmup_epochs: 0\n"
        f"workers: 2\ndevice: cpu\nfb_threads: 1\nfb_tiles_per_dataset: 12\nfb_val_tiles: 4\n"
        f"fb_samples_per_epoch: 60\nfb_export_tile: 64\nname: tiny\n",
    )
    return folder


def plan(workshop: Path, **settings: object) -> Task:
    values = TrainSettings.from_yaml(workshop / "config.yaml").to_mapping() | settings
    (task,) = plan_training(str(workshop / "fb_yolo"), TrainSettings.from_mapping(values)).tasks
    return task


class TaskFolder:
    """A task whose attempts are run here, one after the other."""

    def __init__(self, folder: Path, task: Task) -> None:
        self.folder = folder
        write_text(folder / "spec.json", task.model_dump_json())

    def run(self, *, until: str = "", number: signal.Signals = signal.SIGUSR1, group: bool = False) -> Path:
        """Make an attempt, send it a signal when its log holds some text, and return its folder."""
        command = [sys.executable, "-m", "flat_bug.experiments.run_task", str(self.folder / "spec.json")]
        attempt = self.folder / f"attempt-{len(attempts_in(self.folder)) + 1}"
        process = subprocess.Popen(command, start_new_session=True)
        while until and until not in log_of(attempt):
            assert process.poll() is None, log_of(attempt)
            time.sleep(0.02)
        if until:
            (os.killpg if group else os.kill)(process.pid, number)
        process.wait(120)
        return attempt

    def record(self, attempt: Path) -> Record:
        found = read_record(attempt)
        assert found is not None, log_of(attempt)
        return found


def log_of(attempt: Path) -> str:
    log = attempt / "log.txt"
    return log.read_text(errors="replace") if log.exists() else ""


def epochs_in(run: Path) -> list[int]:
    return [int(row["epoch"]) for row in csv.DictReader((run / "results.csv").read_text().splitlines())]


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256_of(path) for path in folder.rglob("*") if path.is_file()}


def epoch(number: int) -> str:
    """Return how ultralytics begins the lines of an epoch."""
    return f" {number}/{EPOCHS} "


@pytest.fixture(scope="module")
def stopped(workshop: Path, tmp_path_factory: pytest.TempPathFactory) -> TaskFolder:
    """Return a task that was stopped in its second epoch by the signal of the scheduler, workers and all."""
    made = TaskFolder(tmp_path_factory.mktemp("tasks") / "tiny", plan(workshop))
    made.run(until=epoch(2), group=True)
    return made


@pytest.fixture(scope="module")
def finished(stopped: TaskFolder) -> TaskFolder:
    """Return the same task after its second attempt."""
    before = contents(stopped.folder / "attempt-1")
    attempt = stopped.run()
    assert stopped.record(attempt).status == "ok", log_of(attempt)
    assert contents(stopped.folder / "attempt-1") == before, "an earlier attempt was changed"
    return stopped


class TestGoingOn:
    @pytest.mark.slow
    def test_the_signal_stops_it_at_once_and_leaves_a_whole_checkpoint(self, stopped: TaskFolder) -> None:
        attempt = stopped.folder / "attempt-1"
        failure = stopped.record(attempt).failure
        assert failure is not None
        assert failure.kind == "time limit"
        assert failure.goes_on
        last = attempt / "tiny" / "weights" / "last.pt"
        assert sha256_of(last) in written_checkpoints(attempt / "tiny")
        # The only traceback is that of the task itself, and no worker has complained.
        assert log_of(attempt).count("Traceback") == 1
        assert "DataLoader worker" not in log_of(attempt)

    @pytest.mark.slow
    def test_the_next_attempt_goes_on_after_the_last_whole_epoch(self, finished: TaskFolder) -> None:
        attempt = finished.folder / "attempt-2"
        assert epochs_in(attempt / "tiny") == [1, 2, 3]
        log = log_of(attempt)
        assert "goes on with attempt-1/tiny" in log
        assert epoch(1) not in log
        (resumption,) = json.loads((attempt / "tiny" / "training.json").read_text())["resumed"]
        assert resumption["epoch"] == 1

    @pytest.mark.slow
    def test_its_record_holds_scores_and_where_the_weights_are(self, finished: TaskFolder) -> None:
        record = finished.record(finished.folder / "attempt-2")
        assert record.values["epochs"] == EPOCHS
        assert record.values["weights"] == "tiny/weights/tiny.onnx"
        assert {"tiny/weights/tiny.onnx", "tiny/weights/tiny.card.json", "tiny/results.csv"} <= record.outputs.keys()
        assert load_segmenter(finished.folder / "attempt-2" / "tiny" / "weights" / "tiny.onnx").card.tile == 64
        assert not (finished.folder / "tiles").exists(), "thousands of small files are left"

    @pytest.mark.slow
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
    def test_a_preempted_task_and_one_whose_node_died_go_on_too(
        self, workshop: Path, tmp_path: Path, number: signal.Signals
    ) -> None:
        made = TaskFolder(tmp_path / "tiny", plan(workshop))
        first = made.run(until=epoch(2), number=number, group=True)
        if number is signal.SIGTERM:
            failure = made.record(first).failure
            assert failure is not None
            assert (failure.kind, failure.goes_on) == ("cancelled", False)
            assert "DataLoader worker" not in log_of(first)
        else:
            assert read_record(first) is None
        second = made.run()
        assert made.record(second).status == "ok", log_of(second)
        assert epoch(1) not in log_of(second)
        assert epochs_in(second / "tiny") == [1, 2, 3]

    @pytest.mark.slow
    def test_attempts_without_a_checkpoint_are_passed_over(self, stopped: TaskFolder, tmp_path: Path) -> None:
        folder = tmp_path / "tiny"
        for number in (1, 2, 3, 4):
            shutil.copytree(stopped.folder / "attempt-1", folder / f"attempt-{number}")
        record = json.loads((folder / "attempt-1" / "tiny" / "training.json").read_text())
        digest, inputs = record["tiles"], TrainInputs.in_record(record)
        assert inputs is not None
        shutil.rmtree(folder / "attempt-4" / "tiny")
        (folder / "attempt-3" / "tiny" / "weights" / "last.pt").write_bytes(b"half of it")
        (folder / "attempt-5").mkdir()
        assert run_to_go_on_with(folder / "attempt-5", "tiny", digest, inputs) == folder / "attempt-2" / "tiny"
        # What was trained on other annotations is not gone on with.
        assert run_to_go_on_with(folder / "attempt-5", "tiny", "0" * 64, inputs) is None


class TestAgain:
    @pytest.mark.slow
    def test_a_finished_training_is_done_anew_once_its_images_have_changed(
        self, workshop: Path, tmp_path: Path
    ) -> None:
        tree = shutil.copytree(workshop / "fb_yolo", tmp_path / "fb_yolo")
        values = TrainSettings.from_yaml(workshop / "config.yaml").to_mapping()
        (task,) = plan_training(str(tree), TrainSettings.from_mapping(values)).tasks
        made = TaskFolder(tmp_path / "tasks" / "tiny", task)
        assert made.record(made.run()).status == "ok"
        image = next((tree / "insects" / "images" / "train").iterdir())
        image.write_bytes(image.read_bytes() + b"behind its end")
        again = made.run()
        assert made.record(again).status == "ok", log_of(again)
        assert "goes on with" not in log_of(again)
        assert epochs_in(again / "tiny") == [1, 2, 3]
        assert epoch(1) in log_of(again)


class TestWithoutProgress:
    @pytest.mark.slow
    def test_a_second_attempt_that_gains_no_epoch_fails_and_says_what_to_do(
        self, workshop: Path, tmp_path: Path
    ) -> None:
        # An epoch that never ends within the patience of a test.
        made = TaskFolder(tmp_path / "tiny", plan(workshop, fb_samples_per_epoch=100_000))
        first = made.record(made.run(until=epoch(1))).failure
        second = made.record(made.run(until=epoch(1))).failure
        assert first is not None
        assert second is not None
        # The first may have needed its time for cutting the tiles, so it is to be tried again.
        assert (first.kind, first.goes_on) == ("time limit", True)
        assert (second.kind, second.goes_on) == ("time limit", False)
        assert "epoch 1 was not finished" in second.what
        assert "--grow time" in second.mend

    @pytest.mark.slow
    def test_an_attempt_that_gains_an_epoch_may_run_out_of_time_again(
        self, stopped: TaskFolder, tmp_path: Path
    ) -> None:
        shutil.copytree(stopped.folder / "attempt-1", tmp_path / "tiny" / "attempt-1")
        made = TaskFolder(tmp_path / "tiny", Task.model_validate_json((stopped.folder / "spec.json").read_bytes()))
        failure = made.record(made.run(until=epoch(3))).failure
        assert failure is not None
        assert failure.goes_on
        assert epochs_in(tmp_path / "tiny" / "attempt-2" / "tiny") == [1, 2]

    def test_no_progress_is_a_time_limit_so_that_more_time_cures_it(self) -> None:
        failure = Failure.of(NoProgressError("too short", mend="Give it more time."))
        assert (failure.kind, failure.goes_on, failure.mend) == ("time limit", False, "Give it more time.")
        assert Failure.of(OutOfTimeError()).goes_on


class TestPlan:
    def test_files_are_named_from_the_root_since_tasks_start_elsewhere(
        self, workshop: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(workshop)
        settings = TrainSettings(model="tiny-seg.yaml", name="Fjäril & co")
        (task,) = plan_training("fb_yolo", settings).tasks
        assert task.id == "Fjaril-co"
        assert task.goes_on
        assert task.args["tree"] == str(workshop / "fb_yolo")
        assert task.inputs == ("ground_truth",)
        assert isinstance(task.args["settings"], dict)
        assert task.args["settings"]["model"] == str(workshop / "tiny-seg.yaml")
        # An architecture of ultralytics is no file here, and stays what it is.
        (other,) = plan_training("fb_yolo", TrainSettings()).tasks
        assert isinstance(other.args["settings"], dict)
        assert other.args["settings"]["model"] == "yolo11n-seg.yaml"

    def test_a_tree_that_only_the_node_has_is_not_looked_for_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SLURM_TMPDIR", raising=False)
        (task,) = plan_training("$SLURM_TMPDIR/fb_yolo", TrainSettings()).tasks
        assert task.args["tree"] == "$SLURM_TMPDIR/fb_yolo"
        with pytest.raises(UsageError, match="replace a variable by nothing"):
            plan_training("/fb_yolo/moths", TrainSettings())

    def test_what_cannot_be_trained_on_is_refused_before_anything_is_queued(
        self, tmp_path: Path, workshop: Path
    ) -> None:
        with pytest.raises(DatasetError, match="not a prepared tree"):
            plan_training(str(tmp_path), TrainSettings())
        with pytest.raises(UsageError, match="nothing to train on"):
            plan_training(None, TrainSettings())
        (tmp_path / "strange.pt").write_bytes(b"pickle")
        settings = TrainSettings(model=str(tmp_path / "strange.pt"))
        with pytest.raises(WeightsError, match="can run any code"):
            plan_training(str(workshop / "fb_yolo"), settings)
        (task,) = plan_training(str(workshop / "fb_yolo"), settings, trust_weights=True).tasks
        assert task.inputs == ("ground_truth", "weights")

    def test_an_archive_gives_the_node_images_and_labels_of_both_splits(self, workshop: Path) -> None:
        (task,) = plan_training(None, TrainSettings(), archive=str(workshop / "fb_yolo.zip")).tasks
        assert task.args["tree"] == "$SLURM_TMPDIR/fb_yolo"
        (stage,) = task.stage
        kinds = ("images/train", "labels/train", "images/val", "labels/val")
        assert stage.only == tuple(f"insects/{kind}" for kind in kinds)
        with pytest.raises(UsageError, match="does not hold"):
            plan_training("$SLURM_TMPDIR/other", TrainSettings(), archive=str(workshop / "fb_yolo.zip"))


class TestCommand:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["-o", "out"], "is for a training on SLURM"),
            (["--slurm", "time=01:00:00"], "no folder for the run"),
            (["-r", "-o", "out", "--slurm", "time=01:00:00"], "goes on by itself"),
        ],
    )
    def test_options_of_the_run_are_for_slurm(
        self, workshop: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
    ) -> None:
        assert fb("train", "-d", workshop / "fb_yolo", *words) == 2
        assert said in capsys.readouterr().err

    def test_a_dry_run_shows_the_job_and_makes_nothing(
        self, workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ("train", "-d", workshop / "fb_yolo", "--epochs", "7", "-o", tmp_path / "run", "--dry-run")
        assert fb(*words, "--slurm", "time=01:00:00", "--mem", "3G") == 0
        shown = capsys.readouterr().out
        assert "#SBATCH --time=01:00:00" in shown
        assert "#SBATCH --mem=3G" in shown
        assert not (tmp_path / "run").exists()


class TestReport:
    def test_a_run_without_scores_has_a_table_of_tasks(
        self, workshop: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        made = plan_training(str(workshop / "fb_yolo"), TrainSettings(name="<b>"), command=["fb", "train", "<i>"])
        with RunFolder.create(tmp_path / "run", made) as run:
            results = write_results(run)
        assert not results.are_scores
        assert results.table.select("task", "status", "weights").rows() == [("b", "missing", None)]
        assert pl.read_csv(run.report / "results.csv")["task"].to_list() == ["b"]
        page = results.page.read_text()
        assert "not started yet" in page
        assert "<i>" not in page
        assert fb("report", run.path) == 0
        assert "missing" in capsys.readouterr().out


@pytest.mark.slurm
class TestOnSlurm:
    @pytest.mark.slow
    def test_a_job_that_is_out_of_time_is_queued_again_and_goes_on(
        self, slurm: LocalSlurm, workshop: Path, tmp_path: Path
    ) -> None:
        made = SubmittedTraining(slurm, tmp_path, "--archive", workshop / "fb_yolo.zip", "-c", workshop / "config.yaml")
        made.signal_in(1, epoch(2))
        made.wait((made.folder / "attempt-2").exists)
        assert fb_states(made.run.path)["tiny"] == "running"
        made.wait_until_ended()
        assert made.run.status(made.run.plan.tasks[0]).state is TaskState.DONE, made.report()
        assert [path.name for path in attempts_in(made.folder)] == ["attempt-1", "attempt-2"]
        assert epochs_in(made.folder / "attempt-2" / "tiny") == [1, 2, 3]
        # One finaliser, which has waited for the job to end for good.
        assert len(submissions(made.run)) == 2
        (row,) = pl.read_csv(made.run.report / "results.csv").to_dicts()
        assert (row["status"], row["epochs"]) == ("done", EPOCHS)
        assert (made.run.path / row["weights"]).is_file()

    @pytest.mark.slow
    def test_slurms_own_time_limit_has_the_job_queued_again(
        self, slurm: LocalSlurm, workshop: Path, tmp_path: Path
    ) -> None:
        """Nobody but Slurm sends the signal: half a minute before the limit, or one minute, as it looks seldom."""
        words = ("-d", workshop / "fb_yolo", "-c", workshop / "config.yaml", "--epochs", "100000")
        made = SubmittedTraining(slurm, tmp_path, *words, time="00:02:00")
        made.wait(lambda: "goes on with attempt-1/tiny" in log_of(made.folder / "attempt-2"))
        assert fb("cancel", made.run.path) == 0
        made.wait_until_ended()
        first = read_record(made.folder / "attempt-1")
        assert first is not None
        assert first.failure is not None
        assert (first.failure.kind, first.failure.goes_on) == ("time limit", True)
        assert len(submissions(made.run)) == 2, "Slurm repeats the job; nothing is submitted again"

    @pytest.mark.slow
    def test_a_time_limit_shorter_than_an_epoch_does_not_go_round_for_ever(
        self, slurm: LocalSlurm, workshop: Path, tmp_path: Path
    ) -> None:
        words = ("-d", workshop / "fb_yolo", "-c", workshop / "config.yaml", "--fb_samples_per_epoch", "100000")
        made = SubmittedTraining(slurm, tmp_path, *words)
        made.signal_in(1, epoch(1))
        made.signal_in(2, epoch(1))
        made.wait_until_ended()
        assert [path.name for path in attempts_in(made.folder)] == ["attempt-1", "attempt-2"]
        (row,) = pl.read_csv(made.run.report / "results.csv").to_dicts()
        assert row["status"] == "failed"
        assert "the time limit is too short" in row["reason"]


class SubmittedTraining:
    """A training that ``fb train --slurm`` has submitted."""

    def __init__(self, cluster: LocalSlurm, folder: Path, *words: str | Path, time: str = "00:10:00") -> None:
        self.cluster = cluster
        small = {"cpus_per_task": 1, "mem": "4G", "time": "00:10:00"}
        write_json(folder / "profile.yaml", {"name": "test", "resources": {"all": small}})  # JSON is YAML
        after = ("--slurm", f"profile={folder / 'profile.yaml'}", f"time={time}")
        assert fb("train", *words, "-o", folder / "run", *after) == 0
        self.run = RunFolder.open(folder / "run")
        self.folder = folder / "run" / "tasks" / "tiny"
        self.jobs = [name for submitted in submissions(self.run) for name in submitted.jobs.ids()]

    def signal_in(self, attempt: int, text: str) -> None:
        """Send what the scheduler sends before a time limit, once the log of an attempt holds some text."""
        self.wait(lambda: text in log_of(self.folder / f"attempt-{attempt}"))
        self.cluster.ask("scancel", "--signal=USR1", "--batch", f"{self.jobs[0]}_0")

    def wait_until_ended(self) -> None:
        self.wait(lambda: not any(state.task_state for state in ask_queue(self.jobs)))

    def wait(self, condition: Callable[[], bool]) -> None:
        wait(condition, 300, self.report)

    def report(self) -> str:
        """Return what is worth knowing when a test fails."""
        logs = [log_of(attempt)[-2000:] for attempt in attempts_in(self.folder)]
        logs += [log.read_text(errors="replace")[-2000:] for log in self.run.path.glob("slurm/*/*.log")]
        return "\n".join([self.cluster.ask("squeue", "--states=all", check=False), *logs])


def trained_run(run: Path, inputs: TrainInputs) -> Path:
    """Make what an attempt with one epoch has left."""
    write_text(run / "weights" / "last.pt", "a checkpoint")
    write_json(run / "training.json", {"tiles": "digest", "inputs": inputs.model_dump(mode="json")})
    remember_checkpoints(run, [sha256_of(run / "weights" / "last.pt")])
    return run


def test_a_checkpoint_of_a_stranger_is_not_gone_on_with(tmp_path: Path) -> None:
    """Only what the run itself has noted is opened: a checkpoint is a pickle."""
    inputs = TrainInputs(archive="one")
    run = trained_run(tmp_path / "attempt-1" / "tiny", inputs)
    assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", inputs) == run
    (run / "weights" / "last.pt").write_bytes(b"strange")
    assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", inputs) is None


class TestWhatATrainingBeginsWith:
    """The annotations are the same in all of these; they have a digest of their own."""

    @pytest.fixture
    def tree(self, tmp_path: Path) -> Path:
        write_tree(tmp_path / "fb_yolo")
        return tmp_path / "fb_yolo"

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        write_text(tmp_path / "start.pt", "weights")
        return tmp_path / "start.pt"

    def test_the_same_images_and_weights_are_gone_on_with(self, tmp_path: Path, tree: Path, weights: Path) -> None:
        before = TrainInputs.of(tree, [weights], ())
        run = trained_run(tmp_path / "attempt-1" / "tiny", before)
        assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", TrainInputs.of(tree, [weights], ())) == run
        # A copy on another node has other times.
        shutil.copytree(tree, tmp_path / "node", copy_function=shutil.copyfile)
        copied = TrainInputs.of(tmp_path / "node", [weights], [before])
        assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", copied) == run

    def test_with_another_image_or_other_weights_it_is_trained_anew(
        self, tmp_path: Path, tree: Path, weights: Path
    ) -> None:
        before = TrainInputs.of(tree, [weights], ())
        trained_run(tmp_path / "attempt-1" / "tiny", before)
        write_text(weights, "others")
        other_weights = TrainInputs.of(tree, [weights], [before])
        assert other_weights.have_data_of(before)
        assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", other_weights) is None
        write_text(weights, "weights")
        image = next((tree / "insects" / "images").rglob("*.jpg"))
        image.write_bytes(image.read_bytes()[::-1])  # of the same size
        other_image = TrainInputs.of(tree, [weights], [before])
        assert not other_image.have_data_of(before)
        assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", other_image) is None

    def test_of_a_staged_tree_the_archive_counts_and_no_image_is_read(self, tmp_path: Path, tree: Path) -> None:
        archive = pack(tree).archive
        staged = TrainInputs.of(stage(archive, tmp_path / "node1", ["insects"]).root, [], ())
        assert (staged.images, len(staged.archive)) == (None, 64)
        assert TrainInputs.of(stage(archive, tmp_path / "node2").root, [], ()).are_those_of(staged)
        image = next((tree / "insects" / "images").rglob("*.jpg"))
        image.write_bytes(image.read_bytes()[::-1])
        pack(tree, archive, force=True)
        changed = TrainInputs.of(stage(archive, tmp_path / "node1", ["insects"]).root, [], [staged])
        assert not changed.have_data_of(staged)

    def test_an_image_that_was_changed_after_staging_is_noticed(self, tmp_path: Path, tree: Path) -> None:
        root = stage(pack(tree).archive, tmp_path / "node").root
        before = TrainInputs.of(root, [], ())
        image = next((root / "insects" / "images").rglob("*.jpg"))
        image.write_bytes(image.read_bytes()[::-1])
        after = TrainInputs.of(root, [], [before])
        assert (after.archive, after.have_data_of(before)) == ("", False)

    def test_a_training_whose_record_says_nothing_of_them_is_not_gone_on_with(self, tmp_path: Path) -> None:
        run = trained_run(tmp_path / "attempt-1" / "tiny", TrainInputs())
        write_json(run / "training.json", {"tiles": "digest"})
        assert run_to_go_on_with(tmp_path / "attempt-2", "tiny", "digest", TrainInputs()) is None


class TestGain:
    """Only time limits in which nothing was gained say that the limit is too short."""

    def attempt(self, folder: Path, number: int, checkpoint: Path | str | None) -> Path:
        """Make an attempt that was stopped in time, with a checkpoint of its own or that of an earlier one."""
        attempt = folder / f"attempt-{number}"
        last = attempt / "tiny" / "weights" / "last.pt"
        last.parent.mkdir(parents=True)
        if isinstance(checkpoint, str):
            last.write_text(checkpoint)
        elif checkpoint is not None:
            link_or_copy(checkpoint / "tiny" / "weights" / "last.pt", last)
        failure = Failure.of(OutOfTimeError())
        about = {"task": "tiny", "attempt": number, "started": "2026-01-01", "seconds": 1, "peak_memory_mb": 1}
        Record.model_validate({**about, "status": "failed", "node": Node.here(), "failure": failure}).write(attempt)
        return attempt

    def test_the_first_without_an_epoch_says_nothing_and_the_second_does(self, tmp_path: Path) -> None:
        first = self.attempt(tmp_path, 1, None)
        assert not gained_nothing_before(first, "tiny")
        assert gained_nothing_before(self.attempt(tmp_path, 2, None), "tiny")

    def test_one_slow_node_after_good_epochs_does_not_end_a_training(self, tmp_path: Path) -> None:
        self.attempt(tmp_path, 1, "epoch 5")
        good = self.attempt(tmp_path, 2, "epoch 9")
        slow = self.attempt(tmp_path, 3, good)
        assert not gained_nothing_before(slow, "tiny")
        assert gained_nothing_before(self.attempt(tmp_path, 4, slow), "tiny")
        gained = self.attempt(tmp_path, 5, "epoch 10")
        assert not gained_nothing_before(self.attempt(tmp_path, 6, gained), "tiny")

    def test_a_broken_record_counts_as_none(self, tmp_path: Path) -> None:
        write_text(self.attempt(tmp_path, 1, None) / "result.json", "{")
        assert not gained_nothing_before(self.attempt(tmp_path, 2, None), "tiny")
