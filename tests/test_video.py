"""Every frame of a video is the right one, in any order; damage costs what is damaged and is named."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from tests.films import damage

from flat_bug.errors import ImageError
from flat_bug.imaging.video import VideoReader

FRAMES, WIDTH, HEIGHT = 40, 160, 96


def picture(number: int) -> npt.NDArray[np.uint8]:
    """Return a white picture with a black square that moves two pixels a frame."""
    pixels = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    pixels[10:30, 5 + 2 * number : 25 + 2 * number] = 0
    return pixels


def film(path: Path, codec: str = "libx264", *, uneven: bool = False, turned: int = 0, **options: str) -> Path:
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {} if codec in ("mjpeg", "libvpx-vp9") else {"bf": "2", "g": "12"}
        if turned:
            stream.set_display_rotation(turned)
        if uneven:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            if uneven:
                frame.pts, frame.time_base = time_of(number), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def time_of(number: int) -> int:
    """Return when a frame of an uneven film is shown, in milliseconds."""
    return 3 * number**2 + 10 * number


def shows(pixels: npt.NDArray[np.uint8], number: int) -> bool:
    columns = np.flatnonzero(pixels[20, :, 0] < 100)
    return len(columns) > 0 and abs(columns.mean() - (14.5 + 2 * number)) < 1


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mov", "libx264"),
        ("a.mkv", "libx264"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.avi", "mjpeg"),
        ("a.AVI", "libx264"),
    ],
)
def test_every_frame_in_any_order(tmp_path: Path, name: str, codec: str) -> None:
    with VideoReader(film(tmp_path / name, codec)) as video:
        assert len(video.index) == FRAMES
        assert not video.index.missing
        assert video.index.times == pytest.approx(np.arange(FRAMES) / 25, abs=2e-3)
        for number in (*range(FRAMES), 30, 3, 39, 0, 13, 13):
            assert shows(video.read(number), number)


def test_frames_that_are_shown_for_unequal_times(tmp_path: Path) -> None:
    with VideoReader(film(tmp_path / "a.mkv", uneven=True)) as video:
        assert (video.index.times * 1000).round().tolist() == [time_of(number) for number in range(FRAMES)]
        assert all(shows(video.read(number), number) for number in range(FRAMES))


@pytest.mark.parametrize("turned", [90, -90, 180])
def test_frames_are_turned_upright(tmp_path: Path, turned: int) -> None:
    with VideoReader(film(tmp_path / "a.mp4", turned=turned)) as video:
        pixels = video.read(7)
    assert shows(np.rot90(pixels, -turned // 90), 7)


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.avi", "mjpeg"), ("a.mp4", "libx264")])
def test_a_video_that_is_cut_off_is_read_up_to_there(tmp_path: Path, name: str, codec: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    with VideoReader(cut(film(tmp_path / name, codec, **options), 0.6)) as video:
        assert 0 < len(video.index) < FRAMES
        assert "cut off or damaged" in video.index.missing
        # The last packet may be there in part only.
        assert all(shows(video.read(number), number) for number in range(len(video.index) - 1))


def test_an_mp4_without_its_end_says_why_nothing_is_read(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="index, which comes last") as caught:
        VideoReader(cut(film(tmp_path / "a.mp4"), 0.6))
    assert caught.value.where == str(tmp_path / "a.mp4")


def test_damage_in_the_middle_costs_the_frames_that_need_it(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mkv")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 60] = np.random.default_rng(1).bytes(60)
    path.write_bytes(content)
    failed = []
    with VideoReader(path) as video:
        for number in range(len(video.index)):
            try:
                video.read(number)
            except ImageError as error:
                failed.append((number, error.what))
        assert shows(video.read(0), 0)
    assert 0 < len(failed) < FRAMES / 2
    assert all("cannot be decoded" in what for _, what in failed)


@pytest.mark.parametrize(
    ("name", "codec", "lost"),
    [("a.mp4", "mpeg4", 13), ("a.mp4", "libx264", 13), ("a.avi", "mjpeg", 1), ("a.avi", "mpeg4", 32)],
)
def test_after_damage_no_frame_is_smeared_or_taken_for_another_one(
    tmp_path: Path, name: str, codec: str, lost: int
) -> None:
    damage(film(tmp_path / name, codec), 13)
    failed = 0
    with VideoReader(tmp_path / name) as video:
        for number in range(FRAMES):
            try:
                pixels = video.read(number).astype(int)
            except ImageError:
                failed += 1
                continue
            assert (np.abs(pixels - picture(number)) > 60).mean() < 0.004
    assert 0 < failed <= lost


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x18ftypmp42" + bytes(200)])
def test_what_is_no_video(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ImageError, match="cannot be read"):
        VideoReader(tmp_path / "a.mp4")


def test_absent_files_sound_alone_and_frames_that_are_too_large(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="No such file"):
        VideoReader(tmp_path / "absent.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="no video in the file"):
        VideoReader(tmp_path / "sound.mp4")
    with pytest.raises(ImageError, match="are the limit") as caught:
        VideoReader(film(tmp_path / "a.mp4"), most_pixels=1000)
    assert "160 × 96" in caught.value.what
