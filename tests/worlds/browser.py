"""A headless Chromium for tests: that of playwright, or one of the system; where there is none, a skip."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest

SYSTEM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")


@contextmanager
def chromium():
    """Gives a browser that loads nothing from any network."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: `make install`")
    with playwright.sync_playwright() as tools:
        own = tools.chromium.executable_path
        found = own if Path(own).exists() else next(filter(None, map(shutil.which, SYSTEM)), None)
        if found is None:
            pytest.skip(
                "no Chromium: `make browser` could not download it (.venv/browser.log), and none of "
                f"{', '.join(SYSTEM)} is on the path; apt-get install chromium"
            )
        try:
            browser = tools.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except playwright.Error as error:  # libraries of the system are missing
            pytest.skip(f"{found} does not start: {error.message.splitlines()[0]}; apt-get install chromium")
        try:
            yield browser
        finally:
            browser.close()
