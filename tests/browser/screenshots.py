"""Make the README's picture, docs/lesson.png, from a real run of lesson 01: `python tests/browser/screenshots.py`."""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import chromium
from lessons import bring, run_all, serve
from PIL import Image

PICTURE = Path(__file__).parents[2] / "docs" / "lesson.png"
WIDTH, HEIGHT, LIMIT = 1100, 640, 150_000  # pixels, bytes
PLAYER = '.avlab-player[data-ready]:not([data-layers="0"])'


def small(image: bytes) -> bytes:
    """A screenshot as a PNG below the limit, with as many colours as that allows."""
    exact = Image.open(io.BytesIO(image)).convert("RGB")
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        exact.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < LIMIT:
            return buffer.getvalue()
    raise ValueError(
        f"{buffer.tell()} bytes with 32 colours, over the limit of {LIMIT}: take a smaller part of the page"
    )


def main(place: int = 0) -> None:
    """Play clip `place` of the lesson's player with heat for a moment, and take the page."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as home, serve(Path(home)) as (address, token), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        cells = run_all(page, address, token, "01_correlation.ipynb", 600)
        page.evaluate("jupyterapp.shell.collapseLeft()")
        if not bring(page, PLAYER, len(cells)):
            raise AssertionError("lesson 01 has no player with a heatmap")
        player = page.locator(PLAYER).first
        player.locator(".clip").select_option(index=place)
        player.locator(".opacity").evaluate("(o) => { o.value = 0.9; o.dispatchEvent(new Event('input')); }")
        player.locator(".play").click()
        page.wait_for_function("(p) => +p.dataset.time > 0.9", arg=player.element_handle())
        player.locator(".play").click()
        player.evaluate("(p) => p.scrollIntoView({ block: 'end' })")
        page.mouse.move(WIDTH - 5, HEIGHT // 2)
        page.wait_for_timeout(1000)
        PICTURE.parent.mkdir(exist_ok=True)
        PICTURE.write_bytes(small(page.screenshot()))
        browser.close()
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
