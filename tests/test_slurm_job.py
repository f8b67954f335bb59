"""What runs the tasks of a job: whose attempts it writes into, and what it leaves when a signal or a disk ends them."""

import multiprocessing
import os
import signal
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.archives import PREPARED, write_tree
from tests.slurm_runs import Place, task, wait

from flat_bug import locks
from flat_bug.cluster.job import Supervisor
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.submission import Jobs, Submission, Submitted, submissions, write_submission
from flat_bug.datasets.archive import pack
from flat_bug.experiments.plan import Plan, Stage, Task
from flat_bug.experiments.record import Failure, read_record
from flat_bug.experiments.run_folder import LOCK_NAME, RunFolder, TaskState, attempts_in
from flat_bug.files import write_text

CALLS = {"any": "nowhere:nothing"}
WORKER = """
    import json, os, signal, sys, time
    from pathlib import Path
    folder = Path(sys.argv[1]).parent
    attempt = folder / f"attempt-{1 + len(list(folder.glob('attempt-*')))}"
"""
DONE = """
    attempt.mkdir()
    record = {"task": folder.name, "attempt": 1, "status": "ok", "started": "2026-01-01T00:00:00+00:00"}
    record |= {"seconds": 1, "peak_memory_mb": 1, "node": {"host": "node1", "pid": 1, "system": "Linux"}}
    (attempt / "result.json").write_text(json.dumps(record))
"""


@pytest.fixture(autouse=True)
def _own_signals(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class Job:
    """A job with tasks, run here without Slurm by a worker of the test."""

    def __init__(self, folder: Path, *names: str, goes_on: bool = False) -> None:
        self.folder = folder
        self.tasks = [Task(id=name, call="any", goes_on=goes_on) for name in names]
        with RunFolder.create(folder / "run", Plan(experiment="test", tasks=tuple(self.tasks)), CALLS) as run:
            self.run_folder = run
        self.submitted = self.submit(1)

    def submit(self, number: int) -> Submitted:
        names = tuple(task.id for task in self.tasks)
        return write_submission(self.run_folder, Submission(number=number, purpose="tasks", elements=(names,)))

    def run(self, worker: str, *, stopped_by: signal.Signals | None = None) -> int:
        script = self.folder / "worker.py"
        script.write_text(textwrap.dedent(WORKER) + textwrap.dedent(worker))
        command = (sys.executable, "-I", "-S", str(script))
        return Supervisor(self.run_folder, self.submitted, command, stopped_by=stopped_by).run_tasks(self.tasks)

    def attempts(self, name: str) -> list[Path]:
        return attempts_in(self.run_folder.path / "tasks" / name)

    def failure(self, name: str) -> Failure:
        record = read_record(self.attempts(name)[-1])
        assert record is not None
        assert record.failure is not None
        return record.failure


def test_a_task_that_leaves_no_record_gets_one(tmp_path: Path) -> None:
    job = Job(tmp_path, "one")
    assert job.run("attempt.mkdir(); os.kill(os.getpid(), signal.SIGKILL)") == 1
    assert (job.failure("one").kind, job.failure("one").what) == ("killed", "its process was killed (SIGKILL)")


def test_an_attempt_of_another_process_is_left_alone(tmp_path: Path) -> None:
    job = Job(tmp_path, "one")
    lock = job.run_folder.write_spec(job.tasks[0]).parent / LOCK_NAME
    (lock.parent / "attempt-1").mkdir()
    assert job.run("sys.exit(2)") == 1
    assert read_record(lock.parent / "attempt-1") is None
    with locks.hold(lock, "the task"):
        # The other process has just begun its attempt.
        job.run("attempt.mkdir(); sys.exit(2)")
    assert [read_record(attempt) for attempt in job.attempts("one")] == [None, None]


@pytest.mark.parametrize(("number", "kind"), [("SIGUSR1", "time limit"), ("SIGTERM", "cancelled")])
def test_a_task_that_dies_of_the_signal_was_ended_by_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: str, kind: str
) -> None:
    job = Job(tmp_path, "one", goes_on=True)
    worker = f"""
        attempt.mkdir()
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.kill(os.getppid(), signal.{number})
        time.sleep(60)
    """
    # In a process of its own, as a job is: here other tests have left threads, any of which would take the signal.
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1]))
    supervisor = multiprocessing.get_context("spawn").Process(target=job.run, args=(worker,))
    supervisor.start()
    supervisor.join()
    assert supervisor.exitcode == 0
    assert (job.failure("one").kind, job.failure("one").goes_on) == (kind, kind == "time limit")


