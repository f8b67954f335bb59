"""The batch script of a submission: a header of options, and one constant line."""

from flat_bug.cluster.bootstrap import BOOTSTRAP
from flat_bug.cluster.option_values import Value, header_line, seconds_of_time
from flat_bug.cluster.submission import FINALISER, FOLDER, Submission

SECONDS_BEFORE_END = 120
"""How long before the time limit tasks are asked to stop, so that they leave a record and a checkpoint."""


def batch_script(submission: Submission, index: int | None = None, *, max_parallel: int | None = None) -> str:
    """Return the text that sbatch is given; it holds no value of the user's but in its header.

    Args:
        submission: What is submitted.
        index: The job, where each job is submitted by itself.
        max_parallel: Most jobs of the array at a time.
    """
    options = {**submission.options, **managed_options(submission, index, max_parallel)}
    job = str(index) if index is not None else '"$SLURM_ARRAY_TASK_ID"'
    if submission.purpose == FINALISER:
        job = FINALISER
    lines = [header_line(name, value) for name, value in sorted(options.items())]
    command = f"exec /bin/bash {BOOTSTRAP} {submission.number} {job}"
    return "\n".join(["#!/bin/bash", *lines, "", command, ""])


def managed_options(
    submission: Submission, index: int | None = None, max_parallel: int | None = None
) -> dict[str, Value]:
    """Return the options that every submission has; logs are named relative to the run folder, where jobs start."""
    token = submission.token if index is None else f"{submission.token}.{index}"
    name = "%A_%a" if submission.is_array else "%j"
    options: dict[str, Value] = {
        "output": f"{FOLDER}/submission-{submission.number}/{name}.log",
        "open-mode": "append",
        "signal": f"B:USR1@{seconds_before_end(submission.options.get('time'))}",
        "requeue": True,
    }
    if {"no-requeue", "requeue"} & submission.options.keys():
        del options["requeue"]
    if submission.is_array:
        last = len(submission.elements) - 1
        options["array"] = f"0-{last}" + (f"%{max_parallel}" if max_parallel else "")
    # By the token a job is found again when the process that submitted it has not lived to note its number.
    said = submission.options.get("comment")
    options["comment"] = token if said is None else f"{said} {token}"
    return options


def seconds_before_end(time: Value | None) -> int:
    """Return how long before the time limit to ask tasks to stop: not more than a quarter of it."""
    if not isinstance(time, str):
        return SECONDS_BEFORE_END
    return int(max(1, min(SECONDS_BEFORE_END, seconds_of_time(time) / 4)))
