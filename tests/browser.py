"""A headless Chromium for the pages: the one that is installed, driven by playwright.

``CHROME`` names it, else it is looked for on the path; playwright's own download is not used.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def find_chromium() -> str | None:
    """Where it is, or None."""
    return os.environ.get("CHROME") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser; a test that needs it is skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api")
    path = find_chromium()
    if path is None:
        pytest.skip("no Chromium on this machine: CHROME names one, or the path has one")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def choose_layer(page: Any, name: str) -> None:
    """Type a layer's name into the report's field, and take the first that fits."""
    page.fill("#layer", name)
    page.press("#layer", "Enter")


class Reader:
    """Opens pages, and holds what must not be: errors, and requests beyond the page itself."""

    def __init__(self, browser: Any) -> None:
        self.browser = browser
        self.contexts: list[Any] = []
        self.faults: list[str] = []

    def open(self, path: Path, width: int = 1280, **options: Any) -> Any:
        """A page, as a reader with a window of this width has it."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **options)
        self.contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self.faults.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("dialog", lambda dialog: self.faults.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: self._requested(request.url, path))
        page.goto(path.as_uri())
        return page

    def close(self) -> None:
        """Close what is open."""
        for context in self.contexts:
            context.close()

    def _requested(self, url: str, path: Path) -> None:
        if not url.startswith(("data:", path.as_uri())):
            self.faults.append(f"request: {url}")
