"""The folder of the viewer: what is in it, what is written again, and what no file name can do to it."""

import json
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import shapely
from hypothesis import given
from hypothesis import strategies as st
from tests.outlines import tables
from tests.viewers import disc, viewed

from flat_bug.errors import ItemsFailedError, OutputError
from flat_bug.imaging import open_image
from flat_bug.instances.table import Instances
from flat_bug.instances.viewer import Viewed, write_viewer
from flat_bug.instances.viewer.columns import columns_of
from flat_bug.instances.viewer.names import slug_of
from flat_bug.instances.viewer.outlines import encode_outlines

HOSTILE = "\"><script>alert(1)</script>\n\u2028%2e%2e#?[Q=1] '`${x}`é虫.jpg"


def read_script(path: Path) -> tuple[str, Any]:
    """Return what a script hands to the page, and to which of its functions."""
    text = path.read_bytes().decode("ascii")
    call = re.fullmatch(r'flatBugData\.(\w+)\(JSON\.parse\((".*")\)\);\n', text)
    assert call is not None
    return call[1], json.loads(json.loads(call[2]))


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def write(viewer: Path, *images: Viewed) -> Path:
    return write_viewer(viewer, images, title="Night traps", version="2")


@pytest.fixture
def card(tmp_path: Path) -> Viewed:
    (tmp_path / "images").mkdir()
    return viewed(tmp_path / "images", "card.png", [disc(300, 200, 60), disc(900, 700, 90, 40)], [0.9, 0.4])


def test_it_holds_a_page_a_list_and_a_folder_for_each_image(tmp_path: Path, card: Viewed) -> None:
    page = write(tmp_path / "viewer", card)
    assert page == tmp_path / "viewer" / "index.html"
    receiver, listed = read_script(tmp_path / "viewer" / "images.js")
    assert (receiver, listed["title"]) == ("list", "Night traps")
    [entry] = listed["images"]
    assert (entry["slug"], entry["title"], entry["count"]) == ("card", "card.png", 2)
    assert open_image(tmp_path / "viewer" / "images" / "card" / entry["thumbnail"]).width == 480
    receiver, animals = read_script(tmp_path / "viewer" / "images" / "card" / "animals.js")
    assert (receiver, animals["width"], animals["height"]) == ("image", 1600, 1200)
    assert [column["key"] for column in animals["columns"]] == [
        *("score", "area_px2", "box_width_px", "box_height_px", "level")
    ]


def test_everything_that_the_page_loads_is_in_the_folder_with_the_licence_of_what_is_not_ours(
    tmp_path: Path, card: Viewed
) -> None:
    page = write(tmp_path / "viewer", card)
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.read_text("utf-8"))
    assert len(loaded) > 5
    for address in loaded:
        assert address == "data:," or (page.parent / address).is_file()
    licence = (page.parent / "assets" / "vendor" / "openseadragon.LICENSE.txt").read_text("utf-8")
    assert "Redistributions in binary form must reproduce" in licence


def test_tiles_show_the_upright_image_and_nothing_about_where_it_was_taken(tmp_path: Path) -> None:
    # Left half red when upright; stored turned, with a place in its EXIF.
    upright = np.zeros((700, 1100, 3), np.uint8)
    upright[:, :550, 0] = 255
    stored = pyvips.Image.new_from_array(upright).copy(interpretation="srgb").rot270().copy()
    stored.set_type(pyvips.GValue.gint_type, "orientation", 6)
    stored.set_type(pyvips.GValue.gstr_type, "exif-ifd3-GPSLatitude", "56/1 9/1 0/1")
    stored.jpegsave(str(tmp_path / "turned.jpg"), Q=95)
    table = Instances.empty(1100, 700)
    write(tmp_path / "viewer", Viewed("turned", "turned.jpg", table, lambda: open_image(tmp_path / "turned.jpg"), "a"))
    [tiles] = (tmp_path / "viewer" / "images" / "turned").glob("tiles-*")
    assert sorted(path.name for path in tiles.iterdir()) == ["0", "1", "2"]
    assert len(list((tiles / "2").iterdir())) == 3 * 2
    whole = pyvips.Image.new_from_file(str(tiles / "0" / "0_0.jpg"))
    assert (whole.width, whole.height) == (275, 175)
    assert whole(60, 87)[0] > 240
    assert whole(200, 87)[0] < 15
    assert not [name for name in whole.get_fields() if "exif" in name]


