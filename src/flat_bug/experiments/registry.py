"""The functions that tasks can call, by name. A task names one of them; it cannot name any other code."""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

from pydantic import JsonValue

from flat_bug.errors import RunError
from flat_bug.experiments.plan import Plan
from flat_bug.experiments.record import Outcome

Call = Callable[[dict[str, JsonValue], Path], Outcome]
"""Takes the arguments of a task and the folder to write into; returns what the record is to hold."""

CALLS: Mapping[str, str] = {
    "predict-images": "flat_bug.experiments.predict_shard:predict_shard",
    "score-model": "flat_bug.experiments.score_model:score_model",
    "train-model": "flat_bug.experiments.train_model:train_model",
}
"""Name → ``module:function``, imported when the task runs."""


def load_call(name: str, calls: Mapping[str, str] = CALLS) -> Call:
    """Return the function registered as ``name``.

    Raises:
        RunError: There is none.
    """
    if name not in calls:
        raise RunError(f"unknown call {name!r}", mend=f"Known: {', '.join(sorted(calls))}.")
    module, _, function = calls[name].partition(":")
    call: Call = getattr(import_module(module), function)
    return call


def check_calls(plan: Plan, calls: Mapping[str, str] = CALLS) -> None:
    """Check that every task of a plan calls a registered function.

    Raises:
        RunError: One does not.
    """
    for task in plan.tasks:
        if task.call not in calls:
            raise RunError(f"unknown call {task.call!r}", where=f"task {task.id}", mend=f"Known: {', '.join(calls)}.")
