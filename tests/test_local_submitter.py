"""A run on this machine: a process for each task, and a run folder that survives whatever ends them."""

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.archives import write_tree

from flat_bug import locks
from flat_bug.datasets.archive import pack
from flat_bug.errors import OutputError, RunError
from flat_bug.experiments.local import LocalSubmitter, default_jobs
from flat_bug.experiments.plan import Plan, Stage, Task
from flat_bug.experiments.record import read_record
from flat_bug.experiments.run_folder import RunFolder, TaskState, attempts_in
from flat_bug.experiments.submitter import resume
from flat_bug.processors import share_cpus

CALLS = {"copy": "calls_of_the_tests:copy", "fail": "calls_of_the_tests:fail", "sleep": "calls_of_the_tests:sleep"}

FUNCTIONS = '''
    import time
    from pathlib import Path
    from flat_bug.errors import DatasetError
    from flat_bug.experiments.record import Outcome

    def copy(args, folder):
        """Write what is in the arguments."""
        (folder / "made").mkdir()
        (folder / "made" / "text.txt").write_text(args["text"])
        print("written")
        return Outcome(values={"length": len(args["text"])}, failed_items=args.get("failed", ()))

    def fail(args, folder):
        (folder / "half.txt").write_text("half")
        kinds = {"bad input": DatasetError("no animal has nine legs", where="spider.jpg", mend="Count again."),
                 "error": ZeroDivisionError("by zero"), "exit": SystemExit(3)}
        raise kinds[args["kind"]]

    def sleep(args, folder):
        time.sleep(args["seconds"])
        (folder / "awake.txt").write_text("awake")
        return Outcome()
'''

WORKER = """
    import sys
    from flat_bug.experiments.run_task import main
    sys.exit(main(calls=%r))
"""

SUBMIT = """
    import sys
    from pathlib import Path
    from flat_bug.experiments.local import LocalSubmitter
    from flat_bug.experiments.run_folder import RunFolder
    from flat_bug.experiments.submitter import resume
    resume(RunFolder.open(Path(sys.argv[1])), LocalSubmitter(jobs=2, worker=tuple(sys.argv[2:])))
"""


@pytest.fixture
def submitter(tmp_path: Path) -> LocalSubmitter:
    """Return a submitter of two tasks at a time whose processes know the functions of these tests."""
    (tmp_path / "calls_of_the_tests.py").write_text(textwrap.dedent(FUNCTIONS))
    (tmp_path / "worker.py").write_text(textwrap.dedent(WORKER % CALLS))
    return LocalSubmitter(jobs=2, worker=(sys.executable, str(tmp_path / "worker.py")))


def start(tmp_path: Path, submitter: LocalSubmitter, *tasks: Task) -> RunFolder:
    plan = Plan(experiment="test", tasks=tasks)
    with RunFolder.create(tmp_path / "run", plan, CALLS) as run:
        submitter.submit(run, plan.tasks)
    return run


def states(run: RunFolder) -> dict[str, str]:
    return {status.task.id: str(status.state) for status in run.statuses()}


def records_of(run: RunFolder) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in run.path.glob("tasks/*/attempt-*/result.json")}


def copy_task(name: str, text: str = "a moth", after: tuple[str, ...] = ()) -> Task:
    return Task(id=name, call="copy", args={"text": text}, after=after)


def test_a_task_leaves_its_output_its_log_and_a_record(tmp_path: Path, submitter: LocalSubmitter) -> None:
    run = start(tmp_path, submitter, copy_task("one"))
    attempt = run.path / "tasks" / "one" / "attempt-1"
    record = read_record(attempt)
    assert record is not None
    assert record.status == "ok"
    assert record.values == {"length": 6}
    assert list(record.outputs) == ["made/text.txt"]
    assert record.node.pid != os.getpid()
    assert record.peak_memory_mb > 1
    assert record.versions["flat-bug"]
    assert "written" in (attempt / "log.txt").read_text()
    assert json.loads((run.path / "tasks" / "one" / "spec.json").read_text())["id"] == "one"
    assert states(run) == {"one": "done"}


