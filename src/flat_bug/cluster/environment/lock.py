"""``requirements.lock``: one digest for each wheel, as pip and uv read it."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from flat_bug.cluster.environment.manifest import WheelEntry
from flat_bug.cluster.environment.target import Target
from flat_bug.errors import ConfigError, MissingPartError

_PIN = re.compile(r"([a-z0-9][a-z0-9-]*)==(\S+) --hash=sha256:([0-9a-f]{64})")


def lock_text(wheels: Sequence[WheelEntry], target: Target) -> str:
    """Return the lock of wheels, in the order of their names."""
    lines = [f"# Written by fb env build for {target}.\n"]
    folders = sorted({wheel.folder for wheel in wheels if wheel.folder})
    lines += [f"--find-links {folder}\n" for folder in folders]
    for wheel in sorted(wheels, key=lambda wheel: wheel.name):
        if wheel.folder:
            lines.append(f"# provided: {wheel.path(Path())}\n")
        lines.append(f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}\n")
    return "".join(lines)


def read_lock(path: Path) -> dict[str, tuple[str, str]]:
    """Return name → version and digest.

    Raises:
        MissingPartError: It cannot be read, or is not what ``lock_text`` writes.
    """
    mend = f"Run: fb env build -o {path.parent}"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MissingPartError(f"the lock cannot be read: {error}", where=path, mend=mend) from error
    pins = {}
    for line in lines:
        if line.startswith(("#", "--find-links ")):
            continue
        pin = _PIN.fullmatch(line)
        if pin is None:
            raise MissingPartError(f"the lock is damaged: {line[:80]!r}", where=path, mend=mend)
        pins[pin[1]] = (pin[2], pin[3])
    return pins


def check_folders(folders: Iterable[str]) -> None:
    """Refuse folders that a lock cannot name.

    Raises:
        ConfigError: One has a space or the like in it.
    """
    for folder in folders:
        if any(letter.isspace() for letter in folder):
            raise ConfigError("a folder of provided wheels has a space in its name", where=folder)
