"""Turns: the newest ask is drawn, a slow outdated draw is stopped at a line of its own, nothing draws beside a cell."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import matplotlib
import pytest
from matplotlib.figure import Figure

from avlab.show import turn
from avlab.show.explore import Explorer, explore


def until(condition: Callable[[], Any], what: str, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what}"
        time.sleep(0.005)


class Slow:
    """A draw that takes `steps` times 10 ms in lines of this file, and tells what became of it."""

    def __init__(self, steps: int) -> None:
        self.steps, self.began, self.ended, self.stopped = steps, [], [], []

    def __call__(self, size: int) -> Figure:
        self.began.append(size)
        try:
            for _ in range(self.steps if size > 1 else 0):
                time.sleep(0.01)
        except BaseException as error:
            self.stopped.append((size, type(error)))
            raise
        self.ended.append(size)
        figure = Figure(figsize=(2, 1))
        figure.subplots().plot([0, size])
        figure.set_label(f"size {size}")
        return figure


def slide(explorer: Explorer, *sizes: int) -> None:
    """As the browser does: positions, and the first value is 1."""
    for size in sizes:
        explorer._handle_custom_msg({"places": [size - 1]}, [])


@pytest.fixture
def cell():
    """A cell that runs: the notebook's own events, fired by hand in another thread."""
    held, go = threading.Event(), threading.Event()

    def run() -> None:
        turn._cell_begins()
        held.set()
        go.wait(20)
        turn._cell_ends()

    thread = threading.Thread(target=run)
    yield thread, held, go
    go.set()
    if thread.ident:
        thread.join(20)


def test_a_slow_draw_is_stopped_by_the_next_move_and_its_result_dropped() -> None:
    draw = Slow(steps=1000)  # 10 s if it were let
    one = explore(draw, size=(1, 9), start={"size": 1})
    began = time.monotonic()
    slide(one, 7)
    until(lambda: one.doing == "drawing …", "the word that it draws")
    until(lambda: draw.began == [1, 7], "the slow draw")
    slide(one, 1)
    until(lambda: one.doing == "" and one.drawn == [0], "the newest state")
    assert time.monotonic() - began < 5
    assert draw.stopped == [(7, turn.Outdated)]
    assert draw.ended == [1, 1]
    assert one.alt == "size 1"
    assert one.error == ""


def test_of_the_moves_during_a_draw_only_the_newest_is_drawn() -> None:
    draw = Slow(steps=10)  # 0.1 s: quick enough to be let to its end
    one = explore(draw, size=(1, 9))
    slide(one, 2)
    until(lambda: draw.began[-1] == 2, "the first draw")
    slide(one, 3, 4, 5, 6, 7)
    until(lambda: one.drawn == [6] and one.doing == "", "the newest state")
    assert draw.ended == [5, 2, 7]
    assert draw.stopped == []


def test_threads_end_when_all_is_drawn() -> None:
    one = explore(Slow(steps=60), size=(1, 9), start={"size": 1})
    for size in (4, 5, 1):
        slide(one, size)
        time.sleep(0.05)
    until(lambda: one.drawn == [0], "the newest state")
    until(lambda: not [t for t in threading.enumerate() if t.name.startswith("avlab")], "the threads to end")


def test_a_stopped_draw_leaves_the_settings_of_matplotlib_as_they_were() -> None:
    before = dict(matplotlib.rcParams)
    draw = Slow(steps=1000)
    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 7)
    until(lambda: 7 in draw.began, "the slow draw")
    slide(one, 1)
    until(lambda: one.drawn == [0] and one.doing == "", "the newest state")
    assert dict(matplotlib.rcParams) == before


def test_nothing_is_drawn_while_a_cell_runs(cell) -> None:
    thread, held, go = cell
    draw = Slow(steps=1)
    one = explore(draw, size=(1, 9), start={"size": 1})
    thread.start()
    assert held.wait(10)
    slide(one, 5)
    until(lambda: one.doing == "waiting for the running cell …", "the word that it waits")
    time.sleep(0.1)
    assert draw.began == [1]
    go.set()
    until(lambda: one.drawn == [4], "the draw after the cell")


