"""Read a video frame by frame: in order, each is decoded once, and one at a time is in memory."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from flat_bug.errors import ImageError
from flat_bug.imaging.video_index import VideoIndex, index_video, opened, part, unreadable

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

HIGH_DEFINITION = 720
"""Rows from which a video that does not name its colours has those of television in high definition."""
UNNAMED_COLOURS = 2


class VideoReader:
    """Reads the frames of one video; fast where they are asked for in order.

    Use it as a context, which closes the file.
    """

    def __init__(self, path: Path, most_pixels: int | None = None) -> None:
        """Find the frames.

        Args:
            path: The file.
            most_pixels: Refuse larger frames; by default see ``imaging.limits``.

        Raises:
            ImageError: The video cannot be read.
            MissingPartError: PyAV is not installed.
        """
        self.index: VideoIndex = index_video(path, most_pixels)
        self._most_pixels = most_pixels
        self._open = ExitStack()
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._next = len(self.index)
        self._waiting: tuple[int, VideoFrame] | None = None

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading on opens it again."""
        self._frames, self._waiting, self._next = iter(()), None, len(self.index)
        self._open.close()

    def read(self, number: int) -> npt.NDArray[np.uint8]:
        """Decode one frame.

        Args:
            number: Which, from 0.

        Returns:
            ``uint8 (height, width, 3)`` RGB, turned upright.

        Raises:
            ImageError: The frame is damaged or not there.
        """
        if not 0 <= number < len(self.index):
            raise self._no_frame(number)
        if number < self._next or self._can_jump_to(number):
            self._start_before(number)
        frame = self._wait_for(number)
        if frame is None:
            raise self._no_frame(number)
        try:
            return pixels_of(frame)
        except (part().error.FFmpegError, ValueError) as error:
            raise unreadable(self.index.path, error) from error

    def _no_frame(self, number: int) -> ImageError:
        when = f" at {self.index.times[number]:.2f} s" if 0 <= number < len(self.index) else ""
        return ImageError(f"the video is damaged: frame {number}{when} cannot be decoded", where=self.index.path)

    def _can_jump_to(self, number: int) -> bool:
        """Return whether decoding can start somewhere between what comes next and a frame."""
        return not self.index.is_counted and bool(self.index.starts[self._next + 1 : number + 1].any())

    def _start_before(self, number: int) -> None:
        self.close()
        container, stream = self._open.enter_context(opened(self.index.path, self._most_pixels))
        # Several frames at once are decoded faster, but where frames are counted damage must be met in order.
        stream.thread_type = "SLICE" if self.index.is_counted else "AUTO"
        starts = np.flatnonzero(self.index.starts[: number + 1])
        if not self.index.is_counted and len(starts) and starts[-1] > 0:
            container.seek(int(self.index.stamps[starts[-1]]), stream=stream)
        self._frames, self._next = self._decoded(container, stream), 0

    def _wait_for(self, number: int) -> "VideoFrame | None":
        """Decode up to a frame; return nothing if it does not come."""
        while True:
            at, frame = self._waiting or next(self._frames, (len(self.index), None))
            self._waiting = None
            self._next = number + 1
            if at == number or frame is None:
                return frame
            if at > number:
                self._waiting = at, frame
                return None

    def _decoded(self, container: "InputContainer", stream: "VideoStream") -> "Iterator[tuple[int, VideoFrame]]":
        """Yield the number of each frame and the frame, from where the file is, but none that damage may have touched.

        What comes after damage is drawn upon it, up to the next key frame, which is drawn upon nothing. Frames come out
        of a decoder some time after their packets went in. Where they are counted, nobody can tell which is which after
        damage.
        """
        count, damaged_at, is_lost = 0, -math.inf, False
        for packet, frames, is_damaged in _decode(container, stream):
            if is_damaged:
                damaged_at, is_lost = max(damaged_at, _stamp(packet)), True
            for frame in frames:
                is_lost = is_lost and not (frame.key_frame and _stamp(frame) > damaged_at)
                if frame.is_corrupt:
                    damaged_at, is_lost = max(damaged_at, _stamp(frame)), True
                number = count if self.index.is_counted else self._number_of(frame)
                count += 1
                if number is not None and not is_lost:
                    yield number, frame
            if is_lost and self.index.is_counted:
                return

    def _number_of(self, frame: "VideoFrame") -> int | None:
        stamp = _stamp(frame)
        at = int(np.searchsorted(self.index.stamps, stamp))
        return at if at < len(self.index) and self.index.stamps[at] == stamp else None


def _stamp(thing: "VideoFrame | Packet[VideoStream]") -> float:
    """Return when something is shown, in the units of the file, or else decoded."""
    stamp = thing.pts if thing.pts is not None else thing.dts
    return math.nan if stamp is None else stamp


def _decode(
    container: "InputContainer", stream: "VideoStream"
) -> "Iterator[tuple[Packet[VideoStream], list[VideoFrame], bool]]":
    """Yield each packet of a stream, the frames that come out then, and whether it is damaged."""
    error = part().error.FFmpegError
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except error:
            return
        if packet is None:
            return
        try:
            frames = [frame for frame in packet.decode() if _is_picture(frame)]
        except error:
            yield packet, [], True
        else:
            yield packet, frames, False


def _is_picture(frame: object) -> bool:
    return isinstance(frame, part().VideoFrame)


def pixels_of(frame: "VideoFrame") -> npt.NDArray[np.uint8]:
    """Return a frame as ``uint8 (height, width, 3)`` RGB, turned as the camera says."""
    high = frame.height >= HIGH_DEFINITION and frame.colorspace == UNNAMED_COLOURS
    pixels = frame.to_ndarray(format="rgb24", src_colorspace="ITU709" if high else None)
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(pixels, turns), np.uint8)
