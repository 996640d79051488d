"""Is this machine ready for the lessons? One line for each thing they need, and what to do where it is missing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import av
import psutil
import torch
from jupyter_core.paths import jupyter_path

LEAST_MEMORY_GB = 3  # a lesson may use 1.5 GB, JupyterLab and a browser the rest


class Line(NamedTuple):
    """One finding: `ok` True, False (the lessons will not work) or None (only something optional is missing)."""

    ok: bool | None
    name: str
    found: str
    advice: str = ""


def examine() -> list[Line]:
    """What was found, a line each."""
    return [_python(), *_torch(), _threads(), _memory(), _disk(), *_codecs(), *_widgets(), _chromium()]


def report(lines: list[Line]) -> str:
    """The findings as text.

    >>> print(report([Line(False, "Python", "3.9.1", "install 3.11 or later")]))
    MISSING  Python: 3.9.1 -> install 3.11 or later
    """
    marks = {True: "ok", False: "MISSING", None: "note"}
    return "\n".join(
        f"{marks[line.ok]:<7}  {line.name}: {line.found}" + (f" -> {line.advice}" if line.advice else "")
        for line in lines
    )


def _python() -> Line:
    ok = sys.version_info >= (3, 11)
    return Line(
        ok, "Python", platform.python_version(), "" if ok else "install Python 3.11 or later, then `make setup`"
    )


def _torch() -> list[Line]:
    lines = [Line(True, "torch", torch.__version__)]
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count()))
        lines.append(Line(True, "device", f"CUDA: {names}"))
    elif torch.backends.mps.is_available():
        lines.append(Line(True, "device", "cpu by default; Apple GPU with device='mps'"))
    else:
        lines.append(Line(True, "device", "cpu; the quick profile is made for it"))
    return lines


def _threads() -> Line:
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else cores
    if min(cores, usable) < 2:
        return Line(None, "threads", "1 core", "lessons take about twice the time they state")
    return Line(True, "threads", f"{min(cores, usable)} usable of {cores} physical cores")


def _memory() -> Line:
    free = psutil.virtual_memory().available / 1e9
    ok = free >= LEAST_MEMORY_GB
    advice = "" if ok else f"close other programs: a lesson and JupyterLab need {LEAST_MEMORY_GB} GB"
    return Line(True if ok else None, "memory", f"{free:.1f} GB free", advice)


def _disk() -> Line:
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    return Line(
        True if free > 2 else None, "disk", f"{free:.0f} GB free", "" if free > 2 else "rendered clips need 2 GB"
    )


def _codecs() -> list[Line]:
    lines = []
    for codec, mode, use in (
        ("h264", "r", "reading mp4 files"),
        ("aac", "r", "reading their sound"),
        ("libx264", "w", "writing mp4 files"),
        ("aac", "w", "writing their sound"),
    ):
        name = f"{'decoder' if mode == 'r' else 'encoder'} {codec}"
        try:
            av.codec.Codec(codec, mode)
        except av.codec.codec.UnknownCodecError:
            lines.append(Line(False, name, f"not in PyAV {av.__version__}", f"needed for {use}: `pip install av` anew"))
        else:
            lines.append(Line(True, name, f"in PyAV {av.__version__}"))
    return lines


def _widgets() -> list[Line]:
    lines = []
    for name, extension, package in (
        ("sliders", "@jupyter-widgets/jupyterlab-manager", "jupyterlab_widgets"),
        ("player", "anywidget", "anywidget"),
        ("plotly figures", "jupyterlab-plotly", "plotly"),
    ):
        there = [path for path in jupyter_path("labextensions") if (Path(path) / extension).is_dir()]
        if there:
            lines.append(Line(True, name, f"extension {extension}"))
        else:
            state = "installed for another Python" if importlib.util.find_spec(package) else "not installed"
            lines.append(
                Line(False, name, f"extension {extension} {state}", f"`pip install --force-reinstall {package}`")
            )
    return lines


def _chromium() -> Line:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found:
        return Line(True, "Chromium", found)
    advice = "only the browser test needs it: `python -m playwright install chromium`, or your system's package"
    return Line(None, "Chromium", "not on the PATH", advice)
