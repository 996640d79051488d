"""A JupyterLab of its own, with copies of the lessons, and what a learner does in it: run all cells, scroll, look."""

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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


@contextmanager
def serve(home: Path) -> Iterator[tuple[str, str]]:
    """Serve a copy of the notebooks in `home / "notebooks"` on a free port of the loopback: its address and token."""
    root = home / "notebooks"
    shutil.copytree(NOTEBOOKS, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # else the lab asks the network for its news
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    own = {name: str(home / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
                                               "JUPYTERLAB_WORKSPACES_DIR", "IPYTHONDIR", "AVLAB_HOME")}  # fmt: skip
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
                if server.poll() is not None:
                    raise RuntimeError(f"JupyterLab ended:\n{log.read_text()[-3000:]}") from None
                time.sleep(0.5)
        else:
            raise TimeoutError(f"JupyterLab did not answer within 60 s:\n{log.read_text()[-3000:]}")
        yield address, token
    finally:
        server.terminate()  # it ends its kernels itself
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def run_all(page: Any, address: str, token: str, name: str, seconds: float) -> list[dict[str, Any]]:
    """Open a notebook and run all its cells; returns them. Raises `AssertionError` naming the cell that did not end."""
    page.goto(f"{address}/lab/tree/{name}?reset&token={token}")
    page.wait_for_function("window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=60_000)
    page.wait_for_function("jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status === 'idle'",
                           timeout=60_000)  # fmt: skip
    page.evaluate("() => { window.ran = null; jupyterapp.commands.execute('notebook:run-all-cells')"
                  ".then(() => { window.ran = 'done'; }, (error) => { window.ran = String(error); }); }")  # fmt: skip
    end = time.monotonic() + seconds
    while page.evaluate("window.ran") is None and time.monotonic() < end:
        page.wait_for_timeout(200)
    ran = page.evaluate("window.ran")
    if ran != "done":
        raise AssertionError(f"{name} {f'did not run within {seconds:g} s' if ran is None else ran}; {running(page)}")
    return page.evaluate("jupyterapp.shell.currentWidget.content.model.toJSON().cells")


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
