"""Explorers: every control moves the picture, errors are seen by the learner and met by a run."""

from __future__ import annotations

import base64
import importlib
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from avlab.show.explore import explore, live

module = importlib.import_module("avlab.show.explore")  # the package's own `explore` is the function
WIDGET = "application/vnd.jupyter.widget-view+json"


def draw(height: int = 3, slope: float = 0.5, shape: str = "line", dashed: bool = False) -> Figure:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    x = np.linspace(0, 1, 11)
    axes.plot(x, height + slope * (x**2 if shape == "curve" else x), "--" if dashed else "-")
    axes.set(title=f"height {height}", xlabel="time (s)", ylabel="level (dB)", ylim=(0, 12))
    return figure


def make(**changes):
    controls = {"height": (1, 9), "slope": (0.0, 2.0, 0.5), "shape": ["line", "curve"], "dashed": False} | changes
    return explore(draw, name="lines", **controls)


def test_controls_are_what_was_given_and_labelled() -> None:
    one = make()
    assert one.state == {"height": 5, "slope": 1.0, "shape": "line", "dashed": False}
    assert one.controls["slope"].values == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert [(c["name"], c["kind"], c["texts"][-1]) for c in one.panel] == [
        ("height", "slider", "9"), ("slope", "slider", "2"), ("shape", "list", "curve"), ("dashed", "switch", "True")
    ]  # fmt: skip
    assert explore(lambda a_b: draw(a_b), a_b=(1, 4)).panel[0]["name"] == "a b"


def test_a_slider_rests_on_one_of_its_steps() -> None:
    assert explore(draw, height=(0, 10, 4)).rest == {"height": 4}
    assert explore(draw, slope=(0.0, 1.0, 0.4)).rest == {"slope": 0.4}
    assert explore(draw, slope=(-0.5, 0.7)).controls["slope"].values[10:12] == (0.1, 0.16)  # no 0.16000000000000003


def test_any_value_of_a_list_is_an_option() -> None:
    one = explore(lambda taps: draw(sum(taps)), taps=[(1, 2), (4, 4)])
    one.move(taps=(4, 4))
    assert one.state == {"taps": (4, 4)}
    assert "height 8" in one.alt


def test_small_multiples_keep_the_picture_and_lose_what_could_not_be_read() -> None:
    from avlab.show.figures import draw_heat

    figure = draw_heat(np.full((8, 8, 3), 90, np.uint8), np.eye(4), title="a title far too long to be read when small")
    size = figure.get_size_inches()
    small = module._small(figure, "shift = 2")
    assert [axes.get_label() for axes in figure.axes] == [""]  # the colour bar is gone
    assert figure.axes[0].get_title("left") == ""
    assert small.size == pytest.approx(tuple(50 * size), abs=1)


def test_start_sets_the_state_at_rest() -> None:
    one = explore(draw, height=(1, 9), shape=["line", "curve"], start={"height": 7, "shape": "curve"})
    assert one.rest == {"height": 7, "shape": "curve"}
    assert one.grid()[0] == one.rest


def test_moving_each_control_changes_the_picture_shown_and_its_words() -> None:
    for name, value in {"height": 8, "slope": 0.0, "shape": "curve", "dashed": True}.items():
        one = make()
        before = one.shown
        one.move(**{name: value})
        assert one.shown != before, name
    one.move(height=9)
    assert one.alt == "Figure: height 9, level (dB) against time (s)"
    assert one.drawn == one.places


def test_grid_holds_extremes_and_corners_once() -> None:
    one = make()
    states = one.grid()
    assert len(states) == len({tuple(state.items()) for state in states})
    for name, values in {"height": (1, 5, 9), "slope": (0.0, 1.0, 2.0), "shape": ("line", "curve")}.items():
        at_rest = [s[name] for s in states if all(s[k] == v for k, v in one.rest.items() if k != name)]
        assert set(at_rest) == set(values), name
    assert {"height": 9, "slope": 2.0, "shape": "curve", "dashed": True} in states
    seen = {(*s.values(), "") if s["slope"] else (s["height"], s["dashed"]) for s in states}
    assert len({one.picture(state) for state in states}) == len(seen)  # without slope, line and curve are one


