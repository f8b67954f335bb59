"""The packed forms of an environment: everything installed and compiled once, as a squashfs image and as a tar."""

import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

from flat_bug.cluster.environment.manifest import LOCK_NAME, FileEntry
from flat_bug.cluster.environment.resolve import for_target
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.tools import run_uv
from flat_bug.errors import MissingPartError, OutputError
from flat_bug.files import atomic_path
from flat_bug.progress import reporting

SQUASHFS_NAME = "environment.squashfs"
TAR_NAME = "environment.tar"
# Higher levels take ten times as long for a tenth of the size, and nothing less to read.
ZSTD_LEVEL = 3
OF_ITS_OWN_MACHINE = ("python*", "activate*", "deactivate*", "pydoc*")
"""Files in ``bin`` that a node makes for itself, since its interpreter may lie elsewhere."""


def find_interpreter(target: Target) -> str | None:
    """Return an interpreter here of the node's Python version, which must compile what the node imports."""
    try:
        found = run_uv(["python", "find", "--no-project", target.python_version], what="", offline=True)
    except MissingPartError:
        return None
    return found.splitlines()[-1]


def pack(dist: Path, target: Target, interpreter: str, needed: int) -> dict[str, FileEntry]:
    """Install the wheelhouse once, and pack it into the forms that this machine can make.

    Args:
        dist: The wheelhouse, with its lock.
        target: What its wheels run on.
        interpreter: A Python of the node's version.
        needed: Bytes that the installed wheels take.

    Raises:
        MissingPartError: It cannot be installed.
        OutputError: There is no room.
    """
    # Twice, since what is compiled is as large again.
    _check_space(Path(tempfile.gettempdir()), 2 * needed)
    with tempfile.TemporaryDirectory(prefix="flat-bug-") as temporary, reporting("Packing") as report:
        env = Path(temporary, "env")
        _install(dist, target, interpreter, env)
        files = sum(len(names) for _, _, names in os.walk(env))
        forms: dict[str, tuple[str, Callable[[Path, Path], None]]] = {"tar": (TAR_NAME, _write_tar)}
        if shutil.which("mksquashfs"):
            forms["squashfs"] = (SQUASHFS_NAME, _write_squashfs)
        packed = {}
        for done, (form, (name, write)) in enumerate(forms.items(), start=1):
            report(done, len(forms) + 1)
            with atomic_path(dist / name) as path:
                write(env, path)
            packed[form] = FileEntry.of(dist / name, files=files)
        return packed


def remove_packed(dist: Path) -> None:
    """Remove packed forms that hold something else than the lock says."""
    for name in (TAR_NAME, SQUASHFS_NAME):
        (dist / name).unlink(missing_ok=True)


def _install(dist: Path, target: Target, interpreter: str, env: Path) -> None:
    what = "the wheelhouse cannot be installed"
    run_uv(["venv", "--quiet", "--relocatable", "--python", interpreter, str(env)], what=what, offline=True)
    install = ["pip", "install", "--quiet", "--python", str(env), "--no-index", "--find-links", str(dist)]
    # A cache of its own on the same disk: files are linked, and neither home nor quota hears of it.
    cache = ["--cache-dir", str(env.parent / "cache"), "--compile-bytecode", *for_target(target)]
    run_uv([*install, *cache, "--require-hashes", "-r", str(dist / LOCK_NAME)], what=what, offline=True)
    for pattern in OF_ITS_OWN_MACHINE:
        for path in (env / "bin").glob(pattern):
            path.unlink()
    for name in ("pyvenv.cfg", "lib64", "CACHEDIR.TAG", ".gitignore", ".lock"):
        (env / name).unlink(missing_ok=True)


def _write_tar(env: Path, path: Path) -> None:
    def anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
        for child in sorted(env.iterdir()):
            archive.add(child, child.name, filter=anonymous)


def _write_squashfs(env: Path, path: Path) -> None:
    command = ["mksquashfs", str(env), str(path), "-comp", "zstd", "-Xcompression-level", str(ZSTD_LEVEL)]
    done = subprocess.run(
        [*command, "-all-root", "-noappend", "-no-progress", "-quiet"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise MissingPartError(
            "mksquashfs failed", where=" ".join(done.stderr.split())[-400:], mend="Install a squashfs-tools with zstd."
        )


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"packing needs {needed >> 20} MB, {free >> 20} MB are free",
            where=folder,
            mend="Set TMPDIR to a folder with more space.",
        )
