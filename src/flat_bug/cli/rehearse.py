"""``fb rehearse``: the same plan on a throw-away Slurm on this machine, before a night in the queue."""

import shlex
import sys
from pathlib import Path
from typing import Literal

import polars as pl
from cyclopts.types import NonNegativeInt, PositiveInt

from flat_bug.cli._support import print_json, print_lines, print_table
from flat_bug.cluster.rehearsal.command import Command, ExistingRun
from flat_bug.cluster.rehearsal.rehearse import LOGS, RUN, Outcome, Wishes
from flat_bug.cluster.rehearsal.rehearse import rehearse as carry_out
from flat_bug.errors import EXIT_ITEMS_FAILED, EXIT_OK, UsageError
from flat_bug.experiments.predict_task import CALL as PREDICTING
from flat_bug.experiments.run_folder import RunFolder, TaskState

Failure = Literal["kill-task", "crash-node", "drop-accounting", "fill-disk", "time-limit", "out-of-memory"]


def rehearse(
    *words: str,
    nodes: PositiveInt = 3,
    gpus: NonNegativeInt = 1,
    fail: tuple[Failure, ...] = (),
    keep: Path | None = None,
    json: bool = False,
) -> int:
    r"""Carry out an experiment on a throw-away Slurm on this machine.

    Quoting, staging, paths and what becomes of failures can be seen before a
    night in the queue. The output that the command names is not touched.

    Example: fb rehearse --fail kill-task --fail crash-node -- fb run compare-models -d "runs/*" -o out --slurm mem=32GB

    Args:
        words: A run folder; or, after --, the command as you would submit it.
        nodes: Nodes of the cluster, at least; 3 by default.
        gpus: Pretended GPUs of each node, at least; 1 by default.
        fail: A failure to bring about: kill-task, crash-node, drop-accounting, fill-disk, time-limit, out-of-memory.
        keep: Folder for the run and all logs. Without it they are kept only when something went wrong.
        json: Print one machine-readable object.
    """
    outcome = carry_out(_what(words), Wishes(nodes, gpus, fail, keep), _say)
    if json:
        print_json(_as_json(outcome))
    else:
        _show(outcome)
    return EXIT_OK if outcome.is_good else EXIT_ITEMS_FAILED


def _what(words: tuple[str, ...]) -> Command | ExistingRun:
    if not words:
        raise UsageError(
            "there is nothing to rehearse",
            where="fb rehearse",
            mend="Give a run folder, or -- and the command that you would submit.",
        )
    if len(words) == 1 and (Path(words[0]).is_dir() or "/" in words[0]):
        return _existing(Path(words[0]))
    return Command(words)


def _existing(path: Path) -> ExistingRun:
    """Return a run folder, unless its tasks write outside it."""
    run = RunFolder.open(path)
    if any(task.call == PREDICTING for task in run.plan.tasks):
        command = shlex.join(run.plan.command)
        raise UsageError(
            "its tasks write into the folder of the predictions, which a rehearsal must not touch",
            where=path,
            mend=f"Give the command instead: fb rehearse -- {command}",
        )
    return ExistingRun(path)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(outcome: Outcome) -> None:
    table = pl.DataFrame(_task_rows(outcome), infer_schema_length=None)
    print_table(table.drop("log", "states"), "Tasks")
    if outcome.injections:
        print_table(pl.DataFrame(_failure_rows(outcome), infer_schema_length=None), "Failures")
    for command in outcome.resumed:
        print(f"Gone on with: {command}")
    if outcome.kept is not None:
        print(f"Run:  {outcome.kept / RUN}")
        print(f"Logs: {outcome.kept / LOGS}")
    else:
        print("Nothing is kept; --keep DIR keeps the run and all logs.")
    sys.stdout.flush()  # before what goes to standard error
    if outcome.is_good:
        print("The rehearsal went well: every task is done, and the report is written.")
        return
    for row in _task_rows(outcome):
        if row["state"] != TaskState.DONE:
            log = f"See {row['log']}" if row["log"] else ""
            print_lines([f"{row['task']}: {row['state']}: {row['reason']}", *filter(None, [log])])
    for injection in outcome.injections:
        if not injection.done:
            print_lines([f"{injection.name} did not come about: no task ran long enough", "Rehearse with more tasks."])
    if not outcome.report:
        print_lines(["the report was not written"])


def _task_rows(outcome: Outcome) -> list[dict[str, object]]:
    return [
        {
            "task": status.task.id,
            "state": str(status.state),
            "attempts": outcome.attempts[status.task.id],
            "node": status.node or None,
            "seconds": status.seconds,
            "reason": status.reason,
            "states": outcome.seen.get(status.task.id, []),
            "log": _log(outcome, status.task.id),
        }
        for status in outcome.statuses
    ]


def _log(outcome: Outcome, task: str) -> str | None:
    if outcome.kept is None:
        return None
    logs = sorted((outcome.kept / RUN / "tasks" / task).glob("attempt-*/log.txt"))
    return str(logs[-1]) if logs else str(outcome.kept / RUN / "slurm")


def _failure_rows(outcome: Outcome) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for injection in outcome.injections:
        states = " → ".join(outcome.seen.get(injection.task, [])) if injection.task else injection.harmless
        what = injection.done or "did not come about"
        rows.append({"failure": injection.name, "what was done": what, "what followed": states})
    return rows


def _as_json(outcome: Outcome) -> dict[str, object]:
    return {
        "ok": outcome.is_good,
        "tasks": _task_rows(outcome),
        "failures": _failure_rows(outcome),
        "resumed": list(outcome.resumed),
        "run": None if outcome.kept is None else str(outcome.kept / RUN),
        "logs": None if outcome.kept is None else str(outcome.kept / LOGS),
    }
