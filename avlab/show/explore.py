"""Explorers: controls that move one cause at a time, over a pure `draw(**state) -> Figure`.

An explorer at rest is a static picture: the figure as it stands and the extremes of each control as small multiples, so
that a page without a kernel still teaches. In a run without a browser the runner sweeps `grid()` through `picture()`.
In a notebook a moved control is drawn in a thread of its own (`avlab.show.turn`): quick draws follow the slider, a slow
one says that it works and is stopped by the next move.
"""

from __future__ import annotations

import inspect
import io
import itertools
import math
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from matplotlib.figure import Figure
from PIL import Image

from avlab.show.bundle import alt_text, fewer_colours, png, widget_bundle
from avlab.show.style import in_style
from avlab.show.turn import Drawer

SLOW = 0.5  # seconds of one draw above which the picture at rest is a single one
CORNERS = 32  # states at which all controls are at an extreme; more are sampled evenly
STEPS = 10_000  # positions of one slider; no screen shows more
_alive: list[weakref.ref[Explorer]] = []


class _Live(Sequence["Explorer"]):
    """The explorers that exist now, oldest first: what a runner sweeps."""

    def _now(self) -> list[Explorer]:
        return [one for ref in _alive if (one := ref()) is not None]

    def __getitem__(self, place: Any) -> Any:
        return self._now()[place]

    def __len__(self) -> int:
        return len(self._now())

    def __iter__(self) -> Iterator[Explorer]:
        return iter(self._now())


live = _Live()


