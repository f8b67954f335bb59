"""Results that were made before, of this version or of flat-bug 1.x, wherever they lie: an image at a time."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath

import numpy as np
import shapely

from flat_bug.datasets.coco import CocoFile, GroundTruthImage, read_coco
from flat_bug.errors import DatasetError, UsageError
from flat_bug.files import printable
from flat_bug.imaging.video_index import is_video
from flat_bug.instances.formats import COCO_NAME
from flat_bug.instances.image_result import ImageResult
from flat_bug.instances.metadata import read_metadata
from flat_bug.instances.table import Instances, Provenance
from flat_bug.prediction_run.inputs import unique_names
from flat_bug.prediction_run.layout import SEPARATOR
from flat_bug.prediction_run.parts import FRAME_SUFFIX

IMAGE_PATH = re.compile(rb'"image_path"\s*:\s*("(?:[^"\\]|\\.)*")')
WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")


@dataclass(eq=False)
class FormerResults:
    """Results of many images; going through them yields each image.

    Attributes:
        source: The folder or file that was given.
        images: A folder in which the images are looked for first.
        coco: The COCO file, if they are in one.
        files: The JSON of each image, if they are not.
        failures: What could not be read so far, with its reason.
        not_found: Images so far that are not where they were.
    """

    source: Path
    images: Path | None = None
    coco: Path | None = None
    files: tuple[Path, ...] = ()
    failures: list[DatasetError] = field(default_factory=list)
    not_found: int = 0

    def __iter__(self) -> Iterator[ImageResult]:
        self.failures.clear()
        self.not_found = 0
        for result in self._from_coco(self.coco) if self.coco else self._from_files():
            self.not_found += result.path is None
            yield result

    def _from_files(self) -> Iterator[ImageResult]:
        paths = [_image_path(path) for path in self.files]
        names = [_name_of(path) for path in self.files]
        sources = _below_common_folder(paths)
        file_names, times = list(sources), Counter(paths)
        for row, path in enumerate(paths):
            is_frame = is_video(Path(path))
            if is_frame or times[path] > 1:  # or pages of one file
                suffix = FRAME_SUFFIX if is_frame else file_names[row].suffix
                file_names[row] = file_names[row].with_name(names[row] + suffix)
        # Results of one run are called what they are called there; those of several runs may share names.
        if len(set(names)) < len(names):
            unique = unique_names(file_names)
            names = [unique[file_name] for file_name in file_names]
        rows = zip(file_names, names, self.files, sources, paths, strict=True)
        # In the order of images, in which they are predicted as well.
        for file_name, name, metadata, source, image_path in sorted(rows, key=lambda row: row[0].as_posix()):
            try:
                table = read_metadata(metadata).instances
            except DatasetError as error:
                self.failures.append(error)
                continue
            yield ImageResult(file_name.as_posix(), name, table, self._find(source, Path(image_path)))

    def _from_coco(self, path: Path) -> Iterator[ImageResult]:
        read = read_coco(path)
        file_names = [PurePosixPath(_safe(image.file_name)) for image in read.images]
        _refuse_twins([str(file_name) for file_name in file_names], [path] * len(file_names))
        names = unique_names(file_names)
        for image, file_name in zip(read.images, file_names, strict=True):
            found = self._find(file_name, path.parent / image.file_name)
            yield ImageResult(file_name.as_posix(), names[file_name], _table(image, read), found)

    def _find(self, file_name: PurePosixPath, recorded: Path) -> Path | None:
        """Return where an image is: in the folder of images, whole path or name only, or where it was."""
        candidates = [recorded]
        if self.images is not None:
            candidates = [self.images / file_name, self.images / file_name.name, recorded]
        return next((path for path in candidates if path.is_file()), None)


def find_results(source: Path, images: Path | None = None) -> FormerResults:
    """Return the results in a folder or file.

    Of a folder the JSON of each image is taken, since it holds everything, or else its COCO file.

    Args:
        source: An output folder of ``fb predict`` or of flat-bug 1.x, the JSON of one image, or a COCO file.
        images: A folder of the images, if they are no longer where they were.

    Raises:
        UsageError: There is nothing.
        DatasetError: Two files are about the same image.
    """
    if images is not None and not images.is_dir():
        raise UsageError("there is no such folder of images", where=images)
    if source.is_file():
        if _is_one_image(source):
            return FormerResults(source, images, files=(source,))
        return FormerResults(source, images, coco=source)
    # A run that was killed leaves hidden folders with what it was about to write.
    below = sorted(path.relative_to(source) for path in source.rglob("metadata_*.json"))
    files = [source / path for path in below if not any(part.startswith(".") for part in path.parts)]
    if files:
        _refuse_twins([f"{_image_path(path)} ({_name_of(path)})" for path in files], files)
        return FormerResults(source, images, files=tuple(files))
    if (source / COCO_NAME).is_file():
        return FormerResults(source, images, coco=source / COCO_NAME)
    raise UsageError(
        "there are no results here",
        where=source,
        mend=f"Give an output folder of `fb predict`, with metadata_*.json files or {COCO_NAME}, or a COCO file.",
    )


def _is_one_image(path: Path) -> bool:
    content = _content(path)
    return b'"confs"' in content and b'"annotations"' not in content


def _image_path(path: Path) -> str:
    """Return the path of the image of a JSON without parsing all its outlines, which takes most of the time."""
    found = IMAGE_PATH.search(_content(path))
    try:
        return str(json.loads(found[1])) if found else path.stem
    except ValueError:
        return path.stem  # reading it will say what is wrong


def _name_of(path: Path) -> str:
    """Return what the results of an image are called, from the name of its JSON."""
    return path.stem.removeprefix("metadata_").rpartition(SEPARATOR)[0] or path.stem


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"the results cannot be read: {error.strerror or error}", where=path) from error


def _below_common_folder(paths: list[str]) -> list[PurePosixPath]:
    """Return each path below the nearest folder above all of them."""
    parts = [_pure(path).parts or (path,) for path in map(_safe, paths)]
    levels = zip(*(each[:-1] for each in parts), strict=False)  # down to the least deep image
    common = sum(1 for _ in takewhile(lambda folders: len(set(folders)) == 1, levels))
    return [PurePosixPath(*each[common:]) for each in parts]


def _pure(path: str) -> PurePath:
    return PureWindowsPath(path) if WINDOWS.match(path) else PurePosixPath(path)


def _safe(text: str) -> str:
    """Return a name that any file system takes; that of another machine may hold what it does not."""
    return printable(text).replace("\0", "_") or "_"


def _refuse_twins(names: list[str], files: list[Path]) -> None:
    seen: dict[str, Path] = {}
    for name, path in zip(names, files, strict=True):
        if name in seen:
            raise DatasetError(
                f"there are two results of the image {name}",
                where=path if path == seen[name] else f"{seen[name]} and {path}",
                mend="Remove one of them.",
            )
        seen[name] = path


def _table(image: GroundTruthImage, read: CocoFile) -> Instances:
    """Return the annotations of a COCO file as instances; those without an area are left out."""
    rows = shapely.area(image.polygons) > 0
    ids = np.array(sorted(read.categories), np.int64)
    scores = np.ones(len(image)) if image.scores is None else image.scores
    digest = image.entry.get("sha256")
    return Instances(
        boxes=image.boxes[rows],
        scores=scores[rows],
        classes=np.searchsorted(ids, image.classes[rows]).astype(np.int64),
        polygons=image.polygons[rows],
        levels=np.ones(int(rows.sum())),
        width=image.width,
        height=image.height,
        class_names=tuple(printable(read.categories[id_]) for id_ in ids.tolist()),
        provenance=Provenance(image_sha256=digest if isinstance(digest, str) else ""),
    )