def test_one_failing_task_costs_only_itself(tmp_path: Path, submitter: LocalSubmitter) -> None:
    kinds = ("bad input", "exit", "error")
    bad = [Task(id=kind.replace(" ", "-"), call="fail", args={"kind": kind}) for kind in kinds]
    run = start(tmp_path, submitter, *bad, copy_task("one"))
    assert states(run) == {**{task.id: "failed" for task in bad}, "one": "done"}
    reasons = {status.task.id: status.reason for status in run.statuses()}
    assert reasons["bad-input"] == "bad input: no animal has nine legs (spider.jpg)"
    assert reasons["error"] == "error: ZeroDivisionError: by zero"
    assert "half.txt" in {path.name for path in (run.path / "tasks" / "error" / "attempt-1").iterdir()}


def test_resume_repeats_nothing_that_is_done_and_no_bad_input(tmp_path: Path, submitter: LocalSubmitter) -> None:
    bad = Task(id="bad", call="fail", args={"kind": "bad input"})
    broken = Task(id="broken", call="fail", args={"kind": "error"})
    run = start(tmp_path, submitter, copy_task("one"), bad, broken)
    assert [task.id for task in resume(run, submitter)] == ["broken"]
    assert [task.id for task in resume(run, submitter, retry_failed=True)] == ["bad", "broken"]
    assert [len(attempts_in(run.task_folder(task))) for task in run.plan.tasks] == [1, 2, 3]


def test_a_task_is_stale_once_its_archive_holds_something_else(tmp_path: Path, submitter: LocalSubmitter) -> None:
    archive = pack(write_tree(tmp_path / "fb_yolo")).archive
    task = copy_task("one").model_copy(update={"stage": (Stage(archive=str(archive), only=("insects/images/val",)),)})
    run = start(tmp_path, submitter, task)
    assert states(run) == {"one": "done"}
    pack(tmp_path / "fb_yolo", archive, force=True)  # the same tree, at another time
    assert states(run) == {"one": "done"}
    (tmp_path / "fb_yolo" / "insects" / "images" / "val" / "moths_d.jpg").write_bytes(b"another picture")
    pack(tmp_path / "fb_yolo", archive, force=True)
    assert run.status(task).reason == "changed since: archive"
    assert [task.id for task in resume(run, submitter)] == ["one"]
    assert states(run) == {"one": "done"}
    archive.write_bytes(b"no archive")
    assert states(run) == {"one": "stale"}
    archive.unlink()  # nobody can see whether it is another one
    assert states(run) == {"one": "done"}


def test_a_task_waits_for_those_it_comes_after(tmp_path: Path, submitter: LocalSubmitter) -> None:
    first = Task(id="first", call="sleep", args={"seconds": 0.3})
    bad = Task(id="bad", call="fail", args={"kind": "error"})
    second, never = copy_task("second", after=("first",)), copy_task("never", after=("bad", "first"))
    run = start(tmp_path, submitter, never, second, bad, first)
    assert states(run) == {"never": "missing", "second": "done", "bad": "failed", "first": "done"}
    ended = (run.path / "tasks/first/attempt-1/result.json").stat().st_mtime_ns
    assert ended <= (run.path / "tasks/second/attempt-1/log.txt").stat().st_mtime_ns


def test_hostile_values_are_literal_text(tmp_path: Path, submitter: LocalSubmitter) -> None:
    texts = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "'\"\\\n\t", "$HOME", "ñ 🦋"]
    run = start(tmp_path, submitter, copy_task("one", "".join(texts)))
    assert (run.path / "tasks/one/attempt-1/made/text.txt").read_text() == "".join(texts)
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(("count", "kills"), [(3, 2), pytest.param(6, 4, marks=pytest.mark.slow)])
def test_kill_minus_nine_at_any_moment_loses_and_repeats_nothing(
    tmp_path: Path, submitter: LocalSubmitter, count: int, kills: int
) -> None:
    tasks = tuple(Task(id=f"t{n}", call="sleep", args={"seconds": 0.2}) for n in range(count))
    with RunFolder.create(tmp_path / "run", Plan(experiment="test", tasks=tasks), CALLS) as run:
        pass
    (tmp_path / "submit.py").write_text(textwrap.dedent(SUBMIT))
    command = [sys.executable, str(tmp_path / "submit.py"), str(run.path), *submitter.worker]
    moments = random.Random(1)
    finished: dict[Path, int] = {}
    for least in range(kills):
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
            while len(records_of(run)) < least and parent.poll() is None:
                time.sleep(0.01)
            time.sleep(moments.random() * 0.6)
            parent.kill()
        records = records_of(run)
        assert finished.items() <= records.items()
        finished = records
    subprocess.run(command, check=True)
    assert set(states(run).values()) == {"done"}
    for task in tasks:
        folders = attempts_in(run.task_folder(task))
        assert [(folder / "result.json").exists() for folder in folders] == [False] * (len(folders) - 1) + [True]
    assert all(path.stat().st_mtime_ns == when for path, when in finished.items())


