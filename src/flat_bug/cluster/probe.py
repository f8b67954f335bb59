"""A profile from what a cluster says of itself, each value with its source."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from flat_bug.cluster.batch_script import batch_script
from flat_bug.cluster.login_shell import Interpreter, available_pythons, load_modules
from flat_bug.cluster.option_values import Value, seconds_of_time
from flat_bug.cluster.profile import ACCOUNT_VARIABLES, SHELL_WORD, ClusterProfile
from flat_bug.cluster.scheduler import SchedulerError, try_submission
from flat_bug.cluster.site import Partition, Site, read_site
from flat_bug.cluster.submission import FINALISER, Submission

OLDEST_PYTHON = (3, 11)
MOST_CPUS = 8
USABLE_MEMORY = 0.9
"""A part of a node's memory is the system's own."""


@dataclass(frozen=True)
class Entry:
    """One setting of a profile, and where its value comes from."""

    name: str
    value: Any
    source: str


@dataclass(frozen=True)
class Probed:
    """What was found out.

    Attributes:
        profile: The profile.
        text: The same as YAML, with a comment for each value.
        notes: What the user should know: a sentence each.
    """

    profile: ClusterProfile
    text: str
    notes: tuple[str, ...]


def probe() -> Probed:
    """Ask the cluster that this machine belongs to.

    Raises:
        SchedulerError: Slurm is not here, or does not answer.
    """
    site = read_site()
    entries = list(_entries(site))
    text = _as_yaml(site, entries)
    profile = ClusterProfile.from_mapping(ClusterProfile.read_yaml(text), where="what the cluster says")
    return Probed(profile, text, tuple(_notes(site, profile)))


def _entries(site: Site) -> Iterator[Entry]:
    yield Entry("name", _printable(site.name), "scontrol show config: ClusterName")
    yield Entry("description", f"Slurm {_printable(site.version)}, probed from {platform.node()}", "")
    yield from _python_entries()
    yield from _account_entries(site)
    names = [partition.name for partition in site.partitions]
    known = "".join(f"\n# {_about(partition)}" for partition in site.partitions)
    yield Entry("partitions", names, f"sinfo, the default one first{known}")
    if names and not site.partitions[0].is_default:
        yield Entry("partition", names[0], "no partition is the default one; choose")
    yield from _folder_entries()
    yield Entry("resources", _resources(site), "chosen to fit into a node, see sinfo")
    yield Entry("arrays", site.has_arrays, f"scontrol show config: MaxArraySize = {site.config.get('MaxArraySize')}")
    yield Entry("accounting", site.has_accounting, "scontrol show config: AccountingStorageType")
    if site.has_arrays:
        yield Entry("max_array_size", site.max_array_size, "scontrol show config: MaxArraySize")
    limit = _submit_limit(site)
    if limit:
        yield Entry(
            "max_submit_jobs", limit, "sacctmgr show assoc, show qos: the least MaxSubmitJobs that holds for you"
        )


def _about(partition: Partition) -> str:
    has = ", ".join([f"{partition.cpus} processors", f"{partition.memory_mb} MB", *partition.gres])
    return _printable(f"{partition.name}: {partition.nodes} nodes with {has}; up to {partition.time_limit}")


def _python_entries() -> Iterator[Entry]:
    module = best_python(available_pythons())
    if module:
        shell = load_modules([f"module load {module}"], "python3")
        yield Entry("modules", [module], "module avail python; add what your tasks need, in this order")
        yield Entry("purge_modules", True, "so that modules of the login shell do not get in the way")
        yield from _interpreter_entries("python3", shell.interpreter, f"with {module} loaded")
        return
    shell = load_modules([], "python3")
    found = shell.interpreter
    if found and _numbers(found.version)[:2] >= OLDEST_PYTHON:
        yield from _interpreter_entries("python3", found, "no module of Python was found; this one is in the path")
        return
    # The interpreter of a virtual environment leads to this one.
    path = str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}"))
    if SHELL_WORD.fullmatch(path):
        here = load_modules([], path).interpreter
        yield from _interpreter_entries(path, here, "the one that runs flat-bug here; do nodes see it?")


def _interpreter_entries(python: str, found: Interpreter | None, source: str) -> Iterator[Entry]:
    yield Entry("python", python, source)
    if found is None:
        return
    yield Entry("python_version", ".".join(found.version.split(".")[:2]), f"{found.path} is {found.version}")
    yield Entry("machine", found.machine, "of this machine; nodes may differ: srun uname -m")
    if re.fullmatch(r"2\.\d+", found.glibc):
        yield Entry("glibc", found.glibc, "of that interpreter here; nodes may have an older one: srun ldd --version")


def best_python(modules: tuple[str, ...]) -> str | None:
    """Return the module of Python to load: the newest patch of the oldest version that will do.

    That one has wheels of every part.
    """
    versions = {name: _numbers(name.partition("/")[2]) for name in modules}
    fitting = sorted((version, name) for name, version in versions.items() if version[:2] >= OLDEST_PYTHON)
    if not fitting:
        return None
    minor = fitting[0][0][:2]
    return max((version, name) for version, name in fitting if version[:2] == minor)[1]


def _account_entries(site: Site) -> Iterator[Entry]:
    names = list(dict.fromkeys(association.short_name for association in site.associations or ()))
    chosen = next((os.environ[name] for name in ACCOUNT_VARIABLES if os.environ.get(name) in names), None)
    if chosen:
        names = [chosen, *(name for name in names if name != chosen)]
    if names:
        source = "sacctmgr show assoc; the first one is charged"
        yield Entry("accounts", names, f"{source}, as your login shell says" if chosen else source)
    if site.has_accounting and refused_without_account():
        yield Entry("account_required", True, "sbatch --test-only refuses a job without one")


def refused_without_account() -> bool:
    """Return whether Slurm refuses the simplest job for want of an account."""
    try:
        try_submission("#!/bin/bash\n#SBATCH --time=5\n")
    except SchedulerError as error:
        return "account" in error.what.lower()
    return False


def _folder_entries() -> Iterator[Entry]:
    home = Path.home()
    for text, folder in (("$SCRATCH", os.environ.get("SCRATCH")), ("$HOME/scratch", str(home / "scratch"))):
        if folder and Path(folder).is_dir():
            yield Entry("scratch", text, folder)
            break
    source = "usual names; which of them a job has only a job can tell: srun env | grep TMPDIR"
    yield Entry("node_folders", ["SLURM_TMPDIR", "TMPDIR"], source)


def _resources(site: Site) -> dict[str, dict[str, str | int]]:
    """Return modest wishes that a node can fulfil."""
    default = next((partition for partition in site.partitions if partition.is_default), None)
    partitions = ([default] if default else []) + [partition for partition in site.partitions if partition.is_up]
    with_gpu = next((partition for partition in partitions if partition.gpus), None)
    place = with_gpu or next(iter(partitions), Partition("none"))
    special: dict[str, str | int] = {"gres": "gpu:1"} if with_gpu else {}
    if with_gpu and with_gpu is not default:
        special["partition"] = with_gpu.name
    last = default or place
    return {
        "score-model": {**special, **_wish(place, 32, "02:00:00")},
        "train-model": {**special, **_wish(place, 64, "1-00:00:00")},
        "finalise": {"cpus_per_task": 1, "mem": _memory(last, 4), "time": _time(last, "00:15:00")},
    }


def _wish(place: Partition, gigabytes: int, time: str) -> dict[str, str | int]:
    gpus = sum(int(name.split(":")[-1]) for name in place.gpus if name.split(":")[-1].isdecimal())
    # A task that takes all processors of a node leaves its other GPUs idle.
    share = place.cpus // gpus if gpus > 1 else place.cpus
    cpus = max(1, min(MOST_CPUS, share or MOST_CPUS))
    return {"cpus_per_task": cpus, "mem": _memory(place, gigabytes), "time": _time(place, time)}


def _memory(place: Partition, gigabytes: int) -> str:
    usable = int(place.memory_mb * USABLE_MEMORY)
    return f"{gigabytes}G" if not usable or usable >= gigabytes * 1024 else f"{usable}M"


def _time(place: Partition, time: str) -> str:
    return time if seconds_of_time(time) <= place.seconds else place.time_limit


def _submit_limit(site: Site) -> int | None:
    limits = [association.max_submit_jobs for association in site.associations or () if association.max_submit_jobs]
    return min(limits, default=None)


def _notes(site: Site, profile: ClusterProfile) -> Iterator[str]:
    if site.associations is None and site.has_accounting:
        yield "the accounting does not answer, so accounts and limits are unknown"
    requeue, preempt = site.config.get("JobRequeue"), site.config.get("PreemptMode", "OFF")
    if requeue == "0":
        yield "jobs of failed nodes are not queued again unless they ask for it, which ours do"
    if preempt.upper() not in {"OFF", "(NULL)"}:
        yield f"jobs may be preempted ({preempt}); tasks that were are run again"
    for kind in profile.resources:
        yield f"{kind}: {_would_be_taken(profile, kind)}"


def _would_be_taken(profile: ClusterProfile, kind: str) -> str:
    options: dict[str, Value] = {**profile.resources_for(kind)}
    account = profile.default_account()
    if account:
        options.setdefault("account", account)
    if profile.partition:
        options.setdefault("partition", profile.partition)
    submission = Submission(number=1, purpose=FINALISER, options=options, is_array=False)
    try:
        answer = try_submission(batch_script(submission))
    except SchedulerError as error:
        return f"Slurm would refuse it: {error.what}"
    return re.sub(r"^Job [0-9]+ to start", "could start", answer)


def _as_yaml(site: Site, entries: list[Entry]) -> str:
    lines = [
        f"# What the cluster {_printable(site.name)} says of itself; written by fb cluster probe. Yours to change."
    ]
    for entry in entries:
        if entry.source:
            lines.append(f"# {entry.source}")
        if entry.name == "resources":
            lines.append("resources:")
            lines += [f"  {kind}: {_flow(wishes)}" for kind, wishes in entry.value.items()]
        else:
            lines.append(f"{entry.name}: {_flow(entry.value)}")
    return "\n".join(lines) + "\n"


def _flow(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", text))


def _printable(text: str) -> str:
    return "".join(character for character in text if character.isprintable())
