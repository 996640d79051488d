"""A gallery of the world: every kind at three sizes with its law beside it, and pairs in which one cause was changed.

A row of the gallery is two or three clips that differ in one factor. In the player they stand beside each other and
take turns: the one that sounds moves, the others wait, paled; so the spectrogram holds their sounds one after the
other. `Gallery` is that player with the law at its side, in JupyterLab or (`to_html`) as one page on its own; at rest,
and on paper, it is `figures.draw_gallery`.

The command `avlab world show` writes the page, and `avlab world show --out docs/world.png` the picture of all kinds.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from avlab.clip import Clip
from avlab.show import figures
from avlab.show.bundle import alt_text, png, widget_bundle
from avlab.show.player import Player, write_page
from avlab.world import KINDS, World

SIZES = {"small": 10 / 64, "middle": 14 / 64, "large": 18 / 64}  # radius as a share of the picture's side
SECONDS = 1.5  # of each clip: all kinds fit into one page of 9 MB
WINDOW = 0.35  # s in which the pitch is measured
PALE = 0.3  # what is left of a picture's contrast while it waits
STYLE = """<style>
.gallery { font: 14px/1.45 sans-serif; max-width: 1240px; color: #222 }
.gallery section { display: grid; grid-template-columns: 300px minmax(0, 1fr); gap: 4px 20px }
.gallery section { border-top: 1px solid #ccc; padding: 14px 0 }
.gallery h2 { font-size: 17px; margin: 26px 0 8px } .gallery h3 { margin: 0 0 8px }
@media (max-width: 900px) { .gallery section { display: block } }
</style>"""
HEADINGS = {"law": "Every kind at three sizes", "changed": "One cause changed, all others as they were"}
INTRODUCTION = (
    "Press Play: the things of a row take turns, the one that sounds moves and the others wait. Heard is the strong "
    "line of the spectrum nearest to the law's pitch, in the loudest third of a second; where a sound glides (a bird, "
    "a bark, a glass that fills, a fan that speeds up) or a basin answers, it lies beside the law's."
)


class Pair(NamedTuple):
    """One factor of a kind, two values of it, and what follows."""

    kind: str
    factor: str
    values: tuple[Any, Any]
    follows: str


PAIRS = (
    Pair("bird", "colour", ((214, 84, 60), (70, 110, 205)), "Nothing. A colour has no effect that can be heard."),
    Pair("bar", "size", (18 / 64, 10 / 64), "The shorter bar sounds higher, by the square of the ratio of lengths."),
    Pair("bar", "material", ("wood", "metal"), "The pitch stays. Metal loses less at each swing and rings on; its "
         "gloss tells the eye."),
    Pair("bar", "coat", ("bare", "painted"), "Paint hides the material from the eye. The ear still knows it."),
    Pair("string", "pick", (0.5, 0.12), "The pitch stays. Plucked in the middle, every second harmonic is missing; "
         "near the end they are back."),
    Pair("bottle", "fill", (0.1, 0.8), "More liquid leaves less air, and less air sounds higher."),
    Pair("engine", "rate", (0.8, 1.6), "Twice the turns a second, twice the pulses. What each pulse makes ring stays."),
    Pair("car", "speed", (0.12, 0.36), "The faster car falls further in pitch as it passes: the Doppler effect."),
    Pair("bird", "sweep", (-0.35, 0.4), "The beak is lifted instead of lowered, and the song glides up instead of "
         "down."),
    Pair("face", "utterance", (0.1, 0.6), "Other words: lips and resonances change together; the voice's pitch stays."),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """Clips that differ in one factor: a `title`, `facts` (a name to a line of text), `names` of the clips."""

    title: str
    facts: dict[str, str]
    names: tuple[str, ...]
    clips: tuple[Clip, ...]

    def in_turn(self) -> Clip:
        """One clip in which they stand beside each other and take turns, the others paled: (N each, H, sum of W)."""
        still = [paled(clip.frames[figures.loudest(clip)]) for clip in self.clips]
        gap = np.full((len(still[0]), max(2, len(still[0]) // 32), 3), 255, np.uint8)
        frames = []
        for k, clip in enumerate(self.clips):
            for frame in clip.frames:
                cells = [cell for j, rest in enumerate(still) for cell in (gap, frame if j == k else rest)]
                frames.append(np.concatenate(cells[1:], axis=1))
        waveform = np.concatenate([clip.mono() for clip in self.clips])[None]
        one = self.clips[0]
        return Clip(np.stack(frames), waveform, one.fps, one.sample_rate, f"{self.title}: {', '.join(self.names)}")

    def drawn(self) -> tuple[str, str, tuple[str, ...], tuple[Clip, ...]]:
        """As `figures.draw_gallery` takes it: with its law, or what follows from the change."""
        words = self.facts["law" if "law" in self.facts else "what follows"]
        return self.title, words, self.names, self.clips

    def text(self) -> str:
        """Title and facts as HTML."""
        look = "margin: 0 0 6px; line-height: 1.4"  # not a list of definitions: JupyterLab lets its parts overlap
        told = [(html.escape(name), html.escape(fact)) for name, fact in self.facts.items()]
        lines = "".join(f'<p style="{look}"><b>{name}</b><br>{fact}</p>' for name, fact in told)
        return f"<h3>{html.escape(self.title)}</h3>{lines}"


def paled(frame: np.ndarray) -> np.ndarray:
    """A picture on its way to white: uint8, same shape."""
    return (PALE * frame + (1 - PALE) * 255).astype(np.uint8)


def measured(clip: Clip) -> tuple[float, float]:
    """The pitch of a world's clip in Hz: by its law, and as it is heard.

    The law's is that of the longest note, for kinds that play notes, else that of the kind. Heard is the strong line of
    the spectrum that lies nearest to it: of the maxima from 0.6 to 1.25 times it that are at least half as high as
    the highest there, in that note or in the loudest third of a second.
    """
    wave, rate, truth = clip.mono().astype(float), clip.sample_rate, clip.truth
    if truth.notes:
        start, end, note, _ = max(truth.notes, key=lambda played: played[1] - played[0])
        law = 440 * 2 ** ((note - 69) / 12)
    else:
        power = np.cumsum(np.r_[0, wave**2])
        start = float(np.argmax(power[round(WINDOW * rate) :] - power[: -round(WINDOW * rate)])) / rate
        end, law = start + WINDOW, truth.factors[0]["f0"]
    part = wave[round(start * rate) : round(end * rate)]
    levels = np.abs(np.fft.rfft(part * np.hanning(len(part)), 2**16))
    f = np.fft.rfftfreq(2**16, 1 / rate)
    near = np.flatnonzero((f > 0.6 * law) & (f < 1.25 * law))
    strong = [k for k in near if levels[k] >= levels[near].max() / 2]
    peaks = [k for k in strong if levels[k - 1] < levels[k] >= levels[k + 1]]
    return law, float(min(f[peaks], key=lambda hertz: abs(hertz - law), default=np.nan))


def things(kinds: Sequence[str] | None = None, *, size: int = 96, seed: int = 0) -> list[Row]:
    """A row a kind (default all): the same thing at three sizes, its law, its materials and factors, its pitch.

    `size` px a side of each picture. Raises `ValueError` naming an unknown kind or size.
    """
    rows = []
    for name in KINDS if kinds is None else kinds:
        world = World(level="L0", kinds=[name], seed=seed, size=size, seconds=SECONDS)
        clips = tuple(world.counterfactual(place(name), "size", value) for value in SIZES.values())
        kind = KINDS[name]
        heard = [
            f"{word} {pitch:.0f} ({law:.0f})" for word, (law, pitch) in zip(SIZES, map(measured, clips), strict=True)
        ]
        facts = {
            "law": kind.law,
            "heard, Hz (by the law)": ", ".join(heard),
            "family": kind.family,
            "speakers" if kind.words else "materials": listed(kind.materials, kind.held_out),
            "factors of its own": ", ".join(f"{own} {low:g} to {high:g}" for own, (low, high) in kind.ranges.items()),
        }
        rows.append(Row(name, {name: fact for name, fact in facts.items() if fact}, tuple(SIZES), clips))
    return rows


def listed(materials: Sequence[str], held_out: Sequence[str]) -> str:
    """Materials in words; of more than six, how many."""
    if len(materials) > 6:
        return f"{len(materials)}, {len(held_out)} of them in the compositional split only"
    return ", ".join(f"{m} (compositional split only)" if m in held_out else m for m in materials)


def pairs(kinds: Sequence[str] | None = None, *, size: int = 96, seed: int = 0) -> list[Row]:
    """Counterfactual pairs of some kinds (default all): the same clip twice, one factor changed, and what follows."""
    rows = []
    for kind, factor, values, follows in PAIRS:
        if kinds is not None and kind not in kinds:
            continue
        world = World(level="L0", kinds=[kind], seed=seed, size=size, seconds=SECONDS)
        a, b = (world.counterfactual(place(kind), factor, value) for value in values)
        moved = float((a.frames != b.frames).any(axis=-1).mean())
        before, after = measured(a)[0], measured(b)[0]
        heard = "the same sound, sample by sample" if np.array_equal(a.waveform, b.waveform) else (
            f"pitch {before:.0f} Hz in both, another sound" if before == after else
            f"pitch {before:.0f} Hz becomes {after:.0f} Hz")  # fmt: skip
        names = tuple(f"{factor} {worded(factor, value)}" for value in values)
        facts = {
            "changed": f"{factor}, from {worded(factor, values[0])} to {worded(factor, values[1])}",
            "what follows": follows,
            "seen": f"{100 * moved:.2g} % of the pixels differ",
            "heard": heard,
        }
        rows.append(Row(f"{kind}, another {factor}", facts, names, (a, b)))
    return rows


def place(kind: str) -> int:
    """The number of the clip that a kind is shown in: its place in `KINDS`, so that neighbours differ in colour."""
    return list(KINDS).index(kind)


def worded(factor: str, value: Any) -> str:
    """A factor's value in words: a size as a share of 64, a colour by its strongest part."""
    if factor == "size":
        return f"{64 * value:g}/64"
    if factor == "colour":
        return ("red", "green", "blue")[int(np.argmax(value))]
    return value if isinstance(value, str) else f"{value:g}"


class Gallery(ipywidgets.VBox):
    """Rows in one player, with the text of the chosen one at its side; `to_html` makes a page with a player a row.

    Raises `ValueError` without rows, and for more than 64 MB.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = list(rows)
        if not self.rows:
            raise ValueError("a gallery needs at least one row: name a kind of avlab.world.KINDS that has one")
        self.player = Player([row.in_turn() for row in self.rows])
        self.said = ipywidgets.HTML(layout=ipywidgets.Layout(flex="1 1 220px"))
        self.player.layout = ipywidgets.Layout(flex="3 1 540px")
        self.player.observe(self._say, names="index")
        self._say(None)
        super().__init__([ipywidgets.HBox([self.said, self.player], layout=ipywidgets.Layout(flex_flow="row wrap"))])

    def _say(self, change: Any) -> None:
        self.said.value = self.rows[self.player.index].text()

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        figure = figures.draw_gallery([row.drawn() for row in self.rows])
        return widget_bundle(self, png(figure, colours=256), alt_text(figure))

    def to_html(self, path: str | Path, *, title: str = "The world of the course") -> Path:
        """Write one self-contained page (no network, no kernel): a row a section, each with its player."""
        traits = {name: getattr(self.player, name) for name in Player.class_own_traits(sync=True)}
        states = [traits | {"clips": [clip], "index": 0, "playing": False} for clip in self.player.clips]
        parts, before = [], None
        for row in self.rows:
            kind_of_row = next(iter(row.facts))
            parts += [f"<h2>{HEADINGS[kind_of_row]}</h2>"] if kind_of_row != before else []
            parts.append(f'<section>\n<div>{row.text()}</div><div class="widget"></div></section>')
            before = kind_of_row
        body = f'{STYLE}<main class="gallery"><p>{INTRODUCTION}</p>{"".join(parts)}</main>'
        return write_page(Path(path), self.player._esm, states, title=title, body=body)


def gallery(kinds: Sequence[str] | None = None, *, size: int = 96, seed: int = 0) -> Gallery:
    """The gallery of some kinds (default all): three sizes of each, then the counterfactual pairs there are of them.

    >>> gallery(["bar"], size=32).rows[0].facts["heard, Hz (by the law)"]
    'small 583 (583), middle 298 (298), large 180 (180)'
    """
    return Gallery(things(kinds, size=size, seed=seed) + pairs(kinds, size=size, seed=seed))


def contact_sheet(kinds: Sequence[str] | None = None, *, size: int = 96, seed: int = 0) -> Figure:
    """A picture of some kinds (default all), each at three sizes with its law and its spectrograms."""
    rows = [row.drawn() for row in things(kinds, size=size, seed=seed)]
    how_many = f"{len(rows)} kinds of things" if len(rows) > 1 else f"A {rows[0][0]}"
    return figures.draw_gallery(
        rows, columns=min(2, len(rows)), title=f"{how_many} at three sizes: the larger, the lower"
    )
