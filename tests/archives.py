"""Trees and archives for tests: ours, those of zip, and those that a villain would make."""

import os
import warnings
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from flat_bug.datasets.archive_index import MANIFEST
from flat_bug.datasets.staged_folder import RECEIPT
from flat_bug.datasets.zip_records import central_entry, end_records, local_header

HIDDEN = {MANIFEST, RECEIPT}
PREPARED: dict[str, bytes] = {
    "data.yaml": b"train: insects/images/train\n",
    "insects/manifest.json": b"{}\n",
    "insects/images/train/moths_a.jpg": os.urandom(3000),
    "insects/images/train/moths_b.jpg": os.urandom(2_500_000),
    "insects/images/val/moths_c.jpg": os.urandom(70_000),
    "insects/labels/train/instances_default.json": b'{"images": []}',
    "insects/labels/train/moths_a.txt": b"0 0.1 0.1 0.2 0.2 0.1 0.3\n",
    "insects/labels/train/moths_b.txt": b"",
    "insects/labels/val/instances_default.json": b'{"images": []}',
    "insects/labels/val/moths_c.txt": b"0 0.5 0.5 0.6 0.6 0.5 0.7\n" * 400,
}
"""What a prepared tree looks like: pictures of several sizes, rows that deflate well, and an empty file."""

NEWER = {
    **{name: content for name, content in PREPARED.items() if "moths_c" not in name},
    "data.yaml": b"train: insects/images/train\nnc: 1\n",
    "insects/images/val/moths_d.jpg": b"another picture",
    "insects/labels/val/moths_d.txt": b"",
}
"""The tree a day later: one image for validation was taken out, another one came in."""


def write_tree(folder: Path, files: Mapping[str, bytes] = PREPARED) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Return name → content of a folder's files, without the manifest and the receipt."""
    paths = (path for path in folder.rglob("*") if not path.is_dir())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths if path.name not in HIDDEN}


def everything(folder: Path) -> dict[str, bytes | None]:
    """Return all that is below a folder: files with their content, others with nothing."""
    found = {}
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else None
        found[os.fsdecode(bytes(path.relative_to(folder)))] = content
    return found


def part_of(files: Mapping[str, bytes], *parts: str) -> dict[str, bytes]:
    """Return what a prepared tree has in some parts, and what is beside them."""
    beside = ("data.yaml", "insects/manifest.json")
    return {name: content for name, content in files.items() if name in beside or any(part in name for part in parts)}


def zip_of(path: Path, members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], *, deflate: bool = False) -> Path:
    """Write a zip file with any names, those that are given twice too."""
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with warnings.catch_warnings(action="ignore"), zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            info = zipfile.ZipInfo("x") if isinstance(name, str) else name
            if isinstance(name, str):
                info.filename = name  # its constructor cuts names at a NUL
                info.compress_type = method
            archive.writestr(info, content)
    return path


def raw_zip(path: Path, members: Iterable[tuple[bytes, bytes]]) -> Path:
    """Write a zip file with names that need not be text."""
    body, directory, count = b"", b"", 0
    for name, content in members:
        crc = zlib.crc32(content)
        directory += central_entry(name, len(content), crc, len(body))
        body += local_header(name, len(content), crc) + content
        count += 1
    path.write_bytes(body + directory + end_records(count, len(body), len(directory)))
    return path