@pytest.fixture
def sleeping(tmp_path: Path, submitter: LocalSubmitter) -> Iterator[tuple[RunFolder, subprocess.Popen[str]]]:
    """Return a run whose only task sleeps long, and the process that submitted it."""
    task = Task(id="long", call="sleep", args={"seconds": 60})
    with RunFolder.create(tmp_path / "run", Plan(experiment="test", tasks=(task,)), CALLS) as run:
        pass
    (tmp_path / "submit.py").write_text(textwrap.dedent(SUBMIT))
    command = [sys.executable, str(tmp_path / "submit.py"), str(run.path), *submitter.worker]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as parent:
        while states(run)["long"] != "running" or not list(run.path.glob("tasks/long/attempt-1/log.txt")):
            time.sleep(0.02)
        yield run, parent
        parent.kill()


def test_a_second_resume_of_the_same_run_is_refused(
    sleeping: tuple[RunFolder, subprocess.Popen[str]], submitter: LocalSubmitter
) -> None:
    run, parent = sleeping
    with pytest.raises(RunError, match=f"in use by process {parent.pid} on "):
        resume(run, submitter)
    assert states(run) == {"long": "running"}


def test_who_looks_whether_a_lock_is_held_keeps_nobody_from_taking_it(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    lock.touch()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            locks.is_held(lock)
            time.sleep(0.001)

    with ThreadPoolExecutor() as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for _ in range(300):
                with locks.hold(lock, "the run"):
                    pass
        finally:
            ended.set()
    assert [looked.result() for looked in looking] == [None, None]


def test_ctrl_c_ends_the_tasks_and_leaves_their_records(sleeping: tuple[RunFolder, subprocess.Popen[str]]) -> None:
    run, parent = sleeping
    time.sleep(0.2)
    parent.send_signal(signal.SIGINT)
    parent.wait()
    [status] = run.statuses()
    assert (status.state, status.reason) == (TaskState.FAILED, "cancelled: stopped before it was finished")
    assert status.is_worth_repeating


def test_a_killed_parent_takes_its_tasks_with_it(sleeping: tuple[RunFolder, subprocess.Popen[str]]) -> None:
    run, parent = sleeping
    parent.kill()
    parent.wait()
    run.wait_for_running()
    assert states(run) == {"long": "interrupted"}


def test_a_run_is_never_made_over_something_else(tmp_path: Path, submitter: LocalSubmitter) -> None:
    run = start(tmp_path, submitter, copy_task("one"))
    before = sorted(run.path.rglob("*"))
    with pytest.raises(RunError, match=r"(?s)run already.*fb resume"):
        start(tmp_path, submitter, copy_task("other"))
    assert sorted(run.path.rglob("*")) == before
    foreign = tmp_path / "thesis"
    foreign.mkdir()
    (foreign / "chapter-1.tex").touch()
    with (
        pytest.raises(OutputError, match="not empty"),
        RunFolder.create(foreign, Plan(experiment="test", tasks=()), CALLS),
    ):
        pass


def test_processors_are_shared_and_every_job_has_one() -> None:
    assert share_cpus([0, 1, 2, 3, 4], 2) == [[0, 2, 4], [1, 3]]
    assert share_cpus([7], 3) == [[7], [7], [7]]
    assert default_jobs([]) >= 1
