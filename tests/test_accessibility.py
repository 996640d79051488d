"""Colours that everybody can tell: text against its ground, the two senses, the kinds, and the colour maps."""

from __future__ import annotations

import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from avlab.show import cards, style

# Linear RGB as seen without one kind of cone: Machado, Oliveira and Fernandes 2009, severity 1
SEEN = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def linear(colours: np.ndarray) -> np.ndarray:
    return np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """The ratio of the two luminances, from 1 to 21 (WCAG 2.2)."""
    low, high = sorted(float(linear(np.array(to_rgb(colour))) @ TO_XYZ[1]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colours: np.ndarray, sight: str) -> np.ndarray:
    """CIE L*a*b* of sRGB colours (..., 3) in [0, 1], as a kind of sight has them."""
    xyz = (linear(colours) @ SEEN[sight].T).clip(0, 1) @ TO_XYZ.T / TO_XYZ.sum(1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def test_the_measure_knows_black_from_white() -> None:
    assert contrast("black", "white") == pytest.approx(21)
    assert contrast("#777777", "white") == pytest.approx(4.48, abs=0.01)  # the textbook's just too light grey
    assert lab(np.ones(3), "deuteranopia") == pytest.approx([100, 0, 0], abs=0.1)


@pytest.mark.parametrize("colour", [cards.GREEN, cards.RED, cards.NEUTRAL, style.SIGHT, style.CHANCE])
def test_text_on_white_has_contrast(colour: str) -> None:
    assert contrast(colour, "white") >= 4.5


def test_the_words_of_figures_have_contrast() -> None:
    with style.in_style():
        for name in ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.titlecolor"):
            colour = matplotlib.rcParams[name]
            colour = matplotlib.rcParams["text.color"] if colour == "auto" else colour
            assert contrast(colour, matplotlib.rcParams["figure.facecolor"]) >= 4.5, name
    layout = style.plotly_template().layout
    assert contrast(layout.font.color, layout.paper_bgcolor) >= 4.5


@pytest.mark.parametrize("sight", SEEN)
def test_sound_and_sight_are_told_apart(sight: str) -> None:
    one, other = lab(np.array([to_rgb(style.SOUND), to_rgb(style.SIGHT)]), sight)
    assert np.linalg.norm(one - other) > 40


@pytest.mark.parametrize("sight", SEEN)
def test_kinds_are_told_apart_by_colour_or_by_marker(sight: str) -> None:
    kinds = [style.kind_style(k) for k in range(16)]
    for one, other in itertools.combinations(kinds, 2):
        a, b = lab(np.array([to_rgb(one["color"]), to_rgb(other["color"])]), sight)
        assert one["marker"] != other["marker"] or np.linalg.norm(a - b) > 10


@pytest.mark.parametrize("sight", SEEN)
@pytest.mark.parametrize("colours", [style.HEAT, style.SPECTROGRAM], ids=lambda colours: colours.name)
def test_more_is_lighter_for_every_sight(colours, sight: str) -> None:
    lightness = lab(colours(np.arange(256))[:, :3], sight)[:, 0]
    assert (np.diff(lightness[::8]) > 0).all()
    assert np.ptp(lightness) > 60


def test_every_colour_of_the_widgets_stands_in_the_style() -> None:
    """The two senses are the same two hues in Python and in JavaScript."""
    for script in style.STYLE.parent.glob("*.js"):
        text = script.read_text(encoding="utf-8")
        for hue, wrong in ((style.SOUND, r"#E0[67]\w{3}\b"), (style.SIGHT, r"#00[67]\w{3}\b")):
            assert {found.upper() for found in re.findall(wrong, text, flags=re.I)} <= {hue}, script.name
