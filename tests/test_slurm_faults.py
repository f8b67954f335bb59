"""What befalls runs on a real Slurm, and that nothing is lost by it."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.archives import PREPARED, write_tree
from tests.conftest import missing, need_slurm, use_cluster
from tests.environments import HERE, describe, write_flat_bug, write_wheel
from tests.slurm_runs import Place, SlurmRun, fb, fb_states, task, wait

from flat_bug.cluster.preflight import preflight
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.scheduler import SchedulerSilentError
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import OptionValue, newest_of, submissions
from flat_bug.datasets.archive import pack
from flat_bug.errors import FlatBugError, OutputError
from flat_bug.experiments.plan import Plan, Stage
from flat_bug.experiments.record import read_record
from flat_bug.experiments.run_folder import LOG_NAME

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

KILLED = {"killed-task": "run_task", "killed-supervisor": "cluster.job", "killed-script": "bootstrap.sh"}
GROWING = ("memory", "time", "cancelled")
MEMORY = 200
"""MiB that a job asks for."""


def log_of(attempt: Path) -> str:
    return (attempt / LOG_NAME).read_text()


def options_of(run: SlurmRun, name: str) -> dict[str, OptionValue]:
    return newest_of(submissions(run.folder), [name])[name].submission.options


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """Have a file system of some size in a folder during the block."""
    if os.geteuid() != 0:
        missing("root, to mount a small disk")
    subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["/bin/umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalSlurm]:
    """Return the cluster of this module; its tests leave it in order."""
    need_slurm(ClusterShape())
    with LocalSlurm() as made:
        yield made


@pytest.fixture
def place(cluster: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    use_cluster(cluster, monkeypatch)
    yield Place(cluster, tmp_path, monkeypatch)
    cluster.cancel_all()


@dataclass(frozen=True)
class Day:
    """Runs, all of whose jobs have ended.

    Attributes:
        run: Its tasks met a fault each.
        crashed: Its task was on a node that crashed, and Slurm may repeat its job.
        fragile: The same, but Slurm may not.
        lost: The same, and the finaliser may not either.
        slow: Its task came to the end of a minute.
    """

    run: SlurmRun
    crashed: SlurmRun
    fragile: SlurmRun
    lost: SlurmRun
    slow: SlurmRun


@pytest.fixture(scope="module")
def day(cluster: LocalSlurm, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Day]:
    """Return what a day full of faults has left."""
    folder = tmp_path_factory.mktemp("day")
    hold = folder / "hold"
    hold.touch()
    tasks = [task("fine"), *(task(name, kill=last) for name, last in KILLED.items())]
    tasks += [task("later", after=("killed-task",)), *(task(name, hold=hold) for name in GROWING)]
    tasks.append(task("greedy", allocate=2 * MEMORY))
    with pytest.MonkeyPatch.context() as patch:
        use_cluster(cluster, patch)
        place = Place(cluster, folder, patch)
        run = place.submit(tasks)
        run.wait_until_begun(*(each.id for each in tasks if each.id != "later"))
        slow = place.submit([task("slow", hold=place.python)], "nodelist=node1", "time=00:01:00", name="slow")
        crashed = place.submit([task("crashed", hold=hold)], "nodelist=node3", name="crashed")
        fragile = place.submit([task("fragile", hold=hold)], "nodelist=node3", "no-requeue", name="fragile")
        lost = place.submit([task("lost", hold=hold)], "nodelist=node3", "no-requeue", "retries=0", name="lost")
        cluster.end_time_now(run.job_of("time"))
        # What Slurm says where it uses cgroups; without them, as "greedy" shows, it says so in the log only.
        cluster.out_of_memory(run.job_of("memory"))
        cluster.ask("scancel", run.job_of("cancelled"))
        crashed.wait_until_begun("crashed")
        fragile.wait_until_begun("fragile")
        lost.wait_until_begun("lost")
        cluster.crash_node("node3")
        wait(lambda: run.kinds().get("time") == "time limit", 60, run.report)
        # A node that is back before Slurm has missed it keeps its jobs for two minutes more.
        wait(lambda: not cluster.ask("squeue", "-h", "-w", "node3", "-t", "running"), 90, crashed.report)
        hold.unlink()
        cluster.start_node("node3")
        for each in (run, crashed, fragile, lost, slow):
            each.wait_until_ended()
        yield Day(run, crashed, fragile, lost, slow)


class TestADayOfFaults:
    def test_what_was_killed_is_done_on_another_node(self, day: Day) -> None:
        assert {name: day.run.states()[name] for name in KILLED} == dict.fromkeys(KILLED, "done")
        killed = read_record(day.run.attempts("killed-task")[0])
        assert killed is not None
        assert killed.failure is not None
        assert (killed.failure.kind, killed.failure.what) == ("killed", "its process was killed (SIGKILL)")
        for name in KILLED:
            first, second = (log_of(attempt) for attempt in day.run.attempts(name))
            assert first.split()[1] != second.split()[1]

    def test_what_comes_after_one_that_was_killed_is_done_after_it(self, day: Day) -> None:
        assert day.run.states()["later"] == "done"
        made = (day.run.attempts("killed-task")[-1] / "result.json").stat().st_mtime_ns
        assert made <= (day.run.attempts("later")[-1] / "begun").stat().st_mtime_ns

    def test_a_node_that_crashed_costs_its_task_one_attempt(self, day: Day) -> None:
        assert day.crashed.states() == {"crashed": "done"}
        assert len(day.crashed.attempts("crashed")) == 2
        assert not any(found.submission.automatic for found in submissions(day.crashed.folder))

    def test_a_job_that_slurm_may_not_repeat_is_submitted_again(self, day: Day) -> None:
        assert submissions(day.fragile.folder)[0].ended[0].state == "NODE_FAIL"
        # It may run on that node only, so there is none to take instead.
        assert day.fragile.states() == {"fragile": "done"}
        assert len(day.fragile.attempts("fragile")) == 2

    def test_a_node_that_crashed_is_named_as_the_failure(self, day: Day) -> None:
        assert submissions(day.lost.folder)[0].ended[0].state == "NODE_FAIL"
        assert day.lost.kinds() == {"lost": "node failure"}
        assert "its node went down" in day.lost.statuses()["lost"].reason
        assert len(day.lost.attempts("lost")) == 1

    def test_a_task_is_told_that_its_time_ends_and_leaves_a_record(self, day: Day) -> None:
        assert day.slow.kinds() == {"slow": "time limit"}
        record = read_record(day.slow.attempts("slow")[0])
        assert record is not None
        assert record.failure is not None
        assert (record.failure.kind, record.failure.what) == ("time limit", "the time limit of its job came near")

    def test_each_failure_has_its_class(self, day: Day) -> None:
        memory = dict.fromkeys(("memory", "greedy"), "out of memory")
        assert day.run.kinds() == {**memory, "time": "time limit", "cancelled": "cancelled"}

    def test_a_task_that_takes_more_memory_than_its_job_has_is_ended_for_it(self, day: Day) -> None:
        assert "exceeded memory limit" in day.run.log("greedy")
        assert len(day.run.attempts("greedy")) == 1

    def test_what_is_done_was_done_once(self, day: Day) -> None:
        assert len(day.run.attempts("fine")) == 1

    def test_growing_gives_more_to_what_lacked_it_and_to_nothing_else(self, day: Day) -> None:
        asked = fb("resume", str(day.run.path), "--grow", "time")
        assert asked.returncode == 0, asked.stderr
        times = {name: str(options_of(day.run, name)["time"]) for name in GROWING}
        assert times == {"memory": "00:10:00", "time": "0-00:20:00", "cancelled": "00:10:00"}
        day.run.wait_until_ended()
        assert set(fb_states(day.run.path).values()) == {"done"}
        assert len(day.run.attempts("fine")) == 1


class TestSetup:
    """What fails before a task begins ends its job at once, and says where."""

    def test_a_module_that_does_not_exist_is_named_as_the_step_that_failed(self, place: Place) -> None:
        run = place.submit([task("a"), task("b")], "retries=0", modules=["no/such"])
        run.wait_until_ended(60)
        assert run.kinds() == {"a": "setup failed", "b": "setup failed"}
        assert "the setup of its job failed: loading the modules (exit code" in run.statuses()["a"].reason
        assert "no/such" in fb("logs", str(run.path), "a").stdout
        assert not run.attempts("a")

    def test_a_line_of_the_users_script_that_fails_ends_the_job(self, place: Place) -> None:
        run = place.submit([task("a")], "retries=0", setup="cd /\nfalse\ntouch after\n")
        run.wait_until_ended(60)
        assert run.kinds() == {"a": "setup failed"}
        assert "the script of slurm_setup (exit code 1, node node" in run.statuses()["a"].reason

    def test_a_corrupt_archive_is_named_with_its_member_and_resuming_takes_the_mended_one(self, place: Place) -> None:
        archive = pack(write_tree(place.folder / "fb_yolo")).archive
        sound = archive.read_bytes()
        picture = PREPARED["insects/images/val/moths_c.jpg"]
        archive.write_bytes(sound.replace(picture, picture[:-1] + bytes([picture[-1] ^ 1])))
        stage = (Stage(archive=str(archive), only=("insects/images/val",)),)
        run = place.submit([task("a", stage=stage), task("b", stage=stage)], "retries=0")
        run.wait_until_ended()
        assert run.kinds() == {"a": "setup failed", "b": "setup failed"}
        assert "moths_c.jpg" in run.statuses()["a"].reason
        archive.write_bytes(sound)
        assert fb("resume", str(run.path)).returncode == 0
        run.wait_until_ended()
        assert run.states() == {"a": "done", "b": "done"}

    def test_a_wheel_that_is_missing_is_found_out_before_anything_is_queued(self, place: Place) -> None:
        dist = place.folder / "dist"
        write_flat_bug(dist)
        legs = write_wheel(dist, "legs")
        describe(dist, packed=False)
        legs.unlink()
        settings = place.settings(f"environment={dist}", python_version=HERE)
        with pytest.raises(FlatBugError, match="legs"):
            preflight(settings, Plan(experiment="test", tasks=(task("a"),)))
        assert not ask_queue(None) or all(job.task_state is None for job in ask_queue(None))


class TestDisks:
    def test_a_full_disk_of_a_node_costs_one_attempt(self, place: Place) -> None:
        with small_disk(place.cluster.node_disk("node1"), "1m"):
            run = place.submit([task("fine"), task("full", full="$SLURM_TMPDIR")], "nodelist=node1", "retries=0")
            run.wait_until_ended()
        assert run.kinds() == {"full": "cannot write"}
        assert fb("resume", str(run.path)).returncode == 0
        run.wait_until_ended()
        assert run.states() == {"fine": "done", "full": "done"}

    def test_a_full_home_is_an_error_and_leaves_no_half_of_a_run(self, place: Place) -> None:
        home = place.folder / "home"
        home.mkdir()
        with small_disk(home, "16k"):
            with pytest.raises(OutputError, match="cannot write"):
                place.submit([task(f"t{number}") for number in range(200)], name="home/run")
            assert not list(home.rglob("*.json"))
        assert all(job.task_state is None for job in ask_queue(None))

    def test_a_home_that_fills_while_tasks_run_is_told_of_and_loses_nothing_that_is_done(self, place: Place) -> None:
        home = place.folder / "home"
        home.mkdir()
        with small_disk(home, "1m"):
            tasks = [task("fine"), task("full", full=str(home), after=("fine",))]
            run = place.submit(tasks, "retries=0", name="home/run")
            run.wait_until_ended()
            assert fb_states(run.path) == {"fine": "done", "full": "failed"}
            assert run.kinds()["full"] in {"killed", "cannot write"}, run.report()
            refused = fb("resume", str(run.path))
            assert (refused.returncode, "Free some space" in refused.stderr) == (2, True), refused.stderr
            (home / "large").unlink()
            assert fb("resume", str(run.path)).returncode == 0
            run.wait_until_ended()
            assert run.states() == {"fine": "done", "full": "done"}


class TestTheController:
    def test_it_may_be_restarted_while_tasks_run(self, place: Place) -> None:
        hold = place.folder / "hold"
        hold.touch()
        run = place.submit([task("a", hold=hold), task("b")])
        run.wait_until_begun("a", "b")
        before = sorted(run.path.glob("slurm/*"))
        place.cluster.stop_controller()
        try:
            # Slurm's commands give up after half a minute, so both are asked at once.
            with ThreadPoolExecutor() as pool:
                looked, resumed = pool.map(lambda name: fb(name, str(run.path)), ("status", "resume"))
            assert looked.returncode == 0, looked.stderr
            assert "note: the scheduler does not answer" in looked.stdout
            assert "Waiting for the scheduler's answer ..." in looked.stderr
            assert "1 running" in looked.stdout
            assert re.search(r"Report: written by job \d+ when these have ended", looked.stdout)
            assert (resumed.returncode, "Nothing was submitted" in resumed.stderr) == (3, True), resumed.stderr
            assert sorted(run.path.glob("slurm/*")) == before
            with pytest.raises(SchedulerSilentError, match="slurmctld is down"):
                preflight(place.settings(), Plan(experiment="test", tasks=(task("a"),)))
        finally:
            hold.unlink()
            place.cluster.start_controller()
        run.wait_until_ended()
        assert run.states() == {"a": "done", "b": "done"}
        assert len(run.attempts("a")) == 1


class TestPreemption:
    @pytest.mark.parametrize("accounting", [True, False])
    def test_a_task_that_made_room_is_run_again(
        self,
        make_slurm: Callable[[ClusterShape], LocalSlurm],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        accounting: bool,
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=1, accounting=accounting, preempt=True))
        place = Place(cluster, tmp_path, monkeypatch)
        hold = place.folder / "hold"
        hold.touch()
        queued = place.submit([task("queued", hold=hold)], accounting=accounting, name="queued")
        ended = place.submit([task("ended", hold=hold)], "no-requeue", accounting=accounting, name="ended")
        for run in (queued, ended):
            run.wait_until_begun(run.folder.plan.tasks[0].id)
        urgent = ["sbatch", "--parsable", "-p", "urgent", "-c4", "-o/dev/null", "--wrap=sleep 5"]
        cluster.ask(*urgent)
        wait(lambda: ended.kinds() == {"ended": "preempted"}, 60, ended.report)
        wait(lambda: queued.states() == {"queued": "queued"}, 60, queued.report)
        hold.unlink()
        for run in (queued, ended):
            run.wait_until_ended()
            assert set(run.states().values()) == {"done"}, run.report()


class TestWithoutAccounting:
    def test_jobs_that_the_controller_has_forgotten_have_the_same_classes(
        self, make_slurm: Callable[[ClusterShape], LocalSlurm], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nobody looks before the controller has forgotten all, not even the finaliser."""
        cluster = make_slurm(ClusterShape(nodes=2, cpus=8, accounting=False, min_job_age=2))
        place = Place(cluster, tmp_path, monkeypatch)
        hold = place.folder / "hold"
        hold.touch()
        tasks = [task("fine"), task("memory", allocate=2 * MEMORY)]
        tasks += [task(name, hold=hold) for name in ("time", "cancelled")]
        tasks += [task(name, kill=last) for name, last in KILLED.items()]
        run = place.submit(tasks, "nodelist=node1", accounting=False)
        words = ("nodelist=node1", "retries=0")
        setup = place.submit([task("setup")], *words, accounting=False, modules=["no/such"], name="setup")
        words = ("nodelist=node2", "no-requeue")
        lost = place.submit([task("lost", hold=hold)], *words, accounting=False, name="lost")
        run.wait_until_begun(*(each.id for each in tasks))
        lost.wait_until_begun("lost")
        held = place.submit([task("held")], "hold=true", accounting=False, name="held")
        for each in (run, setup, lost, held):
            cluster.ask("scancel", *submissions(each.folder)[-1].jobs.ids())
        cluster.ask("scancel", *held.jobs())
        cluster.end_time_now(run.job_of("time"))
        cluster.ask("scancel", run.job_of("cancelled"))
        cluster.crash_node("node2")
        wait(lambda: not cluster.ask("squeue", "-h", "-t", "all").strip(), 180)
        killed = dict.fromkeys(KILLED, "killed")
        assert run.kinds() == {"time": "time limit", "cancelled": "cancelled", "memory": "out of memory", **killed}
        assert setup.kinds() == {"setup": "setup failed"}
        assert held.kinds() == {"held": "cancelled"}
        # Nobody is left who knows that the node crashed.
        assert lost.kinds() == {"lost": "killed"}
        assert "its node went down, or it was killed" in lost.statuses()["lost"].reason
        hold.unlink()
        assert fb("resume", str(run.path), "--grow", "mem").returncode == 0
        assert [options_of(run, name)["mem"] for name in ("memory", "time")] == ["400M", "200M"]
        run.wait_until_ended()
        assert set(run.states().values()) == {"done"}
        assert len(run.attempts("fine")) == 1
