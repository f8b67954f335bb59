"""Proof, before anything is queued, that an environment is whole and holds all that the tasks need."""

import shlex
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

import flat_bug
from flat_bug.cluster.environment.lock import read_lock
from flat_bug.cluster.environment.manifest import FileEntry, Manifest, WheelEntry, read_manifest
from flat_bug.cluster.environment.own_wheel import NAME, changed_since
from flat_bug.cluster.environment.resolve import for_target
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.tools import run_uv
from flat_bug.cluster.environment.wheels import parse
from flat_bug.cluster.profile import ClusterProfile, all_profiles, load_profile
from flat_bug.errors import FlatBugError, MissingPartError
from flat_bug.files import sha256_of
from flat_bug.progress import track

NAMES_IN_A_NOTE = 3


@dataclass(frozen=True)
class EnvironmentCheck:
    """What was found in an environment.

    Attributes:
        dist: Its folder.
        problems: What keeps tasks from running with it, a line each.
        notes: What a user should know.
        mend: The command that mends the problems.
        manifest: What the environment says of itself, if it says anything.
        seconds: How long the check took.
    """

    dist: Path
    problems: tuple[str, ...]
    notes: tuple[str, ...]
    mend: str
    manifest: Manifest | None
    seconds: float

    @property
    def is_good(self) -> bool:
        """Whether tasks can run with it."""
        return not self.problems

    def error(self) -> MissingPartError:
        """Return the error that names every problem."""
        return MissingPartError(
            "the environment is not fit for the tasks",
            where="\n    ".join([str(self.dist), *self.problems]),
            mend=self.mend,
        )


def check_environment(
    dist: Path, profile: ClusterProfile, extras: Sequence[str] = (), *, thorough: bool = True
) -> EnvironmentCheck:
    """Check every file of an environment, and that it closes without the network.

    Args:
        dist: What ``fb env build`` has made.
        profile: The cluster whose nodes will use it.
        extras: Extras of flat-bug that the tasks need.
        thorough: Verify the digest of every file; otherwise only that each has its size.
    """
    start = time.monotonic()
    dist = dist.expanduser().resolve()
    needed = tuple(sorted({canonicalize_name(extra) for extra in extras}))
    mend = f"Run: {_command(dist, profile, needed, None)}"
    try:
        manifest = read_manifest(dist)
        target = Target.of(profile)
    except FlatBugError as error:
        return EnvironmentCheck(dist, (error.brief(),), (), mend, None, time.monotonic() - start)
    problems = [*_misfits(manifest, target, profile), *_missing_extras(manifest, needed)]
    problems += _broken_files(manifest, dist, target, thorough=thorough)
    if not problems:
        problems += _gaps(manifest, dist, target, needed)
    mend = f"Run: {_command(dist, profile, needed, manifest)}"
    notes = () if problems else _notes(manifest, dist)
    return EnvironmentCheck(dist, tuple(problems), tuple(notes), mend, manifest, time.monotonic() - start)


def _misfits(manifest: Manifest, target: Target, profile: ClusterProfile) -> list[str]:
    problems = []
    made_for = manifest.target
    same_machine = (made_for.python_version, made_for.machine) == (target.python_version, target.machine)
    if not same_machine or made_for.glibc_minor > target.glibc_minor:
        problems.append(f"made for {made_for}; the profile {profile.name} says {target}")
    if manifest.version != flat_bug.__version__:
        problems.append(f"it holds flat-bug {manifest.version}, and {flat_bug.__version__} submits")
    return problems


def _missing_extras(manifest: Manifest, needed: Sequence[str]) -> list[str]:
    return [
        f"built without the extra {extra}, which the tasks need" for extra in needed if extra not in manifest.extras
    ]


