"""Drawing beside the cells of a notebook: in a thread of its own, never while a cell runs, stopped when outdated.

matplotlib's settings and a notebook's variables are shared by all threads. So there is one turn to draw or to run:
a cell takes it for as long as it runs, a drawing thread takes it for one draw. A draw that is outdated (a newer state
was asked for, or a cell waits) may end within `PATIENCE`; then it is stopped at its next line of Python, as a cell is
when its kernel is interrupted, but never within an import or while a `with` block is left.
"""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType
from typing import Any

from IPython import get_ipython

PATIENCE = 0.3  # seconds that an outdated draw is given: quick draws all appear while a slider is dragged
TICK = 0.01  # seconds between two looks at an outdated draw
_turn = threading.RLock()
_no_cell = threading.Event()  # set while no cell runs or waits for its turn
_no_cell.set()
_cells = threading.local()  # .depth: how often this thread's cells hold the turn
_drawing: list[Drawer] = []  # the one that has the turn, if any


class Outdated(BaseException):
    """Raised inside a draw whose picture nobody waits for any more; not an `Exception`, which a draw may catch."""


class Drawer:
    """Calls `act` in a thread of its own whenever it is asked, for the newest ask only; `done` gets what it returns.

    `act()` reads the state itself and raises nothing; it may be stopped within what a function of the code `inside`
    calls. `waits(text)` is told what the learner waits for.
    """

    def __init__(
        self, act: Callable[[], Any], done: Callable[[Any], None], waits: Callable[[str], None], *, inside: CodeType
    ) -> None:
        self._act, self._done, self._waits, self._inside = act, done, waits, inside
        self._lock = threading.RLock()
        self._asked = self._began = self._shown = 0  # numbers of the newest ask, of the draw in work, of the last done
        self._since = 0.0
        self._thread: threading.Thread | None = None
        self._watcher: threading.Thread | None = None
        listen()

    def ask(self) -> None:
        """Draw soon; from any thread, returns at once."""
        with self._lock:
            self._asked += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="avlab draw", daemon=True)
                self._thread.start()
            elif self in _drawing and self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="avlab watch", daemon=True)
                self._watcher.start()

    def now(self) -> None:
        """Draw in this thread, before this returns: for code in a cell. What was asked for before is outdated."""
        with self._lock:
            self._asked += 1
            number = self._asked
        with _turn:
            result = self._act()
        self._hand_over(number, result)

    def stop_if_slow(self) -> None:
        """Stop the draw in work where it has had its `PATIENCE`."""
        thread = self._thread
        if thread is None or time.monotonic() - self._since < PATIENCE:
            return
        frame, above = sys._current_frames().get(thread.ident), []  # it stands still: this thread holds the interpreter
        while frame is not None and frame.f_code is not self._inside:
            above.append(frame.f_code)
            frame = frame.f_back
        if frame is not None and above and not any(map(_must_end, above)):
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(Outdated))

    def _hand_over(self, number: int, result: Any) -> bool:
        """Show a result unless a newer one is shown; whether nothing newer is asked for."""
        with self._lock:
            if number > self._shown:
                self._shown = number
                self._done(result)
            return number == self._asked

    def _work(self) -> None:
        while True:
            if not _no_cell.is_set():
                self._waits("waiting for the running cell …")
                _no_cell.wait()
            with _turn:
                if not _no_cell.is_set():
                    continue  # a cell came first
                with self._lock:
                    _drawing.append(self)
                    self._began, self._since = self._asked, time.monotonic()
                try:
                    self._waits("drawing …")
                    result = self._act()
                except Outdated:
                    continue
                finally:
                    _drawing.remove(self)
            with self._lock:
                if self._hand_over(self._began, result):
                    self._thread = None
                    return

    def _watch(self) -> None:
        while True:
            with self._lock:
                if self not in _drawing or self._asked == self._began:
                    self._watcher = None
                    return
            self.stop_if_slow()
            time.sleep(TICK)


def listen() -> None:
    """Let the cells of the notebook take their turn from now on; without a notebook, nothing."""
    shell = get_ipython()
    if shell is not None:
        shell.events.register("pre_execute", _cell_begins)  # a second time it changes nothing
        shell.events.register("post_execute", _cell_ends)


def _cell_begins() -> None:
    _no_cell.clear()
    while not _turn.acquire(timeout=TICK):
        for drawer in list(_drawing):
            drawer.stop_if_slow()
    _cells.depth = getattr(_cells, "depth", 0) + 1


def _cell_ends() -> None:
    depth = getattr(_cells, "depth", 0)
    if depth:  # not for the cell in which listening began
        _cells.depth = depth - 1
        _turn.release()
    if depth <= 1:
        _no_cell.set()


def _must_end(code: CodeType) -> bool:
    """Whether stopping within would leave half a module, or a setting that nobody takes back."""
    return code.co_name in ("__exit__", "__del__") or code.co_filename.startswith("<frozen importlib")
