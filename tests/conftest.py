"""Lessons are run once a session, whoever looks at what came of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def run_lesson(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], tuple[dict[str, Any], Path]]:
    """`run_lesson(path)`: the result of a lesson in the quick profile, and the folder that holds a folder of its name.

    AVLAB_RUNS keeps pages and results for whoever wants to look at them afterwards.
    """
    from avlab.course import run

    out = Path(os.environ["AVLAB_RUNS"]) if "AVLAB_RUNS" in os.environ else tmp_path_factory.mktemp("runs")

    @cache
    def once(path: Path) -> tuple[dict[str, Any], Path]:
        return run.run_all([path], out=out / path.stem, progress=False)[path.stem], out

    return once


@pytest.fixture(scope="session")
def course(run_lesson: Callable[[Path], tuple[dict[str, Any], Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with all editions of lessons 00 and 01, made from the runs of this session."""
    from avlab.course import editions

    lessons = sorted((Path(__file__).parents[1] / "notebooks").glob("0[01]_*.ipynb"))
    runs = [run_lesson(path)[1] for path in lessons]
    out = tmp_path_factory.mktemp("course")
    editions.build(lessons, runs[0], out, nbgrader=True)
    return out
