"""The lessons as a learner meets them: JupyterLab in a browser, run all cells, press play, move a slider."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest

pytestmark = [pytest.mark.browser, pytest.mark.notebook]
NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
LESSONS = sorted(path.name for path in NOTEBOOKS.glob("0[01]_*.ipynb"))
RUN_SECONDS = 420  # for all cells of a notebook: machines of a CI are slow

SCRATCH = [
    """import numpy as np
from avlab.clip import Clip
from avlab.show import Player, explore, predict
from avlab.show.figures import Figure
frames = np.full((16, 32, 32, 3), 90, np.uint8)
tone = 0.2 * np.sin(np.arange(32000) / 6).astype(np.float32)
player = Player(Clip(frames, tone[None], 8, 16000), heat=np.eye(4))
player""",
    """def draw(size, bold):
    figure = Figure(figsize=(4, 2))
    axes = figure.subplots()
    axes.plot([0, size], linewidth=4 if bold else 1)
    axes.set(title="a line", xlabel="time (s)", ylabel="size", ylim=(0, 9))
    return figure
explore(draw, size=(1, 9), bold=False)""",
    "predict('Will it rise?', ['yes', 'no'], answer='yes', why=['It does.', 'It is no fall.'])",
    """from avlab.show import Atlas
places = np.random.default_rng(0).normal(size=(2, 5, 3))
Atlas(*places, [player.sources[0]] * 5)""",
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A JupyterLab on a free port of the loopback with a copy of the notebooks: its address and token."""
    home = tmp_path_factory.mktemp("lab")
    root = home / "notebooks"
    shutil.copytree(NOTEBOOKS, root, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in SCRATCH])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, root / "scratch.ipynb")
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # else the lab asks the network for its news
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
                                               "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR")}  # fmt: skip
    own["JUPYTERLAB_SETTINGS_DIR"] = str(home / "settings")
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", "--allow-root",
        f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={root}", "--ServerApp.port_retries=0",
        "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly",
    ]  # fmt: skip
    log = home / "lab.log"
    with log.open("wb") as out:
        server = subprocess.Popen(command, env={**os.environ, **own}, stdout=out, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api?token={token}", timeout=2)
                break
            except OSError:
                assert server.poll() is None, f"JupyterLab ended:\n{log.read_text()[-3000:]}"
                time.sleep(0.5)
        else:
            pytest.fail(f"JupyterLab did not answer within 60 s:\n{log.read_text()[-3000:]}")
        yield address, token
    finally:
        server.terminate()  # it ends its kernels itself
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def running(page: Any) -> str:
    """Which cell had not ended: the first one with code and without a number."""
    cells = page.evaluate("jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    for place, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.strip() and not cell["execution_count"]:
            return f"cell {place} was running or never ran:\n{source}"
    return "every cell has ended"


def bring(page: Any, selector: str, cells: int) -> bool:
    """Scroll through the notebook (far cells are not in the page) until something matches; whether it was found."""
    for place in range(cells):
        page.evaluate("(i) => jupyterapp.shell.currentWidget.content.scrollToItem(i, 'auto')", place)
        page.wait_for_timeout(150)
        if page.locator(selector).count() and page.locator(selector).first.is_visible():
            page.locator(selector).first.scroll_into_view_if_needed()
            return True
    return False


@pytest.mark.timeout(RUN_SECONDS + 120)
@pytest.mark.parametrize("name", ["scratch.ipynb", *LESSONS])
def test_lesson_in_jupyterlab(name: str, lab: tuple[str, str], watch: Any, wait: Any) -> None:
    address, token = lab
    watched = watch()
    page = watched.page
    page.goto(f"{address}/lab/tree/{name}?reset&token={token}")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
    page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
                           timeout=60_000)  # fmt: skip
    page.evaluate("() => { window.ran = null; jupyterapp.commands.execute('notebook:run-all-cells')"
                  ".then(() => { window.ran = 'done'; }, (error) => { window.ran = String(error); }); }")  # fmt: skip
    try:
        wait(page, lambda: page.evaluate("window.ran") is not None, "all cells to run", RUN_SECONDS)
    except AssertionError:
        pytest.fail(f"{name} did not run within {RUN_SECONDS} s; {running(page)}")
    assert page.evaluate("window.ran") == "done", running(page)
    cells = page.evaluate("jupyterapp.shell.currentWidget.content.model.toJSON().cells")
    code = [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]
    outputs = [output for cell in code for output in cell["outputs"]]
    assert [output for output in outputs if output["output_type"] == "error"] == []
    assert all(cell["execution_count"] for cell in code), "a cell did not run"
    if shots := os.environ.get("AVLAB_SHOTS"):
        page.screenshot(path=f"{shots}/{name}.png")

    assert bring(page, ".avlab-player[data-ready]", len(cells)), "no player was drawn"
    player = page.locator(".avlab-player").first
    at = lambda: float(player.get_attribute("data-time"))  # noqa: E731
    sound = lambda: player.locator(".sound canvas").evaluate("(c) => c.toDataURL()")  # noqa: E731
    before = sound()
    player.locator(".play").click()
    wait(page, lambda: at() > 0.2, "the player's time to advance")
    assert sound() != before, "the cursor did not move"
    player.locator(".play").click()
    heated = '.avlab-player[data-ready]:not([data-layers="0"])'
    if bring(page, heated, len(cells)):
        player = page.locator(heated).first
        stage = lambda: player.locator(".stage").evaluate("(c) => c.toDataURL()")  # noqa: E731
        opacity = "(o, v) => { o.value = v; o.dispatchEvent(new Event('input')); }"
        player.locator(".layer").select_option(index=1)
        player.locator(".opacity").evaluate(opacity, 1)
        drawn = stage()
        player.locator(".opacity").evaluate(opacity, 0)
        assert stage() != drawn, "no heat was drawn"
    else:
        assert name.startswith("00_"), "no player has a heatmap"  # its players ask before any heat is known
    if shots:
        page.screenshot(path=f"{shots}/{name}-heat.png")

    assert bring(page, ".avlab-explorer .noUi-handle", len(cells)), "no explorer with a slider was drawn"
    explorer = page.locator(".avlab-explorer", has=page.locator(".noUi-handle")).first
    picture = lambda: explorer.locator("img").first.get_attribute("src")  # noqa: E731
    still = picture()
    assert explorer.locator("img").first.get_attribute("alt")
    handle = explorer.locator(".noUi-handle").first
    handle.focus()
    for _ in range(3):
        handle.press("ArrowRight")
    wait(page, lambda: picture() != still, "the explorer's picture to change", 30)

    if name == "scratch.ipynb":  # the other widgets, which a lesson may or may not have
        assert bring(page, ".widget-button >> text=(b)", len(cells))
        page.locator(".widget-button >> text=(b)").click()
        page.wait_for_selector("text=You chose (b). It is no fall.")
        assert bring(page, ".avlab-atlas[data-ready]", len(cells))
        page.locator(".avlab-atlas .map").press("ArrowRight")
        page.wait_for_selector(".avlab-atlas[data-point='0']")
        if shots:
            page.screenshot(path=f"{shots}/{name}-end.png")
    assert watched.errors == []
    assert watched.outside() == []