@dataclass(frozen=True)
class Control:
    """One control of an explorer: the values that it can take, in order, and the position at which it rests.

    `kind` is "slider", "list" or "switch".
    """

    name: str
    kind: str
    values: tuple[Any, ...]
    rest: int

    @classmethod
    def of(cls, name: str, given: Any) -> Control:
        """From `(min, max[, step])`, a list of options or a bool; raises `ValueError` for other forms."""
        if isinstance(given, bool):
            return cls(name, "switch", (False, True), int(given))
        if isinstance(given, list) and given:
            return cls(name, "list", tuple(given), 0)
        numbers = isinstance(given, tuple) and all(
            isinstance(v, int | float) and not isinstance(v, bool) for v in given
        )
        if not numbers or len(given) not in (2, 3) or not given[0] < given[1] or not (*given, 1)[2] > 0:
            raise ValueError(f"control {name!r} must be (min, max), (min, max, step), a list of options or a bool, "
                             f"got {given!r}")  # fmt: skip
        whole = all(isinstance(v, int) for v in given)
        low, high, step = (*given, 1 if whole else (given[1] - given[0]) / 20)[:3]
        count = math.floor((high - low) / step + 1e-9) + 1
        if not 2 <= count <= STEPS:
            raise ValueError(f"control {name!r} = {given!r} has {count} positions; give a step that makes 2 to {STEPS}")
        values = tuple(low + i * step if whole else float(f"{low + i * step:.12g}") for i in range(count))
        return cls(name, "slider", values, (count - 1) // 2)

    def place(self, value: Any) -> int:
        """The position of a value; raises `ValueError` for one that the control cannot take."""
        for place, own in enumerate(self.values):
            if value == own or (self.kind == "slider" and abs(value - own) < 1e-9 * max(1.0, abs(own))):
                return place
        raise ValueError(f"{self.name}={value!r} is none of the values of its control: {self}")

    def extremes(self) -> list[Any]:
        """Lowest, resting and highest value of a slider, or all options."""
        if self.kind == "slider":
            return [self.values[0], self.values[self.rest], self.values[-1]]
        return list(self.values)

    def __str__(self) -> str:
        if self.kind != "slider":
            return repr(list(self.values))
        return (
            f"{_text(self.values[0])} to {_text(self.values[-1])} in steps of {_text(self.values[1] - self.values[0])}"
        )


class Explorer(anywidget.AnyWidget):
    """Controls over one picture; made by `explore`.

    `state` the controls' values now; `move(**state)` sets some of them; `grid()` the states that a run sweeps;
    `picture(state)` the PNG at a state. In `places` a control's value is its position among all it can take.
    """

    _esm = Path(__file__).with_name("explore.js")
    name = traitlets.Unicode().tag(sync=True)
    panel = traitlets.List().tag(sync=True)
    places = traitlets.List(traitlets.Int()).tag(sync=True)
    shown = traitlets.Bytes().tag(sync=True)  # PNG
    alt = traitlets.Unicode().tag(sync=True)
    drawn = traitlets.List(traitlets.Int()).tag(sync=True)  # the places of the picture shown
    doing = traitlets.Unicode().tag(sync=True)
    error = traitlets.Unicode().tag(sync=True)

    def __init__(
        self, draw: Callable[..., Figure], controls: dict[str, Any], *, name: str, start: dict[str, Any]
    ) -> None:
        self.draw = draw
        self.controls = {key: Control.of(key, given) for key, given in controls.items()}
        for key, value in start.items():
            one = self.controls[key]
            self.controls[key] = Control(key, one.kind, one.values, one.place(value))
        self.rest = {key: one.values[one.rest] for key, one in self.controls.items()}
        panel = [
            {"name": key.replace("_", " "), "kind": one.kind, "texts": [_text(value) for value in one.values]}
            for key, one in self.controls.items()
        ]
        super().__init__(name=name, panel=panel, places=[one.rest for one in self.controls.values()])
        self._drawer = Drawer(self._attempt, self._show, self._wait, inside=Explorer.figure.__code__)
        self.on_msg(Explorer._hear)
        self._drawer.now()
        _alive[:] = [ref for ref in _alive if ref() is not None] + [weakref.ref(self)]

    @property
    def state(self) -> dict[str, Any]:
        """The values of the controls now, by name."""
        return {name: one.values[place] for (name, one), place in zip(self.controls.items(), self.places, strict=True)}

    def move(self, **state: Any) -> None:
        """Set controls to these values and draw; raises `ValueError` for a value that a control cannot take."""
        if unknown := set(state) - set(self.controls):
            raise ValueError(f"move names {sorted(unknown)}, which are none of the controls {list(self.controls)}")
        now = self.state | state
        self.places = [one.place(now[name]) for name, one in self.controls.items()]
        self._drawer.now()

    def figure(self, state: dict[str, Any]) -> Figure:
        """What `draw` makes of a state; raises `TypeError` if it is no matplotlib figure, and what `draw` raises."""
        with in_style():
            figure = self.draw(**state)
        if not isinstance(figure, Figure):
            raise TypeError(f"the draw of explorer {self.name!r} must return a matplotlib Figure, got {type(figure)}")
        return figure

    def picture(self, state: dict[str, Any] | None = None) -> bytes:
        """The PNG at a state (default: now); raises what `draw` raises."""
        return png(self.figure(self.state if state is None else state))

    def grid(self) -> list[dict[str, Any]]:
        """The states to sweep: each control's extremes with the others at rest, and the corners of all together."""
        states = [self.rest]
        states += [self.rest | {name: value} for name, one in self.controls.items() for value in one.extremes()]
        ends = [[one.values[0], one.values[-1]] for one in self.controls.values()]
        corners = list(itertools.product(*ends))
        if len(corners) > CORNERS:
            corners = [corners[i] for i in np.linspace(0, len(corners) - 1, CORNERS).round().astype(int)]
        states += [dict(zip(self.controls, corner, strict=True)) for corner in corners]
        return [state for place, state in enumerate(states) if state not in states[:place]]

    def _hear(self, content: Any, buffers: Any) -> None:
        """A control was moved in the browser."""
        places = content.get("places") if isinstance(content, dict) else None
        counts = [len(one.values) for one in self.controls.values()]
        fits = isinstance(places, list) and len(places) == len(counts)
        if fits and all(type(p) is int and 0 <= p < count for p, count in zip(places, counts, strict=True)):
            self.places = places
            self._drawer.ask()
        self.send({"taken": True})

    def _attempt(self) -> dict[str, Any]:
        """What is to be shown of the state now: picture and words, or the error."""
        places, state = list(self.places), self.state
        try:
            figure = self.figure(state)
            return {"shown": png(figure, quick=True), "alt": alt_text(figure), "error": "", "drawn": places}
        except Exception as error:  # shown where the learner looks; a run meets it through the sweep
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = f"{type(error).__name__}: {error} (line {last.lineno} of {last.name})"
            return {"error": f"Cannot be drawn. {said}", "drawn": places}

    def _show(self, result: dict[str, Any]) -> None:
        with self.hold_sync():  # one message
            self.set_trait("doing", "")
            for name, value in result.items():
                self.set_trait(name, value)

    def _wait(self, text: str) -> None:
        self.doing = text

    def rest_picture(self) -> tuple[bytes, str]:
        """The picture at rest with the extremes of each control below it, as PNG bytes, and its alternative text.

        The extremes are left out where one draw takes over half a second.
        """
        begun = time.perf_counter()
        figure = self.figure(self.rest)
        alt = f"Explorer {self.name} at rest ({_said(self.rest)}): {alt_text(figure)}"
        moved = [{key: v} for key, one in self.controls.items() for v in one.extremes()[:4] if v != self.rest[key]]
        if time.perf_counter() - begun > SLOW or not moved:
            return png(figure, colours=256), alt
        large = Image.open(io.BytesIO(png(figure)))
        w, h = large.width // 3, round(large.height / 3)
        sheet = Image.new("RGB", (large.width, large.height + 12 + h * -(-len(moved) // 3)), "white")
        sheet.paste(large)
        for place, change in enumerate(moved):
            tile = _small(self.figure(self.rest | change), _said(change)).resize((w, h), Image.Resampling.LANCZOS)
            sheet.paste(tile, (place % 3 * w, large.height + 12 + place // 3 * h))
        return fewer_colours(sheet, 256), f"{alt}. Below: the same with " + "; ".join(map(_said, moved))

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            return widget_bundle(self, *self.rest_picture())
        except Exception:  # the widget shows the error in red, and the sweep raises it: the page needs only a line
            data = {"application/vnd.jupyter.widget-view+json":
                    {"version_major": 2, "version_minor": 0, "model_id": self.model_id}}  # fmt: skip
            return {**data, "text/plain": f"Explorer {self.name}: one of its states cannot be drawn"}, {}


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _said(state: dict[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} = {_text(value)}" for name, value in state.items())


def _small(figure: Figure, caption: str) -> Image.Image:
    """A figure as a small multiple: half its size, its titles and colour bars gone: the rest can be read."""
    for axes in figure.axes:
        for side in ("left", "center", "right"):
            axes.set_title("", loc=side)
        for drawn in (*axes.images, *axes.collections):
            if drawn.colorbar is not None:
                drawn.colorbar.remove()
    figure.set_size_inches(figure.get_size_inches() / 2)
    figure.suptitle(caption, x=0.5, ha="center", fontsize=11, fontweight="normal")
    return Image.open(io.BytesIO(png(figure))).convert("RGB")


def explore(
    draw: Callable[..., Figure], *, name: str | None = None, start: dict[str, Any] | None = None, **controls: Any
) -> Explorer:
    """An explorer: `draw(**state)` returns a new matplotlib `Figure` for the controls' values and changes nothing else.

    A control is `(min, max)` or `(min, max, step)` (whole numbers give a whole-number slider), a list of options, or a
    bool. At rest a slider stands in the middle, a list at its first option; `start` says otherwise. An error of `draw`
    is shown in red; a run without a browser meets it in its sweep. Raises `ValueError` for a control of another form,
    or one that `draw` does not take.

    >>> import avlab.show.figures as f
    >>> mover = explore(lambda tau: f.draw_curves({"loss": [1.0, tau]}), tau=(0.1, 1.0), name="temperature")
    >>> mover.name, [round(s["tau"], 2) for s in mover.grid()]
    ('temperature', [0.55, 0.1, 1.0])
    """
    parameters = inspect.signature(draw).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        unknown = set(controls) - {p.name for p in parameters}
        missing = {p.name for p in parameters if p.default is p.empty} - set(controls)
        if unknown or missing:
            raise ValueError(f"draw takes {[p.name for p in parameters]}; controls without a parameter: "
                             f"{sorted(unknown)}, parameters without a control: {sorted(missing)}")  # fmt: skip
    if unknown := set(start or {}) - set(controls):
        raise ValueError(f"start names {sorted(unknown)}, which are none of the controls {list(controls)}")
    if not controls:
        raise ValueError("an explorer needs at least one control, for example size=(1, 9)")
    if name is None:
        name = getattr(draw, "__name__", "explorer")
    return Explorer(draw, controls, name=name, start=start or {})
