"""One look for all lessons: sound is orange, sight is blue, a kind keeps its colour and marker everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.colors import ListedColormap

SOUND, SIGHT, PAIR, CHANCE = "#E07B00", "#0072B2", "#A0A0A0", "#666666"
# Tol's "muted" scheme: told apart with any colour vision, and neither of the two colours above
KIND_COLOURS = (
    "#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499",
)  # fmt: skip
KIND_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")  # 9 and 11 share no factor: 99 different kinds
SPECTROGRAM = matplotlib.colormaps["magma"]
HEAT_RGB = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)  # (256, 3)
HEAT = ListedColormap(HEAT_RGB / 255, name="avlab_heat")  # drawn over a frame, low heat lets it through
STYLE = Path(__file__).with_name("avlab.mplstyle")


def use_style() -> None:
    """Set the lessons' look for every matplotlib figure that follows."""
    matplotlib.style.use(STYLE)


def plotly_template() -> Any:
    """The same look as a `plotly.graph_objects.layout.Template`.

    >>> plotly_template().layout.colorway[:2]
    ('#E07B00', '#0072B2')
    """
    import plotly.graph_objects as go  # 0.3 s: only where a lesson uses plotly

    axis = {"gridcolor": "#DDDDDD", "linecolor": "#888888", "zeroline": False, "ticks": "outside"}
    return go.layout.Template(
        layout={
            "colorway": [SOUND, SIGHT, *KIND_COLOURS],
            "font": {"family": "DejaVu Sans, Arial, sans-serif", "size": 13, "color": "#333333"},
            "title": {"x": 0, "xanchor": "left"},
            "paper_bgcolor": "white",
            "plot_bgcolor": "white",
            "xaxis": axis,
            "yaxis": axis,
            "margin": {"l": 60, "r": 20, "t": 50, "b": 50},
        }
    )


def kind_style(kind: int) -> dict[str, str]:
    """Colour and marker of the kind at position `kind`, the same in all figures.

    >>> kind_style(0), kind_style(9)["color"] == kind_style(0)["color"], kind_style(9)["marker"]
    ({'color': '#CC6677', 'marker': 'o'}, True, '>')
    """
    return {"color": KIND_COLOURS[kind % len(KIND_COLOURS)], "marker": KIND_MARKERS[kind % len(KIND_MARKERS)]}


def in_style() -> Any:
    """The lessons' look and nothing else for as long as it is entered, or for the function that it decorates."""
    return matplotlib.style.context(["default", STYLE])  # "default" first: else what a notebook has set shines through
