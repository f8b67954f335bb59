"""Whether there is room for the run, where it is written and where its people are over quota."""

import errno
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level
from flat_bug.cluster.checks.visible import hidden, is_doubtful, kind_of_file_system
from flat_bug.cluster.scheduler import clean_environment
from flat_bug.cluster.site import user_name
from flat_bug.datasets.space import readable
from flat_bug.experiments.node_path import NodePath

BYTES_PER_TASK = 50_000_000
"""What a task leaves in the run, with room to spare: predictions, tables, a few pictures."""
FILES_PER_TASK = 500
TRIAL_BYTES = 1 << 20
QUOTA_SECONDS = 20.0


def check_space(case: Case) -> Iterator[Finding]:
    """Look at the run folder, and at the folders that fill up first: home and scratch."""
    scratch = _scratch(case)
    if case.run is not None:
        yield _check_run(case, case.run, scratch)
    named = {"home": Path.home(), "scratch": scratch}
    for name, folder in named.items():
        if folder is not None:
            yield _check_folder(name, folder, 0, 0)
    yield from _check_quota()


def _scratch(case: Case) -> Path | None:
    text = case.settings.profile.scratch
    path = NodePath(text) if text else None
    return path.resolve() if path and path.is_known_here() else None


def _check_run(case: Case, run: Path, scratch: Path | None) -> Finding:
    name = "run folder"
    elsewhere = f"Choose one that nodes see: -o {scratch or '$HOME'}/{run.name}"
    why = hidden(run, case.site)
    if why:
        return Finding(name, Level.RED, f"{run} {why}", elsewhere)
    tasks = len(case.tasks)
    found = _check_folder(name, run, tasks * BYTES_PER_TASK, tasks * FILES_PER_TASK)
    if found.level is not Level.GREEN:
        return found
    if is_doubtful(run, case.site):
        what = f"{run} is on a local disk of this machine ({kind_of_file_system(run)})"
        return Finding(name, Level.YELLOW, what, "Check that nodes see it at this place.")
    if case.settings.profile.account_required and scratch and run.resolve().is_relative_to(Path.home().resolve()):
        what = f"{run} is in your home; some clusters refuse jobs from there"
        return Finding(name, Level.YELLOW, what, f"Better: -o {scratch / run.name}")
    return found


def _check_folder(name: str, folder: Path, size: int, files: int) -> Finding:
    """Look for free space, and write something: that alone tells of a quota."""
    there = next((path for path in (folder, *folder.absolute().parents) if path.is_dir()), None)
    if there is None or (name != "run folder" and there != folder):
        return Finding(name, Level.YELLOW, f"{folder} is not there", "Correct `scratch` in the profile.")
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix=".tmp-flat-bug-") as stream:
            stream.write(os.urandom(TRIAL_BYTES))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        mend = (
            "Free some space there; `quota` tells what is full." if full else "Choose a folder that you may write to."
        )
        return Finding(name, Level.RED, f"{there} cannot be written: {error.strerror}", mend)
    state = os.statvfs(there)
    free, inodes = state.f_bavail * state.f_frsize, state.f_favail
    # File systems that make inodes as they go say that there are none at all.
    counted = f", {inodes:,} inodes" if state.f_files else ""
    text = f"{folder}: {readable(free)}{counted} free"
    if free < size or (state.f_files and inodes < files):
        mend = "Free some space, or choose another folder."
        return Finding(name, Level.RED, f"{text}; {readable(size)}, {files:,} files are to be expected", mend)
    return Finding(name, Level.GREEN, text)


def _check_quota() -> Iterator[Finding]:
    """Ask the quotas of the user, where there is a command for it."""
    for command in (["quota", "-w"], ["lfs", "quota", "-q", "-u", user_name(), str(Path.home())]):
        if shutil.which(command[0]):
            over = over_quota(_ask(command))
            if over:
                mend = "Remove files there; a job that cannot write its log ends without a word."
                yield Finding("quota", Level.RED, f"you are over it: {'; '.join(over)}", mend)


def over_quota(answer: str) -> list[str]:
    """Return what ``quota`` or ``lfs quota`` marks as exceeded: a number with a star."""
    lines = [" ".join(line.split()) for line in answer.splitlines()]
    return [line for line in lines if re.search(r"\b[0-9]+[KMGTkmgt]?\*", line)]


def _ask(command: list[str]) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=clean_environment(),
            timeout=QUOTA_SECONDS,
            check=False,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