def test_a_cell_stops_a_slow_draw_which_is_drawn_again_after_it(cell) -> None:
    thread, held, go = cell
    before = dict(matplotlib.rcParams)
    draw = Slow(steps=200)
    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 5)
    until(lambda: 5 in draw.began, "the slow draw")
    thread.start()
    assert held.wait(1.5), "the cell waited for the whole draw"
    assert draw.stopped == [(5, turn.Outdated)]
    assert dict(matplotlib.rcParams) == before  # nothing of the draw shines into the cell
    draw.steps = 1
    go.set()
    until(lambda: one.drawn == [4], "the draw after the cell")


def test_a_draw_that_works_in_a_library_is_stopped_there() -> None:
    from avlab.show import figures

    log: list[str] = []

    def draw(size: int) -> Figure:
        try:
            for _ in range(1000 if size == 5 else 1):
                figure = figures.draw_curves({"loss": [1.0, 0.5]})
        except turn.Outdated:
            log.append("stopped")
            raise
        return figure

    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 5)
    time.sleep(0.1)
    slide(one, 2)
    until(lambda: one.drawn == [1], "the newest state")
    assert log == ["stopped"]


class Careful:
    """A block whose end takes a second and must not be left out."""

    def __init__(self) -> None:
        self.begun = self.ended = False

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self.begun = True
        for _ in range(100):
            time.sleep(0.01)
        self.ended = True


def test_the_end_of_a_block_is_never_left_out() -> None:
    block = Careful()

    def draw(size: int) -> Figure:
        if size == 5:
            with block:
                pass
        return Figure()

    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 5)
    until(lambda: block.begun, "the end of the block")
    slide(one, 2)
    until(lambda: one.drawn == [1], "the newest state")
    assert block.ended


def test_an_import_is_never_stopped_midway(tmp_path, monkeypatch) -> None:
    (tmp_path / "takes_long.py").write_text("import time\nfor _ in range(80):\n    time.sleep(0.01)\nwhole = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    began: list[int] = []

    def draw(size: int) -> Figure:
        began.append(size)
        if size == 5:
            importlib.import_module("takes_long")
        return Figure()

    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 5)
    until(lambda: 5 in began, "the draw")
    slide(one, 2)
    until(lambda: one.drawn == [1], "the newest state")
    assert sys.modules["takes_long"].whole


def test_an_error_in_the_thread_is_shown_and_the_next_move_draws() -> None:
    def draw(size: int) -> Figure:
        if size == 5:
            raise ValueError("five is right out")
        return Figure()

    one = explore(draw, size=(1, 9), start={"size": 1})
    slide(one, 5)
    until(lambda: "ValueError: five is right out" in one.error, "the error")
    assert one.doing == ""
    slide(one, 2)
    until(lambda: one.error == "" and one.drawn == [1], "the next draw")


def test_two_explorers_draw_one_after_the_other() -> None:
    inside, most = [], []

    def draw(size: int) -> Figure:
        inside.append(size)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return Figure()

    both = [explore(draw, size=(1, 9)) for _ in range(2)]
    for one in both:
        slide(one, 2)
    until(lambda: all(one.drawn == [1] for one in both), "both")
    assert max(most) == 1


def test_code_in_a_cell_is_drawn_before_it_goes_on() -> None:
    one = explore(Slow(steps=1), size=(1, 9))
    turn._cell_begins()
    try:
        one.move(size=8)
        assert one.drawn == [7]
    finally:
        turn._cell_ends()


def test_cells_within_cells_and_the_cell_in_which_listening_began() -> None:
    turn._cell_ends()  # its begin was not heard
    turn._cell_begins()
    turn._cell_begins()
    turn._cell_ends()
    assert not turn._no_cell.is_set()
    turn._cell_ends()
    assert turn._no_cell.is_set()
    assert turn._turn.acquire(blocking=False)
    turn._turn.release()
