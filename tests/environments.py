"""Tiny environments for tests: real wheels, locked, packed and described by the real parts, without an index."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distribution
from pathlib import Path

import uv

import flat_bug
from flat_bug.cluster.environment.lock import lock_text
from flat_bug.cluster.environment.manifest import LOCK_NAME, FileEntry, Manifest, WheelEntry
from flat_bug.cluster.environment.own_wheel import wheel_of_installed
from flat_bug.cluster.environment.packed import pack
from flat_bug.cluster.environment.target import Target
from flat_bug.cluster.environment.wheels import installed_size, parse
from flat_bug.cluster.profile import ClusterProfile
from flat_bug.files import sha256_of, write_text

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
PROFILE = ClusterProfile(name="here", python_version=HERE, machine=os.uname().machine, glibc="2.28")
TARGET = Target.of(PROFILE)
SCRIPT = Path(flat_bug.__file__).parent / "cluster" / "node_environment.py"


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    files: Mapping[str, bytes] | None = None,
    requires: Sequence[str] = (),
    extras: Sequence[str] = (),
    tag: str = "py3-none-any",
) -> Path:
    """Write a wheel that pip and uv install; by default it is one empty module."""
    folder.mkdir(parents=True, exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Provides-Extra: {extra}" for extra in extras]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    content = dict(files if files is not None else {f"{module}/__init__.py": b""})
    content[f"{info}/METADATA"] = ("\n".join(metadata) + "\n").encode()
    content[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode()
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*content, f"{info}/RECORD"]).encode()
    wheel = folder / f"{module}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            member = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            member.external_attr = 0o100755 << 16 if ".data/scripts/" in path else 0o100644 << 16
            archive.writestr(member, data)
    return wheel


def write_flat_bug(folder: Path, *, requires: Sequence[str] = ("legs",), version: str = flat_bug.__version__) -> Path:
    """Write a wheel that calls itself flat-bug and has an extra, `train`, that needs wings."""
    files = {
        "flat_bug/__init__.py": f"import legs\n__version__ = {version!r}\n".encode(),
        "flat_bug/__main__.py": b"def main():\n    print('it runs')\nif __name__ == '__main__':\n    main()\n",
        f"flat_bug-{version}.dist-info/entry_points.txt": b"[console_scripts]\nfb-tiny = flat_bug.__main__:main\n",
    }
    needs = [*requires, 'wings; extra == "train"']
    return write_wheel(folder, "flat-bug", version, files=files, requires=needs, extras=["train"])


def write_installers(folder: Path) -> None:
    """Write the wheels of the uv and the pip that are installed here."""
    version = distribution("uv").version
    files = {f"uv-{version}.data/scripts/uv": Path(uv.find_uv_bin()).read_bytes(), "uv/__init__.py": b""}
    write_wheel(folder, "uv", version, files=files)
    wheel_of_installed(distribution("pip"), folder)


def describe(dist: Path, *, extras: Sequence[str] = (), packed: bool = True) -> Manifest:
    """Lock, pack and describe the wheels that lie in a folder, as `fb env build` does."""
    wheels = [_entry(path) for path in sorted(dist.glob("*.whl"))]
    write_text(dist / LOCK_NAME, lock_text(wheels, TARGET))
    lock, size = FileEntry.of(dist / LOCK_NAME), installed_size(wheels, dist)
    manifest = Manifest(
        version=flat_bug.__version__,
        python_version=TARGET.python_version,
        machine=TARGET.machine,
        glibc=TARGET.glibc,
        extras=tuple(extras),
        packages=(),
        asked="",
        lock=lock,
        wheels=tuple(wheels),
        installed=size,
        packed=pack(dist, TARGET, sys.executable, size.bytes) if packed else {},
        packed_from=lock.sha256 if packed else "",
    )
    manifest.write(dist)
    return manifest


def _entry(path: Path) -> WheelEntry:
    name = parse(path.name)
    assert name is not None
    size = path.stat().st_size
    return WheelEntry(name=name.name, version=str(name.version), file=path.name, sha256=sha256_of(path), bytes=size)


def flip_a_byte(path: Path) -> None:
    """Damage a file without changing its size."""
    with path.open("r+b") as stream:
        stream.seek(path.stat().st_size // 2)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 0xFF]))


def run_script(*words: object, variables: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    """Run the script of the node with the interpreter of the tests."""
    # The tests' own environment is what a node has not: its interpreter is the one below.
    return subprocess.run(
        [sys.executable, "-I", str(SCRIPT), *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(variables or {})},
    )