def test_a_second_run_leaves_everything_but_the_list_alone(tmp_path: Path, card: Viewed) -> None:
    write(tmp_path / "viewer", card)
    before = snapshot(tmp_path / "viewer")

    def never() -> Any:
        raise AssertionError("no pixel is needed")

    write(tmp_path / "viewer", replace(card, open_pixels=never))
    after = snapshot(tmp_path / "viewer")
    assert {name for name in before | after if before.get(name) != after.get(name)} <= {"index.html", "images.js"}


def test_other_animals_in_the_same_image_need_no_other_tiles(tmp_path: Path, card: Viewed) -> None:
    write(tmp_path / "viewer", card)
    before = snapshot(tmp_path / "viewer" / "images" / "card")
    write(tmp_path / "viewer", replace(card, table=card.table[:1]))
    after = snapshot(tmp_path / "viewer" / "images" / "card")
    assert before["animals.js"] != after["animals.js"]
    assert len(before) == len(after)
    assert {name for name in before if "tiles-" in name} == {name for name in after if before.get(name) == after[name]}


def test_tiles_of_another_image_replace_those_of_the_former_one(tmp_path: Path, card: Viewed) -> None:
    write(tmp_path / "viewer", card)
    [before] = (tmp_path / "viewer" / "images" / "card").glob("tiles-*")
    write(tmp_path / "viewer", replace(card, image_sha256="other"))
    [after] = (tmp_path / "viewer" / "images" / "card").glob("tiles-*")
    assert before != after


def test_an_image_that_is_damaged_costs_its_own_place_only(tmp_path: Path, card: Viewed) -> None:
    whole = pyvips.Image.gaussnoise(900, 900).cast("uchar").jpegsave_buffer()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    cut = Viewed("cut", "cut.jpg", Instances.empty(900, 900), lambda: open_image(tmp_path / "cut.jpg"), "c")
    with pytest.raises(ItemsFailedError, match=r"1 of 2 images are not in the viewer\ncut.jpg: the image cannot be"):
        write(tmp_path / "viewer", cut, card)
    _, listed = read_script(tmp_path / "viewer" / "images.js")
    assert [image["slug"] for image in listed["images"]] == ["card"]
    assert list((tmp_path / "viewer" / "images" / "cut").iterdir()) == []


def test_an_image_of_another_size_than_the_predicted_one_is_refused(tmp_path: Path, card: Viewed) -> None:
    other = Viewed("card", "card.png", Instances.empty(10, 10), card.open_pixels, "b")
    with pytest.raises(ItemsFailedError, match="1600 × 1200 pixels, but 10 × 10 when it was predicted"):
        write(tmp_path / "viewer", other)


def test_a_folder_that_cannot_be_made_ends_it(tmp_path: Path, card: Viewed) -> None:
    (tmp_path / "viewer").write_text("in the way")
    with pytest.raises(OutputError):
        write(tmp_path / "viewer", card)


@pytest.mark.parametrize("images", [0, 1])
def test_nothing_found_and_no_image_at_all_make_a_viewer_too(tmp_path: Path, images: int) -> None:
    empty = Viewed("blank", "blank.png", Instances.empty(1, 1), lambda: open_image(np.zeros((1, 1, 3), np.uint8)), "a")
    write(tmp_path / "viewer", *[empty] * images)
    _, listed = read_script(tmp_path / "viewer" / "images.js")
    assert [image["count"] for image in listed["images"]] == [0] * images


def test_a_hostile_name_is_data_and_no_part_of_a_path_or_a_script(tmp_path: Path, card: Viewed) -> None:
    write(tmp_path / "out [Q=1] #%", replace(card, name=HOSTILE, title=HOSTILE))
    [folder] = (tmp_path / "out [Q=1] #%" / "images").iterdir()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", folder.name)
    assert read_script(folder / "animals.js")[1]["title"] == HOSTILE
    assert "alert" not in (tmp_path / "out [Q=1] #%" / "index.html").read_text("utf-8")


