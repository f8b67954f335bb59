"""Getting wheels: by download, each verified, or built from source where nothing has to be compiled."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from flat_bug.cluster.environment.resolve import Resolved, Source
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.tools import run_pip
from flat_bug.cluster.environment.wheels import parse
from flat_bug.errors import MissingPartError
from flat_bug.files import sha256_of
from flat_bug.progress import reporting

BATCH = 12
"""Wheels in one call of pip, which starts in a second; a build that is interrupted keeps the batches before."""
WITHOUT_COMPILERS = {"CC": "false", "CXX": "false", "PKG_CONFIG_LIBDIR": "", "PKG_CONFIG_PATH": ""}
"""What is compiled here would need the libraries of the login node. Packages that can do without then do."""


def download(chosen: Sequence[tuple[Resolved, Source]], dist: Path, target: Target) -> None:
    """Download wheels into the wheelhouse; each one appears there whole and verified, or not at all.

    Raises:
        MissingPartError: One cannot be had, or is not what the index says.
    """
    with reporting("Downloading wheels") as report:
        for start in range(0, len(chosen), BATCH):
            batch = chosen[start : start + BATCH]
            with tempfile.TemporaryDirectory(prefix=".tmp-", dir=dist) as temporary:
                _download_batch(batch, Path(temporary), target)
                for _, source in batch:
                    _verified(Path(temporary, source.file), source).replace(dist / source.file)
            report(start + len(batch), len(chosen))


def _download_batch(batch: Iterable[tuple[Resolved, Source]], folder: Path, target: Target) -> None:
    asked = folder / "asked.txt"
    lines = [f"{resolved.name} @ {source.url} --hash=sha256:{source.sha256}\n" for resolved, source in batch]
    asked.write_text("".join(lines), encoding="utf-8")
    run_pip(
        ["download", "--no-deps", "--require-hashes", "-r", str(asked), "-d", str(folder), *_for_target(target)],
        what="the wheels cannot be downloaded",
        mend="Run the same command again: what is there is kept.",
    )


def _for_target(target: Target) -> list[str]:
    abis = (f"cp{target.python_version.replace('.', '')}", "abi3", "none")
    return [
        "--only-binary=:all:",
        *("--implementation", "cp", "--python-version", target.python_version),
        *(word for abi in abis for word in ("--abi", abi)),
        *(word for platform in target.platforms for word in ("--platform", platform)),
    ]


def _verified(path: Path, source: Source) -> Path:
    if not path.is_file() or sha256_of(path) != source.sha256:
        raise MissingPartError(
            "pip did not bring the wheel that the index describes", where=source.url, mend="Run the same command again."
        )
    return path


def build_pure_wheels(sources: Sequence[Resolved], dist: Path) -> list[str]:
    """Build wheels of distributions that have none, where Python alone suffices.

    Returns:
        Why some could not be built, a line each. Another version of theirs may have a wheel.
    """
    reasons = []
    for resolved in sources:
        with tempfile.TemporaryDirectory(prefix=".tmp-", dir=dist) as temporary:
            try:
                wheel = _build(resolved, Path(temporary))
            except MissingPartError as error:
                reasons.append(f"{resolved.name} {resolved.version}: {error.brief()}")
                continue
            name = parse(wheel.name)
            if name is None or any(tag.platform != "any" for tag in name.tags):
                reasons.append(f"{resolved.name} {resolved.version} has to be compiled")
                continue
            wheel.replace(dist / wheel.name)
    return reasons


def _build(resolved: Resolved, folder: Path) -> Path:
    if resolved.source is None:
        raise MissingPartError("it has no source")
    asked = folder / "asked.txt"
    line = f"{resolved.name} @ {resolved.source.url} --hash=sha256:{resolved.source.sha256}\n"
    asked.write_text(line, encoding="utf-8")
    run_pip(
        # Its cache may hold a wheel that was compiled for this machine.
        ["wheel", "--no-cache-dir", "--no-deps", "--require-hashes", "-r", str(asked), "-w", str(folder)],
        what="it cannot be built",
        variables=WITHOUT_COMPILERS,
    )
    return next(folder.glob("*.whl"))
