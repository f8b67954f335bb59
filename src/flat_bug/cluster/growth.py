"""More memory or time for what failed for want of it: ``fb resume RUN --grow mem``."""

from typing import Literal

from flat_bug.cluster.option_values import Value, megabytes_of, seconds_of_time
from flat_bug.errors import UsageError
from flat_bug.experiments.record import FailureKind

Growing = Literal["mem", "time"]
FACTOR = 2
CURES: dict[Growing, FailureKind] = {"mem": "out of memory", "time": "time limit"}
"""What can grow → the failure that it cures."""

MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")


def grown_options(options: dict[str, Value], grown: dict[str, int]) -> dict[str, Value]:
    """Return the options of a job with memory and time multiplied.

    Args:
        options: Of sbatch.
        grown: ``mem`` or ``time`` → factor.

    Raises:
        UsageError: The options name no memory, or no time, to multiply.
    """
    result = dict(options)
    for what, factor in grown.items():
        if factor == 1:
            continue
        name = next((name for name in (MEMORY if what == "mem" else ("time",)) if name in options), None)
        value = options.get(name) if name else None
        if name is None or not isinstance(value, str):
            raise UsageError(
                f"nothing says how much {what} the tasks had",
                where=f"--grow {what}",
                mend=f"Say how much they get: --slurm {'mem=64G' if what == 'mem' else 'time=02:00:00'}.",
            )
        result[name] = _more_memory(value, factor) if what == "mem" else _more_time(value, factor)
    return result


def _more_memory(text: str, factor: int) -> str:
    return f"{round(megabytes_of(text) * factor)}M"


def _more_time(text: str, factor: int) -> str:
    seconds = seconds_of_time(text)
    if seconds == float("inf"):
        return text
    minutes, rest = divmod(round(seconds * factor), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{rest:02}"
