"""Small tiles lie side by side on sheets: each once, whole, and apart from the others."""

from hypothesis import given
from hypothesis import strategies as st

from flat_bug.pyramid.packing import GAP, Place, pack
from flat_bug.pyramid.tiling import Level, Tile

SIDE = 256
LEVEL = Level(1.0, 4000, 3000, (1.0, 1.0))

sides = st.integers(1, SIDE)
some_tiles = st.lists(
    st.builds(Tile, st.just(LEVEL), st.integers(0, 99), st.integers(0, 99), sides, sides), max_size=40
)


def apart(one: Place, other: Place) -> bool:
    along_x = one.left + one.tile.width + GAP <= other.left or other.left + other.tile.width + GAP <= one.left
    along_y = one.top + one.tile.height + GAP <= other.top or other.top + other.tile.height + GAP <= one.top
    return along_x or along_y


@given(some_tiles)
def test_each_tile_has_a_place_of_its_own(tiles: list[Tile]) -> None:
    sheets = pack(tiles, SIDE)
    placed = [place.tile for sheet in sheets for place in sheet]
    assert sorted(map(id, placed)) == sorted(map(id, tiles))
    for sheet in sheets:
        for number, place in enumerate(sheet):
            assert place.left >= 0
            assert place.top >= 0
            assert place.left + place.tile.width <= SIDE
            assert place.top + place.tile.height <= SIDE
            assert all(apart(place, other) for other in sheet[:number])


def test_whole_tiles_are_sheets_and_small_ones_share_one() -> None:
    whole, quarter = Tile(LEVEL, 0, 0, SIDE, SIDE), Tile(LEVEL, 0, 0, 100, 100)
    assert [len(sheet) for sheet in pack([whole, quarter, whole, quarter, quarter, quarter], SIDE)] == [1, 1, 4]


def test_nothing_needs_no_sheet() -> None:
    assert pack([], SIDE) == ()
