"""What of a file is an image: all of it, one of its pages, or a frame of a video."""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError, MissingPartError, UsageError
from flat_bug.imaging.pages import pages_of
from flat_bug.imaging.video_index import index_video, is_video
from flat_bug.progress import track

READERS = 16
"""Files that are looked into at a time: over a network that is mostly waiting."""

EVERY = re.compile(r"(\d{1,9})|(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})\s*s")
"""A number of frames, or of seconds."""

FRAME_SUFFIX = ".png"
"""Of the names of frames, as other programs want them, which know pictures only."""

WhichPage = int | Literal["all"] | None
"""A page, counted from 1; ``all``; or None for the one that a file is opened with."""


@dataclass(frozen=True)
class Part:
    """What of a file is an image.

    Attributes:
        page: Its page, from 1; None for the one that the file is opened with.
        frame_index: Its frame, from 0, where the file is a video.
        time_s: When that is shown, in seconds from the first frame.
        megapixels: Its size where it is known already.
        suffix: What tells its name from that of the file.
        fault: Why there is no image.
    """

    page: int | None = None
    frame_index: int | None = None
    time_s: float | None = None
    megapixels: float | None = None
    suffix: str = ""
    fault: str = ""

    def place_in_file(self) -> dict[str, Any]:
        """Return page, frame and time by the names that ``Instances`` has for them."""
        return {"page": self.page, "frame_index": self.frame_index, "time_s": self.time_s}


WHOLE = Part()


@dataclass(frozen=True)
class Every:
    """Which frames of a video are images.

    Attributes:
        frames: Every so manieth.
        seconds: Instead, the first one that is shown in each interval of so many seconds.
    """

    frames: int = 1
    seconds: float | None = None

    @classmethod
    def parse(cls, words: str, where: str = "--every") -> "Every":
        """Return what ``25`` (frames) or ``2s`` (seconds) means.

        Raises:
            UsageError: It is neither, or not above zero.
        """
        found = EVERY.fullmatch(words.strip().lower())
        frames, seconds = found.groups() if found else (None, None)
        if frames is not None and int(frames) > 0:
            return cls(frames=int(frames))
        if seconds is not None and float(seconds) > 0:
            return cls(seconds=float(seconds))
        raise UsageError(
            f"{words!r} is neither a number of frames nor of seconds",
            where=where,
            mend="Write 25 for every 25th frame, or 2s for one in every two seconds.",
        )

    def of(self, times: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return the numbers of the frames that are meant of those that are shown at some times, in seconds."""
        if self.seconds is None:
            return np.arange(0, len(times), self.frames)
        # Times are multiples of a fraction such as 1/30 that no float is.
        _, first = np.unique(np.floor(times / self.seconds + 1e-6), return_index=True)
        return np.asarray(first, np.int64)


def parts_of(paths: Sequence[Path], page: WhichPage = None, every: Every | None = None) -> list[tuple[Part, ...]]:
    """Return the images in each file, in order; a file that cannot be read has one, which says why.

    Args:
        paths: Images and videos.
        page: Which pages of images.
        every: Which frames of videos; by default all.

    Raises:
        MissingPartError: All are videos, and PyAV is not installed.
    """
    parts: list[tuple[Part, ...]] = [(WHOLE,)] * len(paths)
    rows = [row for row, path in enumerate(paths) if page is not None or is_video(path)]

    def look(row: int) -> tuple[Part, ...]:
        return _frames(paths[row], every or Every()) if is_video(paths[row]) else _pages(paths[row], page)

    missing: list[MissingPartError] = []
    with ThreadPoolExecutor(READERS) as pool:
        waiting = [(row, pool.submit(look, row)) for row in rows]
        for row, found in track(waiting, "Looking into files", len(rows)):
            try:
                parts[row] = found.result()
            except ImageError as error:
                parts[row] = (Part(fault=error.what),)
            except MissingPartError as error:
                missing.append(error)
                parts[row] = (Part(fault=": ".join(filter(None, [error.what, error.mend]))),)
    if missing and len(missing) == len(paths):
        raise missing[0]
    return parts


def _pages(path: Path, page: WhichPage) -> tuple[Part, ...]:
    pages = pages_of(path)
    wanted = pages.own if page == "all" else (page,)
    if wanted == (1,) == pages.own:
        return (WHOLE,)
    return tuple(Part(page=number, suffix="" if number == pages.usual else f"_p{number}") for number in wanted)


def _frames(path: Path, every: Every) -> tuple[Part, ...]:
    index = index_video(path)
    megapixels = index.width * index.height / 1e6
    frames = tuple(
        Part(
            frame_index=int(number), time_s=float(index.times[number]), megapixels=megapixels, suffix=f"_f{number:06d}"
        )
        for number in every.of(index.times)
    )
    return (*frames, Part(fault=index.missing)) if index.missing else frames