def test_a_signal_explains_no_task_that_is_done_or_belongs_to_a_newer_submission(tmp_path: Path) -> None:
    job = Job(tmp_path, "done", "later")
    job.tasks = job.tasks[:1]
    job.run(DONE)
    job.tasks = list(job.run_folder.plan.tasks)
    job.run("", stopped_by=signal.SIGUSR1)
    assert job.run_folder.statuses()[0].state is TaskState.DONE
    assert [len(job.attempts(name)) for name in ("done", "later")] == [1, 1]
    assert (job.failure("later").kind, job.failure("later").goes_on) == ("time limit", False)
    job.submit(2)
    job.run("", stopped_by=signal.SIGUSR1)
    assert len(job.attempts("later")) == 1


def test_a_disk_that_refuses_one_task_costs_no_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(tmp_path, "refused", "fine")
    # The name of the next attempt is longer than a name may be.
    write_text(job.run_folder.path / "tasks" / "refused" / f"attempt-{'9' * 247}" / "log.txt", "")
    assert job.run("", stopped_by=signal.SIGTERM) == 1
    assert "refused: cannot write: File name too long" in capsys.readouterr().out
    assert job.failure("fine").kind == "cancelled"


def test_a_job_that_was_submitted_twice_runs_its_tasks_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(tmp_path, "one")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "0")
    job.submitted.note_jobs(Jobs(array="7"))
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "6")
    assert job.run(DONE) == 1
    assert not job.attempts("one")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    assert job.run(DONE) == 0


def test_a_broken_record_of_an_earlier_attempt_is_no_obstacle(tmp_path: Path) -> None:
    job = Job(tmp_path, "one", goes_on=True)
    job.run_folder.write_spec(job.tasks[0])
    write_text(job.run_folder.task_folder(job.tasks[0]) / "attempt-1" / "result.json", "{")
    assert job.run(DONE) == 0


@pytest.mark.slurm
@pytest.mark.slow
class TestOnSlurm:
    @pytest.fixture
    def place(self, slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        return Place(slurm, tmp_path, monkeypatch)

    def test_time_that_ends_in_the_setup_is_no_bad_luck_of_a_node(self, place: Place) -> None:
        begun = place.folder / "begun"
        run = place.submit([task("a")], setup=f'[ "$index" = finaliser ] || {{ touch "{begun}"; sleep 600 & wait; }}\n')
        wait(begun.exists, 60, run.report)
        place.cluster.ask("scancel", "--signal=USR1", "--batch", run.job_of("a"))
        run.wait_until_ended()
        assert run.kinds() == {"a": "time limit"}, run.report()
        assert "of which the setup takes a part" in run.statuses()["a"].reason
        assert not any(found.submission.automatic for found in submissions(run.folder))

    def test_what_fails_on_another_node_of_a_job_is_named(self, place: Place) -> None:
        archive = pack(write_tree(place.folder / "fb_yolo")).archive
        picture = PREPARED["insects/images/val/moths_c.jpg"]
        archive.write_bytes(archive.read_bytes().replace(picture, picture[:-1] + bytes([picture[-1] ^ 1])))
        stage = (Stage(archive=str(archive), only=("insects/images/val",)),)
        run = place.submit([task("wide", stage=stage)], "nodes=2", "ntasks_per_node=1", "retries=0")
        run.wait_until_ended()
        assert run.kinds() == {"wide": "setup failed"}, run.report()
        assert "staging: " in run.statuses()["wide"].reason
        assert "moths_c.jpg" in run.statuses()["wide"].reason
        assert not run.attempts("wide")

    def test_the_interpreter_of_a_task_stands_in_its_record(self, place: Place) -> None:
        run = place.submit([task("a")])
        run.wait_until_ended()
        record = read_record(run.attempts("a")[0])
        assert record is not None
        assert Path(record.node.interpreter) == Path(sys.executable), os.fspath(run.path)

    def test_the_folders_that_several_nodes_get_go_with_the_job(
        self,
        make_slurm: Callable[[ClusterShape], LocalSlurm],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        cluster = make_slurm(ClusterShape(nodes=2, accounting=False, node_folder=False, modules=False))
        local = tmp_path / "local"
        local.mkdir()
        monkeypatch.setenv("TMPDIR", str(local))
        stage = (Stage(archive=str(pack(write_tree(tmp_path / "fb_yolo")).archive)),)
        words = ("nodes=2", "ntasks_per_node=1")
        run = Place(cluster, tmp_path, monkeypatch).submit([task("wide", stage=stage)], *words, accounting=False)
        run.wait_until_ended()
        assert run.states() == {"wide": "done"}, run.report()
        assert str(local) in (run.attempts("wide")[0] / "log.txt").read_text()
        assert not list(local.iterdir())
