"""``fb data pack`` and ``fb data stage``: a prepared tree as one archive, and back where a task reads it."""

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Annotated

from cyclopts import Parameter

from flat_bug.cli._support import print_json
from flat_bug.datasets.archive import pack as pack_tree
from flat_bug.datasets.space import readable
from flat_bug.datasets.stage import stage as stage_archive
from flat_bug.errors import UsageError

VERIFIED = {"sha256": "SHA-256", "crc32": "CRC, since the archive has no manifest"}


def pack(
    tree: Path,
    *,
    output: Annotated[Path | None, Parameter(name=["--output", "-o"])] = None,
    force: Annotated[bool, Parameter(name=["--force", "-f"])] = False,
    follow_links: bool = False,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    json: bool = False,
) -> None:
    """Pack a prepared tree into one archive, for compute nodes.

    The archive is a zip file that plain unzip opens. Nothing in it is compressed,
    since images do not shrink, and it holds the SHA-256 of each file. The same tree
    gives the same bytes. Hidden files, .tmp-* and *.cache are left out.

    Example: fb data pack fb_yolo -o fb_yolo.zip

    Args:
        tree: Folder that fb data prepare made.
        output: Archive to make; by default the folder's name and .zip, beside it.
        force: Replace an existing archive.
        follow_links: Pack the files that symbolic links lead to; by default links are an error.
        jobs: Number of threads; by default two for each processor.
        json: Print the summary as one JSON object.
    """
    packed = pack_tree(tree, output, force=force, follow_links=follow_links, jobs=_positive(jobs))
    if json:
        print_json({**asdict(packed), "archive": str(packed.archive)})
        return
    left_out = f", {packed.left_out} hidden or temporary left out" if packed.left_out else ""
    print(f"Packed: {packed.archive}")
    print(f"{packed.files:,} files, {readable(packed.bytes)}, in {packed.seconds:.1f} s{left_out}")
    print(f"On a node: fb data stage {quote(str(packed.archive))} $SLURM_TMPDIR --only images/val,labels/val")


def stage(
    archive: Path,
    destination: str,
    *,
    only: list[str] | None = None,
    jobs: Annotated[int | None, Parameter(name=["--jobs", "-j"])] = None,
    json: bool = False,
) -> None:
    """Take an archive, or the parts of it that a task reads, out into a folder.

    Each file is verified. Nothing half-written is ever found under its final name,
    and what is there already is not written again. Archives of zip -r work too.

    Example: fb data stage fb_yolo.zip $SLURM_TMPDIR --only images/val,labels/val

    Args:
        archive: Archive that fb data pack made.
        destination: Folder that will hold the archive's own folder, such as fb_yolo.
        only: Parts to take, separated by commas; may be given several times. By default everything.
        jobs: Number of threads; by default one for each processor, at most 8.
        json: Print the summary as one JSON object.
    """
    if not destination.strip():
        mend = "Is the variable set? Outside of a job there is no $SLURM_TMPDIR."
        raise UsageError("the destination is empty", where="DESTINATION", mend=mend)
    parts = [part.strip() for text in only or () for part in text.split(",")]
    staged = stage_archive(archive, Path(destination), parts, jobs=_positive(jobs))
    if json:
        print_json({**asdict(staged), "root": str(staged.root)})
        return
    if staged.was_there:
        print(f"There already: {staged.root}")
        print(f"{staged.files:,} files, {readable(staged.bytes)}, looked at in {staged.seconds:.1f} s")
        return
    print(f"Staged: {staged.root}")
    kept = (
        f", {staged.files - staged.written_files:,} more there already" if staged.written_files < staged.files else ""
    )
    written = f"{staged.written_files:,} files, {readable(staged.written_bytes)}, in {staged.seconds:.1f} s"
    print(f"{written}, verified by {VERIFIED[staged.verified]}{kept}")


def _positive(jobs: int | None) -> int | None:
    if jobs is not None and jobs < 1:
        raise UsageError("the number of threads is not positive", where=f"--jobs {jobs}", mend="Give 1 or more.")
    return jobs
