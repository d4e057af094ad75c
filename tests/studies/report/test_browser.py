"""The page in a real browser: Debian's Chromium, headless; screenshots go to the test's folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on PATH: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # Root, in a container, has no sandbox to start.
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, report: Path) -> Iterator[Any]:
    """Open the report; every message of the console, error and request to elsewhere is a failure at the end."""
    troubles: list[str] = []
    pages = []

    def open_it(width: int, scheme: str = "light", **options: Any) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme, **options)
        page.on("console", lambda message: troubles.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda asked: troubles.append(asked.url) if not asked.url.startswith("file:") else None)
        page.goto((report / "index.html").as_uri())
        pages.append(page)
        return page

    yield open_it
    for page in pages:
        page.close()
    assert troubles == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_and_has_its_scheme(open_page: Any, width: int, scheme: str, tmp_path: Path) -> None:
    page = open_page(width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 25, 31)")
    # A line of a figure has the colour of the scheme.
    strokes = page.evaluate("[...document.querySelectorAll('svg path')].map(path => getComputedStyle(path).stroke)")
    assert ("rgb(0, 114, 178)" if scheme == "light" else "rgb(86, 180, 233)") in strokes
    assert ("rgb(0, 114, 178)" in strokes) == (scheme == "light")
    page.screenshot(path=tmp_path / f"page-{width}-{scheme}.png", full_page=True)


def test_wide_tables_scroll_inside_their_box(open_page: Any) -> None:
    page = open_page(390)
    inside = "[...document.querySelectorAll('.scroll')].map(box => box.scrollWidth > box.clientWidth)"
    assert any(page.evaluate(inside))
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(box => box.clientWidth <= 390)")


def column(page: Any, place: int) -> list[str]:
    """What the rows of the first table are sorted by in one of its columns."""
    rows = "[...document.querySelector('#verdicts table').tBodies[0].rows]"
    return page.evaluate(f"place => {rows}.map(row => row.cells[place].dataset.sort)", place)


def test_a_click_on_a_heading_sorts(open_page: Any) -> None:
    page = open_page(1280)
    heading = page.locator("#verdicts table").first.locator("tr.sorted-by th").nth(1)
    before = column(page, 1)
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(page, 1) == sorted(before, key=float, reverse=True) != before
    heading.locator("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(page, 1) == sorted(before, key=float)
    name = page.locator("#verdicts table").first.locator("tr.sorted-by th").nth(0)
    name.locator("button").click()
    assert (name.get_attribute("aria-sort"), heading.get_attribute("aria-sort")) == ("ascending", None)
    assert column(page, 0) == ["answers", "slow", "toy", "traces"]


def test_the_button_turns_light_to_dark_and_back(open_page: Any) -> None:
    page = open_page(1280)
    grounds = []
    for _ in range(3):
        grounds.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.locator("#theme").click()
    assert grounds == ["rgb(255, 255, 255)", "rgb(20, 25, 31)", "rgb(255, 255, 255)"]


def test_a_link_opens_the_part_that_it_leads_to(open_page: Any) -> None:
    page = open_page(1280)
    part = page.locator("#curves-measured")
    assert part.get_attribute("open") is None
    page.locator("#verdicts table a").first.click()
    part.locator("table").wait_for(state="visible")


def test_page_can_be_read_without_scripts(browser: Any, report: Path) -> None:
    page = browser.new_page(java_script_enabled=False)
    page.goto((report / "index.html").as_uri())
    assert page.locator("#theme").is_hidden()
    assert page.locator("#verdicts table").first.is_visible()
    page.close()
