"""Runs on a real Slurm as they normally go."""

import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import yaml
from tests.comparison import ANIMAL, make_network, make_place
from tests.slurm_runs import SMALL, Place, fb, fb_states, task, wait

from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.scheduler import SchedulerError
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.plan import Plan, Task
from flat_bug.experiments.record import read_record

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

SECONDS = 900
Maker = Callable[[ClusterShape], LocalSlurm]


@pytest.fixture
def place(slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(slurm, tmp_path, monkeypatch)


def many(count: int) -> list[Task]:
    return [task(f"t{number:03}") for number in range(count)]


COMMANDS = ("sacct", "sacctmgr", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")


class Listener:
    """Stands before Slurm's commands and counts who calls them, whichever process that is."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.calls = folder / "calls"
        programs = folder / "listening"
        programs.mkdir()
        for name in COMMANDS:
            program = programs / name
            program.write_text(f'#!/bin/sh\necho {name} >>{self.calls}\nexec {shutil.which(name)} "$@"\n')
            program.chmod(0o755)
        patch.setenv("PATH", f"{programs}:{os.environ['PATH']}")

    def heard(self) -> dict[str, int]:
        """Return command → how often it was called since the last time, of those that were."""
        calls = self.calls.read_text().split() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return dict(Counter(calls))


class TestComparingModels:
    def test_a_missing_weight_costs_its_row_only_and_resuming_fills_it(
        self, slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(make_place(tmp_path))
        weights = make_other(tmp_path)
        (tmp_path / "small.yaml").write_text(yaml.safe_dump({"name": "small", "resources": {"all": SMALL}}))
        words = ["-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "run"]
        submitted = fb("run", "compare-models", *words, "--slurm", "profile=small.yaml", "mem=1G", "--hold")
        assert submitted.returncode == 0, submitted.stderr
        assert "Follow:    fb status run --watch" in submitted.stdout
        assert set(fb_states(Path("run")).values()) == {"queued"}
        network = weights.read_bytes()
        weights.unlink()
        slurm.ask("scontrol", "release", slurm.ask("squeue", "-h", "-o", "%F").split()[0])
        slurm.ask("scontrol", "release", slurm.ask("squeue", "-h", "-o", "%F").split()[-1])
        assert slurm.wait_drained()
        assert matrix() == {"good": "1.000", "other": "failed"}
        assert "weights" in fb("logs", "run", "other").stdout

        weights.write_bytes(network)
        assert fb("resume", "run", "--retry-failed", "--slurm", "hold=false").returncode == 0
        assert slurm.wait_drained()
        assert matrix() == {"good": "1.000", "other": "1.000"}
        assert {path.name for path in Path("run/tasks/good").glob("attempt-*")} == {"attempt-1"}


def make_other(place: Path) -> Path:
    weights = place / "models" / "other" / "weights" / "best.onnx"
    make_network(weights, ANIMAL, score=0.8)
    return weights


def matrix() -> dict[str, str]:
    """Return model → F1 on all datasets, or the state of its task, as the report's table has it."""
    rows = pl.read_csv("run/report/results.csv").filter(pl.col("dataset") == "(all)").to_dicts()
    return {row["model"]: row["status"] if row["f1"] is None else f"{row['f1']:.3f}" for row in rows}


class TestHowTasksAreGrouped:
    def test_tasks_share_a_job_and_come_after_others(self, place: Place) -> None:
        tasks = [task("a"), task("b"), task("c"), task("last", after=("a", "c"))]
        run = place.submit(tasks, "tasks_per_job=2")
        run.wait_until_ended()
        assert set(run.states().values()) == {"done"}
        assert [found.submission.elements for found in submissions(run.folder)][:2] == [
            (("a", "b"), ("c",)),
            (("last",),),
        ]
        ended = [(run.attempts(name)[0] / "result.json").stat().st_mtime_ns for name in ("a", "c")]
        assert max(ended) <= (run.attempts("last")[0] / "begun").stat().st_mtime_ns
        assert (run.path / "report" / "report.html").exists(), run.report()

    def test_each_node_of_a_job_prepares_itself_once(self, place: Place) -> None:
        run = place.submit([task("wide")], "nodes=2", "ntasks_per_node=1")
        run.wait_until_ended()
        assert run.states() == {"wide": "done"}, run.report()
        assert run.log("wide").count("environment: submitting-python") == 2


class TestCancelling:
    def test_nothing_stays_in_the_queue_and_resuming_runs_the_rest(self, place: Place) -> None:
        hold = place.folder / "hold"
        run = place.submit([task("done"), task("held", hold=hold)])
        hold.touch()
        run.wait_until_begun("held")
        wait(lambda: run.states()["done"] == "done", 60, run.report)
        ended = fb("cancel", str(run.path))
        assert (ended.returncode, "Cancelled: " in ended.stdout) == (0, True), ended.stderr
        run.wait_until_ended()
        assert run.kinds() == {"held": "cancelled"}
        hold.unlink()
        assert fb("resume", str(run.path)).returncode == 0
        run.wait_until_ended()
        assert run.states() == {"done": "done", "held": "done"}
        assert len(run.attempts("done")) == 1


class TestTwoHundredTasks:
    def test_two_calls_submit_them_and_one_question_tells_their_states(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listener = Listener(place.folder, monkeypatch)
        run = place.submit(many(200), "hold=true")
        assert listener.heard() == {"sbatch": 2}
        assert fb_states(run.path) == dict.fromkeys((each.id for each in many(200)), "queued")
        assert listener.heard() == {"squeue": 1}

    def test_several_share_a_job_where_that_is_wanted(self, place: Place) -> None:
        run = place.submit(many(200), "tasks_per_job=20", "hold=true", max_array_size=5)
        assert [len(found.submission.elements) for found in submissions(run.folder)] == [5, 5, 0]

    def test_each_is_a_job_of_an_array_as_long_as_the_cluster_allows_and_leaves_its_record(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        place = Place(make_slurm(ClusterShape(nodes=3, max_array_size=50)), tmp_path, monkeypatch)
        listener = Listener(tmp_path, monkeypatch)
        preflight(place.settings(max_array_size=50), Plan(experiment="test", tasks=tuple(many(200))))
        checking = listener.heard()
        run = place.submit(many(200), max_array_size=50)
        assert listener.heard() == {"sbatch": 5}
        assert checking.keys() <= {"sbatch", "scontrol", "sinfo", "squeue"}
        assert sum(checking.values()) <= 5, checking
        assert [len(found.submission.elements) for found in submissions(run.folder)] == [50, 50, 50, 50, 0]
        assert set(fb_states(run.path).values()) <= {"queued", "running", "done"}
        assert listener.heard() == {"squeue": 1}
        run.wait_until_ended(SECONDS)
        assert fb_states(run.path) == dict.fromkeys((each.id for each in many(200)), "done"), run.report()
        assert len(list(run.path.glob("tasks/*/attempt-*"))) == 200
        records = [read_record(attempt) for attempt in run.path.glob("tasks/*/attempt-1")]
        jobs = run.folder.path.glob("slurm/submission-*/[0-9]*_[0-9]*.log")
        assert {record.node.slurm_job for record in records if record} == {job.stem for job in jobs}
        assert len({record.node.slurm_job for record in records if record}) == 200


class TestSites:
    def test_without_arrays_each_job_is_submitted_by_itself(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, accounting=False, arrays=False))
        run = Place(cluster, tmp_path, monkeypatch).submit([task("a"), task("b")], arrays=False, accounting=False)
        assert len(run.jobs()) == 3
        run.wait_until_ended()
        assert run.states() == {"a": "done", "b": "done"}

    @pytest.mark.parametrize("has_tmpdir", [True, False])
    def test_a_node_without_a_folder_of_the_job_gets_one_that_goes_with_it(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_tmpdir: bool
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, accounting=False, node_folder=False, modules=False))
        local = tmp_path / "local"
        local.mkdir()
        if has_tmpdir:
            monkeypatch.setenv("TMPDIR", str(local))
        else:
            monkeypatch.delenv("TMPDIR", raising=False)
        words = [] if has_tmpdir else ["export=NONE"]
        run = Place(cluster, tmp_path, monkeypatch).submit([task("one")], *words, accounting=False)
        run.wait_until_ended()
        assert run.states() == {"one": "done"}, run.report()
        log = (run.attempts("one")[0] / "log.txt").read_text()
        folder = Path(log.split("folder ")[1].split()[0])
        assert folder.parent == (local if has_tmpdir else Path("/tmp"))  # noqa: S108 - where it has to be
        assert f"there is no SLURM_TMPDIR here, so {folder} is used" in run.log("one")
        assert not folder.exists()

    def test_only_an_account_that_exists_is_charged(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, accounts=("def-lab",)))
        place = Place(cluster, tmp_path, monkeypatch)
        with pytest.raises(SchedulerError, match=r"(?i)account"):
            place.submit([task("one")], "account=def-other", name="other")
        run = place.submit([task("one")], accounts=["def-lab"], account_required=True)
        run.wait_until_ended()
        assert run.states() == {"one": "done"}

    def test_a_full_queue_takes_a_part_and_the_finaliser_submits_the_rest(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, max_submit_jobs=5))
        run = Place(cluster, tmp_path, monkeypatch).submit(many(6), max_submit_jobs=5)
        assert len([state for state in run.states().values() if state == "missing"]) == 2
        wait(lambda: set(run.states().values()) == {"done"}, 120, run.report)
        assert len(list(run.path.glob("tasks/*/attempt-*"))) == 6
