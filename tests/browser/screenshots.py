"""Make the README's pictures in docs/ from real runs: `python tests/browser/screenshots.py [lesson atlas ...]`."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import chromium
import nbformat
from lessons import bring, run_all, serve
from PIL import Image, ImageChops

PLACE = Path(__file__).parents[2] / "docs"
WIDTH, HEIGHT, TALL = 1100, 680, 1200  # pixels of the window
LIMITS = {
    "lesson": 90_000,
    "atlas": 60_000,
    "explorer": 45_000,
    "card": 30_000,
    "site": 60_000,
    "race": 40_000,
}  # bytes
PLAYER = ".avlab-player[data-ready]:has(option:text-is('learned'))"


def small(image: bytes, limit: int) -> bytes:
    """A screenshot without its white margins as a PNG below the limit, with as many colours as that allows."""
    exact = Image.open(io.BytesIO(image)).convert("RGB")
    exact = exact.crop(ImageChops.invert(exact).getbbox())
    for colours in (256, 128, 64, 32):
        buffer = io.BytesIO()
        exact.quantize(colours, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
        if buffer.tell() < limit:
            return buffer.getvalue()
    raise ValueError(
        f"{buffer.tell()} bytes with 32 colours, over the limit of {limit}: take a smaller part of the page"
    )


def lesson(page: Any, cells: int) -> bytes:
    """Lesson 01 in JupyterLab: its player with a learned heatmap, after a second of playing."""
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    player = _bring(page, PLAYER, cells)
    player.locator(".opacity").evaluate("(o) => { o.value = 0.9; o.dispatchEvent(new Event('input')); }")
    player.locator(".play").click()
    page.wait_for_function("(p) => +p.dataset.time > 0.9", arg=player.element_handle())
    player.locator(".play").click()
    player.evaluate("(p) => p.scrollIntoView({ block: 'end' })")
    page.mouse.move(WIDTH - 5, HEIGHT // 2)
    page.wait_for_timeout(1000)
    shot = page.screenshot()
    page.set_viewport_size({"width": WIDTH, "height": TALL})
    return shot


def atlas(page: Any, cells: int) -> bytes:
    """The space of lesson 01, with a point chosen."""
    space = _bring(page, ".avlab-atlas[data-ready]", cells)
    for _ in range(3):
        space.locator(".map").press("ArrowRight")
    page.wait_for_timeout(500)
    return space.screenshot()


def explorer(page: Any, cells: int) -> bytes:
    """The first explorer of lesson 01, moved to its left end."""
    found = _bring(page, ".avlab-explorer[data-drawn]", cells)
    before = found.get_attribute("data-drawn")
    found.locator("input[type=range]").first.press("Home")
    page.wait_for_function("([e, old]) => e.dataset.drawn !== old", arg=[found.element_handle(), before])
    return found.screenshot()


def card(page: Any, cells: int) -> bytes:
    """The first card of lesson 01, answered wrong."""
    found = _bring(page, ".avlab-card", cells)
    found.locator("button").first.click()
    page.wait_for_selector("text=You chose (a)")
    page.mouse.move(WIDTH - 5, 5)
    page.wait_for_timeout(300)
    return found.screenshot()


def site(page: Any) -> bytes:
    """The site of all lessons, while something is searched."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "avlab.cli", "course", "build", "--out", home]
        subprocess.run(command, check=True, cwd=PLACE.parent)
        page.goto((Path(home) / "site" / "index.html").as_uri())
        page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
        page.locator("input[type=search]").fill("heatmap")
        page.wait_for_timeout(500)
        return page.screenshot()


def race() -> bytes:
    """The first picture of lesson 17: every objective by recall and by class."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "avlab.cli", "run", "17", "--out", home]
        subprocess.run(command, check=True, cwd=PLACE.parent)
        cells = nbformat.read(Path(home) / "17_objectives_face_off.ipynb", as_version=4).cells
    pictures = [o.data["image/png"] for c in cells for o in c.get("outputs", ()) if "image/png" in o.get("data", {})]
    return base64.b64decode(pictures[0])


def _bring(page: Any, selector: str, cells: int) -> Any:
    if not bring(page, selector, cells):
        raise AssertionError(f"lesson 01 has no {selector}")
    return page.locator(selector).first


def main(names: list[str]) -> None:
    """Take these pictures, or all of them."""
    from playwright.sync_api import sync_playwright

    names = names or list(LIMITS)
    taken: dict[str, bytes] = {}
    of_lesson: dict[str, Callable] = {"lesson": lesson, "atlas": atlas, "explorer": explorer, "card": card}
    with tempfile.TemporaryDirectory() as home, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=chromium.FLAGS)
        page = browser.new_page(viewport={"width": WIDTH, "height": TALL})
        if wanted := [name for name in names if name in of_lesson]:
            with serve(Path(home)) as (address, token):
                cells = run_all(page, address, token, "01_correlation.ipynb", 600)
                page.evaluate("jupyterapp.shell.collapseLeft()")
                for name in wanted:
                    page.evaluate("(i) => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'auto')", 0)
                    taken[name] = of_lesson[name](page, len(cells))
        if "site" in names:
            taken["site"] = site(page)
        browser.close()
    if "race" in names:
        taken["race"] = race()
    for name, image in taken.items():
        path = PLACE / f"{name}.png"
        path.write_bytes(small(image, LIMITS[name]))
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
