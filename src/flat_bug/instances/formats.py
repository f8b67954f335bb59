"""The formats that the instances of many images are written in for other programs."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from flat_bug.errors import OutputError
from flat_bug.files import atomic_folder
from flat_bug.instances.coco import write_coco
from flat_bug.instances.cvat import write_cvat
from flat_bug.instances.fiftyone import write_fiftyone
from flat_bug.instances.geojson import write_geojson
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.labelstudio import write_labelstudio
from flat_bug.instances.yolo import write_yolo

COCO_NAME = "coco_instances.json"
README = "README.txt"
MARK = "flat-bug wrote this folder, and replaces it as a whole when it writes it again."
GUIDES = Path(__file__).parent / "guides"
CACHE = ".cache"
"""Suffix of what ultralytics leaves beside labels, which is nobody's work."""

Images = Iterable[ImageResult]


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
        write: Writes all images to a path: a file, or a new folder.
        is_folder: Whether it is a folder, into which its guide is written as well.
    """

    name: str
    used_with: str
    target: str
    write: Callable[[Path, Images, FormatOptions], None]
    is_folder: bool = True


def write_format(kind: Format, output: Path, images: Images, options: FormatOptions | None = None) -> Path:
    """Write all images in one format, all of it or nothing, and return where it is.

    Args:
        kind: The format.
        output: The folder of the results.
        images: All images; one at a time is in memory.
        options: What can be chosen.

    Raises:
        OutputError: The output cannot be written, or something of the user's is in the way.
    """
    target, options = output / kind.target, options or FormatOptions()
    if not kind.is_folder:
        kind.write(target, images, options)
        return target
    refuse_others_work(target)
    with atomic_folder(target) as folder:
        kind.write(folder, images, options)
        # The last file, so that what is newer in the folder is somebody's work.
        guide = (GUIDES / f"{kind.name}.txt").read_text(encoding="utf-8")
        (folder / README).write_text(f"{MARK}\nIt is for {kind.used_with}.\n\n{guide}", encoding="utf-8")
    return target


def refuse_others_work(folder: Path) -> None:
    """Refuse to replace a folder that is not ours, or in which something was changed after it was written.

    Raises:
        OutputError: There is such a folder.
    """
    if not folder.exists():
        return
    readme = folder / README
    if not readme.is_file() or not readme.read_text("utf-8", "replace").startswith(MARK):
        raise OutputError(
            "something else has the name of a format's folder",
            where=folder,
            mend="Move it away, or choose another output folder.",
        )
    written = readme.stat().st_mtime_ns
    files = (path for path in folder.rglob("*") if path.suffix != CACHE and (path.is_symlink() or path.is_file()))
    changed = next((path for path in files if path.lstat().st_mtime_ns > written), None)
    if changed is not None:
        raise OutputError(
            "a file was changed after flat-bug wrote it, and would be lost",
            where=changed,
            mend=f"Move the folder {folder.name} to another place first, or delete it.",
        )


def _write_coco(path: Path, images: Images, options: FormatOptions) -> None:
    write_coco(path, ((image.file_name, image.table) for image in images), run_lengths=options.coco_rle)


def _write_geojson(folder: Path, images: Images, _: FormatOptions) -> None:
    for image in images:
        write_geojson(folder / f"{image.name}.geojson", image)


def _write_cvat(folder: Path, images: Images, _: FormatOptions) -> None:
    write_cvat(folder / "annotations.xml", images)


def _write_labelstudio(folder: Path, images: Images, options: FormatOptions) -> None:
    write_labelstudio(folder, images, options.image_url)


def _write_yolo(folder: Path, images: Images, _: FormatOptions) -> None:
    write_yolo(folder, images)


def _write_fiftyone(folder: Path, images: Images, _: FormatOptions) -> None:
    write_fiftyone(folder, images)


_KNOWN = (
    Format("coco", "pycocotools, Detectron2 and most others", COCO_NAME, _write_coco, is_folder=False),
    Format("geojson", "QuPath", "geojson", _write_geojson),
    Format("cvat", "CVAT", "cvat", _write_cvat),
    Format("labelstudio", "Label Studio", "labelstudio", _write_labelstudio),
    Format("yolo", "ultralytics", "yolo", _write_yolo),
    Format("fiftyone", "FiftyOne", "fiftyone", _write_fiftyone),
)
FORMATS = {kind.name: kind for kind in _KNOWN}
"""Every format by its name."""
