"""The report as a reader meets it: in a browser, on a laptop and on a phone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from tests.browser import LAPTOP, PHONE, chromium, opened
from tests.evaluated import make_ground_truth, make_model

from flat_bug.evaluation.report import ReportModel, write_report

pytestmark = pytest.mark.browser

LONG = "a-very-long-name-without-any-place-to-break-it_" * 4
FIRST_COLUMN = "[...document.querySelectorAll('table.heat tbody th')].map(cell => cell.textContent.trim())"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    truth = make_ground_truth(folder / "truth", ["forest", "meadow", LONG])
    models = [
        make_model(folder / "a", truth, "good", recall=1, spurious=2, seconds=9, megapixels=3, peak_memory_mb=10),
        make_model(folder / "b", truth, "poor", recall=0.4, spurious=0, seconds=1, megapixels=3, peak_memory_mb=90),
        ReportModel(name=LONG, weights=LONG, status="failed", reason=LONG),
    ]
    provenance = {"command": f"fb run {LONG}", LONG: {LONG: LONG}}
    return write_report(models, folder / "report.html", title=LONG, provenance=provenance)


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    with opened(browser, report) as watched:
        yield watched.page


@pytest.mark.parametrize(("size", "dark"), [(LAPTOP, False), (PHONE, True)], ids=["light laptop", "dark phone"])
def test_it_opens_without_error_request_or_sideways_scroll(
    browser: Browser, report: Path, size: tuple[int, int], dark: bool
) -> None:
    with opened(browser, report, size, dark=dark) as watched:
        broken = "[...document.images].filter(image => !image.complete || !image.naturalWidth).length"
        assert watched.page.evaluate(broken) == 0
        assert watched.errors == []
        assert watched.outside_requests == []
        assert watched.overflow == 0


def test_a_click_on_a_heading_sorts_and_keeps_the_failed_model_last(page: Page) -> None:
    assert page.evaluate(FIRST_COLUMN) == ["good", "poor", LONG]
    heading = page.locator("table.heat thead th").nth(1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert page.evaluate(FIRST_COLUMN) == ["good", "poor", LONG]
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(FIRST_COLUMN) == ["poor", "good", LONG]


def test_sorting_goes_by_the_number_that_is_shown(page: Page) -> None:
    page.locator("#metric-precision").check(force=True)
    page.locator("table.heat thead th button").nth(0).click()
    assert page.evaluate(FIRST_COLUMN) == ["poor", "good", LONG]


def test_the_matrix_shows_one_number_at_a_time(page: Page) -> None:
    cell = page.locator("table.heat td.cell").first
    shown = {}
    for metric in ("f1", "precision", "recall"):
        page.locator(f"#metric-{metric}").check(force=True)
        shown[metric] = cell.inner_text()
    assert shown["recall"] == "1.000"
    assert len(set(shown.values())) == 3


def test_a_tap_tells_the_details_of_a_score(page: Page) -> None:
    details = page.locator(".details")
    assert not details.is_visible()
    page.locator("table.heat td.cell").first.click()
    assert details.inner_text().startswith("good on all datasets: F1 ")


def test_a_model_can_be_hidden_in_the_figures(page: Page) -> None:
    mark = page.locator("#intervals .series.s1").first
    assert mark.is_visible()
    page.locator("#interval-1").uncheck()
    assert not mark.is_visible()
    assert page.locator("#intervals .series.s0").first.is_visible()


def test_pictures_show_one_model_at_a_time_and_can_be_enlarged(page: Page) -> None:
    first, second = (page.locator(f".scene svg.layer.s{slot}").first for slot in (0, 1))
    assert first.is_visible()
    assert not second.is_visible()
    page.locator("#layer-1").check(force=True)
    assert not first.is_visible()
    assert second.is_visible()
    page.locator(".scene .zoom").first.click()
    assert page.locator("dialog.lightbox img").is_visible()
    page.keyboard.press("Escape")
    assert not page.locator("dialog.lightbox").is_visible()


def test_without_scripts_everything_is_still_there(browser: Browser, report: Path) -> None:
    with opened(browser, report, scripts=False) as watched:
        page = watched.page
        assert page.locator("table.heat td.cell .v.f1").first.is_visible()
        assert page.locator(".scene svg.layer.s0").first.is_visible()
        page.locator("#interval-1").uncheck()
        assert not page.locator("#intervals .series.s1").first.is_visible()
