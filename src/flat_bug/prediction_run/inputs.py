"""Which images are meant, and a name for each that no other one has."""

import glob
import hashlib
import os
import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain, count
from pathlib import Path, PurePosixPath

from flat_bug.errors import UsageError
from flat_bug.imaging.video_index import SUFFIXES
from flat_bug.instances.formats import FORMATS
from flat_bug.measurement import Scale
from flat_bug.prediction_run.layout import SEPARATOR
from flat_bug.prediction_run.parts import FRAME_SUFFIX, WHOLE, Every, Part, WhichPage, parts_of
from flat_bug.prediction_run.viewing import VIEWER

DEFAULT_PATTERN = r"\.(jpe?g|png|tiff?|webp|heic|heif|avif|jp2|jxl)$"
"""Names of files in a folder that are images; matched anywhere in the name, in any case."""
WITH_VIDEOS = DEFAULT_PATTERN.replace(")$", "|" + "|".join(suffix.removeprefix(".") for suffix in SUFFIXES) + ")$")
"""The same, and those that are videos."""

SUMMARY_NAME = "summary.csv"
RUN_NAME = "run"
DONE_NAME = ".done.json"
LOCK_NAME = ".lock"
# Names that would leave the output folder, or are taken there.
RESERVED = (
    ".",
    "..",
    SUMMARY_NAME,
    RUN_NAME,
    DONE_NAME,
    LOCK_NAME,
    VIEWER,
    *(kind.target for kind in FORMATS.values()),
)
RESERVED_FOLDERS = {RUN_NAME, VIEWER, *(kind.target for kind in FORMATS.values() if kind.is_folder)}
RESULT = re.compile(f"(overview|crop)_.*{SEPARATOR}", re.DOTALL)
LONGEST_NAME = 150
"""In bytes: file names may have 255, and number, identifier and suffix are added to it."""


@dataclass(frozen=True)
class InputImage:
    """An image to predict.

    Attributes:
        path: The file.
        file_name: Its path below the input folder, with ``/``; of a later page or a frame with its number in it.
        name: What its results are called: its stem, and the folders above it where two images have the same stem.
        scale: Size of its pixels, where that is known.
        part: What of the file it is.
    """

    path: Path
    file_name: str
    name: str
    scale: Scale | None = None
    part: Part = WHOLE

    @property
    def source(self) -> str:
        """Path of its file below the input folder, with ``/``; several images may share it."""
        return PurePosixPath(self.file_name).with_name(self.path.name).as_posix()


def find_images(
    inputs: Sequence[str | Path],
    *,
    pattern: str = WITH_VIDEOS,
    recursive: bool = False,
    limit: int | None = None,
    exclude: Path | None = None,
    page: WhichPage = None,
    every: Every | None = None,
) -> list[InputImage]:
    """Return the images that are meant, in alphabetical order of files, then of pages or frames.

    Args:
        inputs: Files, folders, patterns with ``*``, or text files (``.txt``) that name an image per line, relative to
            the text file, or ``-`` for standard input.
        pattern: Regular expression that the name of a file in a folder must match somewhere, in any case.
        recursive: Look into the folders below a folder as well.
        limit: Only the first so many.
        exclude: The output, where it may hold the input or lie in it: what looks like results there is left out.
        page: Which page of files that have several, from 1, or ``all``; by default the first.
        every: Which frames of videos; by default all.

    Raises:
        UsageError: An input does not exist or is an address, the pattern is broken, or no image is found.
        MissingPartError: All are videos, and PyAV is not installed.
    """
    wanted = _compile(pattern)
    paths = [path for given in inputs for path in _expand(str(given), wanted, recursive)]
    if exclude is not None:
        paths = _without_results(paths, exclude)
    unique = list({_absolute(path): path for path in paths}.items())
    if not unique:
        raise UsageError(
            "there are no images",
            where=", ".join(map(str, inputs)),
            mend=f"Look into sub-folders with -R, or change the pattern (-p), which is {pattern}",
        )
    root = _root(inputs, [absolute for absolute, _ in unique])
    found = sorted((absolute.relative_to(root).as_posix(), path) for absolute, path in unique)
    parts = parts_of([path for _, path in found], page, every)
    taken = {PurePosixPath(file_name) for file_name, _ in found}
    images = [
        (_name_of_part(PurePosixPath(file_name), part, taken), path, part)
        for (file_name, path), several in zip(found, parts, strict=True)
        for part in several
    ]
    names = unique_names([file_name for file_name, _, _ in images])
    return [InputImage(path, name.as_posix(), names[name], part=part) for name, path, part in images[:limit]]


