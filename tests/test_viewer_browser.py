"""The viewer as an ecologist meets it: from a disk, in a browser, on a laptop and on a phone."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import shapely
from PIL import Image
from playwright.sync_api import Browser, Page
from tests.browser import LAPTOP, PHONE, Watched, chromium, opened
from tests.viewers import disc, viewed

from flat_bug.imaging import LazyImage, open_image
from flat_bug.instances.table import Instances
from flat_bug.instances.viewer import Viewed, write_viewer

pytestmark = pytest.mark.browser

HOSTILE = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\n#%2e?é虫.png'
RING, DISC, PAIR = disc(400, 300, 120, hole=60), disc(1100, 300, 90), [disc(500, 900, 50), disc(700, 900, 50)]
SCORES = [0.9, 0.5, 0.3]
READY = "inspector.animals && inspector.stage.layer.view && !inspector.stage.viewer.isAnimating()"
ORANGE = (255, 176, 0)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    images = tmp_path_factory.mktemp("images")
    card = viewed(
        images,
        "night/card_2.png",
        [RING, DISC, shapely.MultiPolygon(PAIR)],
        SCORES,
        mm_per_px=0.05,
        classes=np.array([0, 1, 1]),
        class_names=("beetle", "fly"),
        measurements={"length_mm": [12.5, 9.0, np.nan], "length_mm_sd": [0.21, 0.2, np.nan]},
    )
    many = [disc(30 + 50 * (i % 60), 30 + 50 * (i // 60), 20) for i in range(3000)]
    crowd = viewed(images, "card_10.png", many, np.linspace(0.1, 0.99, 3000).tolist(), size=(3040, 2560))
    classes: dict[str, Any] = {"classes": np.array([0, 1]), "class_names": (HOSTILE, "=1+1")}
    hostile = viewed(images, HOSTILE, [disc(60, 60, 30), disc(15, 15, 10)], [0.8, 0.7], size=(120, 120), **classes)
    blank = viewed(images, "blank.png", [], [], size=(300, 2000))
    folder = tmp_path_factory.mktemp("out [Q=1] #%") / "viewer"
    return write_viewer(folder, [card, crowd, hostile, blank], title=HOSTILE, version="2")


def goto(watched: Watched, page: Path, place: str) -> Page:
    """Open an address of the viewer and wait until the image stands still."""
    watched.page.goto(f"{page.as_uri()}#/{place}")
    watched.page.wait_for_function(READY)
    return watched.page


@pytest.fixture
def card(browser: Browser, viewer: Path) -> Iterator[Page]:
    with opened(browser, viewer) as watched:
        yield goto(watched, viewer, slug(watched.page, "night/card_2.png"))
        assert watched.errors == []
        assert watched.outside_requests == []


def slug(page: Page, title: str) -> str:
    found: str = page.evaluate("title => flatBugData.images.find(image => image.title === title).slug", title)
    return found


def on_screen(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where OpenSeadragon shows a place of the image, on the page."""
    script = """([x, y]) => {
        const place = inspector.stage.viewer.viewport.imageToViewerElementCoordinates(new OpenSeadragon.Point(x, y));
        const frame = inspector.stage.host.getBoundingClientRect();
        return [place.x + frame.left, place.y + frame.top];
    }"""
    left, top = page.evaluate(script, [x, y])
    return left, top


def zoom(page: Page, factor: float, x: float, y: float) -> None:
    """Zoom to a place of the image, at once, and wait until its tiles are there."""
    script = """([factor, x, y]) => {
        const {viewport} = inspector.stage.viewer;
        viewport.zoomTo(viewport.getHomeZoom() * factor, null, true);
        viewport.panTo(viewport.imageToViewportCoordinates(x, y), true);
    }"""
    page.evaluate(script, [factor, x, y])
    page.wait_for_function(READY)
    page.wait_for_function("inspector.stage.viewer.world.getItemAt(0).getFullyLoaded()")
    page.wait_for_timeout(400)


def shot(page: Page) -> npt.NDArray[np.int16]:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(np.int16)


def bounds(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask)
    return int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1


