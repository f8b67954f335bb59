"""A dataset as it lies on disk: one folder with its annotations and the images that they list."""

import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flat_bug.datasets.coco import ANNOTATION_FILE, CocoFile, GroundTruthImage, read_coco
from flat_bug.errors import DatasetError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff"})


@dataclass(frozen=True, eq=False)
class DatasetImage:
    """An image of a dataset and the file that holds it.

    Attributes:
        dataset: Name of the dataset.
        truth: Its annotations.
        path: The file.
        relative: The file within the dataset's folder.
        source: The file of annotations.
    """

    dataset: str
    truth: GroundTruthImage
    path: Path
    relative: Path
    source: Path


@dataclass(frozen=True, eq=False)
class DatasetFolder:
    """A dataset whose annotations have been read and whose images have been found.

    Attributes:
        name: The folder's name.
        path: The folder.
        coco: The annotations.
        images: The listed images, in the order of the annotations.
        unlisted: Image files that the annotations do not list, relative to the folder.
    """

    name: str
    path: Path
    coco: CocoFile
    images: tuple[DatasetImage, ...]
    unlisted: tuple[Path, ...]


def find_datasets(root: Path) -> list[Path]:
    """Return the dataset folders in ``root``, sorted by name; hidden ones are passed over.

    Raises:
        DatasetError: There is no such folder, it holds no datasets, or one of its folders has no annotations.
    """
    if not root.is_dir():
        raise DatasetError("there is no such folder", where=root)
    if (root / ANNOTATION_FILE).is_file():
        raise DatasetError(
            "this is one dataset, not a folder of datasets", where=root, mend=f"Give the folder above it: {root.parent}"
        )
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise DatasetError(
            "the folder holds no datasets", where=root, mend=f"It needs one folder each, with {ANNOTATION_FILE}."
        )
    return folders


def read_dataset(folder: Path) -> DatasetFolder:
    """Read a dataset's annotations and find its images.

    An image is looked up by its whole ``file_name`` first, then by its last part anywhere in the folder.

    Raises:
        DatasetError: The annotations are missing or broken, or they list an image that is absent, ambiguous, listed
            twice, outside the folder, or not of a known format.
    """
    source = _annotation_file(folder)
    coco = read_coco(source)
    files = _Files(folder)
    found = [files.find(truth.file_name, source) for truth in coco.images]
    absent = [truth.file_name for truth, path in zip(coco.images, found, strict=True) if path is None]
    if absent:
        others = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise DatasetError(
            f"the image {absent[0]!r}{others} is listed, but not in the folder",
            where=source,
            mend="Put it back, or take it out of the annotations.",
        )
    paths = [path for path in found if path is not None]
    _refuse_repeated(coco, paths, source)
    images = tuple(
        DatasetImage(folder.name, truth, path, path.relative_to(folder), source)
        for truth, path in zip(coco.images, paths, strict=True)
    )
    unlisted = tuple(sorted(path.relative_to(folder) for path in files.all - set(paths)))
    return DatasetFolder(folder.name, folder, coco, images, unlisted)


def _annotation_file(folder: Path) -> Path:
    if (folder / ANNOTATION_FILE).is_file():
        return folder / ANNOTATION_FILE
    deeper = sorted(folder.rglob(ANNOTATION_FILE))
    if len(deeper) == 1:
        return deeper[0]
    what = (
        f"the dataset has {len(deeper)} files {ANNOTATION_FILE}" if deeper else f"the dataset has no {ANNOTATION_FILE}"
    )
    raise DatasetError(what, where=folder, mend=f"Put its COCO annotations at {folder / ANNOTATION_FILE}")


class _Files:
    """The image files below a folder, by their path and by their name."""

    def __init__(self, folder: Path) -> None:
        self.all: set[Path] = set()
        self.by_path: dict[str, Path] = {}
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in folder.rglob("*"):
            hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
            if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
                self.all.add(path)
                self.by_path[_same_unicode(path.relative_to(folder).as_posix())] = path
                self.by_name[_same_unicode(path.name)].append(path)

    def find(self, file_name: str, source: Path) -> Path | None:
        name = PurePosixPath(file_name)
        if name.is_absolute() or ".." in name.parts or "\0" in file_name:
            raise DatasetError(f"the file_name {file_name!r} leads out of the dataset's folder", where=source)
        if name.suffix.lower() not in IMAGE_SUFFIXES:
            known = ", ".join(sorted(IMAGE_SUFFIXES))
            raise DatasetError(f"the file_name {file_name!r} is not of a known format ({known})", where=source)
        exact = self.by_path.get(_same_unicode(name.as_posix()))
        if exact is not None:
            return exact
        matching = self.by_name.get(_same_unicode(name.name), [])
        if len(matching) > 1:
            raise DatasetError(
                f"the file_name {file_name!r} could be any of {len(matching)} images",
                where=source,
                mend="Write the image's path within the dataset's folder as its file_name.",
            )
        return matching[0] if matching else None


def _refuse_repeated(coco: CocoFile, paths: list[Path], source: Path) -> None:
    first: dict[Path, int] = {}
    for truth, path in zip(coco.images, paths, strict=True):
        if path in first:
            raise DatasetError(
                f"images {first[path]} and {truth.id} are both the file {truth.file_name!r}", where=source
            )
        first[path] = truth.id


def _same_unicode(name: str) -> str:
    # macOS stores accents apart from their letters, annotation tools write them together.
    return unicodedata.normalize("NFC", name)
