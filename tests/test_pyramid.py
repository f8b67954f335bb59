"""Levels always include the native one; tiles cover a level evenly and overlap enough."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flat_bug.pyramid.tiling import STEP, levels, offsets, tiles


@given(width=st.integers(1, 200_000), height=st.integers(1, 200_000), coarsest=st.integers(1, 2048))
def test_levels_go_from_native_to_an_image_no_longer_than_the_coarsest(width: int, height: int, coarsest: int) -> None:
    found = levels(width, height, coarsest)
    assert (found[0].scale, found[0].width, found[0].height) == (1, width, height)
    assert max(found[-1].width, found[-1].height) <= coarsest
    assert all(max(level.width, level.height) > coarsest for level in found[:-1])
    for finer, coarser in pairwise(found):
        assert coarser.scale == pytest.approx(finer.scale / STEP)


@pytest.mark.parametrize("side", [1472, 2240, 3392, 5120, 1024, 1536, 2304, 3456, 5184])
def test_no_size_loses_its_native_level(side: int) -> None:
    """Existing flat-bug skips the native level where its series of scales ends on it exactly."""
    assert levels(side, side // 2, 1024)[0].scale == 1


def test_a_single_level() -> None:
    assert [level.scale for level in levels(5000, 4000, 512, single=True)] == [1]


@given(width=st.integers(1, 5000), height=st.integers(1, 5000), coarsest=st.integers(1, 500))
def test_level_pixels_map_back_onto_the_whole_image(width: int, height: int, coarsest: int) -> None:
    for level in levels(width, height, coarsest):
        assert level.width * level.native_per_level[0] == pytest.approx(width)
        assert level.height * level.native_per_level[1] == pytest.approx(height)


@given(length=st.integers(1, 20_000), side=st.integers(8, 1024), share=st.floats(0, 0.9))
def test_offsets_cover_evenly_with_enough_overlap(length: int, side: int, share: float) -> None:
    overlap = int(side * share)
    starts = offsets(length, side, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - side)
    steps = [after - before for before, after in pairwise(starts)]
    assert all(0 < step <= side - overlap for step in steps)
    assert max(steps, default=0) - min(steps, default=0) <= 1


@given(
    length=st.integers(1, 20_000),
    side=st.integers(8, 1024),
    share=st.floats(0, 0.9),
    shift=st.integers(0, 3000),
    stride=st.integers(1, 64),
)
def test_tiles_start_at_multiples_of_the_stride_and_cover_as_well(
    length: int, side: int, share: float, shift: int, stride: int
) -> None:
    overlap = int(side * share)
    starts = offsets(length, side, overlap, shift, stride)
    assert starts[0] == 0
    assert 0 <= starts[-1] - max(0, length - side) < stride
    assert all(0 < after - before <= side - overlap for before, after in pairwise(starts))
    assert all(start % min(stride, side - overlap) == 0 for start in starts)


@given(length=st.integers(1, 20_000), side=st.integers(8, 1024), share=st.floats(0, 0.9), shift=st.integers(0, 3000))
def test_a_shifted_grid_covers_as_well(length: int, side: int, share: float, shift: int) -> None:
    overlap = int(side * share)
    starts = offsets(length, side, overlap, shift)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - side)
    assert all(0 < after - before <= side - overlap for before, after in pairwise(starts))
    assert len(starts) <= len(offsets(length, side, overlap)) + 1


def test_offsets_of_a_known_case() -> None:
    assert offsets(1000, 250, 0) == [0, 250, 500, 750]
    assert offsets(1000, 250, 50) == [0, 187, 375, 562, 750]
    assert offsets(250, 250, 50) == [0]
    assert offsets(3, 250, 50) == [0]
    assert offsets(1000, 250, 0, shift=100) == [0, 150, 400, 650, 750]
    assert offsets(1000, 250, 0, shift=250) == offsets(1000, 250, 0)
    assert offsets(1000, 256, 32, stride=32) == [0, 192, 384, 576, 768]
    assert offsets(1000, 256, 32, shift=70, stride=32) == [0, 96, 288, 480, 672, 768]


@pytest.mark.parametrize("overlap", [250, 300, -1])
def test_an_impossible_overlap(overlap: int) -> None:
    with pytest.raises(ValueError, match="cannot overlap"):
        offsets(1000, 250, overlap)


@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_tiles_lie_on_their_level_and_cover_it(width: int, height: int) -> None:
    (level,) = levels(width, height, 1, single=True)
    found = tiles(level, 128, 16)
    for tile in found:
        assert tile.x >= 0
        assert tile.y >= 0
        assert tile.x + tile.width <= width
        assert tile.y + tile.height <= height
    assert {(tile.width, tile.height) for tile in found} == {(min(128, width), min(128, height))}
    assert len(found) == len(offsets(width, 128, 16)) * len(offsets(height, 128, 16))
