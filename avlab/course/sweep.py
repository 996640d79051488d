"""What a run without a browser does not touch: every explorer and every slider, over all their settings.

The runner appends a cell with `main()` to the copy that it executes. It moves each live `Explorer` of
`avlab.show.explore`, each `interactive` of ipywidgets and each other control over its grid, and displays `SWEEP_MIME`:
`{"swept": [{"name", "states", "seconds"}], "problems": [{"name", "state", "message"}]}`.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display

SWEEP_MIME = "application/vnd.avlab.sweep+json"
SWEEP_CELL = "import avlab.course.sweep\n\navlab.course.sweep.main()"
SWEEP_SECONDS = 120  # for all widgets of one notebook
SECONDS_A_DRAW = 2.0  # above it a slider no longer feels as if it moved the picture
TRIES = 3  # draws of a state before it counts as slow
MOST_STATES = 81  # of one widget: four controls at three settings each


def main() -> None:
    """Sweep every live explorer, interactive and other control, and display the report for the runner."""
    # not by the garbage collector's list: isinstance of a dead weak proxy in it raises ReferenceError
    widgets = list(ipywidgets.widgets.widget._instances.values())
    interactives = [widget for widget in widgets if isinstance(widget, ipywidgets.interactive)]
    explorers = _explorers()
    driven = {id(control) for widget in interactives for control in widget.kwargs_widgets}
    controls = [w for w in widgets if isinstance(w, ipywidgets.ValueWidget) and id(w) not in driven]
    swept, problems = [], []
    for sweep, found in (
        (sweep_explorer, explorers),
        (sweep_interactive, interactives),
        (sweep_control, [control for control in controls if len(_settings(control)) > 1]),
    ):
        for widget in found:
            began = time.perf_counter()
            name, states, wrong = sweep(widget)
            swept.append({"name": name, "states": states, "seconds": round(time.perf_counter() - began, 2)})
            problems += [{"name": name} | problem for problem in wrong]
    text = f"swept {len(swept)} widgets over {sum(s['states'] for s in swept)} states: {len(problems)} problems"
    display({SWEEP_MIME: {"swept": swept, "problems": problems}, "text/plain": text}, raw=True)


def _explorers() -> list[Any]:
    explore = sys.modules.get("avlab.show.explore")  # not loaded: the lesson has none
    return list(explore.live) if explore is not None else []


def sweep_explorer(explorer: Any) -> tuple[str, int, list[dict[str, str]]]:
    """Draw an explorer at every state of its grid: no exception, no slow draw, and each control changes the picture.

    A draw over the limit is drawn again, since a busy machine is not the lesson's fault: the quickest of three counts,
    in seconds by the clock, for a draw that sleeps or reads makes the learner wait too. The state at rest is drawn
    once more at the end: a picture that changes by itself would hide a control that does nothing.
    Returns its name, the number of states, and problems with `state` and `message`.
    """
    problems, pictures = [], []
    states = explorer.grid()
    tries = TRIES
    for state in states:
        try:
            picture, seconds = _timed(explorer, state, tries)
        except Exception as error:
            problems.append({"state": _text(state), "message": f"raises {type(error).__name__}: {error}"})
            continue
        if seconds > SECONDS_A_DRAW:
            problems.append({"state": _text(state), "message": f"takes {seconds:.1f} s, over {SECONDS_A_DRAW:g} s"})
            tries = 2  # it fails in any case: no three draws of every slow state
        pictures.append((state, picture))
    if pictures and pictures[0][0] == states[0] and explorer.picture(states[0]) != pictures[0][1]:
        problems.append({"state": _text(states[0]), "message": "the same state gives another picture each time: draw "
                         "must depend on nothing but its controls"})  # fmt: skip
    for control in states[0] if states else ():
        # only pairs of states that differ in this control alone can tell what it does
        groups: dict[str, dict[str, bytes]] = {}
        for state, picture in pictures:
            rest = repr(sorted((k, repr(v)) for k, v in state.items() if k != control))
            groups.setdefault(rest, {})[repr(state[control])] = picture
        compared = [list(group.values()) for group in groups.values() if len(group) > 1]
        if compared and all(len(set(group)) == 1 for group in compared):
            problems.append({"state": control, "message": f"moving {control!r} never changes the picture"})
    return explorer.name, len(states), problems


def _timed(explorer: Any, state: dict[str, Any], tries: int) -> tuple[bytes, float]:
    """The picture of a state and the seconds of the quickest of `tries` draws; one within the limit is enough."""
    quickest = float("inf")
    for _ in range(tries):
        began = time.perf_counter()
        picture = explorer.picture(state)
        quickest = min(quickest, time.perf_counter() - began)
        if quickest <= SECONDS_A_DRAW:
            break
    return picture, quickest


def sweep_interactive(widget: ipywidgets.interactive) -> tuple[str, int, list[dict[str, str]]]:
    """Call the function of an `interact` over its controls' settings, each error a problem."""
    problems = []
    names = [control._kwarg for control in widget.kwargs_widgets]
    states = [dict(zip(names, values, strict=True)) for values in _grid(widget.kwargs_widgets)]
    for state in states:
        message = _attempt(lambda state=state: widget.f(**state))
        if message:
            problems.append({"state": _text(state), "message": message})
    return getattr(widget.f, "__name__", "interactive"), len(states), problems


