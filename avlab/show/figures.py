"""Pure drawing: data in, a matplotlib `Figure` out, in one visual language for all lessons.

Conventions
-----------
Colours are those of `avlab.show.style`; a pair is a thin grey line, truth is a contour, a prediction is a fill through
which the frame shows where it is low. Axes carry units (s, Hz, dB); a title says the finding. Each figure carries an
alternative text made from its data as its label.
Shape letters: `B` clips, `N` frames, `H W` pixels, `h w` grid of a map, `F` bands, `T` audio frames.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import blended_transform_factory
from numpy.typing import ArrayLike
from PIL import Image
from scipy.spatial.distance import cdist

from avlab.audio import log_mel
from avlab.clip import Clip
from avlab.show.bundle import show as show  # a lesson says figures.show(figures.draw_...)
from avlab.show.style import CHANCE, HEAT, PAIR, SIGHT, SOUND, SPECTROGRAM, in_style, kind_style


def check_heat(heat: ArrayLike, frames: int | None = None, name: str = "heat") -> np.ndarray:
    """A map or maps as float32 in [0, 1]: (h, w), or (N, h, w) where `frames` is N (one map is repeated).

    Raises `ValueError` naming the map, its shape or its range.
    """
    values = np.asarray(heat.detach().cpu() if isinstance(heat, torch.Tensor) else heat, dtype=np.float32)
    if frames is not None and values.ndim == 2:
        values = np.broadcast_to(values, (frames, *values.shape))
    wanted = "(h, w)" if frames is None else f"({frames}, h, w), one map a frame"
    if values.ndim != (2 if frames is None else 3) or len(values) != (frames or len(values)) or not values.size:
        raise ValueError(f"{name} must be {wanted}, got {values.shape}")
    if not np.isfinite(values).all() or values.min() < -1e-6 or values.max() > 1 + 1e-6:
        raise ValueError(f"{name} must lie in [0, 1], got {values.min():g} to {values.max():g}: scale it first")
    return values.clip(0, 1)


def mel_picture(clip: Clip) -> tuple[np.ndarray, list[tuple[float, str]]]:
    """Log-mel levels of the clip's mono sound (F=64, T <= 1001) in [0, 1] (1 = loudest, 0 = 60 dB below), low first.

    It lasts as long as the picture: a shorter sound is followed by silence, a longer one is cut. Also the places of
    the frequency ticks, as (fraction of the height from below, name).
    """
    from librosa import hz_to_mel

    rate, low = clip.sample_rate, 50.0
    length = max(1, round(clip.seconds * rate))
    wave = clip.mono()[:length]
    wave = torch.from_numpy(np.pad(wave, (0, length - len(wave))))
    hop = max(round(rate / 100), -(-length // 1000))
    n_fft = 2 ** int(np.ceil(np.log2(0.048 * rate)))
    levels = log_mel(wave, sample_rate=rate, n_fft=n_fft, hop=hop, bands=64, low=low).numpy()
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
    extent: tuple[float, float, float, float] | None = None,
) -> None:
    """A frame, heat as a fill over it, truth as a contour; at `extent` (left, right, bottom, top), else alone."""
    h, w = frame.shape[:2]
    if extent is None:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    options = {"extent": extent or (0, w, h, 0), "aspect": "equal" if extent is None else "auto"}
    axes.imshow(frame, **options)
    if heat is not None:
        smooth = np.asarray(Image.fromarray(heat).resize((w, h), Image.Resampling.BILINEAR))  # as the player does
        axes.imshow(smooth, cmap=HEAT, vmin=0, vmax=1, alpha=0.75 * smooth**0.7, **options)
    if truth is not None and truth.any():
        _outline(axes, truth, options["extent"])


def _title(axes: Axes, text: str, **options: Any) -> None:
    """A finding as title, from the figure's left edge on, in lines of about equal length that fit the figure."""
    figure = axes.figure
    text = re.sub(r"(\d) (s|ms|Hz|kHz|dB|px|%)(?!\w)", "\\1\u00a0\\2", text)  # a number keeps its unit
    room = int(10.5 * (figure.get_size_inches()[0] - 0.2))  # characters
    lines = len(textwrap.wrap(text, room))
    even = next(width for width in range(1 + len(text) // max(lines, 1), room + 2)
                if width > room or len(textwrap.wrap(text, width)) <= lines)  # fmt: skip
    title = axes.set_title(textwrap.fill(text, min(even, room)), x=0.06 / figure.get_size_inches()[0], **options)
    title.set_transform(blended_transform_factory(figure.transFigure, axes.transAxes + axes.titleOffsetTrans))


def _told(figure: Figure, words: str, title: str = "") -> Figure:
    """The figure with its alternative text."""
    figure.set_label(f"{title}: {words}" if title else words)
    return figure


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


def _moments(
    clip: Clip, count: int, heat: ArrayLike | None, truth: bool, name: str = "heat"
) -> Iterator[tuple[np.ndarray, np.ndarray | None, np.ndarray | None]]:
    """Frame, map and mask at `count` even places of a clip; None where there is no map or mask."""
    n = len(clip.frames)
    maps = None if heat is None else check_heat(heat, n, name)
    masks = truth_of(clip) if truth else None
    for k in range(count):
        i = min(int((k + 0.5) * n / count), n - 1)
        yield clip.frames[i], None if maps is None else maps[i], None if masks is None else masks[i]


def _spectrogram(axes: Axes, clip: Clip) -> list[tuple[float, str]]:
    levels, ticks = mel_picture(clip)
    axes.imshow(levels, origin="lower", extent=(0, clip.seconds, 0, 1), aspect="auto", cmap=SPECTROGRAM, vmin=0, vmax=1)
    axes.set(yticks=[], xlim=(0, clip.seconds))
    axes.set_ylabel("frequency", color=SOUND)
    return ticks


@in_style()
def draw_clip(
    clip: Clip,
    *,
    heat: ArrayLike | None = None,
    truth: bool = True,
    rows: Mapping[str, np.ndarray] | None = None,
    title: str | None = None,
    frames: int = 8,
) -> Figure:
    """A clip on one time axis: a strip of frames (with heat and truth), its waveform, its spectrogram, `rows` below.

    `heat` (N, h, w) in [0, 1]; `rows` a name to (T,) in [0, 1] over the clip's time (which source sounds, what a head
    attends to); `truth` False leaves out the true outline, which a quiz must not show. Raises `ValueError` for a map of
    another shape or range.
    """
    rows = rows or {}
    n, h, w = clip.frames.shape[:3]
    count = min(frames, n)
    slot = clip.seconds / count
    strip = 8.2 / count * h / w  # inches: a slot keeps the frame's shape
    figure = Figure(figsize=(9, strip + 3.4 + 0.3 * len(rows)))
    ratios = {"height_ratios": [strip, 0.8, 1.6] + [0.2] * len(rows)}
    sight, wave, mel, *lanes = figure.subplots(3 + len(rows), 1, sharex=True, gridspec_kw=ratios)
    for k, moment in enumerate(_moments(clip, count, heat, truth)):
        _picture(sight, *moment, extent=(k * slot, (k + 1) * slot, 0.0, 1.0))
        sight.axvline(k * slot, color="white", linewidth=1.5)
    sight.set(yticks=[], ylim=(0, 1))
    sight.set_ylabel("sight", color=SIGHT)
    sight.spines[:].set_visible(False)
    sight.tick_params(bottom=False)
    mono = clip.mono()
    bins = np.array_split(mono, min(len(mono), 900))
    seconds = (np.arange(len(bins)) + 0.5) / len(bins) * len(mono) / clip.sample_rate
    peak = max(float(np.abs(clip.waveform).max()), 1e-3)
    wave.fill_between(seconds, [b.min() for b in bins], [b.max() for b in bins], color=SOUND, linewidth=0.5)
    wave.set(ylim=(-1.05 * peak, 1.05 * peak))
    wave.set_ylabel("amplitude", color=SOUND)
    ticks = _spectrogram(mel, clip)[::2]
    mel.set_yticks([place for place, _ in ticks], [name for _, name in ticks])
    for axes, (name, values) in zip(lanes, rows.items(), strict=True):
        axes.stairs(values, np.linspace(0, clip.seconds, len(values) + 1), fill=True, color=SOUND)
        axes.set(yticks=[], ylim=(0, 1))
        axes.set_ylabel(name, rotation=0, ha="right", va="center")
        axes.spines[["top", "left", "right"]].set_visible(False)
    [mel, *lanes][-1].set_xlabel("time (s)")
    _title(sight, title or f"{_name(clip)}: what is seen and what is heard, on one time axis")
    said = ", with a heatmap over them" * (heat is not None)
    said += ", the true source outlined" * (truth and truth_of(clip) is not None)
    below = f"; a row each for {', '.join(rows)}" * bool(rows)
    return _told(
        figure,
        f"{_name(clip)}, {clip.seconds:.3g} s: {count} of its {n} frames{said}; below them its waveform (peak "
        f"{peak:.2f} of full scale) and its spectrogram up to {clip.sample_rate / 2000:g} kHz{below}",
    )


@in_style()
def draw_sheet(
    clips: Sequence[Clip], *, heats: Sequence[ArrayLike | None] | None = None, truth: bool = True, rows: int = 6
) -> Figure:
    """A contact sheet: a row a clip (the first `rows`), five frames and the spectrogram; `truth` as in `draw_clip`."""
    shown = list(clips)[:rows]
    figure = Figure(figsize=(9, 1.25 * len(shown) + 0.5))
    grid = figure.subplots(len(shown), 6, squeeze=False, gridspec_kw={"width_ratios": [1, 1, 1, 1, 1, 3]})
    for b, clip in enumerate(shown):
        moments = _moments(clip, 5, None if heats is None else heats[b], truth, f"heat {b}")
        for axes, moment in zip(grid[b], moments, strict=False):
            _picture(axes, *moment)
        grid[b, 0].set_ylabel(textwrap.fill(_name(clip, b), 16), rotation=0, ha="right", va="center")
        _spectrogram(grid[b, 5], clip)
        if b < len(shown) - 1:
            grid[b, 5].set(xticks=[])
    grid[-1, 5].set_xlabel("time (s)")
    names = ", ".join(_name(clip, b) for b, clip in enumerate(shown))
    return _told(figure, f"{len(clips)} clips, {len(shown)} shown, each as five frames and a spectrogram: {names}")


def loudest(clip: Clip) -> int:
    """The frame in which a clip is loudest."""
    parts = np.array_split(clip.mono(), len(clip.frames))
    return int(np.argmax([np.square(part).sum() for part in parts]))


@in_style()
def draw_gallery(
    rows: Sequence[tuple[str, str, Sequence[str], Sequence[Clip]]], *, columns: int = 1, title: str = ""
) -> Figure:
    """A row is `(name, words, names, clips)`: its clips in their loudest frames, their spectrograms one after another.

    `names` stand below the spectrograms, one a clip; `words` (a law, say) beside the name. Raises `ValueError` without
    rows.
    """
    if not rows:
        raise ValueError("no rows to draw: the gallery is empty")
    deep = -(-len(rows) // columns)
    most = max(len(clips) for _, _, _, clips in rows)
    wrapped = [textwrap.wrap(words, int(18.2 * most), max_lines=3, placeholder=" …") for _, words, _, _ in rows]
    above = 13.0 * max(map(len, wrapped)) + 3  # points of room for the words
    figure = Figure(figsize=(columns * (1.15 * most + 2.9), (1.45 + above / 72) * deep + 0.35 * bool(title)))
    figure.get_layout_engine().set(h_pad=0.08)
    grid = figure.subplots(deep, 2 * columns, squeeze=False, gridspec_kw={"width_ratios": [1.15 * most, 2.4] * columns})
    for axes in grid.flat[2 * len(rows) :]:
        axes.set_visible(False)
    for place, (name, _, names, clips) in enumerate(rows):
        sight, mel = grid[place // columns, 2 * (place % columns) :][:2]
        shown = [clip.frames[loudest(clip)] for clip in clips]
        gap = np.full((len(shown[0]), len(shown[0]) // 20, 3), 255, np.uint8)
        _picture(sight, np.concatenate([part for frame in shown for part in (frame, gap)][:-1], axis=1))
        sight.set_anchor("W")
        sight.set_title(name, fontsize=11, pad=above)
        at = {"xycoords": "axes fraction", "xytext": (0, above - 2), "textcoords": "offset points", "va": "top"}
        sight.annotate("\n".join(wrapped[place]), (0, 1), **at, fontsize=9, color="#333333").set_in_layout(False)
        starts = np.cumsum([0.0, *(clip.seconds for clip in clips)])
        for start, clip in zip(starts, clips, strict=False):
            levels, ticks = mel_picture(clip)
            mel.imshow(levels, origin="lower", extent=(start, start + clip.seconds, 0, 1), aspect="auto",
                       cmap=SPECTROGRAM, vmin=0, vmax=1)  # fmt: skip
            mel.axvline(start, color="white", linewidth=1.5)
        mel.set(xlim=(0, starts[-1]), ylim=(0, 1))
        mel.set_xticks((starts[1:] + starts[:-1]) / 2, names, fontsize=9)
        mel.set_yticks([tick for tick, _ in ticks[::3]], [told for _, told in ticks[::3]], fontsize=8)
        mel.tick_params(length=0)
    if title:
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=12)
    said = "; ".join(f"{name} ({', '.join(names)}): {words}" for name, words, names, _ in rows)
    return _told(figure, f"{len(rows)} rows of pictures with the spectrograms of their sounds. {said}", title)


@in_style()
def draw_heat(frame: np.ndarray, heat: ArrayLike, *, truth: np.ndarray | None = None, title: str = "") -> Figure:
    """One frame (H, W, 3) uint8, a map (h, w) in [0, 1] as a fill over it, truth (H, W) bool as a contour."""
    values = check_heat(heat)
    figure = Figure(figsize=(5, 4.2 * frame.shape[0] / frame.shape[1] + 0.4))
    axes = figure.subplots()
    _picture(axes, frame, values, truth)
    figure.colorbar(axes.images[-1], ax=axes, shrink=0.6, aspect=16, label="heat (0 to 1)")
    row, column = np.unravel_index(int(values.argmax()), values.shape)
    x, y = (column + 0.5) / values.shape[1], (row + 0.5) / values.shape[0]
    where = f"a frame with a heatmap; it is hottest {x:.0%} from the left and {y:.0%} from the top"
    if truth is not None:
        hit = truth[int(y * truth.shape[0]), int(x * truth.shape[1])]
        where += f", {'inside' if hit else 'outside'} the true outline"
    _title(axes, title)
    return _told(figure, where, title)


@in_style()
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
    `ValueError` without frames, and where a row holds another number of maps than there are frames.
    """
    b = len(frames)
    if not b:
        raise ValueError("no frames to draw maps over: the list is empty")
    for name, row in maps.items():
        if len(row) != b:
            raise ValueError(f"maps[{name!r}] holds {len(row)} maps for {b} frames")
    truths = [None] * b if truths is None else truths
    width = min(1.7, 9 / b)
    height = width * frames[0].shape[0] / frames[0].shape[1] + 0.08
    figure = Figure(figsize=(width * b + 1.2, height * (len(maps) + 1) + 0.6))
    grid = figure.subplots(len(maps) + 1, b, squeeze=False)
    for row, (label, heats) in zip(grid, [("frame", [None] * b), *maps.items()], strict=True):
        for i, axes in enumerate(row):
            heat = None if heats[i] is None else check_heat(heats[i], name=f"maps[{label!r}][{i}]")
            _picture(axes, frames[i], heat, truths[i])
        row[0].set_ylabel(label, rotation=0, ha="right", va="center")
    for axes, name in zip(grid[0], names or [], strict=False):
        axes.set_title(name, fontsize=9, fontweight="normal", loc="center")
    if title:
        figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=11)
    who = f" ({', '.join(names)})" if names else ""
    outlined = ", the true source outlined" * any(t is not None for t in truths)
    return _told(figure, f"{b} clips{who}, each with the maps of {', '.join(maps)}{outlined}", title)


@in_style()
def draw_embedding(
    audio: ArrayLike, visual: ArrayLike, labels: Sequence[int], kinds: Sequence[str], *, title: str | None = None
) -> Figure:
    """Both halves of each pair as points (B, 2), joined by a grey line; colour and marker by kind.

    The ring around a point tells the modality: orange sound, blue sight. `labels` are positions in `kinds`, -1 unknown.
    More than 500 pairs are smaller and without their lines, which would hide everything.
    """
    a, v = np.asarray(audio, dtype=float), np.asarray(visual, dtype=float)
    if a.shape != v.shape or a.ndim != 2 or a.shape[1] != 2 or len(labels) != len(a):
        raise ValueError(f"audio and visual must both be (B, 2) with B labels, got {a.shape}, {v.shape}, {len(labels)}")
    figure = Figure(figsize=(7.2, 5))
    axes = figure.subplots()
    many = len(a) > 500
    small = max(0.05, 500 / len(a)) if many else 1  # the share of a marker's area that there is room for
    circle = {"facecolors": "none", "linewidths": 1.8, "s": 110}
    tiny = circle | {"linewidths": 0.6, "s": 110 * small} if many else circle
    for k in sorted({int(label) for label in labels}):
        mine = np.asarray(labels) == k
        look = kind_style(k) if k >= 0 else {"color": "#BBBBBB", "marker": "o"}
        for points, ring in ((a, SOUND), (v, SIGHT)):
            axes.scatter(*points[mine].T, **look, s=34 * small, linewidths=0, zorder=3)
            axes.scatter(*points[mine].T, edgecolors=ring, zorder=2, **tiny)
        axes.scatter([], [], **look, s=44, label=kinds[k] if k >= 0 else "unknown")
    for name, ring in (("sound", SOUND), ("sight", SIGHT)):
        axes.scatter([], [], edgecolors=ring, label=f"ring: {name}", **circle)
    if not many:
        axes.plot(np.c_[a[:, 0], v[:, 0]].T, np.c_[a[:, 1], v[:, 1]].T, color=PAIR, linewidth=0.7, zorder=1)
        axes.plot([], [], color=PAIR, linewidth=0.9, label="a pair")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
    axes.set(xticks=[], yticks=[], xlabel="first axis (no unit)", ylabel="second axis (no unit)", aspect="equal")
    axes.set_adjustable("datalim")
    nearest = np.concatenate([cdist(a[i : i + 500], v).argmin(1) for i in range(0, len(a), 500)])  # B x B is too much
    first = float((nearest == np.arange(len(a))).mean())
    some = np.linspace(0, len(a) - 1, min(len(a), 1000)).astype(int)
    _title(axes, title or f"{first:.0%} of the sounds lie nearest their own picture (in these two axes)")
    return _told(
        figure,
        f"{len(a)} pairs of sound and sight as points in a plane, kinds {', '.join(kinds)}; {first:.0%} of the sounds "
        f"lie nearest their own picture; the median pair is {np.median(np.linalg.norm(a - v, axis=1)):.2g} apart, the "
        f"median stranger {np.median(cdist(a[some], v[some])):.2g}",
    )


@in_style()
def draw_similarity(matrix: ArrayLike, *, title: str | None = None) -> Figure:
    """A similarity matrix (B sounds, B sights); true pairs on the diagonal, each sound's best match as a dot."""
    values = np.asarray(matrix, dtype=float)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise ValueError(f"a similarity matrix is (B, B), got {values.shape}")
    b = len(values)
    best = values.argmax(1)
    hit = best == np.arange(b)
    figure = Figure(figsize=(5.6, 4.8))
    axes = figure.subplots()
    picture = axes.imshow(values, cmap=HEAT, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(integer=True))
    for those, name, look in ((hit, "its own", {"c": "white"}), (~hit, "another's", {"c": SOUND, "marker": "X"})):
        axes.scatter(best[those], np.arange(b)[those], s=min(36, 4000 / b), edgecolors="black", linewidths=0.6,
                     label=name, **look)  # fmt: skip
    figure.colorbar(picture, ax=axes, shrink=0.8, label="similarity (no unit)")
    axes.set_xlabel("sight of clip", color=SIGHT)
    axes.set_ylabel("sound of clip", color=SOUND)
    axes.legend(title="best match of a sound", loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    _title(axes, title or f"{hit.sum()} of {b} sounds find their own picture first")
    return _told(figure, f"Similarity of {b} sounds (rows) and {b} pictures (columns), {values.min():.2g} to "
                 f"{values.max():.2g}: {hit.sum()} of {b} sounds are most similar to their own picture")  # fmt: skip


@in_style()
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
    return _told(figure, f"curves over {x}: {ends}", title)


@in_style()
def draw_recall(
    recalls: Mapping[str, float | tuple[float, float, float]], *, chance: float, k: int = 1, title: str | None = None
) -> Figure:
    """Recall@k of several methods as bars (each a value, or value, low, high), with the line of chance, in [0, 1]."""
    score, where = f"recall@{k}", "first" if k == 1 else f"within the first {k}"
    found = "{} finds {:.0%} of the partners " + where + ": {:.0f} times chance"
    return draw_shares(recalls, chance=chance, score=score, title=title or found)


@in_style()
def draw_shares(
    recalls: Mapping[str, float | tuple[float, float, float]], *, chance: float, score: str, title: str
) -> Figure:
    """Shares in [0, 1] as bars (each a value, or value, low, high), with the line of chance; higher is better.

    `score` names the axis. `title` may hold three places `{}`: the best one's name, its share, and that over chance.
    """
    rows = {name: (r if isinstance(r, tuple) else (float(r),) * 3) for name, r in recalls.items()}
    if not rows:
        raise ValueError(f"no {score} to draw: the mapping is empty")
    if not 0 < chance <= 1:
        raise ValueError(f"chance is a share above 0 and at most 1, got {chance}")
    figure = Figure(figsize=(6.8, 0.36 * len(rows) + 1.4))
    axes = figure.subplots()
    best = max(rows, key=lambda name: rows[name][0])
    for place, (name, (value, low, high)) in enumerate(rows.items()):
        axes.barh(place, 100 * value, height=0.7, color=SIGHT if name == best else "#9DB8CC")
        if low < high:
            axes.plot([100 * low, 100 * high], [place, place], color="#222222", linewidth=1.4)
        axes.annotate(f"{100 * value:.3g} %", (100 * max(value, high), place), xytext=(5, 0), va="center",
                      textcoords="offset points", fontsize=9)  # fmt: skip
    axes.axvline(100 * chance, color=CHANCE, linestyle="--", linewidth=1.2)
    axes.annotate(f"chance {100 * chance:.2g} %", (100 * chance, 1), xycoords=("data", "axes fraction"), xytext=(3, -1),
                  textcoords="offset points", fontsize=9, color=CHANCE, va="bottom")  # fmt: skip
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    axes.set_xlabel(f"{score} (%, higher is better)")
    axes.set_xlim(0, min(115, max(100 * r[2] for r in rows.values()) * 1.15 + 1))
    axes.set_xticks([tick for tick in axes.get_xticks() if tick <= min(100, axes.get_xlim()[1])])
    title = title.format(best, rows[best][0], rows[best][0] / chance)
    _title(axes, title, pad=18)
    shares = ", ".join(f"{name} {row[0]:.1%}" for name, row in rows.items())
    return _told(figure, f"{score}: {shares}; chance {chance:.1%}", title)


@in_style()
def draw_traces(
    times: ArrayLike, sound: ArrayLike, sights: Mapping[str, ArrayLike], *, unit: str = "dB", title: str = ""
) -> Figure:
    """The level of a sound over time above the motion of several places, on one time axis, one step a frame.

    `times` (N,) the start of each frame in seconds, `sound` (N,) in `unit`, `sights` name to (N,), each scaled to its
    own maximum and titled with its correlation with the sound. Raises `ValueError` for another number of values.
    """
    t, level, *traces = (np.asarray(values, dtype=float) for values in (times, sound, *sights.values()))
    for name, values in zip(("sound", *sights), (level, *traces), strict=True):
        if t.ndim != 1 or len(t) < 2 or values.shape != t.shape:
            raise ValueError(f"{name!r} holds {values.shape} values at {t.shape} times: both must be (N,), N over 1")
    edges = np.append(t, 2 * t[-1] - t[-2])  # frame n lasts until frame n + 1 begins
    figure = Figure(figsize=(7.6, 1.7 + 0.85 * len(traces)))
    rows = figure.subplots(1 + len(traces), 1, sharex=True, squeeze=False)[:, 0]
    rows[0].stairs(level, edges, baseline=level.min(), fill=True, color=SOUND, alpha=0.35)
    rows[0].stairs(level, edges, baseline=None, color=SOUND, linewidth=1.8)
    rows[0].set_ylabel(f"sound ({unit})", color=SOUND)
    said = []
    for axes, (name, trace) in zip(rows[1:], zip(sights, traces, strict=True), strict=True):
        varies = trace.std() > 0 and level.std() > 0
        said.append(f"{name} (r = {np.corrcoef(level, trace)[0, 1] if varies else 0.0:+.2f})")
        scaled = trace / max(np.abs(trace).max(), 1e-12)
        axes.stairs(scaled, edges, fill=True, color=SIGHT, alpha=0.3)
        axes.stairs(scaled, edges, baseline=None, color=SIGHT, linewidth=1.8)
        axes.set(ylim=(min(0, 1.08 * scaled.min()), 1.08), yticks=[0, 1])
        axes.set_ylabel("motion\n(of max.)", color=SIGHT)
        axes.set_title(said[-1], fontsize=9, fontweight="normal", pad=2)
    rows[-1].set(xlabel="time (s)", xlim=(edges[0], edges[-1]))
    figure.align_ylabels(rows)
    _title(rows[0], title)
    return _told(figure, f"the level of a sound over {edges[-1] - t[0]:.3g} s, and below it {'; '.join(said)}", title)
