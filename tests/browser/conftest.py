"""A headless Chromium for the browser tests: found, not downloaded. Its absence is said loudly, and fails in CI."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import chromium  # beside this file: pytest puts the folder of a conftest on the path
import pytest

# said by JupyterLab itself, on any page, and of no consequence: (part of the message, why)
BENIGN = (
    ("favicon", "the browser asks for an icon that a page need not have"),
    (".map", "source maps are not shipped with JupyterLab"),
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api", reason="pip install -e '.[dev]' brings Playwright")
    path = chromium.find()
    if path is None:
        said = "NO CHROMIUM: the player, the atlas and JupyterLab are NOT tested (python tests/browser/chromium.py)"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(said)
        warnings.warn(said, stacklevel=1)
        pytest.skip(said)
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=chromium.FLAGS)
        yield running
        running.close()


class Watched:
    """A page and what went wrong on it."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.errors: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("request", lambda request: self.requests.append(request.url))

    def _console(self, message: Any) -> None:
        said = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error" and not any(part in said for part, _ in BENIGN):
            self.errors.append(said)

    def outside(self) -> list[str]:
        """What was asked from anywhere but this machine."""
        local = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1", "chrome-extension:")
        return [url for url in self.requests if not url.startswith(local)]


@pytest.fixture
def watch(browser: Any) -> Iterator[Callable[[], Watched]]:
    contexts = []

    def new(**options: Any) -> Watched:
        context = browser.new_context(viewport={"width": 1100, "height": 900}, **options)
        contexts.append(context)
        return Watched(context.new_page())

    yield new
    for context in contexts:
        context.close()


@pytest.fixture
def wait() -> Callable[..., None]:
    """Wait until a condition on a page holds: `wait(page, lambda: ..., "what", seconds)`."""

    def until(page: Any, condition: Callable[[], bool], what: str, seconds: float = 10) -> None:
        for _ in range(int(seconds * 10)):
            if condition():
                return
            page.wait_for_timeout(100)
        raise AssertionError(f"waited {seconds:g} s in vain for: {what}")

    return until
