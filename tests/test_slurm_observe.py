"""What a run on a real Slurm is said to be doing, and who may submit, look and cancel at the same time."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.slurm_runs import Place, SlurmRun, fb, fb_states, task, wait

from flat_bug.cluster import finalise as finaliser
from flat_bug.cluster.finalise import finalise
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import JOBS, read_settings, submissions, write_settings
from flat_bug.experiments.plan import Task
from flat_bug.experiments.record import read_record

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

RESUME = f"{sys.executable} -c 'from flat_bug.cli.main import main; main()' resume"
FORGOTTEN = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
SILENT = "echo 'squeue: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"


@pytest.fixture
def place(slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(slurm, tmp_path, monkeypatch)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a command in a process of its own, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> "subprocess.Popen[str]":
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", "from flat_bug.cli.main import main; main()", *words],
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        return started[-1]

    yield begin
    for process in started:
        with process:
            process.kill()


def stand_in(name: str, place: Place, patch: pytest.MonkeyPatch, script: str) -> None:
    """Have a script take the place of a command of Slurm; in it, ``$real`` is the real one."""
    program = place.folder / "bin" / name
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\nreal={shutil.which(name)}\n{script}\n")
    program.chmod(0o755)
    patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def allow_retries(run: SlurmRun, count: int) -> None:
    """Have what is finalised from now on try again what had bad luck."""
    write_settings(run.folder, read_settings(run.folder).model_copy(update={"retries": count}))


def in_queue(run: SlurmRun) -> list[str]:
    """Return the jobs of a run that run tasks and have not ended."""
    mine = {job for each in submissions(run.folder) if each.submission.elements for job in each.jobs.ids()}
    return [each.job for each in ask_queue(None) if each.task_state and each.job.partition("_")[0] in mine]


class TestTheAccounting:
    def test_is_asked_in_local_time_and_knows_what_the_controller_has_forgotten(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """West of Greenwich a time in UTC lies ahead, and sacct refuses it."""
        run = place.submit([task("a", kill="bootstrap.sh")], "retries=0")
        run.wait_until_ended()
        # The controller hands it over to the accounting some seconds later.
        asked = ("sacct", "--noheader", "--allocations", "--format=state", f"--jobs={','.join(run.jobs())}")
        wait(lambda: place.cluster.ask(*asked).split() == ["FAILED"] * 2, 60, run.report)
        for ended in run.path.glob("slurm/*/ended.json"):  # what the finaliser has seen
            ended.unlink()
        stand_in("squeue", place, monkeypatch, FORGOTTEN)
        monkeypatch.setenv("TZ", "America/Toronto")
        seen = json.loads(fb("status", str(run.path), "--json").stdout)
        assert seen["notes"] == []
        assert [row["failure"] for row in seen["tasks"]] == ["killed"]
        (noted,) = submissions(run.folder)[0].ended.values()
        assert noted.state == "FAILED"


class TestATaskThatGoesOn:
    def test_is_queued_until_its_job_begins_again_and_is_not_submitted_twice(self, place: Place) -> None:
        hold, wall = place.folder / "hold", place.folder / "wall"
        hold.touch()
        setup = f'export PATH="{place.folder}:$PATH"\nwhile [ -e "{wall}" ]; do touch "{wall}.met"; sleep 0.1; done\n'
        tasks = [task("a", hold=hold).model_copy(update={"goes_on": True}), task("b", hold=hold)]
        run = place.submit(tasks, "tasks_per_job=2", setup=setup)
        run.wait_until_begun("a")
        wall.touch()
        # What Slurm sends when the time limit comes near.
        place.cluster.ask("scancel", "--signal=USR1", "--batch", run.job_of("a"))
        wait(lambda: run.attempts("b") != [] and run.states() == {"a": "queued", "b": "queued"}, 60, run.report)
        self.submits_nothing(run)
        wait((place.folder / "wall.met").exists, 150, run.report)
        record = read_record(run.attempts("a")[-1])
        assert record is not None
        assert record.failure is not None
        assert record.failure.goes_on
        self.submits_nothing(run)
        assert fb_states(run.path) == {"a": "queued", "b": "queued"}
        place.cluster.ask("scancel", run.job_of("a"))
        run.wait_until_ended()
        assert run.kinds() == {"a": "time limit", "b": "time limit"}
        hold.unlink()
        wall.unlink()
        assert fb("resume", str(run.path)).returncode == 0
        run.wait_until_ended()
        assert run.states() == {"a": "done", "b": "done"}, run.report()

    def submits_nothing(self, run: SlurmRun) -> None:
        before = len(submissions(run.folder))
        asked = fb("resume", str(run.path), "--json")
        assert json.loads(asked.stdout) == {"run": str(run.path), "jobs": [], "report_jobs": [], "tasks": []}
        assert len(submissions(run.folder)) == before


class TestAJobThatIsCancelledInItsSetup:
    def test_is_not_submitted_again(self, place: Place) -> None:
        """The setup has failed, but not by bad luck."""
        met = place.folder / "met"
        run = place.submit([task("a")], setup=f'touch "{met}"\nsleep 300\n')
        wait(met.exists, 60, run.report)
        place.cluster.ask("scancel", run.job_of("a"))
        run.wait_until_ended()
        assert run.kinds() == {"a": "cancelled"}
        assert len(submissions(run.folder)) == 2


class TestTasksThatShareAJob:
    def test_the_end_of_the_job_explains_the_task_that_ran_then_and_no_earlier_one(self, place: Place) -> None:
        hold = place.folder / "hold"
        hold.touch()
        tasks = [task("killed", kill="run_task"), task("last", hold=hold), task("never", hold=hold)]
        run = place.submit(tasks, "tasks_per_job=3", "retries=0")
        run.wait_until_begun("killed", "last")
        place.cluster.end_time_now(run.job_of("last"))
        run.wait_until_ended()
        assert run.kinds() == {"killed": "killed", "last": "time limit", "never": "time limit"}
        assert run.statuses()["killed"].reason == "killed: its process was killed (SIGKILL)"


class TestTheFinaliser:
    @pytest.fixture
    def unlucky(self, place: Place) -> SlurmRun:
        """Return a run whose task had bad luck once, and which may be tried again."""
        run = place.submit([task("a", kill="run_task"), task("b")], "retries=0")
        run.wait_until_ended()
        assert run.kinds() == {"a": "killed"}
        allow_retries(run, 2)
        return run

    def test_names_what_is_missing_in_its_log(self, unlucky: SlurmRun) -> None:
        (job,) = submissions(unlucky.folder)[-1].jobs.ids()
        log = next(unlucky.path.glob(f"slurm/*/{job}.log")).read_text()
        assert "a: failed: killed: its process was killed (SIGKILL)\n" in log
        assert "b:" not in log
        assert f"Report: {unlucky.path / 'report' / 'report.html'}" in log

    def test_tries_nothing_again_while_the_scheduler_is_silent_and_says_so(
        self, unlucky: SlurmRun, place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(finaliser, "SECONDS_BETWEEN_QUESTIONS", 0.0)
        stand_in("squeue", place, monkeypatch, f"echo asked >>{place.folder}/asked\n{SILENT}")
        before = len(submissions(unlucky.folder))
        assert finalise(unlucky.folder) == 1
        said = capsys.readouterr().out
        assert "the scheduler does not answer" in said
        assert "not tried again, as nobody knows what became of their jobs: a\n" in said
        assert f"fb resume {unlucky.path}" in said
        assert len(submissions(unlucky.folder)) == before
        assert len((place.folder / "asked").read_text().split()) == finaliser.QUESTIONS

    def test_submits_nothing_that_is_resumed_while_it_looks(
        self, unlucky: SlurmRun, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = place.folder / "said"
        stand_in(
            "squeue",
            place,
            monkeypatch,
            f'answer=$("$real" "$@")\n'
            f'mkdir "{place.folder}/once" 2>/dev/null && {RESUME} "{unlucky.path}" --slurm hold >"{said}" 2>&1\n'
            f'echo "$answer"',
        )
        finalise(unlucky.folder)
        assert "is in use by process" in said.read_text()
        assert len([each for each in submissions(unlucky.folder) if each.submission.index_of("a") is not None]) == 2


class TestLooking:
    def test_what_nobody_noted_is_found_and_is_left_to_those_who_submit_to_note(self, place: Place) -> None:
        run = place.submit([task("a"), task("b")], "hold=true", arrays=False)
        noted = submissions(run.folder)[0].folder / JOBS
        half = json.loads(noted.read_text())
        half["single"].pop("1")
        noted.write_text(json.dumps(half))
        assert fb_states(run.path) == {"a": "queued", "b": "queued"}
        assert json.loads(noted.read_text()) == half
        assert fb("cancel", str(run.path)).returncode == 0
        assert in_queue(run) == []
        run.wait_until_ended()
        assert run.kinds() == {"a": "cancelled", "b": "cancelled"}
        assert f"{run.path}: 2 cancelled" in fb("status", str(run.path)).stdout

    def test_watching_ends_when_all_have_ended(self, place: Place, start: Start) -> None:
        hold = place.folder / "hold"
        hold.touch()
        run = place.submit([task("a", hold=hold)])
        run.wait_until_begun("a")
        watch = start("status", str(run.path), "--watch", "--every", "1", "--json")
        assert watch.stdout is not None
        assert json.loads(watch.stdout.readline())["tasks"][0]["state"] == "running"
        hold.unlink()
        lines = watch.communicate(timeout=120)[0].splitlines()
        assert watch.returncode == 0
        assert json.loads(lines[-1])["tasks"][0]["state"] == "done"

    def test_following_the_log_of_a_task_whose_setup_fails_ends(self, place: Place, start: Start) -> None:
        run = place.submit([task("a"), task("b")], "retries=0", "hold=true", modules=["no/such"])
        follow = start("logs", str(run.path), "a", "-f")
        place.cluster.ask("scontrol", "release", run.job_of("a").partition("_")[0])
        printed, _ = follow.communicate(timeout=120)
        assert follow.returncode == 0
        assert "setup failed: loading the modules" in printed
        assert run.kinds() == {"a": "setup failed", "b": "setup failed"}

    def test_following_the_log_of_a_task_that_is_cancelled_before_it_begins_ends(
        self, place: Place, start: Start
    ) -> None:
        run = place.submit([task("a")], "hold=true")
        follow = start("logs", str(run.path), "a", "-f")
        assert fb("cancel", str(run.path)).returncode == 0
        follow.communicate(timeout=120)
        assert follow.returncode == 0


class TestTheReport:
    def test_is_waited_for_by_watching_and_its_log_can_be_read(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = place.submit([task("a")], "hold=true")
        tasks, report = run.jobs()
        page = run.path / "report" / "report.html"
        place.cluster.ask("scontrol", "hold", report)
        place.cluster.ask("scontrol", "release", tasks)
        wait(lambda: run.states() == {"a": "done"}, 90, run.report)
        stand_in("squeue", place, monkeypatch, f'echo asked >>{place.folder}/asked\nexec "$real" "$@"')

        held = fb("status", str(run.path), "--watch", "--every", "1").stdout
        assert f"Report: to be written by job {report}, which waits (JobHeld" in held
        assert not page.exists()
        assert "has printed nothing yet" in fb("logs", str(run.path), "report").stderr

        place.cluster.ask("scontrol", "release", report)
        (place.folder / "asked").write_text("")
        watched = fb("status", str(run.path), "--watch", "--every", "1").stdout
        said = [line for line in watched.splitlines() if line.startswith("Report: ")]
        assert said[-1] == f"Report: {page}"
        assert all(f"written by job {report}" in line for line in said[:-1]), watched
        # One question for each look at most; none about a report that is there.
        assert len(said) - 1 <= len((place.folder / "asked").read_text().split()) <= len(said)

        assert f"Report: {page}" in fb("logs", str(run.path), "report", "-f").stdout
        assert f"Report: {page}" in fb("logs", str(run.path)).stdout.splitlines()[-1]
        assert fb("logs", str(run.path), "b").stderr.splitlines()[-1].strip() == "Tasks: a, report"
        assert fb("cancel", str(run.path)).stdout == "Cancelled: nothing, no job is in the queue\n"

    def test_that_nobody_writes_any_more_ends_the_watching(self, place: Place) -> None:
        run = place.submit([task("a")], "hold=true")
        tasks, report = run.jobs()
        place.cluster.ask("scancel", report)
        place.cluster.ask("scontrol", "release", tasks)
        run.wait_until_ended()
        watched = fb("status", str(run.path), "--watch", "--every", "1").stdout
        assert watched.splitlines()[-1] == f"Report: not written yet: fb report {run.path}"


class TestOtherOptions:
    def test_those_that_slurm_refuses_change_nothing(self, place: Place) -> None:
        run = place.submit([task("a", kill="run_task")], "retries=0")
        run.wait_until_ended()
        before = read_settings(run.folder)
        refused = fb("resume", str(run.path), "--slurm", "mem=10T")
        assert (refused.returncode, "Slurm would refuse the job" in refused.stderr) == (3, True), refused.stderr
        assert read_settings(run.folder) == before
        assert in_queue(run) == []

    def test_those_that_it_takes_hold_from_now_on(self, place: Place) -> None:
        run = place.submit([task("a", kill="run_task")], "retries=0")
        run.wait_until_ended()
        assert fb("resume", str(run.path), "--slurm", "mem=300M").returncode == 0
        run.wait_until_ended()
        assert run.states() == {"a": "done"}
        assert read_settings(run.folder).options["mem"] == "300M"


class TestCancelling:
    def test_waits_for_a_process_that_submits_and_cancels_what_it_has_submitted(
        self, place: Place, start: Start
    ) -> None:
        tasks: list[Task] = [task("a"), task("b")]
        run = place.create(tasks, "hold=true")
        with run.folder.lock():
            cancel = start("cancel", str(run.path))
            with pytest.raises(subprocess.TimeoutExpired):
                cancel.wait(timeout=5)
            SlurmSubmitter().submit(run.folder, tasks)
        printed, _ = cancel.communicate(timeout=60)
        assert run.jobs()
        assert all(job in printed for job in run.jobs())
        assert in_queue(run) == []


class TestCtrlC:
    def test_while_resuming_says_that_jobs_may_be_in_the_queue(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run = place.create([task("a")], "hold=true")
        stand_in("sbatch", place, monkeypatch, '"$real" "$@"; kill -INT $PPID; sleep 5')
        stopped = fb("resume", str(run.path))
        assert stopped.returncode == 130
        assert "Jobs may be in the queue" in stopped.stderr
        assert f"fb resume {run.path}" in stopped.stderr
        assert in_queue(run) == [], "its number was not noted"
        assert fb_states(run.path) == {"a": "queued"}