@given(st.lists(st.text(max_size=80), min_size=2, max_size=6, unique=True))
def test_slugs_are_safe_short_and_never_shared(names: list[str]) -> None:
    slugs = [slug_of(name) for name in names]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,75}", slug) for slug in slugs)
    assert len(set(slugs)) == len(slugs)


@pytest.mark.parametrize("name", ["card_07", "IMG-0001", "a" * 60])
def test_an_ordinary_name_is_its_own_slug(name: str) -> None:
    assert slug_of(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "con", "NUL", "a/b", "-", "a" * 61])
def test_a_name_that_some_system_takes_for_another_is_not(name: str) -> None:
    assert slug_of(name) != name


@given(tables())
def test_outlines_come_back_with_all_rings_to_a_hundredth_of_a_pixel(table: Instances) -> None:
    encoded = json.loads(json.dumps(encode_outlines(table)))
    points = np.cumsum(np.array(encoded["steps"], np.int64).reshape(-1, 2), axis=0) / 100
    rings = np.split(points, np.cumsum(encoded["sizes"])[:-1]) if encoded["sizes"] else []
    first = 0
    for polygon, count in zip(table.polygons, encoded["rings"], strict=True):
        expected = shapely.get_rings(shapely.get_parts(polygon))
        assert len(expected) == count
        for ring, found in zip(expected, rings[first : first + count], strict=True):
            np.testing.assert_allclose(shapely.get_coordinates(ring)[:-1], found, atol=0.0051)
        first += count
    assert first == len(rings)
    np.testing.assert_allclose(np.array(encoded["boxes"]).reshape(-1, 4) / 100, table.boxes, atol=0.0051)


def test_columns_are_what_the_table_has_and_each_measurement_that_is_a_number() -> None:
    polygons = np.array([disc(10, 10, 5), disc(30, 30, 3)], object)
    table = Instances.from_polygons(polygons, np.array([0.5, 0.25]), width=50, height=50, mm_per_px=0.1)
    measurements = {
        "length_mm": [1.5, np.nan],
        "length_mm_sd": [0.1, np.nan],
        "lone_sd": [1, 2],
        "colour": ["red", "blue"],
        "too_short": [1.0],
        "area_px2": [0, 0],
    }
    columns = {column.key: column.as_mapping() for column in columns_of(table, measurements)}
    assert list(columns) == [
        *("score", "area_mm2", "length_mm", "lone_sd", "area_px2", "box_width_px", "box_height_px", "level")
    ]
    named = {"key": "length_mm", "label": "Length", "unit": "mm"}
    assert columns["length_mm"] == {**named, "values": [1.5, None], "deviations": [0.1, None]}
    assert columns["area_mm2"]["values"] == pytest.approx((table.areas * 0.01).tolist())
    assert columns["area_px2"]["values"] == pytest.approx(table.areas.tolist())


WRITE_LARGE = """
import sys
from pathlib import Path
from flat_bug.imaging import open_image
from flat_bug.instances.table import Instances
from flat_bug.instances.viewer import Viewed, write_viewer

folder = Path(sys.argv[1])
table = Instances.empty(30_000, 30_000)
image = Viewed("large", "large.tif", table, lambda: open_image(folder / "large.tif"), "a")
write_viewer(folder / "viewer", [image], title="Large", version="2")
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(int(peak.split()[1]) / 1e6)
"""


@pytest.mark.slow
def test_an_image_of_900_megapixels_needs_less_memory_than_a_tenth_of_its_pixels_take(tmp_path: Path) -> None:
    ramp = pyvips.Image.identity(ushort=True, size=30_000).cast("float").linear(255 / 30_000, 0).cast("uchar")
    ramp.embed(0, 0, 30_000, 30_000, extend="copy").bandjoin([30, 60]).copy(interpretation="srgb").tiffsave(
        str(tmp_path / "large.tif"), tile=True, compression="jpeg", bigtiff=True
    )
    child = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WRITE_LARGE), str(tmp_path)], check=True, capture_output=True, text=True
    )
    gigabytes = float(child.stdout)
    # The program and its libraries alone take about a quarter of a gigabyte.
    assert gigabytes < 0.27 + 0.25
    [tiles] = (tmp_path / "viewer" / "images" / "large").glob("tiles-*")
    assert len(list((tiles / "6").iterdir())) == 59 * 59
