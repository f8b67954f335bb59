"""Runs on a throw-away Slurm whose tasks call functions of the tests."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from flat_bug.cluster.files_of_jobs import begin, settings_of
from flat_bug.cluster.observe import observe
from flat_bug.cluster.options import parse_slurm
from flat_bug.cluster.rehearsal.daemons import wait_until
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.slurm import SlurmSubmitter
from flat_bug.cluster.states import ask_queue
from flat_bug.cluster.submission import SlurmSettings, submissions
from flat_bug.experiments import registry
from flat_bug.experiments.plan import Plan, Stage, Task
from flat_bug.experiments.run_folder import RunFolder, TaskStatus, attempts_in

FUNCTIONS = '''
    import os
    import signal
    import time
    from pathlib import Path
    from flat_bug.experiments.record import Outcome

    def parents(last):
        """Return the processes from this one up to the one with a word in its command line."""
        found = [os.getpid()]
        while last not in Path(f"/proc/{found[-1]}/cmdline").read_text():
            found.append(int(Path(f"/proc/{found[-1]}/stat").read_text().rpartition(")")[2].split()[1]))
        return found

    def work(args, folder):
        """Say where it runs, wait while a file is there, meet the fate that is wanted, and leave a file."""
        print("node", os.environ.get("SLURMD_NODENAME"), "folder", os.environ.get("SLURM_TMPDIR"), flush=True)
        (folder / "begun").touch()
        while args.get("while") and Path(args["while"]).exists():
            time.sleep(0.05)
        if args.get("kill") and (folder.name == "attempt-1" or args["always"]):
            for process in reversed(parents(args["kill"])):
                os.kill(process, signal.SIGKILL)
            time.sleep(60)
        if folder.name == "attempt-1" and args.get("allocate"):
            taken = bytearray(b"x") * (args["allocate"] << 20)
            time.sleep(60)
        if folder.name == "attempt-1" and args.get("full"):
            Path(os.path.expandvars(args["full"]), "large").write_bytes(bytes(4 << 20))
        (folder / "made.txt").write_text(args.get("text", "made"))
        return Outcome()
'''

SITE = """
    from flat_bug.experiments import registry
    registry.CALLS["work"] = "calls_on_nodes:work"
