"""The dashboard in a real Chromium: from the cohorts to a volume, its slices and masks; nothing leaves the host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.server import find_free_port

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]
ROOT = Path(__file__).resolve().parents[2]
ARGUMENTS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
# Streamlit asks every page's folder for its server before it asks the root; the answer 404 is part of that.
PROBE = re.compile(r"/(cohorts|cohort|images|viewer|measured|scorecard)/_stcore/(health|host-config)")


@pytest.fixture(scope="module")
def address(shown) -> Iterator[str]:
    """The address of a running dashboard."""
    port = find_free_port()
    command = [sys.executable, "-m", "flows", "dashboard", "--home", str(shown.home), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert "http://" in process.stderr.readline()
        yield f"http://127.0.0.1:{port}"
        process.terminate()
        process.communicate(timeout=20)


@pytest.fixture(scope="module")
def browser():
    """A real browser."""
    playwright.expect.set_options(timeout=20_000)  # ms: the first page of a fresh server on a busy machine
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def browser_page(browser, address: str):
    """A page without a past; afterwards: no error in its console, no request to another host."""
    problems: list[str] = []

    def note(message) -> None:
        if message.type == "error" and not PROBE.search(message.location.get("url", "")):
            problems.append(f"{message.text} {message.location}")

    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    page = context.new_page()
    page.set_default_timeout(20_000)
    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else problems.append(r.url))
    yield page
    context.close()
    assert not problems


def slices(page) -> list[str]:
    """Return the addresses of the three slices once they are shown."""
    pictures = page.locator(".st-key-slices img")
    playwright.expect(pictures).to_have_count(3)
    return [pictures.nth(i).get_attribute("src") for i in range(3)]


def wait_for_change(page, before: list[str], slices_changed: int) -> list[str]:
    """Return the addresses of the slices after so many of them have changed."""
    page.wait_for_function(
        "([old, n]) => {"
        " const now = [...document.querySelectorAll('.st-key-slices img')].map(i => i.getAttribute('src'));"
        " return now.length === 3 && now.filter((s, i) => s !== old[i]).length === n; }",
        arg=[before, slices_changed],
    )
    return slices(page)


def test_a_link_works_on_a_fresh_server(browser_page, address, shown):
    browser_page.goto(f"{address}/cohort?cohort={shown.released}")  # must stay the first visit of this server
    playwright.expect(browser_page.get_by_role("heading", name="small")).to_be_visible()
    playwright.expect(browser_page.get_by_role("link", name="Requested vs measured").first).to_be_visible()
    assert browser_page.get_by_role("link", name="app", exact=True).count() == 0


def test_from_the_cohorts_to_a_volume(browser_page, address, shown):
    page = browser_page
    page.goto(address)
    grid = page.get_by_test_id("stDataFrame")
    playwright.expect(grid).to_be_visible()
    playwright.expect(page.get_by_text("Synthetic data").first).to_be_visible()
    grid.click(position={"x": 120, "y": 55})  # the first row, the newest cohort: the refused one
    page.wait_for_url(f"**/cohort?cohort={shown.refused}")
    playwright.expect(page.get_by_text("This cohort is not released.")).to_be_visible()
    page.get_by_role("link", name="Browse the images").click()
    page.wait_for_url(f"**/images?cohort={shown.refused}")
    page.locator("[class*=st-key-preview-] a").nth(1).click()
    page.wait_for_url("**/viewer?image=*")
    assert len(slices(page)) == 3
    playwright.expect(page.get_by_role("heading", name="Requested vs measured")).to_be_visible()


def test_slider_and_masks_change_the_picture(browser_page, address, shown):
    page = browser_page
    page.goto(f"{address}/viewer?image={shown.image}")
    first = slices(page)
    thumb = page.get_by_role("slider", name=re.compile("Axial slice")).first
    thumb.focus()
    page.keyboard.press("ArrowRight")
    moved = wait_for_change(page, first, 3)
    page.wait_for_url(re.compile(r"[?&]z=\d+"))
    page.get_by_text("Tissue map", exact=True).click()
    shown_map = wait_for_change(page, moved, 3)
    playwright.expect(page.locator(".legend", has_text="Grey matter")).to_be_visible()
    page.get_by_text("Lesions", exact=True).click()
    wait_for_change(page, shown_map, 3)
    widths = page.evaluate("[...document.querySelectorAll('.st-key-slices img')].map(i => i.clientWidth)")
    assert min(widths) > 400


def test_a_link_brings_the_same_view_back(browser_page, address, shown):
    page = browser_page
    page.goto(f"{address}/viewer?image={shown.image}&z=20&tissue=true&convention=Radiological")
    again = slices(page)
    playwright.expect(page.get_by_text("the subject's right is on the left")).to_be_visible()
    page.reload()
    assert slices(page) == again
