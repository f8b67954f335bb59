"""A signal may come at any moment of a task, and its record says what became of it."""

import fcntl
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.archives import write_tree
from tests.slurm_runs import wait

from flat_bug.datasets.archive import pack
from flat_bug.datasets.stage import LOCK
from flat_bug.errors import FlatBugError
from flat_bug.experiments.plan import Stage, Task
from flat_bug.experiments.record import Failure, OutOfTimeError, Record, StagingError, read_record
from flat_bug.experiments.run_task import stage_for
from flat_bug.experiments.stopping import held_back
from flat_bug.files import write_text

CALLS = '''
    import os
    import signal
    import sys
    import time
    from flat_bug.experiments.record import Outcome
    from flat_bug.experiments.run_task import main

    def wait(args, attempt):
        time.sleep(60)

    def return_and_be_stopped(args, attempt):
        """Return; signals come while the result is described and its record is made."""
        def stop(frame, event, argument):
            if event == "call" and frame.f_code.co_name in {"_outputs_in", "current_versions", "write"}:
                os.kill(os.getpid(), signal.SIGTERM)
        sys.setprofile(stop)
        return Outcome(values={"answer": 42})

    def fail_and_be_stopped(args, attempt):
        """Fail; a signal comes while the error is printed."""
        def stop(frame, event, argument):
            if event == "call" and frame.f_code.co_name == "print_exc":
                os.kill(os.getpid(), signal.SIGUSR1)
        sys.setprofile(stop)
        raise ZeroDivisionError

    names = ("wait", "return_and_be_stopped", "fail_and_be_stopped")
    sys.exit(main(calls={name: f"__main__:{name}" for name in names}))
'''


class TaskFolder:
    """A task whose process is started here."""

    def __init__(self, folder: Path, call: str, *stage: Stage) -> None:
        self.folder = folder
        write_text(folder / "spec.json", Task(id="one", call=call, stage=stage, goes_on=True).model_dump_json())
        write_text(folder / "worker.py", textwrap.dedent(CALLS))

    def start(self) -> "subprocess.Popen[bytes]":
        """Start it as submitters do."""
        with held_back():
            return subprocess.Popen([sys.executable, str(self.folder / "worker.py"), str(self.folder / "spec.json")])

    def record(self) -> Record:
        found = read_record(self.folder / "attempt-1")
        assert found is not None
        return found

    def failure(self) -> Failure:
        failure = self.record().failure
        assert failure is not None
        return failure


def open_files(process: int) -> list[str]:
    return [str(path.resolve()) for path in Path(f"/proc/{process}/fd").glob("*")]


@pytest.mark.parametrize(("number", "kind"), [(signal.SIGUSR1, "time limit"), (signal.SIGTERM, "cancelled")])
def test_one_that_comes_before_the_program_is_there_waits_for_it(
    tmp_path: Path, number: signal.Signals, kind: str
) -> None:
    made = TaskFolder(tmp_path, "wait")
    process = made.start()
    process.send_signal(number)
    assert process.wait(60) == 1
    assert (made.failure().kind, made.failure().goes_on) == (kind, number is signal.SIGUSR1)


def test_one_that_comes_after_the_function_has_returned_loses_no_result(tmp_path: Path) -> None:
    made = TaskFolder(tmp_path, "return_and_be_stopped")
    assert made.start().wait(60) == 0
    assert (made.record().status, made.record().values) == ("ok", {"answer": 42})


def test_one_that_comes_after_an_error_does_not_hide_it(tmp_path: Path) -> None:
    made = TaskFolder(tmp_path, "fail_and_be_stopped")
    assert made.start().wait(60) == 1
    assert (made.failure().kind, made.failure().what) == ("error", "ZeroDivisionError")


def test_staging_that_takes_longer_than_the_time_limit_is_not_begun_again_and_again(tmp_path: Path) -> None:
    archive, node = pack(write_tree(tmp_path / "fb_yolo")).archive, tmp_path / "node"
    made = TaskFolder(tmp_path / "task", "wait", Stage(archive=str(archive), into=str(node)))
    node.mkdir()
    lock = node / LOCK
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        process = made.start()
        try:
            wait(lambda: str(lock) in open_files(process.pid), 60)
            process.send_signal(signal.SIGUSR1)
            assert process.wait(60) == 1
        finally:
            process.kill()
    assert (made.failure().kind, made.failure().goes_on) == ("time limit", False)
    assert "while its data was staged" in made.failure().what


def test_only_a_call_that_had_begun_goes_on() -> None:
    assert Failure.of(OutOfTimeError()).goes_on


def test_an_archive_that_cannot_even_be_looked_at_is_a_failure_of_the_setup() -> None:
    task = Task(id="one", call="any", stage=(Stage(archive=f"/{'a' * 300}.zip"),))
    with pytest.raises(StagingError, match="File name too long") as caught:
        stage_for(task)
    assert isinstance(caught.value, FlatBugError)
    assert Failure.of(caught.value).kind == "setup failed"
