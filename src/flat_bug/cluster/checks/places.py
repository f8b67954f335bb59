"""Whether weights, images, ground truth and archives are where nodes will look for them."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from flat_bug.cluster.checks.finding import Case, Finding, Level, some
from flat_bug.cluster.checks.visible import hidden, is_doubtful
from flat_bug.datasets.archive_index import ArchiveManifest, read_manifest
from flat_bug.datasets.archive_parts import select
from flat_bug.datasets.coco import read_coco
from flat_bug.datasets.space import readable
from flat_bug.errors import FlatBugError
from flat_bug.experiments.node_path import NodePath
from flat_bug.experiments.plan import Stage, Task

OF_THE_NODE = frozenset({"SLURM_TMPDIR", "SLURM_JOB_ID", "SLURM_ARRAY_TASK_ID", "TMPDIR"})
"""Variables that have another value on each node."""
GROUND_TRUTH = "ground_truth"
"""Name of the argument that is a COCO file."""


@dataclass(frozen=True)
class _Wrong:
    """What is wrong with one path."""

    level: Level
    what: str
    mend: str


def check_inputs(case: Case) -> Iterator[Finding]:
    """Look for each input of the tasks: here, if nodes see it, or in what is staged."""
    stages = dict.fromkeys(stage for task in case.tasks for stage in task.stage)
    # A large one takes a while to read, and the plan has just read it.
    archives = {} if case.is_quick else {stage: _read(stage) for stage in stages}
    names = dict.fromkeys(name for task in case.tasks for name in task.inputs)
    for name in names:
        with_it = [task for task in case.tasks if name in task.inputs]
        paths = dict.fromkeys(str(task.args[name]) for task in with_it)
        by_path = {path: next(task for task in with_it if task.args[name] == path) for path in paths}
        wrong = {path: found for path, task in by_path.items() if (found := _wrong(path, task, case, archives))}
        line = _summed(name.replace("_", " "), list(by_path), wrong)
        # The plan was made with these paths; what it lets pass was asked for, as by --soft.
        yield replace(line, level=Level.YELLOW) if case.is_quick and line.level is Level.RED else line
    for stage in stages:
        yield _check_place(case, stage) if case.is_quick else _check_archive(case, stage, archives[stage])


def _summed(name: str, paths: list[str], wrong: dict[str, _Wrong]) -> Finding:
    if not wrong:
        return Finding(name, Level.GREEN, paths[0] if len(paths) == 1 else f"{len(paths)} files")
    level = Level.RED if any(found.level is Level.RED for found in wrong.values()) else Level.YELLOW
    first = next(found for found in wrong.values() if found.level is level)
    same = [path for path, found in wrong.items() if (found.level, found.what) == (level, first.what)]
    return Finding(name, level, f"{some(same)}: {first.what}", first.mend)


def _wrong(text: str, task: Task, case: Case, archives: dict[Stage, ArchiveManifest | FlatBugError]) -> _Wrong | None:
    path = NodePath(text)
    if OF_THE_NODE & set(path.variables()):
        return _wrong_on_node(text, task, case, archives)
    if not path.is_known_here():
        unset = some(name for name in path.variables() if not os.environ.get(name))
        mend = f"Set {unset} here, or name the folder itself."
        return _Wrong(Level.YELLOW, f"the variable {unset} is not set here, so nobody knows", mend)
    return _wrong_here(path.resolve(), case) or (None if case.is_quick else _broken(path.resolve(), task, text))


def _broken(path: Path, task: Task, text: str) -> _Wrong | None:
    """Return what is wrong with the content of a ground truth, which the plan has looked at before."""
    if task.args.get(GROUND_TRUTH) != text or not path.is_file():
        return None
    try:
        read_coco(path)
    except FlatBugError as error:
        return _Wrong(Level.RED, error.what, error.mend or "Export it again.")
    return None


def _wrong_here(path: Path, case: Case) -> _Wrong | None:
    why = hidden(path, case.site)
    if why:
        level = Level.RED if case.site is not None else Level.YELLOW
        return _Wrong(level, why, "Move it to your home, project or scratch folder.")
    if not path.exists():
        return _Wrong(Level.RED, "it is not there", 'Check the path; a node\'s own folder is "\\$SLURM_TMPDIR/…".')
    if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
        return _Wrong(Level.RED, "you may not read it", f"Ask its owner, or: chmod u+rX {path.name}")
    if is_doubtful(path, case.site):
        return _Wrong(Level.YELLOW, "it is on a local disk of this machine", "Check that nodes see it at this place.")
    return None


def _wrong_on_node(
    text: str, task: Task, case: Case, archives: dict[Stage, ArchiveManifest | FlatBugError]
) -> _Wrong | None:
    staged = [stage for stage in task.stage if _inside(text, stage) is not None]
    if case.is_quick and (staged or case.settings.has_setup):
        return None
    found = [archives[stage] for stage in staged]
    if any(isinstance(manifest, FlatBugError) for manifest in found):
        return _Wrong(Level.RED, "its archive is not right", "See the line of the archive.")
    for stage in staged:
        inner, manifest = _inside(text, stage), archives[stage]
        if inner is None or isinstance(manifest, FlatBugError):
            continue
        taken = (member.name for member in select(manifest, stage.only).members)
        if any(name == inner or name.startswith(f"{inner}/") for name in taken):
            return None
    if found:
        return _Wrong(Level.RED, "the archive does not hold it", "Check the path, or pack the tree again: fb data pack")
    if case.settings.has_setup:
        return _Wrong(Level.YELLOW, "the script of slurm_setup is to put it there", "With -a ARCHIVE it is checked.")
    return _Wrong(Level.RED, "nothing puts it on the node", "Name the archive that holds it: -a fb_yolo.zip")


def _inside(text: str, stage: Stage) -> str | None:
    """Return the name in an archive of what lies in the folder that it is staged into, or nothing."""
    braces = f"${{{stage.into[1:]}}}" if stage.into.startswith("$") else stage.into
    for start in (stage.into, braces):
        if text.startswith(f"{start}/"):
            return text[len(start) :].strip("/")
    return None


def _read(stage: Stage) -> ArchiveManifest | FlatBugError:
    try:
        manifest = read_manifest(NodePath(stage.archive).resolve())
        select(manifest, stage.only)
    except FlatBugError as error:
        return error
    return manifest


def _check_place(case: Case, stage: Stage) -> Finding:
    path = NodePath(stage.archive).resolve()
    wrong = _wrong_here(path, case)
    if wrong:
        return Finding("archive", wrong.level, f"{path}: {wrong.what}", wrong.mend)
    return Finding("archive", Level.GREEN, str(path))


def _check_archive(case: Case, stage: Stage, found: ArchiveManifest | FlatBugError) -> Finding:
    if isinstance(found, FlatBugError):
        mend = found.mend or "Pack the tree again: fb data pack TREE"
        return Finding("archive", Level.RED, found.brief(), mend)
    wrong = _wrong_here(found.path, case)
    if wrong:
        return Finding("archive", wrong.level, f"{found.path}: {wrong.what}", wrong.mend)
    selection = select(found, stage.only)
    text = f"{found.path}: {len(selection.members):,} files, {readable(selection.bytes)} go to each node"
    disk = _smallest_disk(case)
    if disk and selection.bytes > disk:
        mend = "Score fewer images, or ask for nodes with larger disks: tmp=20G"
        return Finding("archive", Level.RED, f"{text}, whose disk has {readable(disk)}", mend)
    if not found.has_digests:
        return Finding("archive", Level.YELLOW, f"{text}, without digests", "fb data pack writes digests into it.")
    return Finding("archive", Level.GREEN, text)


def _smallest_disk(case: Case) -> int:
    """Return the bytes of the local disk of a node, or 0 where Slurm was not told."""
    wanted = case.settings.options.get("partition") or case.settings.profile.partition
    partition = case.partition(str(wanted) if wanted else None)
    return partition.disk_mb << 20 if partition else 0
