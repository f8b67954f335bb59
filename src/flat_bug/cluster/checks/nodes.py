"""Whether nodes get a Python: modules, interpreter, environment."""

from collections.abc import Sequence
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level, some
from flat_bug.cluster.checks.visible import hidden
from flat_bug.cluster.login_shell import Interpreter, Shell, available_pythons, load_modules
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.experiments.plan import Task

EXTRA_OF_WEIGHTS = {".pt": "train"}
"""Weight files that need an extra of flat-bug on the node."""
EXTRA_OF_CALLS = {"train-model": "train"}
"""Kinds of tasks that need one."""


def check_modules_and_python(case: Case) -> list[Finding]:
    """Load the modules of the profile here, as a job does on its node, and ask for the interpreter."""
    if case.settings.has_setup:
        found = "left to the script of slurm_setup"
        return [Finding("modules", Level.GREEN, found), Finding("python", Level.GREEN, found)]
    profile = case.settings.profile
    shell = load_modules(profile.module_commands(), profile.python)
    return [_modules(profile, shell), _python(profile, shell)]


def _modules(profile: ClusterProfile, shell: Shell) -> Finding:
    if shell.failure:
        mend = f"Correct `modules` in the profile {profile.name}; module spider NAME finds them."
        if any(word.lower().startswith("python/") for word in profile.modules):
            known = available_pythons()
            mend += f" Python here: {some(known)}." if known else ""
        if not shell.has_modules:
            mend = f"Leave `modules` of the profile {profile.name} empty, if the nodes have none either."
        return Finding("modules", Level.RED, shell.failure, mend)
    if not profile.modules:
        return Finding("modules", Level.GREEN, "the profile loads none")
    return Finding("modules", Level.GREEN, some(shell.loaded or profile.modules, most=12))


def _python(profile: ClusterProfile, shell: Shell) -> Finding:
    found = shell.interpreter
    if found is None:
        what = f"there is no {profile.python} here" + (", with the modules loaded" if profile.modules else "")
        mend = f"Correct `python` or `modules` in the profile {profile.name}."
        return Finding("python", Level.RED, what, mend)
    text = f"{found.version}, {found.machine}, glibc {found.glibc or 'unknown'} ({found.path})"
    if found.version.split(".")[:2] != profile.python_version.split("."):
        mend = f'Load another module, or write python_version: "{".".join(found.version.split(".")[:2])}".'
        return Finding("python", Level.RED, f"{text}; the profile says {profile.python_version}", mend)
    differs = _differences(profile, found)
    if differs:
        mend = "If nodes are like this machine, correct the profile and build the environment again."
        return Finding("python", Level.YELLOW, f"{text}; the profile says {' and '.join(differs)} of the nodes", mend)
    return Finding("python", Level.GREEN, text)


def _differences(profile: ClusterProfile, found: Interpreter) -> list[str]:
    differs = [profile.machine] if found.machine != profile.machine else []
    if found.glibc and _version(found.glibc) < _version(profile.glibc):
        differs.append(f"glibc {profile.glibc}")
    return differs


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".") if part.isdecimal())


def check_environment_of(case: Case) -> Finding:
    """Look whether the environment is whole, closes without the network, and holds what the tasks need."""
    settings = case.settings
    if settings.has_setup:
        return Finding("environment", Level.GREEN, "made by the script of slurm_setup")
    if settings.environment is None:
        return _without_environment(case)
    return _check_environment(case, Path(settings.environment))


def _check_environment(case: Case, dist: Path) -> Finding:
    from flat_bug.cluster.environment.check import check_environment  # noqa: PLC0415 - takes a resolver

    why, elsewhere = hidden(dist, case.site), "Build it in a folder that nodes see."
    if why and case.site is not None:
        return Finding("environment", Level.RED, f"{dist} {why}", elsewhere)
    # Nodes check every digest; of a large environment that takes a minute.
    checked = check_environment(dist, case.settings.profile, extras_needed(case.tasks), thorough=not case.is_quick)
    if not checked.is_good:
        found = f"{dist}: {'; '.join(checked.problems)}"
        return Finding("environment", Level.RED, found, checked.mend, checked.error())
    if why:
        return Finding("environment", Level.YELLOW, f"{dist} {why}", elsewhere)
    if checked.notes:
        return Finding("environment", Level.YELLOW, f"{dist}: {'; '.join(checked.notes)}", checked.mend)
    proof = "closes offline" if checked.manifest is None else f"closes offline, {len(checked.manifest.wheels)} wheels"
    return Finding("environment", Level.GREEN, f"{dist}: {proof}{'' if case.is_quick else ', all digests right'}")


def _without_environment(case: Case) -> Finding:
    python = Path(case.settings.python)
    why = hidden(python, case.site)
    if why:
        mend = "Build one, and name it: fb env build -o dist; --slurm environment=dist"
        level = Level.RED if case.site is not None else Level.YELLOW
        return Finding("environment", level, f"none is named, and {python} {why}", mend)
    found = f"none is named: nodes use {python}"
    mend = "From one that fb env build has made, a job starts several times faster."
    # On one machine there is nothing to gain.
    if case.site is not None and case.site.is_this_machine:
        return Finding("environment", Level.GREEN, found)
    return Finding("environment", Level.YELLOW, found, mend)


def extras_needed(tasks: Sequence[Task]) -> list[str]:
    """Return the extras of flat-bug that tasks need on their nodes."""
    found = {EXTRA_OF_CALLS.get(task.call) for task in tasks}
    found |= {EXTRA_OF_WEIGHTS.get(Path(str(task.args.get("weights", ""))).suffix) for task in tasks}
    return sorted(filter(None, found))
