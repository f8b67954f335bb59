"""What submits can be killed at any moment, on a real Slurm: the next command goes on, and no task runs twice."""

import os
import shutil
import signal
from pathlib import Path

import polars as pl
import pytest
import yaml
from tests.comparison import ANIMAL, make_network, make_place
from tests.slurm_runs import SMALL, Place, fb, task

from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.submission import submissions
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.run_folder import RunFolder, attempts_in

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# What is answered before the process that calls sbatch is killed, and whether it could note the last answer.
BEFORE_THE_FIRST = (0, True)
BEHIND_THE_FIRST = (1, False)
BEFORE_THE_SECOND = (1, True)
BEHIND_THE_SECOND = (2, False)
BEFORE_THE_THIRD = (2, True)
BEHIND_THE_THIRD = (3, False)


@pytest.fixture
def place(slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    return Place(slurm, tmp_path, monkeypatch)


def kill_at_sbatch(folder: Path, patch: pytest.MonkeyPatch, moment: tuple[int, bool]) -> None:
    """Have the process that calls sbatch killed behind an answer, or else when it calls for the next one."""
    answered, noted = moment
    program, count, sbatch = folder / "bin" / "sbatch", folder / "calls", shutil.which("sbatch")
    program.parent.mkdir()
    program.write_text(f"""#!/bin/bash
[[ " $* " != *" --test-only "* ]] || exec {sbatch} "$@"
[ $(wc -l <{count}) -lt {answered} ] || kill -9 $PPID
{sbatch} "$@"
code=$?
echo >>{count}
[ $(wc -l <{count}) -lt {answered} ] || [ {int(noted)} = 1 ] || kill -9 $PPID
exit $code
""")
    program.chmod(0o755)
    count.touch()
    patch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


def test_killed_before_it_wrote_how_to_submit_runs_nothing_on_the_login_node(place: Place) -> None:
    plan = Plan(experiment="test", command=("fb", "run", "compare-models", "--slurm"), tasks=(task("a"),))
    with RunFolder.create(place.folder / "run", plan):
        pass
    refused = fb("resume", str(place.folder / "run"))
    assert (refused.returncode, "before it could be submitted" in refused.stderr) == (2, True), refused.stderr
    assert not (place.folder / "run" / "tasks").exists()


@pytest.mark.parametrize(
    ("moment", "arrays"),
    [
        (BEHIND_THE_FIRST, True),
        (BEFORE_THE_SECOND, True),
        (BEHIND_THE_SECOND, True),
        (BEHIND_THE_FIRST, False),
        (BEFORE_THE_SECOND, False),
        (BEHIND_THE_SECOND, False),
        (BEFORE_THE_THIRD, False),
        (BEHIND_THE_THIRD, False),
    ],
)
def test_killed_around_a_call_of_sbatch_submits_nothing_twice(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: tuple[int, bool], arrays: bool
) -> None:
    run = place.create([task("a"), task("b")], "hold=true", arrays=arrays)
    with monkeypatch.context() as patch:
        kill_at_sbatch(place.folder, patch, moment)
        assert fb("resume", str(run.path)).returncode == -signal.SIGKILL
    assert fb("resume", str(run.path)).returncode == 0
    queued = sorted(place.cluster.ask("squeue", "-h", "-r", "-o", "%j").split())
    assert queued == ["test", "test", "test-report"]
    assert run.states() == {"a": "queued", "b": "queued"}
    assert fb("cancel", str(run.path)).returncode == 0
    assert place.cluster.wait_drained(30)


@pytest.mark.parametrize("moment", [BEFORE_THE_FIRST, BEHIND_THE_FIRST, BEFORE_THE_THIRD])
def test_killed_while_it_submits_tasks_that_wait_for_others(
    place: Place, monkeypatch: pytest.MonkeyPatch, moment: tuple[int, bool]
) -> None:
    hold = place.folder / "hold"
    hold.touch()
    run = place.create([task("a", hold=hold), task("b", after=("a",))])
    with monkeypatch.context() as patch:
        kill_at_sbatch(place.folder, patch, moment)
        assert fb("resume", str(run.path)).returncode == -signal.SIGKILL
    for _ in range(2):
        again = fb("resume", str(run.path))
        assert again.returncode == 0, again.stderr
    assert "Nothing to submit: what is not done is queued or running" in again.stdout
    run.wait_until_begun("a")
    hold.unlink()
    run.wait_until_ended()
    assert run.states() == {"a": "done", "b": "done"}, run.report()
    assert [len(run.attempts(name)) for name in ("a", "b")] == [1, 1]
    assert len(set(run.jobs())) == 3
    assert (run.path / "report" / "report.html").exists(), run.report()


@pytest.mark.parametrize("moment", [BEHIND_THE_FIRST, BEFORE_THE_SECOND])
def test_the_users_own_command_killed_while_it_submits_is_gone_on_with(
    slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: tuple[int, bool]
) -> None:
    monkeypatch.chdir(make_place(tmp_path))
    make_network(tmp_path / "models" / "other" / "weights" / "best.onnx", ANIMAL, score=0.8)
    (tmp_path / "small.yaml").write_text(yaml.safe_dump({"name": "small", "resources": {"all": SMALL}}))
    words = ["-i", "images", "-g", "truth.json", "-d", "models/*", "-o", "run", "--slurm", "profile=small.yaml"]
    with monkeypatch.context() as patch:
        kill_at_sbatch(tmp_path, patch, moment)
        assert fb("run", "compare-models", *words, "mem=1G", "hold=true").returncode == -signal.SIGKILL
    again = fb("resume", "run")
    assert again.returncode == 0, again.stderr
    run = RunFolder.open(Path("run"))
    jobs = [job for submitted in submissions(run) for job in submitted.jobs.ids()]
    assert len(jobs) == 2, "one array and one finaliser"
    slurm.ask("scontrol", "release", jobs[0])
    assert slurm.wait_drained()
    assert {task.id: len(attempts_in(run.task_folder(task))) for task in run.plan.tasks} == {"good": 1, "other": 1}
    scores = pl.read_csv("run/report/results.csv").filter(pl.col("dataset") == "(all)")
    assert dict(zip(scores["model"], scores["f1"], strict=True)) == {"good": 1.0, "other": 1.0}
