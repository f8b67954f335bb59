"""Opens the images of a run one after the other; a video stays open while its frames are asked for."""

from pathlib import Path

from flat_bug.errors import ImageError
from flat_bug.files import sha256_of
from flat_bug.imaging import LazyImage, open_image
from flat_bug.imaging.video import VideoReader

Stamp = tuple[int, int, int]
"""Inode, size, and time of the content of a file, by which it is known again."""


class Opener:
    """Opens images; not for several threads at a time."""

    def __init__(self) -> None:
        """Begin with nothing open."""
        self._video: tuple[Path, Stamp, VideoReader] | None = None
        self._digest: tuple[Path, Stamp, str] | None = None

    def open(self, path: Path, page: int | None = None, frame_index: int | None = None) -> LazyImage:
        """Open an image: a file, a page of it, counted from 1, or a frame of a video, from 0.

        Frames are decoded once as long as those of a video are asked for in their order.

        Raises:
            ImageError: It cannot be read.
            MissingPartError: It is a frame, and PyAV is not installed.
        """
        if frame_index is not None:
            return open_image(self._reader(path).read(frame_index))
        opened = open_image(path, page=page)
        opened.file = None  # lest a predictor hash it, whose digest is known here and serves all parts of a file
        return opened

    def digest(self, path: Path) -> str:
        """Return the SHA-256 of a file; of that of several images it is worked out once.

        Raises:
            ImageError: It cannot be read.
        """
        stamp = _stamp(path)
        if self._digest is None or self._digest[:2] != (path, stamp):
            try:
                self._digest = (path, stamp, sha256_of(path))
            except OSError as error:
                raise _cannot_open(path, error) from error
        return self._digest[2]

    def _reader(self, path: Path) -> VideoReader:
        stamp = _stamp(path)
        if self._video is None or self._video[:2] != (path, stamp):
            if self._video is not None:
                self._video[2].close()
            self._video = None
            self._video = (path, stamp, VideoReader(path))
        return self._video[2]


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError as error:
        raise _cannot_open(path, error) from error
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _cannot_open(path: Path, error: OSError) -> ImageError:
    return ImageError(f"the image cannot be opened: {error.strerror}", where=path)
