"""``fb env build``: from what flat-bug requires to a wheelhouse that closes, and its packed forms."""

import hashlib
import json
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.parser import HeaderParser
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from flat_bug.cluster.environment.fetch import build_pure_wheels, download
from flat_bug.cluster.environment.lock import check_folders, lock_text
from flat_bug.cluster.environment.manifest import LOCK_NAME, FileEntry, Manifest, WheelEntry, read_manifest
from flat_bug.cluster.environment.own_wheel import NAME, build_own_wheel
from flat_bug.cluster.environment.packed import find_interpreter, pack, remove_packed
from flat_bug.cluster.environment.resolve import Resolved, Source, resolve
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.wheels import installed_size, parse, provided_versions
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.errors import MissingPartError, UsageError
from flat_bug.files import cannot_write, remove, sha256_of, write_text
from flat_bug.locks import hold

INSTALLERS = ("pip",)
"""Wheels for the node's slowest way; uv, for the one before, is required by flat-bug."""


@dataclass
class BuiltEnvironment:
    """What a build has done.

    Attributes:
        dist: Its folder.
        manifest: What lies there now.
        downloaded: Wheels that were downloaded.
        pruned: Wheels of an earlier build that were removed.
        notes: What a user should know.
    """

    dist: Path
    manifest: Manifest
    downloaded: tuple[str, ...]
    pruned: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass
class _Work:
    """What a build is made from, and what it has to tell."""

    dist: Path
    target: Target
    extras: tuple[str, ...]
    packages: tuple[str, ...]
    provided: tuple[Path, ...]
    provided_versions: dict[str, str]
    before: Manifest | None
    downloaded: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def build_environment(
    profile: ClusterProfile,
    dist: Path,
    *,
    extras: Sequence[str] = (),
    packages: Sequence[str] = (),
    upgrade: bool = False,
) -> BuiltEnvironment:
    """Build or renew the environment for the nodes of a cluster; what is there and right is kept.

    Args:
        profile: The cluster.
        dist: Folder of the wheelhouse, made when absent.
        extras: Extras of flat-bug that tasks need.
        packages: Requirements beside flat-bug, such as ``"scikit-image>=0.25"``.
        upgrade: Choose the newest versions instead of those of the last build.

    Raises:
        ConfigError: There are no wheels for such nodes.
        UsageError: An extra does not exist, or a package is none.
        MissingPartError: Something cannot be had: a wheel, the network.
        OutputError: The folder cannot be written to.
        RunError: Another build is at work there.
    """
    dist = dist.expanduser().resolve()
    check_folders(profile.provided_wheels)
    target = Target.of(profile)
    folders = [Path(folder) for folder in profile.provided_wheels]
    provided = tuple(folder for folder in folders if folder.is_dir())
    work = _Work(
        dist=dist,
        target=target,
        extras=tuple(sorted({canonicalize_name(extra) for extra in extras})),
        packages=tuple(sorted({_requirement(package) for package in packages})),
        provided=provided,
        provided_versions=provided_versions(provided, target),
        before=None,
        notes=[f"{folder} is not here, so nothing is reused from it" for folder in folders if folder not in provided],
    )
    _make_folder(dist)
    with hold(dist / ".lock", "the wheelhouse"):
        work.before = _read_before(dist)
        return _build(work, upgrade=upgrade)


def _build(work: _Work, *, upgrade: bool) -> BuiltEnvironment:
    dist = work.dist
    intact = _remove_damaged(work)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=dist) as temporary:
        own = build_own_wheel(Path(temporary))
        asked = _asked(work, own)
        unchanged = work.before is not None and work.before.asked == asked and intact and not upgrade
        if unchanged and work.before is not None:
            wheels = [wheel for wheel in work.before.wheels if wheel.name != NAME]
        else:
            wheels = _wheels(work, own, upgrade=upgrade)
        own.replace(dist / own.name)
    wheels.append(_entry_of(dist / own.name, NAME))
    write_text(dist / LOCK_NAME, lock_text(wheels, work.target))
    lock = FileEntry.of(dist / LOCK_NAME)
    size = installed_size(wheels, dist)
    packed = _packed(work, lock, size.bytes)
    manifest = Manifest(
        version=wheels[-1].version,
        python_version=work.target.python_version,
        machine=work.target.machine,
        glibc=work.target.glibc,
        extras=work.extras,
        packages=work.packages,
        asked=asked,
        lock=lock,
        wheels=tuple(sorted(wheels, key=lambda wheel: wheel.name)),
        installed=size,
        packed=packed,
        packed_from=lock.sha256 if packed else "",
    )
    manifest.write(dist)
    return BuiltEnvironment(dist, manifest, tuple(work.downloaded), _prune(work, manifest), tuple(work.notes))


def _wheels(work: _Work, own: Path, *, upgrade: bool) -> list[WheelEntry]:
    """Choose all wheels but our own, and download those that are not there."""
    resolved = [found for found in _resolve(work, own, upgrade=upgrade) if found.name != NAME]
    chosen = [(found, _choose(work, found)) for found in resolved]
    entries = [_provided_entry(work, found, source) for found, source in chosen]
    absent = [
        pair for pair, entry in zip(chosen, entries, strict=True) if entry is None and not _is_there(work, pair[1])
    ]
    download(absent, work.dist, work.target)
    work.downloaded += [source.file for _, source in absent]
    return [
        entry or _entry_of(work.dist / source.file, found.name)
        for (found, source), entry in zip(chosen, entries, strict=True)
    ]


