"""``fb status --watch`` and ``fb logs -f`` on this machine: they end when there is nothing more to see."""

import json
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flat_bug.experiments.plan import Plan, Task
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder

CALLS = {"print": "calls_that_print:print_slowly"}

FUNCTIONS = '''
    import time
    from pathlib import Path
    from flat_bug.experiments.record import Outcome

    def print_slowly(args, folder):
        """Print a line, wait while a file is there, and print another."""
        print("the first line", flush=True)
        while Path(args["while"]).exists():
            time.sleep(0.02)
        print("the last line", flush=True)
        return Outcome()
'''

FB = "from flat_bug.cli.main import main; main()"

RUN = f"""
    import sys
    from pathlib import Path
    from flat_bug.experiments.local import LocalSubmitter
    from flat_bug.experiments.run_folder import RunFolder
    from flat_bug.experiments.submitter import resume
    worker = "import sys; from flat_bug.experiments.run_task import main; sys.exit(main(calls={CALLS}))"
    resume(RunFolder.open(Path(sys.argv[1])), LocalSubmitter(jobs=1, worker=(sys.executable, "-c", worker)))
"""


@pytest.fixture
def hold(tmp_path: Path) -> Path:
    """Return a file: while it is there, tasks wait."""
    hold = tmp_path / "hold"
    hold.touch()
    return hold


@pytest.fixture
def run(tmp_path: Path, hold: Path) -> RunFolder:
    tasks = tuple(Task(id=name, call="print", args={"while": str(hold)}) for name in ("one", "two"))
    with RunFolder.create(tmp_path / "run", Plan(experiment="test", tasks=tasks), CALLS) as run:
        return run


@pytest.fixture
def running(run: RunFolder, hold: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunFolder]:
    """Return a run of two tasks, one after the other, which are carried out by another process."""
    (run.path.parent / "calls_that_print.py").write_text(textwrap.dedent(FUNCTIONS))
    monkeypatch.setenv("PYTHONPATH", str(run.path.parent))
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(RUN), str(run.path)])
    while not (run.task_folder(run.plan.tasks[0]) / "attempt-1" / LOG_NAME).exists():
        assert process.poll() is None
        time.sleep(0.05)
    yield run
    hold.unlink(missing_ok=True)
    process.wait(60)


Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts a command in a process of its own, which ends with the test at the latest."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> "subprocess.Popen[str]":
        started.append(subprocess.Popen([sys.executable, "-c", FB, *words], stdout=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        with process:
            process.kill()


def test_watching_shows_the_states_until_all_tasks_have_ended(running: RunFolder, hold: Path, start: Start) -> None:
    watch = start("status", str(running.path), "--watch", "--every", "1", "--json")
    assert watch.stdout is not None
    while "running" not in watch.stdout.readline():
        assert watch.poll() is None
    hold.unlink()
    last = json.loads(watch.communicate(timeout=60)[0].splitlines()[-1])
    assert [row["state"] for row in last["tasks"]] == ["done", "done"]


def test_following_shows_each_line_once_until_the_task_has_ended(running: RunFolder, hold: Path, start: Start) -> None:
    """The second task does not even run yet."""
    follow = start("logs", str(running.path), "two", "-f")
    hold.unlink()
    printed = follow.communicate(timeout=60)[0].splitlines()
    log = running.path / "tasks" / "two" / "attempt-1" / LOG_NAME
    assert printed == [f"==> {log} <==", "the first line", "the last line"]


def test_following_ends_for_a_task_that_nobody_runs(run: RunFolder, start: Start) -> None:
    attempt = run.task_folder(run.plan.tasks[0]) / "attempt-1"
    attempt.mkdir(parents=True)
    (attempt / LOG_NAME).write_text("it was killed after this\n")
    follow = start("logs", str(run.path), "-f")
    assert follow.communicate(timeout=60)[0].splitlines() == [
        f"==> {attempt / LOG_NAME} <==",
        "it was killed after this",
    ]


def test_following_shows_what_was_printed_between_the_last_lines_and_the_next_look(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    from flat_bug.cli.logs import _follow, _print_last

    attempt = run.task_folder(run.plan.tasks[0]) / "attempt-1"
    attempt.mkdir(parents=True)
    log = attempt / LOG_NAME
    log.write_text("first\nsecond\n")
    shown = {log: _print_last(log, 1)}
    with log.open("a") as stream:
        stream.write("meanwhile\n")
    _follow(run, {"one"}, shown)
    assert capsys.readouterr().out.splitlines() == [f"==> {log} <==", "second", "meanwhile"]
