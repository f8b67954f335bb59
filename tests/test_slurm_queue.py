"""What the queue of a real Slurm has room for, what it refuses, and that no task is lost or done twice by it."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from tests.comparison import make_place
from tests.conftest import need_slurm, use_cluster
from tests.slurm_runs import SMALL, Place, SlurmRun, fb, task, wait

from flat_bug.cli.slurm import _script
from flat_bug.cluster import sbatch
from flat_bug.cluster.arrays import foreseen
from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.scheduler import SchedulerError, SchedulerSilentError
from flat_bug.cluster.site import user_name
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.submission import submissions
from flat_bug.errors import OutputError, UsageError
from flat_bug.experiments.plan import Plan, Task

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

Maker = Callable[[ClusterShape], LocalSlurm]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalSlurm]:
    """Return a cluster that takes five jobs at a time, of ten minutes at most, and refuses longer ones."""
    shape = ClusterShape(nodes=1, accounts=("def-lab",), max_submit_jobs=5)
    need_slurm(shape)
    with LocalSlurm(shape) as made:
        made.ask("sacctmgr", "-i", "modify", "user", user_name(), "set", "maxwall=10")
        made.ask("sacctmgr", "-i", "modify", "qos", "normal", "set", "flags=DenyOnLimit")
        wait(lambda: not made.answers("sbatch", "--test-only", "--wrap=true", "--time=20"), 30)
        yield made


@pytest.fixture
def limited(cluster: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    use_cluster(cluster, monkeypatch)
    yield Place(cluster, tmp_path, monkeypatch)
    cluster.cancel_all()


def many(count: int) -> list[Task]:
    return [task(f"t{number:03}") for number in range(count)]


def plan(count: int) -> Plan:
    return Plan(experiment="test", tasks=tuple(many(count)))


def have_sbatch(place: Place, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Have another program stand before sbatch, which is SBATCH in it."""
    program = place.folder / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(f"#!/bin/bash\n{script}\n".replace("SBATCH", str(shutil.which("sbatch"))))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def be_terse(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have sbatch name no limit when it refuses a job, as some versions do."""
    terse = 'SBATCH "$@" 2> >(grep -v "error: [A-Za-z]*Limit$" >&2)\ncode=$?\nwait $!\nexit $code'
    have_sbatch(place, monkeypatch, terse)


def elements(run: SlurmRun) -> list[int]:
    return [len(found.submission.elements) for found in submissions(run.folder)]


def wait_until_all_are_done_once(run: SlurmRun, count: int) -> None:
    wait(lambda: set(run.states().values()) == {"done"}, 180, run.report)
    assert len(list(run.path.glob("tasks/*/attempt-*"))) == count


class TestWhatIsRefused:
    @pytest.mark.parametrize("is_terse", [False, True])
    def test_too_much_time_is_refused_before_anything_is_made_and_a_full_queue_is_not(
        self, limited: Place, monkeypatch: pytest.MonkeyPatch, is_terse: bool
    ) -> None:
        if is_terse:
            be_terse(limited, monkeypatch)
        words = "violates" if is_terse else "AssocMaxWall"
        with pytest.raises(SchedulerError, match=f"Slurm would refuse the job: .*{words}"):
            preflight(limited.settings("time=20"), plan(1), limited.folder / "run")
        for _ in range(5):
            limited.cluster.ask("sbatch", "--hold", "--output=/dev/null", "--wrap=true")
        preflight(limited.settings("time=5"), plan(1), limited.folder / "run")
        with pytest.raises(SchedulerError, match="violates" if is_terse else "MaxSubmitJob"):
            limited.submit(many(1), "time=5")

    def test_jobs_are_tried_from_where_the_run_will_lie(self, limited: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Some sites take no jobs that start in a home."""
        home, scratch = limited.folder / "home", limited.folder / "scratch"
        home.mkdir()
        scratch.mkdir()
        refuse = 'case $PWD in */home) echo "sbatch: error: no jobs from /home" >&2; exit 1;; esac\nexec SBATCH "$@"'
        have_sbatch(limited, monkeypatch, refuse)
        monkeypatch.chdir(home)
        preflight(limited.settings(), plan(1), scratch / "run")
        with pytest.raises(SchedulerError, match="no jobs from /home"):
            preflight(limited.settings(), plan(1), home / "run")

    def test_an_account_that_is_missing_is_an_error_of_the_options(self, limited: Place) -> None:
        with pytest.raises(UsageError, match="need an account"):
            preflight(limited.settings(account_required=True), plan(1))


class TestDryRun:
    def test_it_shows_each_script_as_it_is_submitted(self, limited: Place) -> None:
        tasks = [*many(5), task("last", after=("t000",))]
        made, words = Plan(experiment="test", tasks=tuple(tasks)), ("hold", "comment=mine", "tasks_per_job=2")
        profile = {"max_parallel": 2, "max_array_size": 2, "max_submit_jobs": 5}
        settings = limited.settings(*words, **profile)
        shown = [_script(submission, settings) for submission in foreseen(made, settings)]
        run = limited.submit(tasks, *words, **profile)
        assert scripts_of(run) == shown
        assert [re.findall(r"--(?:array|dependency)=(.*)", script) for script in shown] == [
            ["0-1%2"],
            ["0-0%2"],
            ["0-0%2", "afterany:JOB1:JOB2"],
            ["afterany:JOB1:JOB2:JOB3"],
        ]

    def test_where_each_job_is_one_of_its_own_the_first_is_shown(self, limited: Place) -> None:
        settings = limited.settings("hold", arrays=False, max_submit_jobs=3)
        run = limited.submit(many(4), "hold", arrays=False, max_submit_jobs=3)
        task_script, finaliser = (_script(submission, settings) for submission in foreseen(plan(4), settings))
        assert (scripts_of(run)[0], scripts_of(run)[2]) == (task_script, finaliser.replace("JOB1", "JOB1:JOB2"))


def scripts_of(run: SlurmRun) -> list[str]:
    """Return what sbatch was given for a run, with the placeholders of a dry run."""
    jobs = {job: f"JOB{number}" for number, job in enumerate(run.jobs(), 1)}
    files = [next(run.path.glob(f"slurm/submission-*/{job}_submission.sh")) for job in jobs]
    texts = [re.sub("flat-bug:[0-9a-f]{16}", "flat-bug:0123456789abcdef", file.read_text()) for file in files]
    return [
        re.sub("(?<=afterany:)[0-9:]+", lambda match: ":".join(jobs[job] for job in match[0].split(":")), text)
        for text in texts
    ]


class TestInterrupted:
    def test_what_may_be_in_the_queue_is_said(self, limited: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        interrupt = 'SBATCH "$@" || exit\ncase $* in *--test-only*) ;; *) kill -INT $PPID; sleep 1;; esac'
        have_sbatch(limited, monkeypatch, interrupt)
        monkeypatch.chdir(make_place(limited.folder))
        Path("small.yaml").write_text(yaml.safe_dump({"name": "small", "resources": {"all": SMALL}}))
        words = ["-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "a run", "--slurm", "profile=small.yaml"]
        done = fb("run", "compare-models", *words, "--hold")
        assert done.returncode == 130, done.stderr
        assert "Jobs may be in the queue; no task is submitted twice." in done.stderr
        assert "fb status 'a run'. Submit the rest: fb resume 'a run'. Cancel: fb cancel 'a run'" in done.stderr
        assert limited.cluster.ask("squeue", "-h", "-r", "-o", "%j").split() == ["compare-models"]
        cancelled = fb("cancel", "a run")
        assert cancelled.returncode == 0, cancelled.stderr
        assert not limited.cluster.ask("squeue", "-h").strip()


class TestRoom:
    def test_where_each_job_is_one_of_its_own_the_rest_of_a_refused_submission_is_submitted_later(
        self, make_slurm: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, arrays=False, max_submit_jobs=5))
        run = Place(cluster, tmp_path, monkeypatch).submit(many(6), arrays=False)
        # Five found room, and one of them made room for the finaliser.
        assert elements(run) == [4, 0]
        first, finaliser = (found.submission for found in submissions(run.folder))
        assert list(first.first_attempts) == ["t000", "t001", "t002", "t003"]
        assert finaliser.options["dependency"] == f"afterany:{':'.join(run.jobs()[:4])}"
        wait_until_all_are_done_once(run, 6)

    def test_an_array_that_is_longer_than_anybody_said_is_submitted_in_pieces(self, limited: Place) -> None:
        run = limited.submit(many(9), "time=5")
        assert elements(run) == [4, 0]
        wait_until_all_are_done_once(run, 9)

    def test_an_array_makes_room_for_the_finaliser(self, limited: Place) -> None:
        run = limited.submit(many(5), "hold=true")
        assert elements(run) == [4, 0]
        states = run.states()
        assert (states["t003"], states["t004"]) == ("queued", "missing")
        limited.cluster.ask("scontrol", "release", run.jobs()[0])
        limited.cluster.ask("scontrol", "release", run.jobs()[1])
        wait(lambda: run.states()["t004"] == "queued", 120, run.report)

    def test_no_more_run_at_a_time_than_the_profile_says(self, limited: Place) -> None:
        run = limited.submit(many(3), "hold=true", max_parallel=2)
        assert "ArrayTaskThrottle=2" in limited.cluster.ask("scontrol", "show", "job", run.jobs()[0])


class TestASlowScheduler:
    def test_a_job_that_was_taken_while_nobody_answered_is_found_before_a_second_try(
        self, limited: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Slurm takes the job during the pause between two tries."""
        late = limited.folder / "late"
        calls: list[str] = []
        original = sbatch._sbatch

        def fall_silent(*words: object) -> str:
            calls.append("sbatch")
            if len(calls) == 1:
                late.touch()
                raise SchedulerSilentError("the scheduler does not answer")
            return original(*words)  # type: ignore[arg-type] # those that it was given

        def take_it(seconds: float) -> None:
            if late.exists():
                late.unlink()
                made = submissions(run.folder)[0]
                original(run.folder, made, sbatch.batch_script(made.submission))

        run = limited.create([task("a")], "hold=true")
        monkeypatch.setattr(sbatch, "_sbatch", fall_silent)
        monkeypatch.setattr(sbatch.time, "sleep", take_it)
        with run.folder.lock():
            SlurmSubmitter().submit(run.folder, [task("a")])
        assert len(calls) == 2, "one for the task, which is not tried again, and one for the finaliser"
        assert limited.cluster.ask("squeue", "-h", "-r", "-o", "%j").split().count("test") == 1

    def test_a_job_that_was_taken_twice_runs_its_tasks_once(self, limited: Place) -> None:
        hold = limited.folder / "hold"
        hold.touch()
        run = limited.submit([task("a", hold=hold)])
        run.wait_until_begun("a")
        script = run.folder.path / "again.sh"
        script.write_text(sbatch.batch_script(submissions(run.folder)[0].submission))
        answer = limited.cluster.ask("sbatch", "--parsable", f"--chdir={run.path}", str(script)).strip()
        log = run.path / "slurm" / "submission-1" / f"{answer}_0.log"
        wait(lambda: log.exists() and "left to job" in log.read_text(), 60, run.report)
        hold.unlink()
        run.wait_until_ended()
        assert run.states() == {"a": "done"}
        assert len(run.attempts("a")) == 1

    def test_a_script_that_cannot_be_written_is_an_error_of_ours(
        self, limited: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> str:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(sbatch._Executor, "_submit_command", full)
        with pytest.raises(OutputError, match="cannot write: No space left"):
            limited.submit([task("a")])