@pytest.mark.parametrize(("size", "dark"), [(LAPTOP, False), (PHONE, True)], ids=["light laptop", "dark phone"])
def test_it_opens_from_a_disk_without_error_request_or_sideways_scroll(
    browser: Browser, viewer: Path, size: tuple[int, int], dark: bool
) -> None:
    with opened(browser, viewer, size, dark=dark) as watched:
        page = watched.page
        page.wait_for_function("[...document.images].every(image => image.complete && image.naturalWidth)")
        assert watched.overflow <= 0
        goto(watched, viewer, slug(page, "night/card_2.png") + "/1")
        page.wait_for_function("document.querySelector('.crop canvas').width > 100")
        assert watched.overflow <= 0
        assert watched.errors == []
        assert watched.outside_requests == []


def test_all_images_are_listed_searched_and_sorted(browser: Browser, viewer: Path) -> None:
    with opened(browser, viewer) as watched:
        page = watched.page
        names = page.locator(".cards .name")
        assert page.locator(".sum").inner_text() == "3,005 animals in 4 images, 1 of them without any"
        assert set(names.all_text_contents()) == {HOSTILE, "blank.png", "card_10.png", "night/card_2.png"}
        page.select_option(".order select", "most")
        assert names.all_text_contents()[:2] == ["card_10.png", "night/card_2.png"]
        page.fill(".search input", "CARD ght")
        assert names.all_text_contents() == ["night/card_2.png"]
        assert page.locator(".search-bar .shown").inner_text() == "1 of 4 images"
        page.fill(".search input", "nothing like this")
        assert page.locator(".none").is_visible()


@pytest.mark.parametrize("factor", [1, 4.5])
@pytest.mark.parametrize("ratio", [1, 2])
def test_outlines_lie_on_the_animals_at_every_zoom(browser: Browser, viewer: Path, factor: float, ratio: float) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, device_scale_factor=ratio)
    watched = Watched(context.new_page())
    watched.page.goto(viewer.as_uri())
    page = goto(watched, viewer, slug(watched.page, "night/card_2.png"))
    zoom(page, factor, 1100, 300)
    left, top = (int(ratio * value) for value in on_screen(page, 1100 - 110, 300 - 110))
    right, bottom = (int(ratio * value) for value in on_screen(page, 1100 + 110, 300 + 110))
    window = (slice(top, bottom), slice(left, right))
    with_outline = shot(page)[window]
    page.keyboard.press("o")
    page.wait_for_timeout(200)
    without = shot(page)[window]
    context.close()
    outline = np.abs(with_outline - ORANGE).max(axis=2) < 40
    animal = without.max(axis=2) < 110
    # The middle of the line runs along the animal's border.
    assert np.abs(np.array(bounds(outline)) - bounds(animal)).max() <= 2 * ratio
    assert outline.sum() > 2.5 * (bounds(animal)[2] - bounds(animal)[0])


def test_the_wheel_zooms_to_the_pointer_and_a_drag_takes_the_image_along(card: Page) -> None:
    scale = "inspector.stage.view().scale"
    x, y = on_screen(card, 1100, 300)
    before = card.evaluate(scale)
    card.mouse.move(x, y)
    for _ in range(3):
        card.mouse.wheel(0, -200)
        card.wait_for_timeout(150)
    card.wait_for_timeout(200)
    card.wait_for_function(READY)
    assert card.evaluate(scale) > 1.4 * before
    assert on_screen(card, 1100, 300) == pytest.approx((x, y), abs=2)
    card.mouse.down()
    card.mouse.move(x - 40, y + 30, steps=4)
    card.mouse.move(x - 80, y + 60, steps=8)
    card.wait_for_timeout(600)  # held still, so that it is not flicked
    card.mouse.up()
    card.wait_for_timeout(200)
    card.wait_for_function(READY)
    assert on_screen(card, 1100, 300) == pytest.approx((x - 80, y + 60), abs=2)
    assert card.locator(".details h2").inner_text() == "No animal chosen"


