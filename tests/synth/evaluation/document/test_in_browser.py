"""The pages in a real Chromium: they fetch nothing, raise no error and fit a desktop and a phone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from synth.evaluation.document.write import write_document

playwright = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (Debian: apt-get install chromium)"),
]


def test_pages_fit_and_fetch_nothing(pictures, volumes, tmp_path: Path) -> None:
    problems: list[str] = []
    for name, made in (("pictures", pictures.passed()), ("volumes", volumes)):
        write_document(tmp_path / name, made.report, made.gates, made.images, made.real, made.about)
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(color_scheme="dark")
        page.on("console", lambda message: problems.append(message.text))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:")) else problems.append(r.url))
        for path in sorted(tmp_path.rglob("*.html")):
            page.goto(path.as_uri())
            for width in (1280, 420):
                page.set_viewport_size({"width": width, "height": 900})
                assert page.evaluate("document.documentElement.scrollWidth") <= width, (path.parent.name, width)
            page.evaluate("document.querySelectorAll('img').forEach(i => i.loading = 'eager')")
            page.wait_for_function("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
        browser.close()
    assert not problems
