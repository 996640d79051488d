"""Pure drawing: data in, a matplotlib `Figure` out, in one visual language for all lessons.

Conventions
-----------
Sound is orange, sight is blue, a pair is a thin grey line, truth is a contour, a prediction is a fill. Spectrograms use
`SPECTROGRAM` (magma), heat uses `HEAT` (viridis, see-through where it is low). Axes carry units (s, Hz, dB); a title
says the finding. Each figure carries an alternative text made from its data as its label: see `alt_text`.
Shape letters: `B` clips, `N` frames, `H W` pixels, `h w` grid of a map, `F` bands, `T` audio frames.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.style
import numpy as np
import torch
from IPython.display import display
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

from avlab.audio import log_mel
from avlab.clip import Clip

SOUND, SIGHT, PAIR, CHANCE = "#E07B00", "#0072B2", "#A0A0A0", "#666666"
# Tol's "muted" scheme: told apart with any colour vision, and neither of the two colours above
KIND_COLOURS = (
    "#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499",
)  # fmt: skip
KIND_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", ">", "h")  # 9 and 11 share no factor: 99 different kinds
SPECTROGRAM = matplotlib.colormaps["magma"]
HEAT_RGB = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).round().astype(np.uint8)  # (256, 3)
HEAT = ListedColormap(HEAT_RGB / 255, name="avlab_heat")  # `_picture` lets the frame through where heat is low
STYLE = Path(__file__).with_name("avlab.mplstyle")

# nbconvert's lab template drops `alt`; this block, put after `{%- extends 'index.html.j2' -%}`, keeps it
ALT_BLOCK = """{% block data_png scoped %}<div class="jp-RenderedImage jp-OutputArea-output {{ extra_class }}">
<img src="data:image/png;base64,{{ output.data['image/png'] | escape_html }}"
{%- set alt = output | get_metadata('alt', 'image/png') %}{% if alt %} alt="{{ alt | escape_html }}"{% endif %}>
</div>{% endblock %}"""


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


def _styled(draw: Callable[..., Figure]) -> Callable[..., Figure]:
    """Draw in the lessons' style whatever the notebook has set, and leave its settings as they were."""

    @wraps(draw)
    def inner(*args: Any, **options: Any) -> Figure:
        with matplotlib.rc_context(fname=STYLE):
            return draw(*args, **options)

    return inner


def png(figure: Figure, *, colours: int | None = None) -> bytes:
    """The figure as PNG bytes: equal figures give equal bytes.

    `colours` (at most 256) keeps the best so many, without dithering: a quarter of the size, for pages with many
    pictures.
    """
    buffer = io.BytesIO()
    with matplotlib.rc_context(fname=STYLE):
        figure.savefig(buffer, format="png", metadata={"Software": None})
    if colours is None:
        return buffer.getvalue()
    exact = Image.open(buffer).convert("RGB")
    buffer = io.BytesIO()
    exact.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def alt_text(figure: Figure) -> str:
    """What the figure shows, in words: its label where a `draw_` function set one, else its titles and axes.

    >>> figure = Figure()
    >>> _ = figure.subplots().set(title="a bell", xlabel="time (s)", ylabel="level (dB)")
    >>> alt_text(figure)
    'Figure: a bell, level (dB) against time (s)'
    """
    if figure.get_label():
        return str(figure.get_label())
    parts = []
    for axes in figure.axes:
        title = next((axes.get_title(loc) for loc in ("left", "center", "right") if axes.get_title(loc)), "")
        against = f"{axes.get_ylabel()} against {axes.get_xlabel()}" if axes.get_xlabel() and axes.get_ylabel() else ""
        parts.append(", ".join(part for part in (title, against) if part))
    return "Figure: " + ("; ".join(part for part in parts if part) or f"{len(figure.axes)} panels")