def _resolve(work: _Work, own: Path, *, upgrade: bool) -> list[Resolved]:
    extras = f"[{','.join(work.extras)}]" if work.extras else ""
    requirements = [f"{NAME}{extras} @ {own.as_uri()}", *INSTALLERS, *work.packages]
    preferred = work.provided_versions
    if work.before is not None and not upgrade:
        # What the cluster provides comes first also when it is new there.
        kept = {wheel.name: wheel.version for wheel in work.before.wheels if wheel.name != NAME}
        preferred = kept | preferred
    folders = [work.dist, *work.provided]
    try:
        return resolve(requirements, work.target, folders=folders, preferred=preferred)
    except MissingPartError:
        # Perhaps something has no wheel at all. Then we build one, if that takes no compiler, and choose again.
        free = resolve(requirements, work.target, folders=folders, preferred=preferred, wheels_only=False)
        reasons = build_pure_wheels([found for found in free if not found.wheels], work.dist)
        work.notes += reasons
        return resolve(requirements, work.target, folders=folders, preferred=preferred)


def _choose(work: _Work, found: Resolved) -> Source:
    """Return the wheel to use: one that the cluster provides, one that is here, or the best."""
    if not found.wheels:
        raise MissingPartError(f"{found.name} {found.version} has no wheel for {work.target}")
    provided = (source for source in found.wheels if source.path and source.path.parent in work.provided)
    here = (source for source in found.wheels if _is_there(work, source))
    return next(provided, None) or next(here, None) or found.wheels[0]


def _is_there(work: _Work, source: Source) -> bool:
    path = work.dist / source.file
    return path.is_file() and sha256_of(path) == source.sha256


def _provided_entry(work: _Work, found: Resolved, source: Source) -> WheelEntry | None:
    if source.path is None or source.path.parent not in work.provided:
        return None
    return _entry_of(source.path, found.name, folder=str(source.path.parent))


def _entry_of(path: Path, name: str, *, folder: str | None = None) -> WheelEntry:
    parsed = parse(path.name)
    assert parsed is not None  # noqa: S101 - it was chosen by its name
    size = path.stat().st_size
    return WheelEntry(
        name=name, version=str(parsed.version), file=path.name, sha256=sha256_of(path), bytes=size, folder=folder
    )


def _packed(work: _Work, lock: FileEntry, needed: int) -> dict[str, FileEntry]:
    before = work.before
    if before is not None and before.packed_from == lock.sha256 and _all_forms_intact(before, work.dist):
        return dict(before.packed)
    interpreter = find_interpreter(work.target)
    if interpreter is None:
        remove_packed(work.dist)
        work.notes.append(
            f"there is no Python {work.target.python_version} here, so nothing is packed and jobs start slower; "
            "load the module of the profile and build again"
        )
        return {}
    packed = pack(work.dist, work.target, interpreter, needed)
    if "squashfs" not in packed:
        work.notes.append("mksquashfs is not here, so jobs unpack a tar; install squashfs-tools for a faster start")
    return packed


def _all_forms_intact(before: Manifest, dist: Path) -> bool:
    wanted = {"tar", *(["squashfs"] if shutil.which("mksquashfs") else [])}
    return wanted <= before.packed.keys() and all(_is_intact(dist / e.file, e.sha256) for e in before.packed.values())


def _remove_damaged(work: _Work) -> bool:
    """Remove wheels of the last build that have changed since; return whether all are as they were."""
    entries = work.before.wheels if work.before else ()
    damaged = [entry for entry in entries if not _is_intact(entry.path(work.dist), entry.sha256)]
    remove(entry.path(work.dist) for entry in damaged if entry.folder is None)
    return not [entry for entry in damaged if entry.name != NAME]


def _is_intact(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of(path) == sha256


def _prune(work: _Work, manifest: Manifest) -> tuple[str, ...]:
    """Remove what an earlier build has left; what a user put there stays."""
    current = {wheel.file for wheel in manifest.wheels}
    earlier = work.before.wheels if work.before else ()
    stale = [wheel.file for wheel in earlier if wheel.folder is None and wheel.file not in current]
    remove(work.dist / file for file in stale)
    return tuple(stale)


def _asked(work: _Work, own: Path) -> str:
    """Return the digest of all that the choice of wheels depends on, which our own code does not change."""
    with zipfile.ZipFile(own) as archive:
        member = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = HeaderParser().parsestr(archive.read(member).decode("utf-8"))
    known = metadata.get_all("Provides-Extra", [])
    for extra in work.extras:
        if extra not in known:
            raise UsageError(f"flat-bug has no extra {extra!r}", mend=f"Known: {', '.join(known)}.")
    requires = sorted(metadata.get_all("Requires-Dist", []))
    asked = [
        requires,
        metadata["Requires-Python"],
        work.extras,
        work.packages,
        str(work.target),
        work.provided_versions,
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _requirement(package: str) -> str:
    try:
        requirement = Requirement(package)
    except InvalidRequirement as error:
        mend = "Give a name and, if need be, versions: 'scikit-image>=0.25'."
        raise UsageError(f"this is no package: {str(error).splitlines()[0]}", where=package, mend=mend) from error
    if requirement.url:
        raise UsageError("a package is given by name, not by address", where=package)
    return str(requirement)


def _read_before(dist: Path) -> Manifest | None:
    try:
        return read_manifest(dist)
    except MissingPartError:
        return None


def _make_folder(dist: Path) -> None:
    try:
        dist.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(dist, error) from error
