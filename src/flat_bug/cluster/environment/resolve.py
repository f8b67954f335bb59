"""Which version of each distribution, and which of its wheels: uv decides, for the nodes and not for this machine."""

import tempfile
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.tools import run_uv
from flat_bug.cluster.environment.wheels import parse
from flat_bug.errors import MissingPartError

CANNOT = "the dependencies cannot be resolved"
PERHAPS = "Compare python_version, machine and glibc of the profile with a node; this machine needs the Internet."


@dataclass(frozen=True)
class Source:
    """One file of a distribution: a wheel, or the archive of its source."""

    url: str
    sha256: str

    @property
    def file(self) -> str:
        """Its name."""
        return unquote(urlsplit(self.url).path.rsplit("/", 1)[-1])

    @property
    def path(self) -> Path | None:
        """Where it lies, when that is here."""
        parts = urlsplit(self.url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None


@dataclass(frozen=True)
class Resolved:
    """A distribution at the version that was chosen.

    Attributes:
        name: Its normalised name.
        version: Its version.
        wheels: Those that run on the nodes, best first.
        source: The archive of its source, if there is one.
    """

    name: str
    version: str
    wheels: tuple[Source, ...]
    source: Source | None


def resolve(
    requirements: Sequence[str],
    target: Target,
    *,
    folders: Sequence[Path] = (),
    preferred: Mapping[str, str] | None = None,
    wheels_only: bool = True,
) -> list[Resolved]:
    """Choose a version of everything that is required, for the target.

    Args:
        requirements: What is required, flat-bug's own wheel as ``name @ file:…``.
        target: What the wheels must run on.
        folders: Folders of wheels to choose from, beside the index.
        preferred: Name → version to choose where nothing speaks against it.
        wheels_only: Whether a distribution without a wheel for the target cannot be chosen.

    Raises:
        MissingPartError: There is no solution; the reason is uv's.
    """
    options = [*for_target(target), *(word for folder in folders for word in ("--find-links", str(folder)))]
    if wheels_only:
        options += ["--only-binary", ":all:"]
    with tempfile.TemporaryDirectory() as temporary:
        asked, pins, lock = (Path(temporary, name) for name in ("asked.in", "pins.txt", "pylock.toml"))
        asked.write_text("".join(f"{line}\n" for line in requirements), encoding="utf-8")
        # uv keeps to the versions of the file that it is about to replace, where it can.
        pins.write_text("".join(f"{n}=={v}\n" for n, v in (preferred or {}).items()), encoding="utf-8")
        compile_ = ["pip", "compile", "--quiet", str(asked), *options]
        run_uv([*compile_, "--no-annotate", "--no-header", "-o", str(pins)], what=CANNOT, mend=PERHAPS)
        # This format has the address and digest of each wheel, but nothing keeps it to preferred versions.
        run_uv([*compile_, "--format", "pylock.toml", "-c", str(pins), "-o", str(lock)], what=CANNOT, mend=PERHAPS)
        packages = tomllib.loads(lock.read_text(encoding="utf-8"))["packages"]
    return [_resolved(package, target) for package in packages]


def for_target(target: Target) -> list[str]:
    """Return the options of uv that make it choose for a target."""
    return ["--python-version", target.python_version, "--python-platform", target.uv_platform]


def _resolved(package: Mapping[str, Any], target: Target) -> Resolved:
    archive = package.get("archive")
    if archive:
        # Our own wheel, required by its path.
        return Resolved(package["name"], package["version"], (_source({"url": _url(archive), **archive}),), None)
    source = _source(package["sdist"]) if package.get("sdist") else None
    fitting = _fitting((_source(wheel) for wheel in package.get("wheels", ())), target)
    return Resolved(package["name"], package["version"], fitting, source)


def _fitting(wheels: Iterable[Source], target: Target) -> tuple[Source, ...]:
    """Return the wheels that run on the target: those that lie here first, then the best."""
    ranked = []
    for wheel in wheels:
        name = parse(wheel.file)
        rank = target.rank(name.tags) if name is not None else None
        if rank is not None:
            ranked.append((wheel.path is None, rank, wheel.file, wheel))
    return tuple(entry[-1] for entry in sorted(ranked, key=lambda entry: entry[:-1]))


def _source(file: Mapping[str, Any]) -> Source:
    url = file.get("url") or _url(file)
    sha256 = file.get("hashes", {}).get("sha256")
    if sha256 is None or any(letter.isspace() for letter in url):
        raise MissingPartError("the index gives no SHA-256", where=url, mend="Use an index that does, such as PyPI.")
    return Source(url.partition("#")[0], sha256)


def _url(file: Mapping[str, Any]) -> str:
    return Path(file["path"]).resolve().as_uri()
