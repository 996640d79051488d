"""Find a Chromium for the browser tests, or install one: Debian's package as root, else Playwright's download.

`python tests/browser/chromium.py` does it once and says what it found. Without one, the tests say loudly what they
skipped (with CI=true they fail).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find() -> str | None:
    """The path of a Chromium: one on the PATH, else the one that Playwright downloaded; None where there is neither."""
    from playwright.sync_api import sync_playwright

    for name in NAMES:
        if found := shutil.which(name):
            return found
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


def install() -> None:
    """Try the ways there are; a way that fails is said, not raised: the tests decide what its absence means."""
    ways = [[sys.executable, "-m", "playwright", "install", "chromium"]]
    if shutil.which("apt-get") and os.geteuid() == 0:
        ways.insert(0, ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"])
        subprocess.run(["apt-get", "update", "-qq"], check=False)
    for way in ways:
        print("no Chromium yet:", " ".join(way), flush=True)
        if subprocess.run(way, check=False).returncode == 0 and find():
            return


if __name__ == "__main__":
    if find() is None:
        install()
    print(f"browser tests: {find() or 'NO CHROMIUM FOUND, they will be skipped (with CI=true: fail)'}")