def sweep_control(control: ipywidgets.ValueWidget) -> tuple[str, int, list[dict[str, str]]]:
    """Move a control that code observes to each of its settings and back; errors in its observers are problems."""
    name = getattr(control, "description", "") or type(control).__name__
    rest, problems = control.value, []
    settings = _settings(control)
    for value in [*settings, rest]:
        message = _attempt(lambda value=value: setattr(control, "value", value))
        if message:
            problems.append({"state": f"{name}={value!r}", "message": message})
    return name, len(settings), problems


def _attempt(act: Callable[[], Any]) -> str:
    """What `act` raises, or shows as a traceback inside an Output widget, as one line; empty if all is well."""
    import matplotlib.pyplot as plt

    shell, shown, figures = get_ipython(), [], set(plt.get_fignums())
    if shell is not None:  # `interact` and `with Output()` swallow exceptions by showing them
        shell.showtraceback = lambda exc=None, *_, **__: shown.append((exc or sys.exc_info())[1])
    try:
        act()
    except Exception as error:
        shown.append(error)
    finally:
        if shell is not None:
            del shell.showtraceback
        for number in set(plt.get_fignums()) - figures:
            plt.close(number)
    return f"raises {type(shown[0]).__name__}: {shown[0]}" if shown else ""


def _grid(controls: list[ipywidgets.Widget]) -> Iterator[tuple[Any, ...]]:
    """All combinations of the controls' settings, or, above `MOST_STATES`, all extremes, then one control at a time."""
    settings = [_settings(control) or [control.value] for control in controls]
    size = 1
    for values in settings:
        size *= len(values)
    if size <= MOST_STATES:
        yield from itertools.product(*settings)
        return
    yield from itertools.islice(itertools.product(*((values[0], values[-1]) for values in settings)), MOST_STATES)
    for place, values in enumerate(settings):
        rest = [control.value for control in controls]
        for value in values:
            yield (*rest[:place], value, *rest[place + 1 :])


def _settings(control: ipywidgets.Widget) -> list[Any]:
    """The settings worth trying: each option, both truths, or the least, the present and the greatest value."""
    if hasattr(control, "options"):
        values = [option[1] for option in getattr(control, "_options_full", ())] or list(control.options)
        many = {ipywidgets.SelectMultiple: 1, ipywidgets.SelectionRangeSlider: 2}.get(type(control))
        return values if many is None else [(value,) * many for value in values]
    if isinstance(control.value, bool):
        return [False, True]
    if hasattr(control, "min") and hasattr(control, "max"):
        low, high, now = control.min, control.max, control.value
        if isinstance(now, tuple):  # a range slider
            return [(low, low), now, (low, high), (high, high)]
        return list(dict.fromkeys((low, now, high)))
    return []  # text and the like: no settings to try


def _text(state: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in state.items())