def test_a_click_shows_the_animal_and_its_numbers_and_a_link_leads_there(browser: Browser, viewer: Path) -> None:
    with opened(browser, viewer) as watched:
        page = goto(watched, viewer, slug(watched.page, "night/card_2.png"))
        page.mouse.click(*on_screen(page, 400 + 90, 300))
        details = page.locator(".details")
        page.wait_for_function("document.querySelector('.crop canvas').width > 100")
        assert details.locator("h2").inner_text() == "Animal 0"
        rows = dict(
            zip(details.locator("dt").all_text_contents(), details.locator("dd").all_text_contents(), strict=True)
        )
        area = RING.area * 0.05**2
        assert rows["Class"] == "beetle"
        assert rows["Score"] == "0.90"
        assert rows["Length (mm)"] == "12.5 ± 0.21"
        assert rows["Area (mm²)"] == f"{area:.1f}"
        assert rows["x (px)"] == "280.0 – 520.0"
        crop = np.asarray(Image.open(io.BytesIO(details.locator(".crop").screenshot())).convert("L"))
        middle, ring = crop[crop.shape[0] // 2, crop.shape[1] // 2], crop[crop.shape[0] // 2, crop.shape[1] // 6]
        assert middle > 200  # through the hole
        assert ring < 40
        assert page.url.endswith("/0")
        address = page.url
    with opened(browser, viewer) as watched:
        watched.page.goto(address)
        watched.page.wait_for_function(READY)
        assert watched.page.locator(".details h2").inner_text() == "Animal 0"
        assert watched.page.locator("tr[aria-current=true] td").first.inner_text() == "0"


def test_holes_are_no_animal_and_all_parts_are_one(card: Page) -> None:
    card.mouse.click(*on_screen(card, 700, 900))
    assert card.locator(".details h2").inner_text() == "Animal 2"
    card.mouse.click(*on_screen(card, 400, 300))
    assert card.locator(".details h2").inner_text() == "No animal chosen"


def test_filters_change_the_count_the_table_and_the_picture(card: Page) -> None:
    tally, rows = card.locator(".tally"), card.locator("tr[data-animal]")
    assert tally.inner_text() == "3 animals"
    least = card.get_by_label("Score: least", exact=True)
    least.fill("600")
    assert tally.text_content() == "1 of 3 animals"
    assert rows.count() == 1
    card.mouse.click(*on_screen(card, 1100, 300))
    assert card.locator(".details h2").inner_text() == "No animal chosen"
    card.get_by_label("Score: least, as a number").fill("0.4")
    card.keyboard.press("Enter")
    assert tally.text_content() == "2 of 3 animals"
    card.get_by_label("fly").uncheck()
    assert tally.text_content() == "1 of 3 animals"
    card.locator(".reset").click()
    assert tally.inner_text() == "3 animals"
    # An animal that was not measured passes unless a length is asked for.
    card.get_by_label("Length (mm): most", exact=True).fill("900")
    assert tally.text_content() == "1 of 3 animals"
    card.get_by_label("beetle").uncheck()
    card.get_by_label("fly").uncheck()
    assert card.locator(".nobody").is_visible()


def test_a_limit_that_is_typed_leaves_the_other_one_alone(browser: Browser, tmp_path: Path) -> None:
    discs = [disc(20 + 40 * i, 20, 5) for i in range(3)]
    # The least is shown as 12.5 and the most as 30.0, which would leave both of them out.
    lengths = {"length_mm": [12.46, 20.0, 30.04]}
    image = viewed(tmp_path, "sizes.png", discs, [0.5] * 3, size=(120, 40), measurements=lengths)
    page = write_viewer(tmp_path / "viewer", [image], title="Sizes", version="2")
    with opened(browser, page) as watched:
        shown = goto(watched, page, "sizes")
        tally = shown.locator(".tally")
        least, most = (shown.get_by_label(f"Length (mm): {end}, as a number") for end in ("least", "most"))
        for field, text, expected in [
            (most, "21", "2 of 3 animals"),
            (most, "", "3 animals"),
            (least, "12,47", "2 of 3 animals"),
            (least, "1,000", "0 of 3 animals"),
        ]:
            field.fill(text)
            field.press("Enter")
            assert tally.text_content() == expected


def test_an_image_that_comes_late_does_not_take_the_place_of_the_one_that_was_asked_for_last(
    browser: Browser, viewer: Path
) -> None:
    with opened(browser, viewer) as watched:
        page = watched.page
        slow = slug(page, "card_10.png")
        # A disk that takes its time over one file.
        hold = """slow => {
            const load = flatBugData.load.bind(flatBugData);
            const ready = new Promise((resolve) => { window.goOn = resolve; });
            flatBugData.load = async (slug) => {
                if (slug === slow) await ready;
                return load(slug);
            };
        }"""
        page.evaluate(hold, slow)
        page.evaluate("slug => { location.hash = `#/${slug}`; }", slow)
        page.wait_for_function("document.body.dataset.view === 'image'")
        page.evaluate("location.hash = '#/blank'")
        page.wait_for_function("inspector.animals?.slug === 'blank'")
        page.evaluate("goOn()")
        page.wait_for_function("slug => flatBugData._kept.has(slug)", arg=slow)
        page.wait_for_timeout(100)
        assert page.locator(".image-name").text_content() == "blank.png"
        assert page.evaluate("inspector.animals.slug") == "blank"


def test_keys_go_through_the_animals_in_the_order_of_the_table_and_through_the_images(card: Page) -> None:
    title = card.locator(".details h2")
    card.locator("th", has_text="Area (mm²)").locator("button").click()
    card.keyboard.press("n")
    assert title.inner_text() == "Animal 0"
    card.keyboard.press("n")
    assert title.inner_text() == "Animal 1"
    card.locator("th", has_text="Length").locator("button").click()
    assert card.locator("tr[data-animal] td:first-child").all_text_contents() == ["0", "1", "2"]
    card.locator("th", has_text="Length").locator("button").click()
    assert card.locator("tr[data-animal] td:first-child").all_text_contents() == ["1", "0", "2"]
    card.keyboard.press("p")
    assert title.inner_text() == "Animal 1"
    card.keyboard.press("Escape")
    assert title.inner_text() == "No animal chosen"
    card.keyboard.press("[")
    card.wait_for_function("inspector.animals?.title === 'card_10.png'")
    card.keyboard.press("Escape")
    assert card.locator(".cards").is_visible()


def test_an_image_that_is_looked_at_again_has_its_name_again(card: Page) -> None:
    title = card.title()
    assert title.startswith("night/card_2.png")
    card.keyboard.press("Escape")
    card.wait_for_function("document.body.dataset.view === 'gallery'")
    assert card.title() != title
    card.go_back()
    card.wait_for_function("document.body.dataset.view === 'image'")
    assert card.title() == title


def test_the_filtered_table_is_saved_with_every_number(card: Page, tmp_path: Path) -> None:
    card.get_by_label("Score: least", exact=True).fill("400")
    with card.expect_download() as download:
        card.locator(".save-csv").click()
    download.value.save_as(tmp_path / "animals.csv")
    table = pl.read_csv(tmp_path / "animals.csv")
    assert table["image"].to_list() == ["night/card_2.png"] * 2
    assert table["animal"].to_list() == [0, 1]
    assert table["score"].to_list() == [0.9, 0.5]
    assert table["length_mm"].to_list() == [12.5, 9.0]
    assert table["length_mm_sd"].to_list() == [0.21, 0.2]
    assert table.select("x1", "y1", "x2", "y2").row(1) == (1010, 210, 1190, 390)


def test_hostile_names_of_images_and_classes_are_only_text(browser: Browser, viewer: Path, tmp_path: Path) -> None:
    with opened(browser, viewer) as watched:
        page = goto(watched, viewer, slug(watched.page, HOSTILE))
        assert page.locator(".image-name").text_content() == HOSTILE
        assert page.locator(".classes label").all_text_contents() == [HOSTILE, "=1+1"]
        page.select_option(".colour-by", "class")
        page.keyboard.press("n")
        assert page.locator(".details dd").first.text_content() == HOSTILE
        page.mouse.move(*on_screen(page, 60, 60))
        page.wait_for_function("!document.querySelector('.tip').hidden")
        assert HOSTILE in (page.locator(".tip").text_content() or "")
        with page.expect_download() as download:
            page.locator(".save-csv").click()
        download.value.save_as(tmp_path / "animals.csv")
        saved = pl.read_csv(tmp_path / "animals.csv")
        assert saved["image"].to_list() == [HOSTILE] * 2
        assert saved["class"].to_list() == [HOSTILE, "'=1+1"]
        assert page.evaluate("window.hacked") is None
        assert watched.errors == []
        assert watched.outside_requests == []


def test_a_table_of_thousands_holds_only_the_rows_in_sight(browser: Browser, viewer: Path) -> None:
    with opened(browser, viewer) as watched:
        page = goto(watched, viewer, slug(watched.page, "card_10.png"))
        rows = page.locator("tr[data-animal]")
        assert page.locator(".tally").inner_text() == "3,000 animals"
        assert rows.count() < 60
        assert rows.first.locator("td").first.inner_text() == "2999"
        page.evaluate("document.querySelector('.rows').scrollTop = 1e9")
        page.wait_for_function(
            "[...document.querySelectorAll('tr[data-animal] td:first-child')].at(-1).textContent === '0'"
        )
        assert page.locator(".tally").inner_text() == "3,000 animals"


def test_many_outlines_follow_the_image_while_it_moves_and_are_exact_when_it_rests(
    browser: Browser, viewer: Path
) -> None:
    with opened(browser, viewer) as watched:
        page = goto(watched, viewer, slug(watched.page, "card_10.png"))
        moved = page.evaluate(
            """() => {
                const {layer} = inspector.stage;
                const view = inspector.stage.view();
                layer.drift({scale: view.scale * 2, x: view.x * 2 + 30, y: view.y * 2 - 10});
                return layer.canvas.style.transform;
            }"""
        )
        assert moved == "matrix(2, 0, 0, 2, 30, -10)"
        page.locator(".zoom-in").click()
        page.wait_for_timeout(200)
        page.wait_for_function(READY)
        page.wait_for_function("inspector.stage.layer.canvas.style.transform === ''")
        assert page.evaluate("inspector.stage.layer.view.scale") == page.evaluate("inspector.stage.view().scale")


def test_an_image_without_animals_can_be_looked_at(browser: Browser, viewer: Path) -> None:
    with opened(browser, viewer) as watched:
        page = goto(watched, viewer, "blank")
        assert page.locator(".tally").inner_text() == "0 animals"
        page.keyboard.press("n")
        assert page.locator(".details h2").inner_text() == "No animal chosen"
        assert watched.errors == []


def test_light_and_dark_can_be_changed_and_stay(browser: Browser, viewer: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, viewer) as watched:
        light = watched.page.evaluate(ground)
        watched.page.locator("#gallery .change-theme").click()
        dark = watched.page.evaluate(ground)
        watched.page.reload()
        assert light != dark == watched.page.evaluate(ground)


def test_every_control_has_a_name_and_no_text_is_lost_without_a_mouse(card: Page) -> None:
    nameless = """[...document.querySelectorAll('button, input, select, a')].filter(element =>
        !(element.getAttribute('aria-label') || element.textContent.trim() ||
          element.labels?.[0]?.textContent.trim())).length"""
    assert card.evaluate(nameless) == 0
    card.keyboard.press("?")
    assert card.locator("dialog#help").is_visible()
    card.keyboard.press("Escape")
    assert not card.locator("dialog#help").is_visible()
    assert card.locator(".stage").is_visible()


def test_an_image_whose_folder_was_not_copied_says_so(browser: Browser, viewer: Path, tmp_path: Path) -> None:
    image = Viewed("gone", "gone.png", Instances.empty(9, 9), _grey, "a")
    page = write_viewer(tmp_path, [image], title="Gone", version="2")
    next(page.parent.glob("images/gone/animals.js")).unlink()
    with opened(browser, page) as watched:
        watched.page.locator(".cards a").click()
        watched.page.wait_for_function("document.querySelector('.image-name').textContent.includes('missing')")


def _grey() -> LazyImage:
    return open_image(np.full((9, 9, 3), 128, np.uint8))
