"""Runs Slurm's commands: argument lists, a time limit, and an environment of our choice.

Only submitting is elsewhere: ``sbatch.py`` does it through submitit, with the same environment.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from flat_bug.errors import MissingPartError

TIMEOUT = 60.0
"""Slurm's own commands give up after about 30 s without a controller."""

_SILENT = re.compile(
    r"unable to contact slurm controller|could not establish a configuration source|unable to process configuration"
    r"|connect failure|connection (refused|timed out)|socket timed out|sending persistconn init message failed"
    r"|problem talking to the database|zero bytes were transmitted",
    re.IGNORECASE,
)
_FULL = re.compile(
    r"(max|grp)submitjobs?|max.*jobs? per user|maximum number of jobs|temporarily unable to accept", re.IGNORECASE
)
_FULL_OR_TOO_LARGE = re.compile(r"violates accounting/QOS policy", re.IGNORECASE)
_PREFIX = re.compile(r"^(sbatch|squeue|sacct|sacctmgr|scancel|scontrol|sinfo|srun): (error|fatal|warning): ")
# Those of a surrounding job, and of a login script, take precedence over the header of a job that is submitted.
_KEPT = frozenset({"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"})


class SchedulerError(MissingPartError):
    """A command of Slurm failed; the text is the first line of what it said."""


class SchedulerSilentError(SchedulerError):
    """Slurm is not here, or does not answer: nothing follows about jobs, and the same may work later."""


def is_full(error: SchedulerError) -> bool:
    """Return whether Slurm says that it refuses a job only for now, since too many are in its queue."""
    return _FULL.search(error.what) is not None


def may_be_full(error: SchedulerError) -> bool:
    """Return whether Slurm leaves open if too many jobs are in its queue, or if this one asks for too much."""
    return _FULL_OR_TOO_LARGE.search(error.what) is not None


def is_available() -> bool:
    """Return whether jobs can be submitted from this machine."""
    return shutil.which("sbatch") is not None


def run_command(words: Sequence[str], *, timeout: float = TIMEOUT, stdin: str | None = None) -> str:
    """Run a command of Slurm and return what it printed.

    Args:
        words: The command and its arguments; no shell sees them.
        timeout: Seconds to wait for it.
        stdin: Text for its standard input.

    Raises:
        SchedulerSilentError: The command is not here, or the controller does not answer.
        SchedulerError: The command failed.
    """
    return _run(words, timeout, stdin).stdout


def try_submission(script: str, *, start: Path | None = None, timeout: float = TIMEOUT) -> str:
    """Ask Slurm whether it would take a job, without submitting it, and return when and where it would start.

    Args:
        script: The batch script; only its header matters.
        start: The folder that the job would start in, which some sites look at; by default the current one.
        timeout: Seconds to wait for the answer.

    Raises:
        SchedulerSilentError: The command is not here, or the controller does not answer.
        SchedulerError: Slurm would refuse the job.
    """
    answer = _run(["sbatch", "--test-only"], timeout, script, start).stderr
    return next(
        (line.removeprefix("sbatch: ") for line in answer.splitlines() if "to start at" in line), answer.strip()
    )


def clean_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment for a command of Slurm: without what the job that we may be part of asked for."""
    values = os.environ if environment is None else environment
    return {
        name: value
        for name, value in values.items()
        if name in _KEPT or not name.startswith(("SLURM_", "SBATCH_", "SQUEUE_", "SACCT_", "SINFO_", "SCONTROL_"))
    }


def _run(
    words: Sequence[str], timeout: float, stdin: str | None, start: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    command = words[0]
    try:
        done = subprocess.run(
            words,
            input=stdin if stdin is not None else "",
            capture_output=True,
            env=clean_environment(),
            cwd=start,
            timeout=timeout,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except FileNotFoundError as error:
        raise SchedulerSilentError(
            f"Slurm's command {command} is not here",
            mend="Run this on a login node of the cluster.",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SchedulerSilentError(
            f"the scheduler did not answer within {timeout:g} s", where=command, mend="Try again in some minutes."
        ) from error
    if done.returncode != 0:
        raise error_of_text(command, done.stderr)
    return done


def error_of_text(command: str, text: str) -> SchedulerError:
    """Return the error that stands for what a command of Slurm has said."""
    lines = [_PREFIX.sub("", line.strip()) for line in text.splitlines() if _PREFIX.match(line.strip())]
    lines = lines or [line.strip() for line in text.splitlines() if line.strip()]
    first = lines[0].removeprefix("allocation failure: ") if lines else f"{command} failed and said nothing"
    if "configuration source" in text:
        mend = "Run this on a login node of the cluster."
        return SchedulerSilentError("Slurm is not set up on this machine", where=command, mend=mend)
    if _SILENT.search(text):
        return SchedulerSilentError(
            f"the scheduler does not answer: {first}", where=command, mend="Try again in some minutes."
        )
    return SchedulerError(first, where=command)
