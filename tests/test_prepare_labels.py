"""The rules behind a prepared tree: the split, similar images, names, and outlines as label rows."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import pyvips
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from flat_bug.datasets.coco import GroundTruthImage
from flat_bug.datasets.folder import DatasetImage
from flat_bug.datasets.imagefile import inspect_image
from flat_bug.datasets.prepared import unique_names
from flat_bug.datasets.split import SAME_SCENE, is_validation, same_scene
from flat_bug.errors import ImageError
from flat_bug.instances.single_ring import single_ring
from flat_bug.instances.yolo import label_text

digests = st.binary(max_size=20).map(lambda content: hashlib.md5(content, usedforsecurity=False).hexdigest())


class TestSplit:
    def test_the_rule_of_flat_bug_1x(self):
        # int("2666", 16) / 65535 is 0.15000…; the first four digits count and no others.
        assert is_validation("2665" + "f" * 28, 0.15)
        assert not is_validation("2667" + "0" * 28, 0.15)

    @settings(max_examples=30)
    @given(digests, st.floats(0, 1), st.floats(0, 1))
    def test_a_larger_fraction_holds_back_the_same_images_and_more(self, md5, one, other):
        small, large = sorted((one, other))
        assert is_validation(md5, large) or not is_validation(md5, small)

    @settings(max_examples=30)
    @given(digests)
    def test_a_fraction_of_nothing_holds_back_nothing_and_of_one_everything_but_the_rarest(self, md5):
        assert not is_validation(md5, 0)
        assert is_validation(md5, 1) == (not md5.startswith("ffff"))


def rings_of(text: str, width: int, height: int) -> list[np.ndarray]:
    rows = [line.split() for line in text.splitlines()]
    assert all(row[0] == "0" for row in rows)
    return [np.array(row[1:], float).reshape(-1, 2) * (width, height) for row in rows]


class TestLabels:
    @settings(max_examples=30)
    @given(st.lists(st.floats(0.01, 0.5), min_size=3, max_size=12), st.integers(1, 50_000), st.integers(1, 50_000))
    def test_a_polygon_comes_back_from_its_row(self, reaches, width, height):
        angles = np.linspace(0, 2 * np.pi, len(reaches), endpoint=False)
        star = 0.5 + np.array(reaches)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        polygon = shapely.Polygon(star * (width, height))
        (ring,) = rings_of(label_text(np.array([polygon]), width, height), width, height)
        expected = shapely.get_coordinates(shapely.orient_polygons(polygon).exterior)[:-1]
        assert np.allclose(ring, expected, rtol=1e-6, atol=1e-6 * max(width, height))

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=15, unique=True))
    def test_parts_become_one_ring_with_the_same_area(self, cells):
        parts = shapely.union_all([shapely.box(3 * x, 3 * y, 3 * x + 2, 3 * y + 2) for x, y in cells])
        ring = single_ring(parts)
        assert len(ring) >= 4 * len(cells)
        x, y = ring.T
        assert abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2 == parts.area
        inside_x, inside_y = np.mgrid[:30, :30] + np.array([[[0.3]], [[0.6]]])
        assert np.array_equal(
            shapely.contains_xy(shapely.Polygon(ring), inside_x, inside_y),
            shapely.contains_xy(parts, inside_x, inside_y),
        )

    def test_parts_that_turn_the_other_way_count_too(self):
        left = shapely.box(0, 0, 2, 2)
        right = shapely.Polygon([(5, 0), (5, 2), (7, 2), (7, 0)])
        assert left.exterior.is_ccw != right.exterior.is_ccw
        assert shapely.Polygon(single_ring(shapely.MultiPolygon([left, right]))).area == 8

    def test_holes_are_filled(self):
        frame = shapely.box(0, 0, 10, 10) - shapely.box(4, 4, 6, 6)
        assert shapely.Polygon(single_ring(frame)).area == 100

    def test_no_outline_is_an_empty_file(self):
        assert label_text(np.empty(0, object), 10, 10) == ""


def scene(seed: int) -> pyvips.Image:
    coarse = np.random.default_rng(seed).integers(0, 255, (12, 16, 3), np.uint8)
    return pyvips.Image.new_from_array(coarse).resize(20, kernel="cubic")


class TestLooks:
    @pytest.fixture
    def difference(self, tmp_path):
        """Return how much two pictures differ."""

        def difference(first: pyvips.Image, second: pyvips.Image, **options) -> float:
            for name, image in {"first.jpg": first, "second.jpg": second}.items():
                image.jpegsave(str(tmp_path / name), **options)
            looks = [inspect_image(tmp_path / name).look for name in ("first.jpg", "second.jpg")]
            found = same_scene(looks[:1], looks[1:])
            return found[0].difference if found else 1.0

        return difference

    def test_copies_that_were_changed_a_little_show_the_same_scene(self, difference):
        picture = scene(1)
        animal = picture.draw_rect([10, 10, 10], 100, 80, 25, 15, fill=True)
        for changed in (picture, picture.resize(0.5), picture * 0.9 + 10, picture.gaussblur(2), animal):
            assert difference(picture, changed.cast("uchar"), Q=60) < SAME_SCENE

    @pytest.mark.parametrize("seed", range(2, 8))
    def test_other_pictures_do_not(self, difference, seed):
        assert difference(scene(1), scene(seed)) == 1.0

    def test_blank_pictures_are_like_no_other(self, difference):
        assert difference(pyvips.Image.black(50, 50), pyvips.Image.black(50, 50) + 200) == 1.0

    def test_frames_of_one_clip_and_photos_of_different_cards(self, real_data):
        frames = [inspect_image(path).look for path in sorted((real_data / "bumblebees").glob("*.jpg"))]
        cards = [inspect_image(path).look for path in sorted((real_data / "spohf-yellow-sticky").glob("*.jpg"))[:12]]
        assert [found.more for found in same_scene(frames, frames)] == [len(frames) - 1] * len(frames)
        assert [found.more for found in same_scene(cards, cards)] == [0] * len(cards)
        assert same_scene(frames, cards) == []

    def test_many_pictures_are_compared_with_the_right_ones(self):
        looks = list(np.random.default_rng(0).integers(0, 2**63, (200, 16), np.uint64))
        assert same_scene(looks, looks[::-1]) == [(k, 199 - k, 0.0, 0) for k in range(200)]


class TestImageFiles:
    def test_size_is_as_displayed(self, tmp_path):
        path = tmp_path / "turned.jpg"
        turned = pyvips.Image.black(30, 20, bands=3).copy()
        turned.set_type(pyvips.GValue.gint_type, "orientation", 6)
        turned.jpegsave(str(path))
        facts = inspect_image(path)
        assert (facts.width, facts.height, facts.turned) == (20, 30, True)

    @pytest.mark.parametrize("kind", ["grey", "rgba", "16-bit", "cmyk", "1x1", "1x20000"])
    def test_any_kind_of_picture_is_read(self, tmp_path, kind):
        black = pyvips.Image.black
        path, image = {
            "grey": ("a.png", black(20, 10)),
            "rgba": ("a.png", black(20, 10, bands=4).copy(interpretation="srgb")),
            "16-bit": ("a.tif", black(20, 10, bands=3).cast("ushort").copy(interpretation="rgb16")),
            "cmyk": ("a.jpg", black(20, 10, bands=4).copy(interpretation="cmyk")),
            "1x1": ("a.jpg", black(1, 1)),
            "1x20000": ("a.png", black(1, 20000)),
        }[kind]
        image.write_to_file(str(tmp_path / path))
        facts = inspect_image(tmp_path / path)
        assert (facts.width, facts.height) == (image.width, image.height)

    def test_a_jpeg_with_bytes_after_its_end_is_told_apart(self, tmp_path):
        path = tmp_path / "a.jpg"
        scene(1).jpegsave(str(path))
        assert inspect_image(path).clean_end
        path.write_bytes(path.read_bytes() + b"trailing")
        assert not inspect_image(path).clean_end

    @pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
    @pytest.mark.parametrize("kept", [0.0, 0.05, 0.6])
    def test_a_truncated_file_is_named(self, tmp_path, suffix, kept):
        path = tmp_path / f"a{suffix}"
        scene(1).write_to_file(str(path))
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * kept)])
        with pytest.raises(ImageError) as caught:
            inspect_image(path)
        assert caught.value.where == str(path)

    @pytest.mark.parametrize(
        "content", [b"no image", b"GIF89a" + b"\0" * 50, b"<svg xmlns='http://www.w3.org/2000/svg'/>"]
    )
    def test_other_content_under_an_image_name_is_named(self, tmp_path, content):
        path = tmp_path / "a.jpg"
        path.write_bytes(content)
        with pytest.raises(ImageError) as caught:
            inspect_image(path)
        assert caught.value.where == str(path)


class TestNames:
    def names(self, *files: tuple[str, str]) -> list[str]:
        truth = GroundTruthImage(1, "", 1, 1, "", *(np.empty(0),) * 7)
        return unique_names([DatasetImage(dataset, truth, Path(), Path(file), Path()) for dataset, file in files])

    def test_the_dataset_stands_before_the_name(self):
        assert self.names(("moth_traps", "a b.JPG"), ("moth_traps", "sub/c.tif")) == [
            "moth_traps_a b.JPG",
            "moth_traps_c.tif",
        ]

    def test_the_same_name_in_two_folders_gets_its_folder(self):
        assert self.names(("d", "1/a.jpg"), ("d", "2/a.jpg"), ("d", "2/A.jpg")) == [
            "d_a.jpg",
            "d_2__a.jpg",
            "d_2__A__2.jpg",
        ]

    def test_names_that_would_share_a_label_file_are_told_apart(self):
        assert self.names(("d", "a.jpg"), ("d", "a.png"), ("d", "a.tif")) == ["d_a.jpg", "d_a__2.png", "d_a__3.tif"]

    def test_two_datasets_whose_names_run_together(self):
        assert self.names(("d", "e_a.jpg"), ("d_e", "a.jpg")) == ["d_e_a.jpg", "d_e_a__2.jpg"]
