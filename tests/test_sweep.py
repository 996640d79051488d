"""The sweep catches what a run of the cells does not touch: one bad corner, a dead control, a slow or unsteady draw."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from matplotlib.figure import Figure

from avlab.course import sweep
from avlab.show.explore import explore


def plot(*values: float) -> Figure:
    figure = Figure(figsize=(2, 1))
    figure.subplots().plot([0, *values])
    return figure


def swept(draw: Any, **options: Any) -> list[dict[str, str]]:
    name, states, problems = sweep.sweep_explorer(explore(draw, name="one", width=(1, 9), height=(1, 5), **options))
    assert (name, states) == ("one", 9)
    return problems


def test_a_sound_explorer_passes() -> None:
    assert swept(lambda width, height: plot(width, height)) == []


def test_a_draw_that_fails_at_one_corner_only() -> None:
    def draw(width: int, height: int) -> Figure:
        if (width, height) == (9, 5):
            raise ZeroDivisionError("no room")
        return plot(width, height)

    assert swept(draw) == [{"state": "width=9, height=5", "message": "raises ZeroDivisionError: no room"}]


def test_a_control_that_changes_nothing() -> None:
    problems = swept(lambda width, height: plot(width))
    assert problems == [{"state": "height", "message": "moving 'height' never changes the picture"}]


def test_a_control_that_changes_the_picture_at_one_end_of_the_other_only_is_alive() -> None:
    assert swept(lambda width, height: plot(width, height if width == 9 else 0)) == []


@pytest.mark.parametrize("corner", [(9, 5), (5, 3)], ids=["corner", "rest"])
def test_a_draw_slower_than_its_limit_even_where_it_only_sleeps(monkeypatch, corner: tuple[int, int]) -> None:
    monkeypatch.setattr(sweep, "SECONDS_A_DRAW", 0.8)

    def draw(width: int, height: int) -> Figure:
        if (width, height) == corner:
            time.sleep(0.9)
        return plot(width, height)

    (problem,) = swept(draw)
    assert problem["state"] == f"width={corner[0]}, height={corner[1]}"
    assert problem["message"].startswith("takes ")
    assert problem["message"].endswith("s, over 0.8 s")


def test_a_draw_that_was_slow_once_is_not_blamed(monkeypatch) -> None:
    monkeypatch.setattr(sweep, "SECONDS_A_DRAW", 0.8)
    slow = iter([False, True])  # the first is drawn when the explorer is made, the second by the sweep

    def draw(width: int, height: int) -> Figure:
        if next(slow, False):
            time.sleep(0.9)
        return plot(width, height)

    assert swept(draw) == []


def test_a_picture_that_changes_by_itself_hides_no_dead_control() -> None:
    count = itertools.count(1)
    problems = swept(lambda width, height: plot(width, height, next(count)))
    assert [problem["state"] for problem in problems] == ["width=5, height=3"]
    assert "the same state gives another picture each time" in problems[0]["message"]
