"""What a developer writes in Python: one image, many images, arrays and images of Pillow, and what comes back."""

import json
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

from flat_bug import Instances, Predictor, open_image
from flat_bug.errors import ImageError, UsageError
from flat_bug.instances.coco import write_coco
from flat_bug.instances.crops import CropOptions
from flat_bug.measurement import measured
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


def test_the_next_image_is_read_while_the_network_looks_at_this_one() -> None:
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


# What comes back

FOUND = Predictor(Oracle())(TRAY)


def test_a_row_is_an_instance_and_so_is_each_that_is_gone_through() -> None:
    first, *_ = instances = list(FOUND)
    assert len(instances) == 3
    np.testing.assert_array_equal(first.box, FOUND.boxes[0])
    assert (first.score, first.class_name, first.level) == (FOUND.scores[0], "insect", FOUND.levels[0])
    assert first.area == first.polygon.area == FOUND.areas[0]
    assert first.track_id is None
    np.testing.assert_array_equal(FOUND[-1].box, FOUND.boxes[2])
    assert FOUND[np.int64(1)].polygon == FOUND.polygons[1]


def test_a_row_of_a_video_that_was_measured_has_its_track_and_its_numbers() -> None:
    table = replace(FOUND, track_ids=np.array([7, 8, 9]), measurements={"length_px": np.array([1.0, 2.0, np.nan])})
    assert (table[1].track_id, table[1].measurements) == (8, {"length_px": 2.0})
    kept = table[[2, 0]]
    assert kept.track_ids is not None
    assert kept.track_ids.tolist() == [9, 7]
    np.testing.assert_array_equal(kept.measurements["length_px"], [np.nan, 1])


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, None), [1, 2]),
        (slice(None, None, -1), [2, 1, 0]),
        ([2, 0], [2, 0]),
        ([], []),
        ([True, False, True], [0, 2]),
        (np.array([False, True, False]), [1]),
        (np.array([-1]), [2]),
        (FOUND.scores > 2, []),
    ],
)
def test_some_rows_are_instances_again(rows: slice | list[int], kept: list[int]) -> None:
    chosen = FOUND[rows]
    assert isinstance(chosen, Instances)
    np.testing.assert_array_equal(chosen.boxes, FOUND.boxes[np.array(kept, int)])
    assert (chosen.width, chosen.provenance) == (FOUND.width, FOUND.provenance)


@pytest.mark.parametrize("rows", [3, -4, [3], np.array([True, False])])
def test_rows_that_are_not_there_are_an_index_error(rows: int | list[int]) -> None:
    with pytest.raises(IndexError):
        FOUND[rows]


def test_its_text_says_how_many_there_are_and_not_every_number() -> None:
    assert repr(FOUND) == "<Instances: 3 in an image of 180 × 140 px>"


def test_instances_are_saved_and_loaded_exactly(tmp_path: Path) -> None:
    FOUND.save(tmp_path / "tray.json", image_path="trays/tray.png")
    assert Instances.load(tmp_path / "tray.json") == FOUND
    assert '"image_path": "trays/tray.png"' in (tmp_path / "tray.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("run_lengths", [False, True])
def test_the_coco_of_an_image_is_what_is_written_of_many(tmp_path: Path, run_lengths: bool) -> None:
    write_coco(tmp_path / "coco.json", [("tray.png", FOUND)], run_lengths=run_lengths)
    written = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert FOUND.to_coco("tray.png", run_lengths=run_lengths) == written
    assert len(written["annotations"]) == 3


def test_a_frame_has_a_row_for_each_instance_and_what_was_measured() -> None:
    frame = measured(FOUND).to_polars("tray.png")
    assert frame.height == 3
    assert frame["image"].to_list() == ["tray.png"] * 3
    np.testing.assert_array_equal(frame["area_px2"], FOUND.areas)
    assert frame["length_px"].null_count() == 0
    assert FOUND.to_polars()["length_px"].null_count() == 3


def test_pictures_are_drawn_of_an_opened_image() -> None:
    image = open_image(TRAY)
    overview = FOUND.overview(image)
    assert overview.shape == TRAY.shape
    assert not np.array_equal(overview, TRAY)
    assert FOUND.overview(image, fast=True).shape == (70, 90, 3)
    crops = list(FOUND.crops(image))
    assert [crop.shape[2] for crop in crops] == [4, 4, 4]
    assert [crop.shape for crop in FOUND.crops(image, CropOptions(size=32, background="white"))] == [(32, 32, 3)] * 3


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