"""

SMALL = {"cpus_per_task": 1, "mem": "200M", "time": "00:10:00"}


@dataclass(frozen=True)
class SlurmRun:
    """A run that was submitted, and the cluster that it is on."""

    cluster: LocalSlurm
    folder: RunFolder

    @property
    def path(self) -> Path:
        return self.folder.path

    def statuses(self) -> dict[str, TaskStatus]:
        return {status.task.id: status for status in observe(self.folder).statuses}

    def states(self) -> dict[str, str]:
        return {name: str(status.state) for name, status in self.statuses().items()}

    def kinds(self) -> dict[str, str | None]:
        """Return task → class of its failure, of those that are not done."""
        found = self.statuses().items()
        return {
            name: status.failure.kind if status.failure else None for name, status in found if status.state != "done"
        }

    def attempts(self, name: str) -> list[Path]:
        return attempts_in(self.path / "tasks" / name)

    def job_of(self, name: str) -> str:
        """Return the job of a task as squeue calls it: that of its last submission."""
        jobs = [
            submitted.jobs.job_of(index)
            for submitted in submissions(self.folder)
            if (index := submitted.submission.index_of(name)) is not None
        ]
        return jobs[-1]

    def jobs(self) -> list[str]:
        return [job for submitted in submissions(self.folder) for job in submitted.jobs.ids()]

    def log(self, name: str) -> str:
        """Return what the job of a task has printed."""
        return next(self.path.glob(f"slurm/submission-*/{self.job_of(name)}.log")).read_text()

    def wait_until_begun(self, *names: str, attempt: int = 1, seconds: float = 90) -> None:
        files = [self.path / "tasks" / name / f"attempt-{attempt}" / "begun" for name in names]
        wait(lambda: all(file.exists() for file in files), seconds, self.report)

    def wait_until_ended(self, seconds: float = 180) -> None:
        """Wait until no job of the run, its finalisers included, is in the queue any more."""

        def ended() -> bool:
            return not any(job.task_state for job in ask_queue(self.jobs()))

        wait(ended, seconds, self.report)

    def report(self) -> str:
        """Return what is worth knowing when a test fails."""
        logs = "\n".join(f"{log}:\n{log.read_text()[-1500:]}" for log in sorted(self.path.glob("slurm/*/*.log")))
        return f"{self.cluster.ask('squeue', '--states=all', check=False)}\n{logs}"


class Place:
    """A folder for runs, and an interpreter that knows the functions of the tests."""

    def __init__(self, cluster: LocalSlurm, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster, self.folder = cluster, folder
        monkeypatch.setitem(registry.CALLS, "work", "calls_on_nodes:work")  # type: ignore[arg-type] # it is a dict
        modules = folder / "modules"
        modules.mkdir()
        (modules / "calls_on_nodes.py").write_text(textwrap.dedent(FUNCTIONS))
        (modules / "sitecustomize.py").write_text(textwrap.dedent(SITE))
        self.python = folder / "python"
        self.python.write_text(f'#!/bin/sh\nexport PYTHONPATH="{modules}"\nexec "{sys.executable}" "$@"\n')
        self.python.chmod(0o755)

    def settings(self, *words: str, **profile: object) -> SlurmSettings:
        """Return how to submit, with a profile that asks for little."""
        path = self.folder / "profile.yaml"
        resources = {"all": SMALL, "finalise": SMALL}
        path.write_text(yaml.safe_dump({"name": "test", "resources": resources, **profile}))
        made = settings_of(parse_slurm([f"profile={path}", *words]))
        return made.model_copy(update={"python": str(self.python)})

    def create(
        self, tasks: Sequence[Task], *words: str, name: str = "run", setup: str = "", **profile: object
    ) -> SlurmRun:
        """Make a run that is not submitted yet."""
        settings = self.settings(*words, **profile)
        script = self.folder / "setup.sh"
        if setup:
            script.write_text(setup)
            settings = settings.model_copy(update={"has_setup": True})
        with RunFolder.create(self.folder / name, Plan(experiment="test", tasks=tuple(tasks))) as run:
            begin(run, settings, script if setup else None)
        return SlurmRun(self.cluster, run)

    def submit(
        self, tasks: Sequence[Task], *words: str, name: str = "run", setup: str = "", **profile: object
    ) -> SlurmRun:
        made = self.create(tasks, *words, name=name, setup=setup, **profile)
        with made.folder.lock():
            SlurmSubmitter().submit(made.folder, tasks)
        return made


def task(
    name: str,
    *,
    hold: Path | None = None,
    kill: str = "",
    always: bool = False,
    allocate: int = 0,
    full: str = "",
    after: tuple[str, ...] = (),
    stage: tuple[Stage, ...] = (),
) -> Task:
    """Return a task, and what befalls its first attempt.

    Args:
        name: Of the task.
        hold: It waits while this file exists.
        kill: Kill its processes, up to the one that has this word in its command line.
        always: Kill them in every attempt.
        allocate: MiB of memory to take, and to keep.
        full: Folder that it fills.
        after: What it comes after.
        stage: What it reads from archives.
    """
    args = {"while": str(hold) if hold else "", "kill": kill, "always": always, "allocate": allocate, "full": full}
    args["source"] = __file__
    return Task(id=name, call="work", args=args, inputs=("source",), after=after, stage=stage)


def fb(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run a command in a process of its own."""
    code = "from flat_bug.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=False, env=dict(os.environ)
    )


def fb_states(run: Path) -> dict[str, str]:
    """Return task → state as ``fb status`` says it."""
    done = fb("status", str(run), "--json")
    assert done.returncode == 0, done.stderr
    return {row["task"]: row["state"] for row in json.loads(done.stdout.splitlines()[-1])["tasks"]}


def wait(condition: Callable[[], bool], seconds: float, report: Callable[[], str] = str) -> None:
    """Wait until something holds, or fail."""
    if not wait_until(condition, seconds):
        pytest.fail(f"it did not come true within {seconds:g} s\n{report()}")
