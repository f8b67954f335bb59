"""The formats that the instances of many images are written in for other programs."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from flat_bug.errors import OutputError
from flat_bug.files import atomic_folder
from flat_bug.instances.coco import open_coco
from flat_bug.instances.cvat import open_cvat
from flat_bug.instances.fiftyone import open_fiftyone
from flat_bug.instances.geojson import write_geojson
from flat_bug.instances.image_result import Add, ImageResult
from flat_bug.instances.labelstudio import open_labelstudio
from flat_bug.instances.measurement_table import CSV_NAME, PARQUET_NAME, open_csv, open_parquet
from flat_bug.instances.yolo import open_yolo

COCO_NAME = "coco_instances.json"
README = "README.txt"
MARK = "flat-bug wrote this folder, and replaces it as a whole when it writes it again."
GUIDES = Path(__file__).parent / "guides"
CACHE = ".cache"
"""Suffix of what ultralytics leaves beside labels, which is nobody's work."""


@dataclass(frozen=True)
class FormatOptions:
    """What can be chosen about formats.

    Attributes:
        coco_rle: Write every outline of the COCO file as a run-length mask, not only those with holes.
        image_url: What stands before the name of an image in the address that Label Studio loads it from; by default
            where it serves the folder of the images if that lies in its document root.
    """

    coco_rle: bool = False
    image_url: str | None = None


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        name: What it is called on the command line.
        used_with: The programs that people use it with.
        target: Name of its file or folder in the output.
        open: Opens a path, a file or a new folder, and gives a function that adds an image to it.
        is_folder: Whether it is a folder, into which its guide is written as well.
    """

    name: str
    used_with: str
    target: str
    open: Callable[[Path, FormatOptions], AbstractContextManager[Add]]
    is_folder: bool = True


def write_formats(
    kinds: Iterable[Format], output: Path, images: Iterable[ImageResult], options: FormatOptions | None = None
) -> dict[str, Path]:
    """Write all images in several formats at once, each all of it or nothing; one image at a time is in memory.

    Args:
        kinds: The formats.
        output: The folder of the results.
        images: All images.
        options: What can be chosen.

    Returns:
        Where each is, by the name of the format.

    Raises:
        OutputError: The output cannot be written, or something of the user's is in the way.
    """
    wanted, options = list(kinds), options or FormatOptions()
    with ExitStack() as stack:
        adds = [stack.enter_context(_opened(kind, output / kind.target, options)) for kind in wanted]
        for image in images if adds else ():
            for add in adds:
                add(image)
    return {kind.name: output / kind.target for kind in wanted}


@contextmanager
def _opened(kind: Format, target: Path, options: FormatOptions) -> Iterator[Add]:
    if not kind.is_folder:
        with kind.open(target, options) as add:
            yield add
        return
    refuse_others_work(target)
    with atomic_folder(target) as folder:
        with kind.open(folder, options) as add:
            yield add
        # The last file, so that what is newer in the folder is somebody's work.
        guide = (GUIDES / f"{kind.name}.txt").read_text(encoding="utf-8")
        (folder / README).write_text(f"{MARK}\nIt is for {kind.used_with}.\n\n{guide}", encoding="utf-8")


def is_ours(folder: Path) -> bool:
    """Return whether flat-bug wrote a folder."""
    readme = folder / README
    return readme.is_file() and readme.read_text("utf-8", "replace").startswith(MARK)


def refuse_others_work(folder: Path) -> None:
    """Refuse to replace a folder that is not ours, or in which something was changed after it was written.

    Raises:
        OutputError: There is such a folder.
    """
    if not folder.exists():
        return
    if not is_ours(folder):
        raise OutputError(
            "something else has the name of a format's folder",
            where=folder,
            mend="Move it away, or choose another output folder.",
        )
    written = (folder / README).stat().st_mtime_ns
    files = (path for path in folder.rglob("*") if path.suffix != CACHE and (path.is_symlink() or path.is_file()))
    changed = next((path for path in files if path.lstat().st_mtime_ns > written), None)
    if changed is not None:
        raise OutputError(
            "a file was changed after flat-bug wrote it, and would be lost",
            where=changed,
            mend=f"Move the folder {folder.name} to another place first, or delete it.",
        )


@contextmanager
def _open_coco(path: Path, options: FormatOptions) -> Iterator[Add]:
    with open_coco(path, run_lengths=options.coco_rle) as add:
        yield lambda image: add(image.file_name, image.table)


@contextmanager
def _open_geojson(folder: Path, _: FormatOptions) -> Iterator[Add]:
    yield lambda image: write_geojson(folder / f"{image.name}.geojson", image)


def _open_cvat(folder: Path, _: FormatOptions) -> AbstractContextManager[Add]:
    return open_cvat(folder / "annotations.xml")


def _open_labelstudio(folder: Path, options: FormatOptions) -> AbstractContextManager[Add]:
    return open_labelstudio(folder, options.image_url)


def _open_yolo(folder: Path, _: FormatOptions) -> AbstractContextManager[Add]:
    return open_yolo(folder)


def _open_fiftyone(folder: Path, _: FormatOptions) -> AbstractContextManager[Add]:
    return open_fiftyone(folder)


def _open_csv(path: Path, _: FormatOptions) -> AbstractContextManager[Add]:
    return open_csv(path)


def _open_parquet(path: Path, _: FormatOptions) -> AbstractContextManager[Add]:
    return open_parquet(path)


_KNOWN = (
    Format("coco", "pycocotools, Detectron2 and most others", COCO_NAME, _open_coco, is_folder=False),
    Format("measurements", "spreadsheets and R", CSV_NAME, _open_csv, is_folder=False),
    Format("parquet", "R, pandas and polars", PARQUET_NAME, _open_parquet, is_folder=False),
    Format("geojson", "QuPath", "geojson", _open_geojson),
    Format("cvat", "CVAT", "cvat", _open_cvat),
    Format("labelstudio", "Label Studio", "labelstudio", _open_labelstudio),
    Format("yolo", "ultralytics", "yolo", _open_yolo),
    Format("fiftyone", "FiftyOne", "fiftyone", _open_fiftyone),
)
FORMATS = {kind.name: kind for kind in _KNOWN}
"""Every format by its name."""
