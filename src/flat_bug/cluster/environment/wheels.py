"""Wheel files: their names, what they unpack to, and which of them a cluster provides."""

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from packaging.version import Version

from flat_bug.cluster.environment.manifest import Size, WheelEntry
from flat_bug.cluster.environment.target import Target
from flat_bug.errors import MissingPartError


@dataclass(frozen=True)
class WheelName:
    """What the name of a wheel says."""

    name: str
    version: Version
    tags: frozenset[Tag]


def parse(file: str) -> WheelName | None:
    """Return what the name of a wheel says, or nothing when it is not the name of a wheel."""
    try:
        name, version, _, tags = parse_wheel_filename(file)
    except InvalidWheelFilename:
        return None
    return WheelName(name, version, tags)


def provided_versions(folders: Iterable[Path], target: Target) -> dict[str, str]:
    """Return name → newest version of the wheels that a cluster provides and that its nodes can use."""
    newest: dict[str, Version] = {}
    for folder in folders:
        for path in folder.glob("*.whl"):
            wheel = parse(path.name)
            if wheel is None or target.rank(wheel.tags) is None or wheel.version.is_prerelease:
                continue
            newest[wheel.name] = max(newest.get(wheel.name, wheel.version), wheel.version)
    return {name: str(version) for name, version in newest.items()}


def installed_size(wheels: Iterable[WheelEntry], dist: Path) -> Size:
    """Return what wheels take once installed, from the directories of their archives.

    Raises:
        MissingPartError: One is damaged.
    """
    size = files = 0
    for entry in wheels:
        path = entry.path(dist)
        try:
            with zipfile.ZipFile(path) as archive:
                members = archive.infolist()
        except (OSError, zipfile.BadZipFile) as error:
            raise MissingPartError(
                f"the wheel is damaged: {error}", where=path, mend="Remove it and run again."
            ) from error
        size += sum(member.file_size for member in members)
        files += len(members)
    return Size(bytes=size, files=files)
