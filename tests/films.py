"""Small films, written frame by frame."""

from collections.abc import Iterable
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
from tests.spots import spots

RATE = 10
WIDTH, HEIGHT = 192, 128


def write_film(
    path: Path, pictures: Iterable[npt.NDArray[np.uint8]], codec: str = "libx264", *, between: int = 4, **options: str
) -> Path:
    """Write a film of ten pictures a second, with a key frame now and then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {} if codec == "mjpeg" else {"bf": "2", "g": str(between)}
        container.start_encoding()
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def walk(frames: int) -> list[npt.NDArray[np.uint8]]:
    """Return pictures of two spots that walk towards and past each other, ten pixels a frame, 64 rows apart."""
    return [spots(WIDTH, HEIGHT, [(20 + 10 * number, 32), (172 - 10 * number, 96)]) for number in range(frames)]


def damage(path: Path, number: int) -> Path:
    """Overwrite what is in the middle of a packet of a film, by the order in which packets lie in the file."""
    with av.open(str(path)) as container:
        packet = [each for each in container.demux(video=0) if each.size][number]
        middle = packet.pos + packet.size // 2
    content = bytearray(path.read_bytes())
    content[middle : middle + packet.size // 4] = np.random.default_rng(1).bytes(packet.size // 4)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    """Leave only the first part of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
