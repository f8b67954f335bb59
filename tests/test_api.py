"""What a developer writes in Python: one image, many images, arrays and images of Pillow, and what comes back."""

import logging
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import shapely
from PIL import Image
from tests.oracle import RED, Oracle, draw

from flat_bug import Predictor
from flat_bug.errors import ImageError, UsageError
from flat_bug.instances.table import Instances
from flat_bug.segmenters.base import TileInstances

BOXES = [(30, 30, 70, 60), (100, 40, 150, 90), (40, 90, 80, 130)]
TRAY = draw(180, 140, [(shapely.box(*box), RED) for box in BOXES])


def same_but_for_the_file(one: Instances, other: Instances) -> bool:
    return replace(one, provenance=other.provenance) == other


# Many images


def trays(folder: Path, count: int) -> list[Path]:
    """Write pictures with one animal, two animals, and so on."""
    paths = [folder / f"tray{number}.png" for number in range(count)]
    for number, path in enumerate(paths):
        Image.fromarray(draw(180, 140, [(shapely.box(*box), RED) for box in BOXES[: number + 1]])).save(path)
    return paths


def test_many_images_come_in_their_order_each_with_its_instances(tmp_path: Path) -> None:
    paths, predictor, told = trays(tmp_path, 3), Predictor(Oracle()), []
    found = list(predictor.many(paths, lambda done, total: told.append((done, total))))
    assert [path for path, _ in found] == paths
    assert [len(instances) for _, instances in found] == [1, 2, 3]
    assert all(instances == predictor(path) for path, instances in found)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_many_images_may_be_none() -> None:
    assert list(Predictor(Oracle()).many([])) == []


def test_an_image_that_cannot_be_read_is_an_error_when_its_turn_comes(tmp_path: Path) -> None:
    paths = trays(tmp_path, 3)
    paths[1].write_bytes(paths[1].read_bytes()[:200])
    found = Predictor(Oracle()).many(paths)
    assert next(found)[0] == paths[0]
    with pytest.raises(ImageError) as caught:
        next(found)
    assert caught.value.where == str(paths[1])


@pytest.mark.parametrize("damage", ["absent", "text", "truncated"])
@pytest.mark.parametrize("which", [0, 1, 2])
def test_an_image_that_cannot_be_read_does_not_end_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str, which: int
) -> None:
    paths, told = trays(tmp_path, 3), []
    content = {"absent": None, "text": b"not an image", "truncated": paths[which].read_bytes()[:200]}[damage]
    paths[which].unlink()
    if content is not None:
        paths[which].write_bytes(content)
    with caplog.at_level(logging.WARNING):
        found = list(Predictor(Oracle()).many(paths, lambda *done: told.append(done), on_error="skip"))
    assert [path for path, _ in found] == [path for number, path in enumerate(paths) if number != which]
    assert paths[which].name in caplog.text
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_images_from_a_generator_are_asked_for_one_ahead() -> None:
    made: list[int] = []
    told: list[tuple[int, int | None]] = []

    def frames() -> Iterator[npt.NDArray[np.uint8]]:
        for number in range(4):
            made.append(number)
            yield TRAY

    found = Predictor(Oracle()).many(frames(), lambda done, total: told.append((done, total)))
    for number, (frame, instances) in enumerate(found):
        assert frame is TRAY
        assert len(instances) == 3
        assert made == list(range(min(number + 2, 4)))
    assert told == [(1, None), (2, None), (3, None), (4, None)]


def test_the_next_image_is_read_while_the_network_looks_at_this_one(tmp_path: Path) -> None:
    """The network waits until the next image has been opened, which would never be if it were not read meanwhile."""
    opened = threading.Event()

    class Waiting(Oracle):
        def segment(self, tiles: npt.NDArray[np.uint8], score_threshold: float) -> list[TileInstances]:
            assert opened.wait(30)
            return super().segment(tiles, score_threshold)

    class Telling:
        """A picture that says when somebody looks at its numbers."""

        @property
        def __array_interface__(self) -> dict[str, object]:
            opened.set()
            return TRAY.__array_interface__

    found = list(Predictor(Waiting()).many([TRAY, Telling()]))
    assert [len(instances) for _, instances in found] == [3, 3]


def test_leaving_early_leaves_no_thread_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    found = Predictor(Oracle()).many(trays(tmp_path, 3))
    next(found)
    found.close()
    assert threading.active_count() == before


def test_one_path_instead_of_many_is_not_taken_for_its_letters() -> None:
    with pytest.raises(UsageError, match="not many images"):
        next(Predictor(Oracle()).many("tray.png"))


# Images of Pillow


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV"])
def test_an_image_of_pillow_is_seen_in_its_colours_whatever_its_mode(mode: str) -> None:
    # Colours that a palette of 256 holds, and inks turn into without loss.
    seen = Predictor(Oracle())(Image.fromarray(TRAY).convert(mode))
    assert len(seen) == 3
    np.testing.assert_allclose(seen.boxes, Predictor(Oracle())(TRAY).boxes, atol=1.5)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_of_pillow_is_turned_as_its_exif_says_like_its_file(tmp_path: Path, orientation: int) -> None:
    picture = Image.fromarray(TRAY)
    picture.getexif()[0x0112] = orientation
    path = tmp_path / "turned.png"
    picture.save(path, exif=picture.getexif())
    predictor = Predictor(Oracle())
    of_file = predictor(path)
    with Image.open(path) as opened:
        of_pillow = predictor(opened)
    assert len(of_file) == 3
    assert same_but_for_the_file(of_pillow, of_file)
    assert (of_pillow.width, of_pillow.height) == ((180, 140) if orientation < 5 else (140, 180))


def test_a_damaged_image_of_pillow_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 255, (100, 100, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with Image.open(path) as opened, pytest.raises(ImageError, match="Pillow cannot read") as caught:
        Predictor(Oracle())(opened)
    assert caught.value.where == str(path)


# Arrays


@pytest.mark.parametrize(
    "array",
    [
        TRAY.transpose(2, 0, 1),
        TRAY[None],
        TRAY.astype(float),
        TRAY.astype(np.int64) - 300,
        TRAY > 99,
        TRAY.astype(object),
        np.full(TRAY.shape, np.nan),
        np.empty((0, 5, 3), np.uint8),
        np.array([TRAY, TRAY[:9]], dtype=object),
        np.array("tray.png"),
    ],
)
def test_an_array_that_is_no_image_says_how_to_mend_it_before_the_network_is_asked(
    array: npt.NDArray[np.generic],
) -> None:
    oracle = Oracle()
    with pytest.raises(ImageError, match="is not an image") as caught:
        Predictor(oracle)(array)
    assert caught.value.mend
    assert oracle.batches == []


@pytest.mark.parametrize(
    "array",
    [TRAY / 255, TRAY.astype(np.uint16) * 257, np.asfortranarray(TRAY), np.dstack([TRAY, TRAY[..., :1] * 0 + 255])],
)
def test_arrays_of_other_types_and_layouts_give_the_same_instances(array: npt.NDArray[np.generic]) -> None:
    assert same_but_for_the_file(Predictor(Oracle())(array), Predictor(Oracle())(TRAY))
