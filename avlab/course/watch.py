"""Time, memory and output of a running lesson, and the end of a kernel that takes too much of them."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import Any

import psutil
from nbformat import NotebookNode

from avlab.course.exercises import EXERCISES_CELL, EXERCISES_SECONDS
from avlab.course.sweep import SWEEP_CELL, SWEEP_SECONDS

FULL_PROFILE_TIMES = 20
OWN_LIMITS = {  # of the runner's own cells: what they do, and in how many seconds
    SWEEP_CELL: ("the sweep of its widgets", SWEEP_SECONDS),
    EXERCISES_CELL: ("the trial of its exercises", EXERCISES_SECONDS),
}
MOST_OUTPUT_MB = 30  # of all cells: the runner has to hold it


class Watch:
    """Time and memory of one run, cell by cell (counted from 1), and the end of a kernel that takes too much."""

    def __init__(self, lesson: NotebookNode, budget: dict[str, float], profile: str) -> None:
        self.places = {cell.id: place for place, cell in enumerate(lesson.cells, 1)}
        self.quick, self.budget = profile == "quick", budget
        self.limit = budget["seconds"] * (1 if self.quick else FULL_PROFILE_TIMES)
        self.cells: list[dict[str, Any]] = []
        self.executed: NotebookNode | None = None
        self.peak, self.written, self.killed = 0, 0, ""
        self.current: NotebookNode | None = None
        self.kernel: psutil.Process | None = None
        self.children: dict[int, psutil.Process] = {}
        self._deadline, self._began = float("inf"), 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_all_along, daemon=True)

    def open(self, pid: int) -> None:
        """Begin to sample the kernel with this process number."""
        self.kernel = psutil.Process(pid)
        self._deadline = time.monotonic() + 2 * self.limit
        self._thread.start()

    def end(self, why: str) -> None:
        """Kill the kernel; `why` is what the failure says."""
        self.killed = why
        if self.kernel is not None and self.kernel.is_running():
            self.kernel.kill()

    def close(self) -> None:
        """Stop sampling, and end the processes that the kernel left behind."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        for process in self.children.values():
            if process.is_running():  # psutil compares the start time too: never another process of the same number
                process.kill()

    def cell_starts(self, cell: NotebookNode) -> None:
        """Begin to time a cell."""
        self.current, self._began = cell, time.perf_counter()
        if cell.source in OWN_LIMITS:
            self._deadline = time.monotonic() + OWN_LIMITS[cell.source][1]

    def cell_ends(self, cell: NotebookNode) -> None:
        """Keep a code cell's time, and the memory after it."""
        seconds = time.perf_counter() - self._began
        if cell.cell_type == "code" and cell.id in self.places:  # not papermill's cell, nor the runner's own
            first = cell.source.strip().partition("\n")[0][:80]
            row = {"cell": self.places[cell.id], "source": first, "seconds": round(seconds, 2)}
            self.cells.append(row | {"rss_mb": round(self._sample() / 1e6, 1)})

    def wrote(self, characters: int) -> None:
        """Count what the cells put out: the runner has to hold it all."""
        self.written += characters
        if self.written > MOST_OUTPUT_MB * 1e6 and not self.killed:
            self.end(f"killed: its cells put out more than {MOST_OUTPUT_MB} MB")

    def seconds(self) -> float:
        """Time of all cells so far."""
        return sum(row["seconds"] for row in self.cells)

    def slowest(self) -> list[dict[str, Any]]:
        """The cells, the slowest first."""
        return sorted(self.cells, key=lambda row: -row["seconds"])

    def over_budget(self) -> list[tuple[str, str, NotebookNode | None]]:
        """What was too much: the kind of failure, its message, and the cell where the kernel was killed."""
        rows = [f"cell {row['cell']} {row['seconds']:.1f} s ({row['source']})" for row in self.slowest()[:3]]
        slowest = "slowest: " + "; ".join(rows)
        if self.killed:
            return [("killed", f"{self.killed}; {slowest}", self.current)]
        found = []
        if self.seconds() > self.limit:
            message = f"took {self.seconds():.1f} s, over its budget of {self.limit:g} s; {slowest}"
            found.append(("seconds", message, None))
        if self.quick and self.peak / 1e6 > self.budget["rss_mb"]:
            most = max(self.cells, key=lambda row: row["rss_mb"], default={"cell": None})["cell"]
            message = f"used {self.peak / 1e6:.0f} MB, over its budget of {self.budget['rss_mb']:g} MB"
            found.append(("memory", f"{message}; most after cell {most}", None))
        return found

    def _sample(self) -> int:
        if self.kernel is None:
            return 0
        total = 0
        try:
            total += self.kernel.memory_info().rss
            children = self.kernel.children(recursive=True)
        except psutil.NoSuchProcess:
            children = []
        for process in children:
            self.children[process.pid] = process
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().uss  # what a forked worker shares is counted with the kernel
        self.peak = max(self.peak, total)
        return total

    def _sample_all_along(self) -> None:
        while not self._stop.wait(0.1):
            used = self._sample() / 1e6
            if time.monotonic() > self._deadline:
                source = self.current.source if self.current is not None else ""
                what, limit = OWN_LIMITS.get(source, ("the notebook", 2 * self.limit))
                return self.end(f"killed after {limit:g} s, for {what} was still running")
            if self.quick and used > 3 * self.budget["rss_mb"]:
                budget = self.budget["rss_mb"]
                return self.end(f"killed at {used:.0f} MB, three times its budget of {budget:g} MB")