def test_corners_are_capped() -> None:
    many = {f"c{i}": False for i in range(9)}
    one = explore(lambda **state: draw(1 + sum(state.values())), **many)
    assert len(one.grid()) <= module.CORNERS + 2 * 9 + 1


def test_picture_is_a_pure_function_of_the_state() -> None:
    one, state = make(), {"height": 2, "slope": 0.5, "shape": "curve", "dashed": True}
    assert one.picture(state) == make().picture(state)
    assert one.state == one.rest  # looking does not move


def test_an_error_is_shown_in_red_and_raised_in_a_run() -> None:
    def fails(size: int) -> Figure:
        if size == 4:
            raise ValueError("no <room> left")
        return draw(size)

    one = explore(fails, size=(1, 4))
    assert one.error == ""
    one.move(size=4)
    assert "ValueError: no <room> left (line " in one.error
    with pytest.raises(ValueError, match="no <room> left"):
        one.picture({"size": 4})
    data, _ = one._repr_mimebundle_()
    assert WIDGET in data
    one.move(size=2)
    assert one.error == ""


def test_draw_must_return_a_figure() -> None:
    one = explore(lambda size: size, size=(1, 4))
    assert "must return a matplotlib Figure" in one.error
    with pytest.raises(TypeError, match="must return a matplotlib Figure"):
        one.picture({"size": 1})


def test_the_bundle_rests_as_one_picture_of_all_extremes() -> None:
    data, metadata = make()._repr_mimebundle_()
    rest = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    single = Image.open(io.BytesIO(make().picture()))
    assert WIDGET in data
    assert rest.height > 1.5 * single.height
    for words in ("height = 1", "height = 9", "slope = 2", "shape = curve", "dashed = True", "against time (s)"):
        assert words in metadata["image/png"]["alt"]


def test_a_slow_draw_rests_as_a_single_picture(monkeypatch) -> None:
    monkeypatch.setattr(module, "SLOW", -1.0)
    image, alt = make().rest_picture()
    assert Image.open(io.BytesIO(image)).size == Image.open(io.BytesIO(make().picture())).size
    assert "Below" not in alt


def test_live_lists_explorers_in_order_until_they_are_gone() -> None:
    one, two = make(), make()
    assert list(live)[-2:] == [one, two]
    assert live[-1] is two
    assert all(hasattr(x, "name") and callable(x.draw) for x in live)


@pytest.mark.parametrize(
    ("controls", "message"),
    [
        ({"height": (9, 1)}, r"control 'height' must be \(min, max\)"),
        ({"height": "high"}, "control 'height' must be"),
        ({"height": []}, "control 'height' must be"),
        ({"height": (1, 2, 3, 4)}, "control 'height' must be"),
        ({"height": (1, 9, 0)}, "control 'height' must be"),
        ({"height": (0, 10**6)}, "has 1000001 positions; give a step that makes 2 to 10000"),
        ({"height": (0, 1, 2)}, "has 1 positions"),
        ({"height": (1, 9), "start": {"depth": 3}}, r"start names \['depth'\], which are none of the controls"),
        (
            {"height": (1, 9), "start": {"height": 12}},
            "height=12 is none of the values of its control: 1 to 9 in steps of 1",
        ),
        ({"width": (1, 2)}, r"controls without a parameter: \['width'\]"),
        ({}, "at least one control"),
    ],
)
def test_bad_controls_are_named(controls: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        explore(draw, **controls)


def test_a_parameter_without_control_is_named() -> None:
    with pytest.raises(ValueError, match=r"parameters without a control: \['b'\]"):
        explore(lambda a, b: draw(a), a=(1, 2))


def test_only_places_that_exist_are_taken_from_the_browser() -> None:
    one, sent = make(), []
    one.send = lambda content, **_: sent.append(content)
    for places in ([99, 0, 0, 0], [-1, 0, 0, 0], [0, 0, 0], [0, 0, 0, True], [0.5, 0, 0, 0], "0000", None, {}):
        one._handle_custom_msg({"places": places}, [])
    one._handle_custom_msg("places", [])
    assert one.state == one.rest
    assert sent == [{"taken": True}] * 9  # else the browser would wait for ever


def test_move_names_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match=r"move names \['depth'\]"):
        make().move(depth=1)
    with pytest.raises(ValueError, match=r"shape='zigzag' is none of the values of its control: \['line', 'curve'\]"):
        make().move(shape="zigzag")
