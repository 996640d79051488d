"""Explorers: sliders that move one cause at a time, over a pure `draw(**state) -> Figure`.

An explorer at rest is a static picture: the figure as it stands and the extremes of each control as small multiples, so
that a page without a kernel still teaches. In a run without a browser the runner sweeps `grid()` through `picture()`.
"""

from __future__ import annotations

import base64
import html
import inspect
import io
import itertools
import time
import traceback
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ipywidgets
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from avlab.show.bundle import alt_text, fewer_colours, png, widget_bundle
from avlab.show.style import in_style

SLOW = 0.5  # seconds of one draw above which the picture at rest is a single one
CORNERS = 32  # states at which all controls are at an extreme; more are sampled evenly
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


def _control(name: str, given: Any) -> ipywidgets.ValueWidget:
    """A labelled widget for `(min, max[, step])`, a list of options or a bool; raises `ValueError` for other forms."""
    looks = {
        "description": name.replace("_", " "),
        "style": {"description_width": "110px"},
        "layout": ipywidgets.Layout(width="460px"),
    }
    if isinstance(given, bool):
        return ipywidgets.Checkbox(value=given, **looks)
    if isinstance(given, list) and given:
        return ipywidgets.Dropdown(options=given, value=given[0], **looks)
    numbers = isinstance(given, tuple) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    if not numbers or len(given) not in (2, 3) or not given[0] < given[1] or not (*given, 1)[2] > 0:
        raise ValueError(f"control {name!r} must be (min, max), (min, max, step), a list of options or a bool, "
                         f"got {given!r}")  # fmt: skip
    if all(isinstance(v, int) for v in given):
        low, high, step = (*given, 1)[:3]
        middle = low + (high - low) // (2 * step) * step  # on a step, as the sliders of a browser are
        return ipywidgets.IntSlider(middle, low, high, step, continuous_update=False, **looks)
    low, high, step = (*given, (given[1] - given[0]) / 20)[:3]
    middle = low + round((high - low) / 2 / step) * step
    return ipywidgets.FloatSlider(middle, min=low, max=high, step=step, continuous_update=False, readout_format=".3g",
                                  **looks)  # fmt: skip


class Explorer(ipywidgets.VBox):
    """Controls over one picture; made by `explore`.

    `state` the controls' values now; `grid()` the states that a run sweeps; `picture(state)` the PNG at a state.
    """

    def __init__(
        self, draw: Callable[..., Figure], controls: dict[str, Any], *, name: str, start: dict[str, Any]
    ) -> None:
        self.draw, self.name = draw, name
        self.controls = {key: _control(key, given) for key, given in controls.items()}
        for key, value in start.items():
            self.controls[key].value = value
            if self.controls[key].value != value:  # a slider would keep to its ends without a word
                raise ValueError(f"start {key}={value!r} lies outside of its control {controls[key]!r}")
        self.rest = self.state
        self.image = ipywidgets.HTML("")  # not `ipywidgets.Image`: that one has no alternative text
        self.hint = ipywidgets.HTML("")
        super().__init__([*self.controls.values(), self.hint, self.image])
        self.add_class("avlab-explorer")
        for widget in self.controls.values():
            widget.observe(self._update, names="value")
        self._update(None)
        _alive[:] = [ref for ref in _alive if ref() is not None] + [weakref.ref(self)]

    @property
    def state(self) -> dict[str, Any]:
        """The values of the controls now, by name."""
        return {name: widget.value for name, widget in self.controls.items()}

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

    def extremes(self, name: str) -> list[Any]:
        """Lowest, middle and highest value of a control, or its options."""
        widget = self.controls[name]
        if isinstance(widget, ipywidgets.Checkbox):
            return [False, True]
        if isinstance(widget, ipywidgets.Dropdown):
            return list(widget.options)
        return [widget.min, self.rest[name], widget.max]

    def grid(self) -> list[dict[str, Any]]:
        """The states to sweep: each control's extremes with the others at rest, and the corners of all together."""
        states = [self.rest]
        states += [self.rest | {name: value} for name in self.controls for value in self.extremes(name)]
        ends = [[self.extremes(name)[0], self.extremes(name)[-1]] for name in self.controls]
        corners = list(itertools.product(*ends))
        if len(corners) > CORNERS:
            corners = [corners[i] for i in np.linspace(0, len(corners) - 1, CORNERS).round().astype(int)]
        states += [dict(zip(self.controls, corner, strict=True)) for corner in corners]
        return [state for place, state in enumerate(states) if state not in states[:place]]

    def _update(self, change: Any) -> None:
        self.hint.value = "<i>drawing …</i>"
        try:
            figure = self.figure(self.state)
            data = base64.b64encode(png(figure)).decode()
            alt = html.escape(alt_text(figure), quote=True)
            self.image.value = f'<img alt="{alt}" src="data:image/png;base64,{data}" style="max-width:100%">'
            self.hint.value = ""
        except Exception as error:  # shown where the learner looks; a run meets it through the sweep
            last = traceback.extract_tb(error.__traceback__)[-1]
            said = html.escape(f"{type(error).__name__}: {error} (line {last.lineno} of {last.name})")
            self.hint.value = f'<span role="alert" style="color:#b00020"><b>Cannot be drawn.</b> {said}</span>'

    def rest_picture(self) -> tuple[bytes, str]:
        """The picture at rest with the extremes of each control below it, as PNG bytes, and its alternative text.

        The extremes are left out where one draw takes over half a second.
        """
        begun = time.perf_counter()
        figure = self.figure(self.rest)
        alt = f"Explorer {self.name} at rest ({_said(self.rest)}): {alt_text(figure)}"
        moved = [{name: v} for name in self.controls for v in self.extremes(name)[:4] if v != self.rest[name]]
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


def _said(state: dict[str, Any]) -> str:
    plain = {name.replace("_", " "): f"{v:.3g}" if isinstance(v, float) else v for name, v in state.items()}
    return ", ".join(f"{name} = {value}" for name, value in plain.items())


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