def _name_of_part(file_name: PurePosixPath, part: Part, taken: set[PurePosixPath]) -> PurePosixPath:
    """Return a name for a part of a file that nothing has, and note it: ``card_p2.tif``, or else ``card.tif_p2.tif``.

    A frame is called as the picture of it would be that FFmpeg extracts.
    """
    if not part.suffix:
        return file_name
    end = part.suffix + (file_name.suffix if part.frame_index is None else FRAME_SUFFIX)
    stems = chain([file_name.stem], (file_name.name + "_" * number for number in count()))
    named = (file_name.with_name(stem + end) for stem in stems)
    chosen = next(name for name in named if name not in taken)
    taken.add(chosen)
    return chosen


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as error:
        raise UsageError(
            f"the input pattern is not a regular expression: {error}",
            where=pattern,
            mend=r"For names that end with .jpg write \.jpg$",
        ) from error


def _expand(given: str, wanted: re.Pattern[str], recursive: bool) -> Iterable[Path]:
    path = Path(given).expanduser()
    if given == "-":
        return _listed(None)
    if "://" in given:
        raise UsageError("addresses are not supported yet", where=given, mend="Copy the images to a local folder.")
    if path.is_dir():
        return _files_below(path, wanted, recursive)
    if path.suffix.lower() == ".txt" and path.is_file():
        return _listed(path)
    if path.exists():
        return [path]
    matches = [Path(match) for match in glob.glob(str(path), recursive=True)]  # noqa: PTH207  # Path.glob refuses "/"
    if not matches:
        raise UsageError("there is no such file or folder", where=given, mend="Check the path (-i).")
    return [match for match in matches if match.is_file()]


def _files_below(folder: Path, wanted: re.Pattern[str], recursive: bool) -> Iterator[Path]:
    """Yield the files in a folder; what is hidden, such as the shadows that macOS leaves, is not meant."""

    def refuse(error: OSError) -> None:
        raise UsageError(f"the folder cannot be read: {error.strerror}", where=error.filename) from error

    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        real = os.path.realpath(parent)
        # Linked folders are followed, each once, so that a loop of links ends.
        deeper = recursive and real not in seen
        folders[:] = [name for name in folders if deeper and not name.startswith(".")]
        if real not in seen:
            yield from (Path(parent, name) for name in names if wanted.search(name) and not name.startswith("."))
        seen.add(real)


def _listed(path: Path | None) -> Iterator[Path]:
    """Yield the images that a text file, or standard input, names in a line each; a line after ``#`` is a note."""
    try:
        lines = (path.read_text(encoding="utf-8-sig") if path else sys.stdin.read()).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list of images cannot be read: {error}", where=path or "standard input") from error
    named = (line.strip() for line in lines)
    folder = path.parent if path else Path()
    return (folder / Path(line).expanduser() for line in named if line and not line.startswith("#"))


def _without_results(paths: list[Path], output: Path) -> list[Path]:
    """Leave out what a former command has written into the output; images that lie there are meant."""
    resolved = cache(Path.resolve)  # of folders, since resolving each of many files takes long
    inside = output.resolve()

    def is_result(path: Path) -> bool:
        folder = resolved(path.parent)
        if not folder.is_relative_to(inside):
            return False
        return RESULT.match(path.name) is not None or not RESERVED_FOLDERS.isdisjoint(
            folder.relative_to(inside).parts[:1]
        )

    return [path for path in paths if not is_result(path)]


def _root(inputs: Sequence[str | Path], absolute: list[Path]) -> Path:
    """Return the folder that file names are relative to: the input folder, or the nearest one above all images."""
    if len(inputs) == 1 and (folder := Path(inputs[0]).expanduser()).is_dir():
        return _absolute(folder)
    return Path(os.path.commonpath([path.parent for path in absolute]))


def _absolute(path: Path) -> Path:
    """Return a path without ``..``, its links not followed, since their names are the ones that are meant."""
    return Path(os.path.abspath(path))  # noqa: PTH100  # Path.resolve follows links


def unique_names(file_names: list[PurePosixPath]) -> dict[PurePosixPath, str]:
    """Return a name for each file; the uppermost of several with one stem is called by the stem alone."""
    taken = {_key(name) for name in RESERVED}
    names: dict[PurePosixPath, str] = {}
    for file_name in sorted(file_names, key=lambda path: (len(path.parts), path)):
        names[file_name] = next(name for name in _candidates(file_name) if _key(name) not in taken)
        taken.add(_key(names[file_name]))
    return names


def _candidates(file_name: PurePosixPath) -> Iterator[str]:
    with_folders = "__".join([*file_name.parts[:-1], file_name.stem])
    with_suffix = f"{with_folders}__{file_name.suffix.removeprefix('.')}"
    for name in (file_name.stem, with_folders, with_suffix):
        yield _shortened(name)
    for number in count(2):
        yield _shortened(f"{with_suffix}__{number}")


def _key(name: str) -> str:
    """Return what two names share that are one name on some file system."""
    return unicodedata.normalize("NFC", name).casefold()


def _shortened(name: str) -> str:
    encoded = os.fsencode(name)
    if len(encoded) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(encoded).hexdigest()[:12]
    return encoded[: LONGEST_NAME - 13].decode("utf-8", "ignore") + "~" + mark
