"""What a name after ``--slurm`` means: an option of sbatch, one of ours, or the nearest of both."""

import difflib
from collections.abc import Callable, Collection

from flat_bug.cluster.sbatch_names import LETTERS, MANAGED, OPTIONS, OTHER_NAMES, SbatchOption
from flat_bug.errors import UsageError

OWN = {
    "slurm-setup": "setup",
    "setup": "setup",
    # sbatch has a --profile too, which is for measuring jobs; it is slurm_profile=… here.
    "profile": "profile",
    "environment": "environment",
    "max-parallel": "max_parallel",
    "tasks-per-job": "tasks_per_job",
    "retries": "retries",
    # As submitit calls it, which the scripts of flat-bug 1.x handed everything on to.
    "slurm-array-parallelism": "max_parallel",
    "array-parallelism": "max_parallel",
}
"""Name of ours → what it sets."""

WITH_UNITS: dict[str, tuple[str, Callable[[str], str]]] = {
    "mem-gb": ("mem", lambda value: f"{value}G"),
    "timeout-min": ("time", lambda value: value),
}
"""Names of submitit that hold a unit → the option, and how its value is written."""

_REFUSED = {
    "additional-parameters": "Give each option as a word of its own: comment=text.",
    "srun-args": "Commands for the nodes go into slurm_setup=FILE.",
    "use-srun": "Leave it out: jobs of one node need no srun, those of several get it.",
    "signal-delay-s": "Leave it out: the run asks for a signal before the time limit itself.",
    "stderr-to-stdout": "Leave it out: both go into one log.",
    "max-num-timeout": "Use retries=N.",
    "folder": "Leave it out: the run folder is what -o names.",
}
"""Names of submitit without a meaning here → what to do instead."""


def plain(key: str) -> str:
    """Return a key as sbatch writes it, without its dashes."""
    return key.removeprefix("--").replace("_", "-")


def bare(name: str) -> str:
    """Return a plain name without the ``slurm-`` that submitit puts before those of sbatch."""
    return name.removeprefix("slurm-")


def find_option(name: str, others: Collection[str] = ()) -> SbatchOption:
    """Return the option of sbatch that a plain name means.

    Args:
        name: Its name, its letter, or what submitit calls it.
        others: Options that could have been meant instead.

    Raises:
        UsageError: There is none, or it is not for users to set; what to do instead is said.
    """
    short = bare(name)
    if short in _REFUSED:
        raise UsageError("this option of submitit has no meaning here", where=shown(name), mend=_REFUSED[short])
    found = LETTERS.get(short) or OTHER_NAMES.get(short) or WITH_UNITS.get(short, (short,))[0]
    if found in MANAGED:
        why, mend = MANAGED[found]
        raise UsageError(f"{found} is not for you to set: {why}", where=shown(name), mend=mend)
    if found in OPTIONS:
        return OPTIONS[found]
    where = shown(name) or "an empty word"
    raise UsageError("sbatch has no such option", where=where, mend=_advice(name, others))


def _advice(name: str, others: Collection[str]) -> str:
    if not name:
        return "Write it as mem=32GB."
    known = [*(OPTIONS.keys() - MANAGED.keys()), *OWN, *others]
    nearest = difflib.get_close_matches(bare(name), sorted(known), n=1)
    if not nearest:
        return "Here stand options of sbatch (man sbatch); what is for the command itself goes before --slurm."
    return f"Did you mean {f'--{nearest[0]}' if nearest[0] in others else nearest[0].replace('-', '_')}?"


def shown(text: str) -> str:
    """Return a text for a message, in which nothing can act on a terminal."""
    return text if text.isprintable() else repr(text)