def _broken_files(manifest: Manifest, dist: Path, target: Target, *, thorough: bool) -> list[str]:
    """Return a line for each file that is missing or damaged, and each wheel that the nodes cannot use."""
    files: list[tuple[Path, FileEntry | WheelEntry]] = [(dist / manifest.lock.file, manifest.lock)]
    files += [(dist / entry.file, entry) for entry in manifest.packed.values()]
    files += [(wheel.path(dist), wheel) for wheel in manifest.wheels]
    with ThreadPoolExecutor() as pool:
        damages = pool.map(lambda file: _damage(*file, thorough=thorough), files)
        found = list(track(damages, "Checking the environment", total=len(files)))
    problems = [problem for problem in found if problem]
    unfit = [wheel.file for wheel in manifest.wheels if not _runs_on(wheel.file, target)]
    if unfit:
        problems.append(f"incompatible with {target}: {_some(unfit)}")
    return problems


def _runs_on(file: str, target: Target) -> bool:
    name = parse(file)
    return name is not None and target.rank(name.tags) is not None


def _damage(path: Path, entry: FileEntry | WheelEntry, *, thorough: bool) -> str:
    try:
        size = path.stat().st_size
        if size != entry.bytes:
            return f"damaged: {path} has {size} bytes instead of {entry.bytes}"
        if thorough and sha256_of(path) != entry.sha256:
            return f"damaged: {path} has another content than was built"
    except OSError as error:
        return f"missing: {path} ({error.strerror})"
    return ""


def _gaps(manifest: Manifest, dist: Path, target: Target, needed: Sequence[str]) -> list[str]:
    """Resolve what the tasks need from the wheelhouse alone, at the locked versions."""
    folders = {str(dist), *(wheel.folder for wheel in manifest.wheels if wheel.folder)}
    extras = f"[{','.join(needed)}]" if needed else ""
    try:
        pins = read_lock(dist / manifest.lock.file)
        with tempfile.TemporaryDirectory() as temporary:
            asked, locked = Path(temporary, "asked.in"), Path(temporary, "locked.txt")
            asked.write_text("\n".join([f"{NAME}{extras}=={manifest.version}", *manifest.packages]), encoding="utf-8")
            locked.write_text("".join(f"{name}=={version}\n" for name, (version, _) in pins.items()), encoding="utf-8")
            command = ["pip", "compile", "--quiet", str(asked), "-c", str(locked), "--no-index", "--no-cache"]
            command += [word for folder in sorted(folders) for word in ("--find-links", folder)]
            run_uv([*command, "--only-binary", ":all:", *for_target(target)], what="it does not close", offline=True)
    except MissingPartError as error:
        return [f"{error.what}: {' '.join(error.where.split())}"]
    return []


def _notes(manifest: Manifest, dist: Path) -> list[str]:
    notes = []
    known = {wheel.file for wheel in manifest.wheels}
    others = sorted(path.name for path in dist.glob("*.whl") if path.name not in known)
    if others:
        notes.append(f"extra wheels, which the lock does not name and nobody installs: {_some(others)}")
    changed = changed_since(next(wheel.path(dist) for wheel in manifest.wheels if wheel.name == NAME))
    if changed:
        notes.append(f"flat-bug has changed since it was built; nodes run the old {_some(changed)}")
    if not manifest.packed:
        notes.append("nothing is packed, so jobs start slower")
    return notes


def _some(names: Sequence[str]) -> str:
    more = len(names) - NAMES_IN_A_NOTE
    return ", ".join(names[:NAMES_IN_A_NOTE]) + (f" and {more} more" if more > 0 else "")


def _command(dist: Path, profile: ClusterProfile, needed: Sequence[str], manifest: Manifest | None) -> str:
    words = ["fb", "env", "build", "-o", str(dist)]
    if profile != load_profile():
        words += ["--profile", profile.name if profile.name in all_profiles() else "FILE"]
    for extra in sorted({*needed, *(manifest.extras if manifest else ())}):
        words += ["--extra", extra]
    for package in manifest.packages if manifest else ():
        words += ["--with", package]
    return shlex.join(words)
