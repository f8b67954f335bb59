"""``fb status`` and ``fb logs``: they end when there is nothing more to see, and say how to go on."""

import json
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flat_bug.cli.logs import logs
from flat_bug.cli.status import how_to_go_on
from flat_bug.cluster.submission import SETTINGS, slurm_folder
from flat_bug.errors import RunError
from flat_bug.experiments.plan import Plan, Task
from flat_bug.experiments.record import Failure, FailureKind
from flat_bug.experiments.run_folder import LOG_NAME, RunFolder, TaskState, TaskStatus

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
        command = [sys.executable, "-c", FB, *words]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
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


@pytest.mark.parametrize("words", [("status", "--watch", "--json"), ("logs", "-f")], ids=["status", "logs"])
def test_ctrl_c_ends_the_look_only_and_says_so(
    running: RunFolder, start: Start, words: tuple[str, ...], hold: Path
) -> None:
    look = start(words[0], str(running.path), *words[1:])
    assert look.stdout is not None
    look.stdout.readline()
    look.send_signal(signal.SIGINT)
    _, said = look.communicate(timeout=60)
    assert look.returncode == 130
    assert said.splitlines() == ["fb: interrupted", "    The jobs go on."]


def test_a_report_made_meanwhile_names_what_still_runs_without_calling_it_an_error(
    running: RunFolder, start: Start
) -> None:
    made = start("report", str(running.path))
    _, said = made.communicate(timeout=60)
    assert said.splitlines() == ["one: still running", "fb: two: missing: not started yet"]


def test_a_run_without_a_report_says_how_to_get_one(run: RunFolder, start: Start) -> None:
    printed, _ = start("status", str(run.path)).communicate(timeout=60)
    assert printed.splitlines()[-2:] == [
        f"Report: not written yet: fb report {run.path}",
        f"Go on with it: fb resume {run.path}",
    ]


@pytest.fixture
def on_slurm(run: RunFolder) -> RunFolder:
    """Return a run that looks as if it was to be submitted, and was not yet."""
    slurm_folder(run).mkdir()
    (slurm_folder(run) / SETTINGS).touch()
    return run


def test_the_log_of_the_report_is_asked_for_by_name_unless_a_task_is_called_so(
    on_slurm: RunFolder, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="the job that writes the report has printed nothing yet"):
        logs(on_slurm.path, "report")
    task = Task(id="report", call="print")
    with RunFolder.create(tmp_path / "other", Plan(experiment="test", tasks=(task,)), CALLS) as other:
        slurm_folder(other).mkdir()
        (slurm_folder(other) / SETTINGS).touch()
    assert logs(other.path, "report") == 0


class TestHowToGoOn:
    def failed(self, kind: FailureKind, mend: str = "", *, reads: str = "", goes_on: bool = False) -> TaskStatus:
        args = {"weights": reads}
        task = Task(id="one", call="print", args=args, inputs=("weights",) if reads else (), goes_on=goes_on)
        failure = Failure(kind=kind, what="it failed", mend=mend, goes_on=goes_on)
        return TaskStatus(task, TaskState.FAILED, failure.brief(), failure=failure)

    @pytest.mark.parametrize(
        ("kind", "options"), [("time limit", " --grow time"), ("out of memory", " --grow mem"), ("cancelled", "")]
    )
    def test_gives_more_of_what_was_lacking(self, on_slurm: RunFolder, kind: FailureKind, options: str) -> None:
        assert how_to_go_on(on_slurm, Path("c5"), [self.failed(kind)]) == [f"Go on with it: fb resume c5{options}"]

    def test_grows_one_after_the_other(self, on_slurm: RunFolder) -> None:
        assert how_to_go_on(on_slurm, Path("c5"), [self.failed("time limit"), self.failed("out of memory")]) == [
            "Go on with it: fb resume c5 --grow mem",
            "Then, after the time limit: fb resume c5 --grow time",
        ]

    def test_a_training_that_goes_on_needs_no_more_time(self, on_slurm: RunFolder) -> None:
        stopped = self.failed("time limit", goes_on=True)
        assert how_to_go_on(on_slurm, Path("c5"), [stopped]) == ["Go on with it: fb resume c5"]

    def test_nothing_grows_on_this_machine(self, run: RunFolder) -> None:
        assert how_to_go_on(run, Path("c5"), [self.failed("out of memory")]) == ["Go on with it: fb resume c5"]

    @pytest.mark.parametrize(
        ("reads", "options"), [("/data/a.pt", ""), ("$SLURM_TMPDIR/a.pt", " --retry-failed")], ids=["here", "on a node"]
    )
    def test_a_bad_input_is_mended_first(self, on_slurm: RunFolder, reads: str, options: str) -> None:
        bad = self.failed("bad input", "Train it again.", reads=reads)
        assert how_to_go_on(on_slurm, Path("c5"), [bad]) == ["Mend it: Train it again.", f"then: fb resume c5{options}"]

    def test_what_is_done_needs_nothing(self, on_slurm: RunFolder) -> None:
        assert how_to_go_on(on_slurm, Path("c5"), [TaskStatus(Task(id="one", call="print"), TaskState.DONE)]) == []