def image_bundle(image: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A PNG as Jupyter's (data, metadata), with its alternative text in both."""
    return {"image/png": base64.b64encode(image).decode(), "text/plain": alt}, {"image/png": {"alt": alt}}


def widget_bundle(widget: Any, image: bytes, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A live widget and its picture at rest in one bundle: a page without a kernel shows the picture."""
    data, metadata = image_bundle(image, alt)
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view, **data}, metadata


def show(figure: Figure, alt: str | None = None) -> None:
    """Display a figure once, as a PNG with its alternative text (made from the figure where none is given)."""
    data, metadata = image_bundle(png(figure, colours=256), alt or alt_text(figure))
    display(data, metadata=metadata, raw=True)


# ---------------------------------------------------------------------------------------------- checks and pieces


def check_heat(heat: ArrayLike, frames: int | None = None, name: str = "heat") -> np.ndarray:
    """A map or maps as float32 in [0, 1]: (h, w), or (N, h, w) where `frames` is N (one map is repeated).

    Raises `ValueError` naming the map, its shape or its range.
    """
    if isinstance(heat, torch.Tensor):
        heat = heat.detach().cpu().numpy()
    values = np.asarray(heat, dtype=np.float32)
    if frames is not None and values.ndim == 2:
        values = np.broadcast_to(values, (frames, *values.shape))
    wanted = f"({frames}, h, w), one map a frame" if frames is not None else "(h, w)"
    if values.ndim != (2 if frames is None else 3) or (frames is not None and len(values) != frames):
        raise ValueError(f"{name} must be {wanted}, got {values.shape}")
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ValueError(f"{name} must lie in [0, 1], got {values.min():g} to {values.max():g}: scale it first")
    return values.clip(0, 1)


def mel_picture(clip: Clip) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Log-mel levels of the clip's mono sound (F=64, T <= 1000) in [0, 1] (1 = loudest, 0 = 60 dB below), low first.

    Also the places of the frequency ticks, as (fraction of the height from below, name).
    """
    from librosa import hz_to_mel

    rate, low = clip.sample_rate, 50.0
    hop = max(round(rate / 100), clip.waveform.shape[1] // 1000)
    n_fft = 2 ** int(np.ceil(np.log2(0.048 * rate)))
    levels = log_mel(torch.from_numpy(clip.mono()), sample_rate=rate, n_fft=n_fft, hop=hop, bands=64, low=low).numpy()
    top = max(float(levels.max()), -60.0)  # a silent clip stays dark instead of showing its noise floor
    bottom, height = hz_to_mel(low), hz_to_mel(rate / 2) - hz_to_mel(low)
    hertz = [f for f in (125, 250, 500, 1000, 2000, 4000, 8000, 16000) if low < f <= rate / 2]
    names = [f"{f // 1000} kHz" if f >= 1000 else f"{f} Hz" for f in hertz]
    places = [float((hz_to_mel(f) - bottom) / height) for f in hertz]
    return ((levels - top) / 60 + 1).clip(0, 1), list(zip(places, names, strict=True))


def _outline(axes: Axes, mask: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Truth as a contour: white on black, so that it is seen on any picture."""
    left, right, bottom, top = extent
    h, w = mask.shape
    x = left + (np.arange(-1, w + 1) + 0.5) * (right - left) / w
    y = top + (np.arange(-1, h + 1) + 0.5) * (bottom - top) / h
    ring = np.pad(mask.astype(float), 1)  # closes contours at the picture's edge
    for colour, width in (("black", 2.6), ("white", 1.2)):
        axes.contour(x.clip(left, right), y.clip(min(top, bottom), max(top, bottom)), ring, [0.5], colors=colour,
                     linewidths=width)  # fmt: skip


def _picture(
    axes: Axes,
    frame: np.ndarray,
    heat: np.ndarray | None = None,
    truth: np.ndarray | None = None,
    *,
    opacity: float = 0.75,
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    """A frame, heat as a fill over it, truth as a contour; `extent` left, right, bottom, top."""
    h, w = frame.shape[:2]
    extent = extent or (0, w, h, 0)
    axes.imshow(frame, extent=extent, aspect="auto")
    if heat is not None:
        smooth = np.asarray(Image.fromarray(heat).resize((w, h), Image.Resampling.BILINEAR))  # as the player does
        axes.imshow(smooth, extent=extent, aspect="auto", cmap=HEAT, vmin=0, vmax=1, alpha=smooth**0.7 * opacity)
    if truth is not None and truth.any():
        _outline(axes, truth, extent)


def _title(axes: Axes, text: str, *, aside: float = 0.6, **options: Any) -> None:
    """A finding as title, broken into lines that fit the figure but for `aside` inches left of the axes."""
    axes.set_title(textwrap.fill(text, int(11 * (axes.figure.get_size_inches()[0] - aside))), **options)


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def truth_of(clip: Clip) -> np.ndarray | None:
    """The mask of what sounds (N, H, W) where the clip knows it, else None."""
    known = clip.truth is not None and clip.truth.masks is not None and clip.truth.sounding is not None
    return clip.truth.sounding_mask() if known else None


def _name(clip: Clip, place: int | None = None) -> str:
    """Its label, else its file (shortened) and the second where it begins, else its number."""
    if clip.label or not clip.source:
        return clip.label or ("clip" if place is None else f"clip {place + 1}")
    stem = Path(clip.source).stem
    stem = stem if len(stem) <= 16 else f"{stem[:15]}…"
    return f"{stem} at {clip.start:g} s" if clip.start else stem


# ---------------------------------------------------------------------------------------------------- the pictures


@_styled
def draw_clip(
    clip: Clip, *, heat: ArrayLike | None = None, truth: np.ndarray | None = None, title: str | None = None,
    frames: int = 8
) -> Figure:  # fmt: skip
    """A clip on one time axis: a strip of frames (with heat and truth), its waveform, its spectrogram.

    `heat` (N, h, w) in [0, 1]; `truth` (N, H, W) bool (default: what the clip knows). Raises `ValueError` for a map of
    another shape or range.
    """
    n, h, w = clip.frames.shape[:3]
    maps = None if heat is None else check_heat(heat, n)
    truth = truth_of(clip) if truth is None else truth
    count = min(frames, n)
    slot = clip.seconds / count
    strip = 8.2 / count * h / w  # inches: a slot keeps the frame's shape
    figure = Figure(figsize=(9, strip + 3.4))
    rows = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [strip, 0.8, 1.6]})
    for k in range(count):
        i = min(int((k + 0.5) * n / count), n - 1)
        extent = (k * slot, (k + 1) * slot, 0.0, 1.0)
        _picture(rows[0], clip.frames[i], None if maps is None else maps[i], None if truth is None else truth[i],
                 extent=extent)  # fmt: skip
        rows[0].axvline(k * slot, color="white", linewidth=1.5)
    rows[0].set(yticks=[], ylim=(0, 1), ylabel="sight")
    rows[0].spines[:].set_visible(False)
    rows[0].tick_params(bottom=False)
    wave = clip.mono()
    bins = np.array_split(wave, min(len(wave), 900))
    seconds = (np.arange(len(bins)) + 0.5) / len(bins) * len(wave) / clip.sample_rate
    peak = max(float(np.abs(clip.waveform).max()), 1e-3)
    rows[1].fill_between(seconds, [b.min() for b in bins], [b.max() for b in bins], color=SOUND, linewidth=0.5)
    rows[1].set(ylabel="amplitude", ylim=(-1.05 * peak, 1.05 * peak))
    levels, ticks = mel_picture(clip)
    rows[2].imshow(levels, origin="lower", extent=(0, clip.seconds, 0, 1), aspect="auto", cmap=SPECTROGRAM, vmin=0,
                   vmax=1)  # fmt: skip
    rows[2].set(yticks=[p for p, _ in ticks][::2], yticklabels=[t for _, t in ticks][::2], xlabel="time (s)",
                ylabel="frequency", xlim=(0, clip.seconds))  # fmt: skip
    for axes in rows:
        axes.yaxis.label.set_color(SIGHT if axes is rows[0] else SOUND)
    _title(rows[0], title or f"{_name(clip)}: what is seen and what is heard, on one time axis")
    said = "" if maps is None else ", with a heatmap over them"
    said += "" if truth is None else ", the true source outlined"
    figure.set_label(
        f"{_name(clip)}, {clip.seconds:.3g} s: {count} of its {n} frames{said}; below them its waveform (peak "
        f"{peak:.2f} of full scale) and its spectrogram up to {clip.sample_rate / 2000:g} kHz"
    )
    return figure


@_styled
def draw_sheet(clips: Sequence[Clip], *, heats: Sequence[ArrayLike | None] | None = None, rows: int = 6) -> Figure:
    """A contact sheet: one row a clip (the first `rows`), five frames and the spectrogram."""
    shown = list(clips)[:rows]
    figure = Figure(figsize=(9, 1.25 * len(shown) + 0.5))
    grid = figure.subplots(len(shown), 6, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1, 1, 1, 3]})
    for b, clip in enumerate(shown):
        maps = None if heats is None or heats[b] is None else check_heat(heats[b], len(clip.frames), f"heat {b}")
        truth = truth_of(clip)
        for k, axes in enumerate(grid[b, :5]):
            i = min(int((k + 0.5) * len(clip.frames) / 5), len(clip.frames) - 1)
            _picture(axes, clip.frames[i], None if maps is None else maps[i], None if truth is None else truth[i])
            axes.set_aspect("equal")
            _bare(axes)
        grid[b, 0].set_ylabel(textwrap.fill(_name(clip, b), 16), rotation=0, ha="right", va="center")
        grid[b, 5].imshow(mel_picture(clip)[0], origin="lower", aspect="auto", cmap=SPECTROGRAM, vmin=0, vmax=1,
                          extent=(0, clip.seconds, 0, 1))  # fmt: skip
        grid[b, 5].set(yticks=[], ylabel="frequency")
        if b < len(shown) - 1:
            grid[b, 5].set(xticks=[])
    grid[-1, 5].set_xlabel("time (s)")
    figure.set_label(f"{len(clips)} clips, {len(shown)} shown, each as five frames and a spectrogram: "
                     + ", ".join(_name(clip, b) for b, clip in enumerate(shown)))  # fmt: skip
    return figure


@_styled
def draw_heat(frame: np.ndarray, heat: ArrayLike, *, truth: np.ndarray | None = None, title: str = "") -> Figure:
    """One frame (H, W, 3) uint8, a map (h, w) in [0, 1] as a fill over it, truth (H, W) bool as a contour."""
    values = check_heat(heat)
    figure = Figure(figsize=(4.4, 3.9 * frame.shape[0] / frame.shape[1] + 0.4))
    axes = figure.subplots()
    _picture(axes, frame, values, truth)
    axes.set_aspect("equal")
    _bare(axes)
    bar = figure.colorbar(matplotlib.cm.ScalarMappable(cmap=HEAT), ax=axes, shrink=0.8)
    bar.set_label("heat (0 to 1)")
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    x, y = (column + 0.5) / values.shape[1], (row + 0.5) / values.shape[0]
    inside = ""
    if truth is not None:
        hit = truth[int(y * truth.shape[0]), int(x * truth.shape[1])]
        inside = f", {'inside' if hit else 'outside'} the true outline"
    _title(axes, title)
    figure.set_label(f"{title + ': ' if title else ''}a frame with a heatmap; it is hottest {x:.0%} from the left and "
                     f"{y:.0%} from the top{inside}")  # fmt: skip
    return figure


@_styled
def draw_heats(
    frames: Sequence[np.ndarray],
    maps: Mapping[str, Sequence[ArrayLike]],
    *,
    truths: Sequence[np.ndarray | None] | None = None,
    names: Sequence[str] | None = None,
    title: str = "",
) -> Figure:
    """Rival maps side by side: one column a clip, the plain frame on top, one row a map.

    `frames` B times (H, W, 3); `maps` name to B maps (h, w) in [0, 1]; `truths` B times (H, W) bool or None. Raises
    `ValueError` where a row holds another number of maps than there are frames.
    """
    b = len(frames)
    for name, row in maps.items():
        if len(row) != b:
            raise ValueError(f"maps[{name!r}] holds {len(row)} maps for {b} frames")
    width = min(1.7, 9 / b)
    figure = Figure(figsize=(width * b + 1.2, (width * frames[0].shape[0] / frames[0].shape[1] + 0.08)
                             * (len(maps) + 1) + 0.6))  # fmt: skip
    grid = figure.subplots(len(maps) + 1, b, squeeze=False)
    for j, (label, row) in enumerate([("frame", [None] * b), *maps.items()]):
        for i, axes in enumerate(grid[j]):
            heat = None if row[i] is None else check_heat(row[i], name=f"maps[{label!r}][{i}]")
            _picture(axes, frames[i], heat, None if truths is None else truths[i])
            axes.set_aspect("equal")
            _bare(axes)
        grid[j, 0].set_ylabel(label, rotation=0, ha="right", va="center")
    for i, name in enumerate(names or []):
        grid[0, i].set_title(name, fontsize=9, fontweight="normal", loc="center")
    if title:
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=11)
    outlined = ", the true source outlined" if truths is not None and any(t is not None for t in truths) else ""
    figure.set_label(f"{title + ': ' if title else ''}{b} clips{' (' + ', '.join(names) + ')' if names else ''}, each "
                     f"with the maps of {', '.join(maps)}{outlined}")  # fmt: skip
    return figure


@_styled
def draw_embedding(
    audio: ArrayLike, visual: ArrayLike, labels: Sequence[int], kinds: Sequence[str], *, title: str | None = None
) -> Figure:
    """Both halves of each pair as points (B, 2), joined by a grey line; colour and marker by kind.

    The ring around a point tells the modality: orange sound, blue sight. `labels` are positions in `kinds`, -1 unknown.
    """
    a, v = np.asarray(audio, dtype=float), np.asarray(visual, dtype=float)
    if a.shape != v.shape or a.ndim != 2 or a.shape[1] != 2 or len(labels) != len(a):
        raise ValueError(f"audio and visual must both be (B, 2) with B labels, got {a.shape}, {v.shape}, {len(labels)}")
    figure = Figure(figsize=(7.2, 5))
    axes = figure.subplots()
    axes.plot(np.c_[a[:, 0], v[:, 0]].T, np.c_[a[:, 1], v[:, 1]].T, color=PAIR, linewidth=0.7, zorder=1)
    for k in sorted({int(label) for label in labels}):
        mine = np.asarray(labels) == k
        style = kind_style(k) if k >= 0 else {"color": "#BBBBBB", "marker": "o"}
        for points, ring in ((a, SOUND), (v, SIGHT)):
            axes.scatter(*points[mine].T, c=style["color"], marker=style["marker"], s=34, linewidths=0, zorder=3)
            axes.scatter(*points[mine].T, facecolors="none", marker="o", s=110, edgecolors=ring, linewidths=1.8,
                         zorder=2)  # fmt: skip
        axes.scatter([], [], c=style["color"], marker=style["marker"], s=44, label=kinds[k] if k >= 0 else "unknown")
    for name, ring in (("sound", SOUND), ("sight", SIGHT)):
        axes.scatter([], [], facecolors="none", edgecolors=ring, linewidths=1.8, s=110, label=f"ring: {name}")
    axes.plot([], [], color=PAIR, linewidth=0.9, label="a pair")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xticks=[], yticks=[], xlabel="first axis (no unit)", ylabel="second axis (no unit)", aspect="equal")
    axes.set_adjustable("datalim")
    distance = np.linalg.norm(a[:, None] - v[None], axis=-1)  # (B audio, B visual)
    first = float((distance.argmin(1) == np.arange(len(a))).mean())
    _title(axes, title or f"{first:.0%} of the sounds lie nearest their own picture (in these two axes)")
    figure.set_label(
        f"{len(a)} pairs of sound and sight as points in a plane, kinds {', '.join(kinds)}; {first:.0%} of the sounds "
        f"lie nearest their own picture; the median pair is {np.median(distance.diagonal()):.2g} apart, the median "
        f"stranger {np.median(distance):.2g}"
    )
    return figure


@_styled
def draw_similarity(matrix: ArrayLike, *, title: str | None = None, labels: Sequence[str] | None = None) -> Figure:
    """A similarity matrix (B sounds, B sights); true pairs on the diagonal, each sound's best match as a dot."""
    values = np.asarray(matrix, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"a similarity matrix is (B, B), got {values.shape}")
    b = len(values)
    best = values.argmax(1)
    right = int((best == np.arange(b)).sum())
    figure = Figure(figsize=(5.6, 4.8))
    axes = figure.subplots()
    picture = axes.imshow(values, cmap=HEAT, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    hit = best == np.arange(b)
    size = min(36, 4000 / b)
    axes.scatter(best[hit], np.arange(b)[hit], s=size, c="white", edgecolors="black", linewidths=0.6, label="its own")
    axes.scatter(best[~hit], np.arange(b)[~hit], s=size, c=SOUND, marker="X", edgecolors="black", linewidths=0.6,
                 label="another's")  # fmt: skip
    figure.colorbar(picture, ax=axes, shrink=0.8).set_label("similarity (no unit)")
    axes.set_xlabel("sight of clip", color=SIGHT)
    axes.set_ylabel("sound of clip", color=SOUND)
    if labels is not None and b <= 24:
        axes.set_xticks(range(b), labels, rotation=90)
        axes.set_yticks(range(b), labels)
    axes.legend(title="best match of a sound", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    _title(axes, title or f"{right} of {b} sounds find their own picture first")
    figure.set_label(f"Similarity of {b} sounds (rows) and {b} pictures (columns), {values.min():.2g} to "
                     f"{values.max():.2g}: {right} of {b} sounds are most similar to their own picture")  # fmt: skip
    return figure


@_styled
def draw_curves(
    history: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    x: str = "step",
    y: str = "loss",
    levels: Mapping[str, float] | None = None,
) -> Figure:
    """Curves over training; `history` may hold the steps under the name in `x`; `levels` are named dashed lines."""
    curves = {name: np.asarray(values, dtype=float) for name, values in history.items() if name != x}
    if not curves or any(len(c) == 0 for c in curves.values()):
        raise ValueError(f"nothing to draw: the history holds no values under {sorted(curves) or 'any name'}")
    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.subplots()
    for name, values in curves.items():
        axes.plot(history.get(x, np.arange(len(values))), values, label=name)
    for name, level in (levels or {}).items():
        axes.axhline(level, color=CHANCE, linestyle="--", linewidth=1)
        axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", color=CHANCE,
                      fontsize=9)  # fmt: skip
    axes.set(xlabel=x, ylabel=y)
    if len(curves) > 1:
        axes.legend()
    ends = "; ".join(f"{name} from {c[0]:.3g} to {c[-1]:.3g}" for name, c in curves.items())
    _title(axes, title or ends)
    figure.set_label(f"{title + ': ' if title else ''}curves over {x}: {ends}")
    return figure


@_styled
def draw_recall(
    recalls: Mapping[str, float | tuple[float, float, float]], *, chance: float, k: int = 1, title: str | None = None
) -> Figure:
    """Recall@k of several methods as bars (each a value, or value, low, high), with the line of chance, in [0, 1]."""
    score, where = f"recall@{k}", "first" if k == 1 else f"within the first {k}"
    found = "{} finds {:.0%} of the partners " + where + ": {:.0f} times chance"
    return draw_shares(recalls, chance=chance, score=score, title=title or found)


@_styled
def draw_shares(
    recalls: Mapping[str, float | tuple[float, float, float]], *, chance: float, score: str, title: str
) -> Figure:
    """Shares in [0, 1] as bars (each a value, or value, low, high), with the line of chance; higher is better.

    `score` names the axis. `title` may hold three places `{}`: the best one's name, its share, and that over chance.
    """
    rows = {name: (r if isinstance(r, tuple) else (float(r),) * 3) for name, r in recalls.items()}
    if not rows:
        raise ValueError(f"no {score} to draw: the mapping is empty")
    figure = Figure(figsize=(6.8, 0.5 * len(rows) + 1.5))
    axes = figure.subplots()
    best = max(rows, key=lambda name: rows[name][0])
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        axes.barh(place, 100 * value, height=0.6, color=SIGHT if name == best else "#9DB8CC")
        if low < high:
            axes.plot([100 * low, 100 * high], [place, place], color="#222222", linewidth=1.4)
        axes.annotate(f"{100 * value:.3g} %", (100 * max(value, high), place), xytext=(5, 0), va="center",
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.axvline(100 * chance, color=CHANCE, linestyle="--", linewidth=1.2)
    axes.annotate(f"chance {100 * chance:.2g} %", (100 * chance, 1), xycoords=("data", "axes fraction"), xytext=(3, -1),
                  textcoords="offset points", fontsize=9, color=CHANCE, va="bottom")  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(f"{score} (%, higher is better)")
    axes.set_xlim(0, min(115, max(100 * r[2] for r in rows.values()) * 1.15 + 1))
    _title(axes, title.format(best, rows[best][0], rows[best][0] / chance), aside=1.7, pad=18)
    figure.set_label(f"{score}: " + ", ".join(f"{n} {r[0]:.1%}" for n, r in rows.items()) + f"; chance {chance:.1%}")
    return figure


def encode(pixels: np.ndarray, *, quality: int | None = None, palette: np.ndarray | None = None) -> bytes:
    """Pixels as JPEG (`quality` given) or PNG bytes; (H, W) indices into a (256, 3) `palette`, or (H, W, 3) RGB."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, **({"format": "PNG", "optimize": True} if quality is None else
                          {"format": "JPEG", "quality": quality, "subsampling": 0}))  # fmt: skip
    return buffer.getvalue()


@_styled
def draw_traces(
    times: ArrayLike, sound: ArrayLike, sights: Mapping[str, ArrayLike], *, unit: str = "dB", title: str = ""
) -> Figure:
    """One sound feature over time above several sight features, on one time axis.

    `times` (N,) in seconds, `sound` (N,) in `unit`, `sights` name to (N,); each sight is scaled to its own maximum, and
    its name is followed by its correlation with the sound.
    """
    t, level = np.asarray(times, dtype=float), np.asarray(sound, dtype=float)
    figure = Figure(figsize=(7.6, 1.5 + 0.9 * len(sights)))
    rows = figure.subplots(1 + len(sights), 1, sharex=True)
    rows[0].fill_between(t, level.min(), level, color=SOUND, alpha=0.35, linewidth=0, step="mid")
    rows[0].step(t, level, color=SOUND, where="mid")
    rows[0].set_ylabel(unit, color=SOUND)
    said = []
    for axes, (name, values) in zip(rows[1:], sights.items(), strict=True):
        trace = np.asarray(values, dtype=float)
        varies = trace.std() > 0 and level.std() > 0
        said.append(f"{name} (r = {np.corrcoef(level, trace)[0, 1] if varies else 0.0:+.2f})")
        trace = trace / max(np.abs(trace).max(), 1e-12)
        axes.fill_between(t, 0, trace, color=SIGHT, alpha=0.3, linewidth=0, step="mid")
        axes.step(t, trace, color=SIGHT, where="mid")
        axes.set_ylim(0, 1.08)
        axes.set_ylabel("motion", color=SIGHT)
        axes.set_title(said[-1], fontsize=9, fontweight="normal", loc="left", pad=2)
    rows[-1].set_xlabel("time (s)")
    _title(rows[0], title)
    found = "; ".join(said)
    figure.set_label(f"{title + ': ' if title else ''}the level of a sound over {t[-1]:.3g} s, and below it {found}")
    return figure
