"""Which frames a video has, and when each is shown: found without decoding a single one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError, MissingPartError
from flat_bug.imaging.limits import MOST_PIXELS_WHOLE, chosen_limit, how_to_allow

if TYPE_CHECKING:
    from types import ModuleType

    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v", ".webm")
"""Of files that are taken for videos."""
ATTACHED_PICTURE = 1024
"""How FFmpeg marks a stream that is the cover of a film and no film."""
SHORT_OF = 0.5
"""Seconds by which a video may end before its header says; sound, and rounding, end a little elsewhere."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The frames of a video, in the order in which they are shown.

    Attributes:
        path: The file.
        stamps: ``(n,)`` when each frame is shown, in the units of the file.
        times: ``(n,)`` the same in seconds from the first frame.
        starts: ``(n,)`` whether decoding can start at the frame.
        width: Of each frame in pixels, before it is turned.
        height: The same.
        is_counted: Frames are told by counting, since the file says only when each is decoded.
        missing: Why there are fewer frames than the header says, or nothing.
    """

    path: Path
    stamps: npt.NDArray[np.int64]
    times: npt.NDArray[np.float64]
    starts: npt.NDArray[np.bool_]
    width: int
    height: int
    is_counted: bool
    missing: str = ""

    def __len__(self) -> int:
        return len(self.stamps)


def is_video(path: Path) -> bool:
    """Return whether a name is that of a video."""
    return path.suffix.lower() in SUFFIXES


def index_video(path: Path, most_pixels: int | None = None) -> VideoIndex:
    """Find the frames of a video; the file is read once, and nothing is decoded.

    Args:
        path: The file.
        most_pixels: Refuse larger frames; by default see ``imaging.limits``.

    Raises:
        ImageError: The file cannot be opened, holds no video, or its frames are too large.
        MissingPartError: PyAV is not installed.
    """
    with opened(path, most_pixels) as (container, stream):
        found, end = _packets_of(container, stream)
        shown = [packet for packet in found if not packet.is_corrupt]
        # An AVI says when frames are decoded, which is when they are shown if each stands for itself.
        is_counted = container.format.name == "avi" and not all(packet.is_keyframe for packet in shown)
        is_counted = is_counted or any(packet.pts is None and packet.dts is None for packet in shown)
        stamps = np.array([_stamp(packet) for packet in shown], np.int64)
        order = np.argsort(stamps, kind="stable")
        starts = np.array([packet.is_keyframe for packet in shown], bool)[order]
        stamps = stamps[order]
        base = float(stream.time_base or 1)
        times = (stamps - stamps[:1].sum()) * base
        missing = _what_is_missing(container, stream, times, end)
        size = (stream.width, stream.height)
    if len(stamps) == 0 and not missing:
        raise ImageError("the video has no frames", where=path, mend="Copy it again from its source.")
    is_counted = is_counted or bool((np.diff(stamps) == 0).any())
    return VideoIndex(path, stamps, times, starts, *size, is_counted, missing)


@contextmanager
def opened(path: Path, most_pixels: int | None = None) -> "Iterator[tuple[InputContainer, VideoStream]]":
    """Open a video and yield its first film; errors of FFmpeg inside the block become ours.

    Raises:
        ImageError: See ``index_video``.
        MissingPartError: PyAV is not installed.
    """
    av, allowed = part(), most_pixels or chosen_limit() or MOST_PIXELS_WHOLE
    try:
        with av.open(str(path), metadata_errors="replace") as container:
            films = [each for each in container.streams.video if not each.disposition & ATTACHED_PICTURE]
            if not films:
                raise ImageError("there is no video in the file", where=path)
            stream = films[0]
            if stream.codec_context is None:
                raise ImageError("the video is of a kind that FFmpeg cannot decode", where=path, mend=_CONVERT)
            if stream.width * stream.height > allowed:
                raise ImageError(
                    f"the video claims frames of {stream.width} × {stream.height} pixels; "
                    f"{allowed / 1e6:.0f} megapixels are the limit",
                    where=path,
                    mend=how_to_allow(stream.width * stream.height),
                )
            # A frame that is damaged is an error and no smear; sizes can change within a video.
            stream.codec_context.options = {"err_detect": "explode", "max_pixels": str(allowed)}
            yield container, stream
    except (av.error.FFmpegError, ValueError, OverflowError, MemoryError) as error:
        raise unreadable(path, error) from error


_CONVERT = "Convert it first: ffmpeg -i VIDEO -c:v libx264 -crf 15 VIDEO.mp4"


def part() -> "ModuleType":
    """Return PyAV.

    Raises:
        MissingPartError: It is not installed.
    """
    try:
        import av  # noqa: PLC0415  # brings FFmpeg, which is loaded for videos only
    except ImportError as error:
        raise MissingPartError("videos need PyAV", mend="Install flat-bug[video].") from error
    av.logging.set_level(av.logging.PANIC)  # what it says of itself is in its errors as well
    return av


def unreadable(path: Path, error: Exception) -> ImageError:
    """Return the error for what FFmpeg says of a video."""
    reason = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    mend = "Copy it again from its source."
    log = getattr(error, "log", None)
    detail = log[2] if isinstance(log, tuple) and len(log) == 3 else ""
    if "moov atom not found" in detail:
        reason = "its index, which comes last in the file, is not there"
        mend = "The recording was cut off, or the file not copied to its end; copy it again from its source."
    return ImageError(f"the video cannot be read: {reason}", where=path, mend=mend)


def _packets_of(container: "InputContainer", stream: "VideoStream") -> "tuple[list[_Entry], float]":
    """Return what there is of each frame, and when the last stream of the file ends, in seconds."""
    found: list[_Entry] = []
    end = 0.0
    av = part()
    try:
        for packet in container.demux():
            if packet.dts is None and packet.pts is None:
                continue  # the end of a stream
            if packet.time_base is not None:
                end = max(end, float((_stamp(packet) + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == stream.index and packet.size > 0 and not packet.is_discard:
                found.append(_Entry(packet.pts, packet.dts, packet.is_keyframe, packet.is_corrupt))
    except av.error.FFmpegError:
        pass  # what was read so far is there, and what is missing is told by the header
    return found, end


@dataclass(frozen=True, slots=True)
class _Entry:
    pts: int | None
    dts: int | None
    is_keyframe: bool
    is_corrupt: bool


def _stamp(packet: "Packet[Any] | _Entry") -> int:
    stamp = packet.pts if packet.pts is not None else packet.dts
    return 0 if stamp is None else stamp


def _what_is_missing(
    container: "InputContainer", stream: "VideoStream", times: npt.NDArray[np.float64], end: float
) -> str:
    """Return why there are fewer frames than the header says, or nothing if there are as many."""
    last = f"after {times[-1]:.2f} s" if len(times) else "before its first frame"
    if stream.frames > len(times):
        return f"the video is cut off or damaged {last}: {len(times)} of its {stream.frames} frames are there"
    seconds = _seconds_of(stream.metadata.get("DURATION"))
    if seconds is None and container.duration is not None:
        seconds = container.duration / 1e6
    else:
        end = float(times[-1]) if len(times) else 0.0
    if seconds is not None and end + SHORT_OF < seconds:
        return f"the video is cut off or damaged {last}, and {seconds:.2f} s long"
    return ""


def _seconds_of(tag: Any) -> float | None:
    """Return the seconds of a tag such as 00:01:02.500000000, if it is one."""
    try:
        hours, minutes, seconds = str(tag).split(":")
        return timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds)).total_seconds()
    except (ValueError, OverflowError):
        return None
