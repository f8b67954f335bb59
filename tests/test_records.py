"""The state of a task follows from what lies in its folder, and from nothing else."""

import fcntl
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from flat_bug.errors import DatasetError, FlatBugError, MissingPartError, OutputError, RunError
from flat_bug.experiments.digests import digest_of, is_unchanged
from flat_bug.experiments.plan import Plan, Task
from flat_bug.experiments.record import Failure, Node, Record, current_versions, read_record
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, check_is_free

CALLS = {"any": "nowhere:nothing"}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run with one task that reads one file."""
    weights = tmp_path / "weights.onnx"
    weights.write_text("weights")
    task = Task(id="one", call="any", args={"weights": str(weights)}, inputs=("weights",))
    with RunFolder.create(tmp_path / "run", Plan(experiment="test", tasks=(task,)), CALLS) as made:
        return made


def attempt_of(run: RunFolder, number: int = 1) -> Path:
    """Make an attempt that has written its output."""
    [task] = run.plan.tasks
    attempt = run.task_folder(task) / f"attempt-{number}"
    attempt.mkdir(parents=True)
    (attempt / "scores.csv").write_text("f1\n0.9\n")
    return attempt


def finish(run: RunFolder, attempt: Path, failure: Failure | None = None, failed_items: tuple[str, ...] = ()) -> Record:
    """Write the record of an attempt."""
    [task] = run.plan.tasks
    record = Record(
        task=task.id,
        attempt=int(attempt.name.removeprefix("attempt-")),
        status="failed" if failure else "ok",
        started="2026-01-01T00:00:00+00:00",
        seconds=1.5,
        peak_memory_mb=100.0,
        inputs={name: digest_of(Path(path)) for name, path in task.input_paths().items()},
        outputs={} if failure else {"scores.csv": digest_of(attempt / "scores.csv")},
        failed_items=failed_items,
        versions=current_versions(),
        node=Node.here(),
        failure=failure,
    )
    record.write(attempt)
    return record


def status_of(run: RunFolder) -> TaskStatus:
    [status] = RunFolder.open(run.path).statuses()
    return status


def weights_of(run: RunFolder) -> Path:
    return Path(run.plan.tasks[0].input_paths()["weights"])


def test_a_task_that_was_never_started_is_missing(run: RunFolder) -> None:
    assert status_of(run).state is TaskState.MISSING


def test_an_attempt_without_a_record_was_interrupted(run: RunFolder) -> None:
    attempt_of(run)
    assert status_of(run).state is TaskState.INTERRUPTED


def test_an_attempt_whose_lock_is_held_is_running(run: RunFolder) -> None:
    lock = attempt_of(run).parent / ".lock"
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert status_of(run).state is TaskState.RUNNING
        assert not status_of(run).is_worth_repeating
    assert status_of(run).state is TaskState.INTERRUPTED


def test_a_record_whose_outputs_are_as_they_were_is_success(run: RunFolder) -> None:
    attempt = attempt_of(run)
    record = finish(run, attempt)
    expected = TaskStatus(run.plan.tasks[0], TaskState.DONE, "", attempt, record)
    assert status_of(run) == replace(expected, node=record.node.host, seconds=record.seconds)


def test_items_that_failed_in_a_task_that_is_done_are_named(run: RunFolder) -> None:
    finish(run, attempt_of(run), failed_items=("a.jpg: truncated", "b.jpg: empty", "c.jpg: empty", "d.jpg: empty"))
    assert status_of(run).reason == "4 failed: a.jpg: truncated; b.jpg: empty; c.jpg: empty; …"


def test_a_copy_of_a_run_is_as_good_as_the_run(run: RunFolder, tmp_path: Path) -> None:
    finish(run, attempt_of(run))
    shutil.copytree(run.path, tmp_path / "copy")
    os.utime(tmp_path / "copy" / "tasks/one/attempt-1/scores.csv", (1, 1))
    assert RunFolder.open(tmp_path / "copy").statuses()[0].state is TaskState.DONE


def test_an_output_that_was_changed_or_lost_is_no_success(run: RunFolder) -> None:
    attempt = attempt_of(run)
    finish(run, attempt)
    (attempt / "scores.csv").write_text("f1\n1.0\n")
    assert (status_of(run).state, status_of(run).reason) == (TaskState.STALE, "its output was changed: scores.csv")
    (attempt / "scores.csv").unlink()
    assert status_of(run).state is TaskState.STALE


@pytest.mark.parametrize("failed", [False, True])
def test_a_task_is_stale_when_what_it_read_has_changed(run: RunFolder, failed: bool) -> None:
    finish(run, attempt_of(run), Failure(kind="bad input", what="corrupt") if failed else None)
    before = status_of(run)
    assert not before.is_worth_repeating
    weights_of(run).write_text("mended")
    assert (status_of(run).state, status_of(run).reason) == (TaskState.STALE, "changed since: weights")
    weights_of(run).write_text("weights")
    assert status_of(run) == before


def test_a_result_outlives_weights_that_are_gone(run: RunFolder) -> None:
    finish(run, attempt_of(run))
    weights_of(run).unlink()
    assert status_of(run).state is TaskState.DONE


def test_an_input_that_was_absent_and_is_there_now_makes_the_failure_stale(run: RunFolder) -> None:
    attempt = attempt_of(run)
    record = finish(run, attempt, Failure(kind="bad input", what="No such file"))
    record.model_copy(update={"inputs": {}}).write(attempt)
    assert status_of(run).state is TaskState.STALE


def test_a_success_is_not_forgotten_for_a_later_attempt(run: RunFolder) -> None:
    finish(run, attempt_of(run, 1))
    attempt_of(run, 2)
    finish(run, attempt_of(run, 10), Failure(kind="error", what="ZeroDivisionError"))
    status = status_of(run)
    assert (status.state, status.attempt and status.attempt.name) == (TaskState.DONE, "attempt-1")


def test_the_newest_attempt_decides_by_number_and_not_by_name(run: RunFolder) -> None:
    for number in (9, 10, 2):
        finish(run, attempt_of(run, number), Failure(kind="error", what=f"number {number}"))
    (run.path / "tasks/one/attempt-next").mkdir()
    assert status_of(run).reason == "error: number 10"


@pytest.mark.parametrize(
    "damage", ["", "{", "null", "[]", '{"status": "ok"}', "\0\0\0", '{"schema_version": 9}'], ids=repr
)
def test_a_broken_record_is_a_failure_that_resume_mends(run: RunFolder, damage: str) -> None:
    attempt = attempt_of(run)
    finish(run, attempt)
    (attempt / "result.json").write_text(damage)
    status = status_of(run)
    assert status.state is TaskState.FAILED
    assert "the record is broken" in status.reason
    assert status.is_worth_repeating


def test_a_record_says_which_interpreter_it_was_and_older_ones_do_not(run: RunFolder) -> None:
    attempt = attempt_of(run)
    record = finish(run, attempt)
    assert record.node.interpreter == sys.executable
    values = json.loads(record.model_dump_json())
    del values["node"]["interpreter"]
    (attempt / "result.json").write_text(json.dumps(values))
    assert status_of(run).state is TaskState.DONE


def test_a_record_cannot_both_fail_and_succeed(run: RunFolder) -> None:
    attempt = attempt_of(run)
    values = json.loads(finish(run, attempt).model_dump_json())
    (attempt / "result.json").write_text(json.dumps({**values, "failure": {"kind": "error", "what": "x"}}))
    with pytest.raises(RunError, match="the record is broken"):
        read_record(attempt)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DatasetError("no"), "bad input"),
        (OutputError("no"), "cannot write"),
        (OSError(28, "No space left on device"), "cannot write"),
        (MissingPartError("no"), "missing part"),
        (MemoryError(), "out of memory"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
        (KeyboardInterrupt(), "cancelled"),
        (ZeroDivisionError("by zero"), "error"),
        (SystemExit(3), "error"),
    ],
)
def test_failures_are_classed(error: BaseException, kind: str) -> None:
    assert Failure.of(error).kind == kind


def test_a_failure_keeps_the_three_parts_of_an_error() -> None:
    failure = Failure.of(FlatBugError("what", where="where", mend="mend"))
    assert (failure.what, failure.where, failure.mend) == ("what", "where", "mend")
    assert "FlatBugError" in failure.traceback


def test_the_digest_of_a_folder_is_that_of_names_and_contents(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "x").write_text("1")
    digest = digest_of(tmp_path / "a")
    assert is_unchanged(tmp_path / "a", digest)
    os.utime(tmp_path / "a" / "b" / "x", (1, 1))
    assert is_unchanged(tmp_path / "a", digest)
    (tmp_path / "a" / "b" / "x").rename(tmp_path / "a" / "x")
    assert not is_unchanged(tmp_path / "a", digest)
    (tmp_path / "a" / "x").unlink()
    assert digest_of(tmp_path / "a").sha256 == digest_of(tmp_path / "a" / "b").sha256
    assert not is_unchanged(tmp_path / "absent", digest)


def test_what_a_run_that_was_killed_while_it_was_made_has_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run" / ".tmp-1").mkdir(parents=True)
    (tmp_path / "run" / ".lock").touch()
    with RunFolder.create(tmp_path / "run", Plan(experiment="test", tasks=()), CALLS) as made:
        assert made.statuses() == []
    with pytest.raises(OutputError, match="cannot write"):
        check_is_free(tmp_path / "run" / "plan.json" / "below")


def test_a_folder_that_is_no_run_is_named(tmp_path: Path, run: RunFolder) -> None:
    with pytest.raises(RunError, match="no such run folder"):
        RunFolder.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="is not a run"):
        RunFolder.open(tmp_path / "empty")
    (run.path / "plan.json").write_text("{}")
    with pytest.raises(RunError, match="not a valid plan"):
        RunFolder.open(run.path)
