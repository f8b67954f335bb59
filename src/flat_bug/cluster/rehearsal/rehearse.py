"""A rehearsal: the same plan on a throw-away Slurm, with failures if asked for, and what became of it."""

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from flat_bug.cluster.rehearsal.command import Asked, Command, ExistingRun, this_program
from flat_bug.cluster.rehearsal.ending import usual_parent
from flat_bug.cluster.rehearsal.failures import KINDS, Injection
from flat_bug.cluster.rehearsal.local_slurm import LocalSlurm
from flat_bug.cluster.rehearsal.parts import check_parts
from flat_bug.cluster.rehearsal.request import shape_for
from flat_bug.cluster.rehearsal.shape import ClusterShape
from flat_bug.cluster.rehearsal.watch import Say, Watch
from flat_bug.cluster.resources import finaliser_options, options_of
from flat_bug.cluster.scheduler import clean_environment
from flat_bug.errors import OutputError
from flat_bug.experiments.run_folder import RunFolder, TaskState, TaskStatus, attempts_in
from flat_bug.files import cannot_write
from flat_bug.progress import reporting

MOST_RESUMES = 3
RUN, LOGS = "run", "slurm-logs"


@dataclass(frozen=True)
class Wishes:
    """How to rehearse.

    Attributes:
        nodes: Nodes of the cluster, at least.
        gpus: Pretended GPUs of each node, at least.
        fail: Failures to bring about, by name.
        keep: Folder in which run and logs are kept.
    """

    nodes: int = 3
    gpus: int = 1
    fail: tuple[str, ...] = ()
    keep: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a rehearsal ended.

    Attributes:
        statuses: The state of every task.
        attempts: Task → number of attempts.
        seen: Task → the states that it was in, one after the other.
        injections: The failures that were asked for.
        resumed: The commands by which the run was taken up again.
        report: Whether the report was written.
        kept: Folder of the run and the logs; nothing where none was asked for and all went well.
    """

    statuses: tuple[TaskStatus, ...]
    attempts: dict[str, int]
    seen: dict[str, list[str]]
    injections: tuple[Injection, ...]
    resumed: tuple[str, ...]
    report: bool
    kept: Path | None = None

    @property
    def is_good(self) -> bool:
        """Whether all tasks are done, the report is there, and every failure that was asked for came about."""
        return self.all_done and self.report and all(injection.done for injection in self.injections)

    @property
    def all_done(self) -> bool:
        """Whether all tasks are done."""
        return all(status.state is TaskState.DONE for status in self.statuses)


def rehearse(what: Command | ExistingRun, wishes: Wishes, say: Say) -> Outcome:
    """Carry out a run on a throw-away Slurm and return what became of it; the user's own output is never touched.

    Args:
        what: The command, or a run.
        wishes: How.
        say: Is told what happens.

    Raises:
        MissingPartError: Slurm's packages are not installed, or a failure cannot be brought about here.
        UsageError: The command itself fails, or asks for something that only the real cluster has.
        OutputError: The folder to keep is not empty.
    """
    # Before the plan is made, which can take a minute.
    check_parts(ClusterShape(accounting=False, modules=False))
    if wishes.keep is not None:
        _check_is_free(wishes.keep)
    with tempfile.TemporaryDirectory() as nowhere:
        asked = what.ask(Path(nowhere) / RUN)
    shape = shape_of(asked, wishes)
    say(f"Starting a throw-away Slurm: {_described(shape)}")
    with LocalSlurm(shape) as cluster, _found_by_commands(cluster) as environment:
        # Within the cluster's folder the run goes with the cluster, whatever happens to this process.
        place = (wishes.keep or cluster.folders.state / "rehearsal").absolute()
        try:
            outcome = _perform(what, wishes, cluster, environment=environment, output=place / RUN, say=say)
            if wishes.keep is None and not outcome.is_good:
                kept = Path(tempfile.mkdtemp(prefix="fb-rehearsal-", dir=usual_parent()))
                shutil.copytree(place / RUN, kept / RUN, symlinks=True)
                _keep_logs(cluster, kept)
                return replace(outcome, kept=kept)
            return replace(outcome, kept=wishes.keep and place)
        finally:
            if wishes.keep is not None:
                _keep_logs(cluster, wishes.keep)


def shape_of(asked: Asked, wishes: Wishes) -> ClusterShape:
    """Return the cluster on which a run can be rehearsed.

    Raises:
        UsageError: It asks for something that only the real cluster has.
    """
    calls = sorted({task.call for task in asked.plan.tasks})
    jobs = [*(options_of(asked.settings, call) for call in calls), finaliser_options(asked.settings)]
    return shape_for(jobs, asked.settings.profile, asked.setup, nodes=wishes.nodes, gpus=wishes.gpus)


def _perform(
    what: Command | ExistingRun,
    wishes: Wishes,
    cluster: LocalSlurm,
    *,
    environment: Mapping[str, str],
    output: Path,
    say: Say,
) -> Outcome:
    injections = tuple(KINDS[name]() for name in dict.fromkeys(wishes.fail))
    try:
        for injection in injections:
            injection.before(cluster)
            if injection.done:
                say(f"! {injection.name}: {injection.done}")
        what.submit(output, environment)
        run = RunFolder.open(output)
        with reporting("Rehearsing") as report:
            watch = Watch(cluster, run, injections, say, report)
            statuses = watch.until_done()
            resumed: list[str] = []
            while _is_to_resume(statuses, watch.struck) and len(resumed) < MOST_RESUMES:
                resumed.append(_resume(output, statuses, environment, say))
                statuses = watch.until_done()
    finally:
        for injection in injections:
            injection.after(cluster)
    attempts = {task.id: len(attempts_in(run.task_folder(task))) for task in run.plan.tasks}
    return Outcome(tuple(statuses), attempts, watch.seen, injections, tuple(resumed), run.page.is_file())


def _is_to_resume(statuses: Sequence[TaskStatus], struck: set[str]) -> bool:
    """Return whether a person would take the run up again: a task that we have harmed needs more than another try."""
    return any(status.task.id in struck and status.is_worth_repeating for status in statuses)


def _resume(output: Path, statuses: Sequence[TaskStatus], environment: Mapping[str, str], say: Say) -> str:
    kinds = {status.failure.kind for status in statuses if status.failure is not None}
    grow = "mem" if "out of memory" in kinds else "time" if "time limit" in kinds else None
    options = ["--grow", grow] if grow else []
    command = shlex.join(["fb", "resume", "RUN", *options])
    say(f"> {command}")
    words = [*this_program(), "resume", str(output), *options, "--json"]
    subprocess.run(words, env=dict(environment), stdout=subprocess.DEVNULL, check=False)
    return command


@contextmanager
def _found_by_commands(cluster: LocalSlurm) -> Iterator[dict[str, str]]:
    """Have Slurm's commands find the cluster during the block, and no other that the caller may be on."""
    before = dict(os.environ)
    environment = clean_environment() | cluster.environment()
    os.environ.clear()
    os.environ.update(environment)
    try:
        yield environment
    finally:
        os.environ.clear()
        os.environ.update(before)


def _described(shape: ClusterShape) -> str:
    parts = [f"nodes: {shape.nodes}", f"of each: {shape.cpus} CPUs", f"{shape.memory_mb // 1024} GB"]
    parts += [f"pretended GPUs: {shape.gpus} {shape.gpu_type}"] if shape.gpus else []
    parts += [f"accounts {', '.join(shape.accounts)}"] if shape.accounts else []
    return ", ".join([*parts, "no Internet"])


def _keep_logs(cluster: LocalSlurm, folder: Path) -> None:
    shutil.copytree(cluster.logs, folder / LOGS, dirs_exist_ok=True)


def _check_is_free(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError("the folder to keep is not empty", where=folder, mend="Give a new folder to --keep.")
    except OSError as error:
        raise cannot_write(folder, error) from error
