"""The synchronised player: see and hear a clip on one clock, with layers over the picture and rows under the sound.

The picture travels as one JPEG sprite, the sound as a 16-bit WAV (or as deflated stems, whose sum is the mix), heat,
attention, rows and flow as small grids of bytes: no codec is needed, so it plays in every browser. `player.js` draws
them; the same file serves a notebook and a page on its own (`to_html`). At rest (no kernel, paper, a code-hosting
site) the same bundle holds a contact sheet as PNG with alternative text.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import wave
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import cv2
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from avlab.clip import Clip
from avlab.show import figures
from avlab.show.bundle import alt_text, png, widget_bundle
from avlab.show.style import HEAT_RGB, SPECTROGRAM, kind_style

CAP = 64_000_000  # bytes a player may send to the browser
PER_SECOND = 200_000  # bytes a notebook may pay for a second of a clip: stems that need more are sent only on demand
OVERHEAD = 110_000  # of them: the picture at rest, and the program, which each widget holds
SPEEDS = (0.25, 0.5, 0.75, 1.0)
ARROWS = 12  # flow is sent as so many cells along the longer side of the picture


def wav_bytes(waveform: np.ndarray, sample_rate: int) -> bytes:
    """A waveform (C, L) in [-1, 1] as a 16-bit WAV file; louder values are cut at full scale, never wrapped.

    >>> len(wav_bytes(np.zeros((2, 11), np.float32), 16000))
    88
    """
    samples = np.round(np.clip(np.nan_to_num(waveform), -1, 1) * 32767).astype("<i2")
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.T.tobytes())
    return buffer.getvalue()


def pitch(side: int) -> int:
    """The side of a sprite's tile in pixels, a multiple of 8: no JPEG block then reaches into two frames."""
    return -(-side // 8) * 8


def sprite(frames: np.ndarray, *, quality: int = 85) -> tuple[bytes, int]:
    """All frames (N, H, W, 3) as one JPEG of tiles, row by row; also the number of columns.

    A tile is `pitch(H)` by `pitch(W)`, the frame in its upper left corner and its last row and column repeated.
    """
    n, h, w, _ = frames.shape
    columns = math.ceil(math.sqrt(n * h / w))  # near square: browsers limit the side of a picture
    rows = math.ceil(n / columns)
    padded = np.pad(frames, ((0, 0), (0, pitch(h) - h), (0, pitch(w) - w), (0, 0)), mode="edge")
    sheet = np.zeros((rows * columns, *padded.shape[1:]), np.uint8)
    sheet[:n] = padded
    tiled = sheet.reshape(rows, columns, *padded.shape[1:]).swapaxes(1, 2)  # (rows, H, columns, W, 3)
    return encode(tiled.reshape(rows * pitch(h), columns * pitch(w), 3), quality=quality), columns


def encode(pixels: np.ndarray, *, quality: int | None = None, palette: np.ndarray | None = None) -> bytes:
    """Pixels as JPEG (`quality` given) or PNG bytes; (H, W) indices into a (256, 3) `palette`, or (H, W, 3) RGB."""
    image = Image.fromarray(pixels)
    if palette is not None:
        image.putpalette(palette.astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float32)


def _named(given: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Rivals by name; a single one is called `name`."""
    if given is not None:
        yield from ((str(k), v) for k, v in given.items()) if isinstance(given, Mapping) else ((name, given),)


def _level_bytes(values: np.ndarray) -> bytes:
    return (values * 255).round().astype(np.uint8).tobytes()


def check_attention(values: ArrayLike, frames: int, name: str = "attention") -> np.ndarray:
    """Attention of T sound frames as float32 (T, h, w) or (T, N, h, w), at least 0, divided by its largest weight.

    Raises `ValueError` naming the array, its shape or its range.
    """
    weights = _array(values)
    if weights.ndim not in (3, 4) or not weights.size or (weights.ndim == 4 and weights.shape[1] != frames):
        raise ValueError(f"{name} must be (T, h, w) or (T, {frames}, h, w), T moments of sound, got {weights.shape}")
    if not np.isfinite(weights).all() or weights.min() < 0:
        raise ValueError(f"{name} must be finite and at least 0, got {weights.min():g} to {weights.max():g}: "
                         "give the weights after the softmax")  # fmt: skip
    return weights / max(float(weights.max()), 1e-12)


def _layers(heat: Any, attention: Any, frames: int, place: int) -> list[dict[str, Any]]:
    """Fills over the picture: `moments` is 0 for heat (one map a frame), else the number of moments that attend."""
    layers = []
    for name, values in _named(heat, "prediction"):
        grid = figures.check_heat(values, frames, f"heat of clip {place} {name!r}")
        layers.append({"name": name, "shape": list(grid.shape[1:]), "moments": 0, "data": _level_bytes(grid)})
    for name, values in _named(attention, "attention"):
        grid = check_attention(values, frames, f"attention of clip {place} {name!r}")
        layers.append({"name": name, "shape": list(grid.shape[-2:]), "moments": len(grid), "data": _level_bytes(grid)})
    names = [layer["name"] for layer in layers]
    if len({*names, "none"}) <= len(names):
        raise ValueError(f"clip {place}: heat and attention need names of their own, other than 'none', got {names}")
    return layers


def _source_names(clip: Clip) -> list[str]:
    """The kinds of a clip's objects, numbered where there are several of one."""
    truth = clip.truth
    count = len(truth.sounding if truth.sounding is not None else truth.stems)
    kinds = [str(f.get("kind", "source")) for f in truth.factors] or ["source"] * count
    return [f"{k} {kinds[: o + 1].count(k)}" if kinds.count(k) > 1 else k for o, k in enumerate(kinds)]


def _true_rows(clip: Clip) -> dict[str, np.ndarray]:
    """Which object sounds when, where the clip knows it: a name to (N,) of 0 and 1."""
    if clip.truth is None or clip.truth.sounding is None:
        return {}
    return dict(zip(_source_names(clip), clip.truth.sounding.astype(np.float32), strict=True))


def _check_rows(rows: Mapping[str, ArrayLike] | None, place: int) -> dict[str, np.ndarray]:
    checked = {}
    for name, values in (rows or {}).items():
        row = _array(values)
        if row.ndim != 1 or not row.size or not np.isfinite(row).all() or row.min() < 0 or row.max() > 1:
            raise ValueError(f"row {name!r} of clip {place} must be (T,) in [0, 1], got {row.shape}"
                             + (f" from {row.min():g} to {row.max():g}" if row.size else ""))  # fmt: skip
        checked[str(name)] = row
    return checked


def _flow(clip: Clip, given: ArrayLike | None, place: int) -> dict[str, Any] | None:
    """Motion (N, H, W, 2) px a frame as int8 on a coarse grid; `most` px is 127, `known` tells truth from a guess."""
    known = given is None
    if known and (clip.truth is None or clip.truth.flow is None):
        return None
    moved, (n, h, w) = _array(clip.truth.flow if known else given), clip.frames.shape[:3]
    if moved.shape != (n, h, w, 2) or not np.isfinite(moved).all():
        raise ValueError(f"flow of clip {place} must be finite and {(n, h, w, 2)}, px a frame, got {moved.shape}")
    rows, columns = (max(1, round(ARROWS * side / max(h, w))) for side in (h, w))
    grid = np.stack([cv2.resize(frame, (columns, rows), interpolation=cv2.INTER_AREA) for frame in moved])
    most = float(np.hypot(grid[..., 0], grid[..., 1]).max())
    data = (grid / max(most, 1e-9) * 127).round().astype(np.int8).tobytes()
    return {"shape": [rows, columns], "most": most, "known": known, "data": data} if most > 0 else None


def _deflated(samples: np.ndarray) -> bytes:
    """int16 (C, L) without loss: differences along time, low bytes before high ones, deflated."""
    steps = np.diff(samples, axis=1, prepend=np.int16(0)).astype("<i2")  # wraps, and wraps back
    return zlib.compress(np.moveaxis(steps.view(np.uint8).reshape(*steps.shape, 2), -1, 0).tobytes(), 9)


def _stems(clip: Clip) -> list[dict[str, Any]]:
    """What the mix is made of, exactly: each source that sounds, then what is left over; empty for fewer than two."""
    if clip.truth is None or clip.truth.stems is None:
        return []
    channels = clip.waveform.shape[0]
    whole = np.round(np.clip(np.stack([clip.waveform, *clip.truth.stems]), -1, 1) * 32768).clip(-32768, 32767)
    mix, stems = whole[0], whole[1:]
    heard = [(name, stem) for name, stem in zip(_source_names(clip), stems, strict=True) if stem.any()]
    if len(heard) < 2:
        return []
    rest = mix - sum(stem for _, stem in heard)
    heard += [("rest", rest)] if rest.any() else []
    return [{"name": name, "channels": channels, "rate": clip.sample_rate,
             "data": _deflated(line.clip(-32768, 32767).astype("<i2"))} for name, line in heard]  # fmt: skip


def _size(packed: Any) -> int:
    """Bytes in nested plain values."""
    if isinstance(packed, bytes):
        return len(packed)
    return sum(map(_size, packed.values() if isinstance(packed, dict) else packed if isinstance(packed, list) else ()))


def _packed(clip: Clip, place: int, heat: Any, attention: Any, rows: Any, flow: Any, stems: bool | None) -> dict:
    """A clip as the browser takes it: plain values and bytes."""
    n, h, w = clip.frames.shape[:3]
    levels, ticks = figures.mel_picture(clip)
    mask, truth = figures.truth_of(clip), clip.truth
    palette = (SPECTROGRAM(np.arange(256))[:, :3] * 255).round()
    tiles, columns = sprite(clip.frames)
    known = [part for part in (clip.label, clip.source, f"at {clip.start:g} s" if clip.start else "") if part]
    sources, own = _true_rows(clip), _check_rows(rows, place)
    packed = {
        "title": ", ".join(known) or f"clip {place + 1}",
        "sprite": tiles,
        "columns": columns,
        "frames": n,
        "width": w,
        "height": h,
        "pitch": [pitch(h), pitch(w)],
        "fps": float(clip.fps),
        "seconds": clip.seconds,
        "spectrogram": encode((levels[::-1] * 255).round().astype(np.uint8), palette=palette),
        "ticks": [[place, name] for place, name in ticks[::2]],
        "layers": _layers(heat, attention, n, place),
        "rows": [{"name": name, "known": k < len(sources), "data": _level_bytes(row)}
                 for k, (name, row) in enumerate([*sources.items(), *own.items()])],
        "truth": None if mask is None else zlib.compress(np.packbits(mask.ravel()).tobytes(), 9),
        "flow": _flow(clip, flow, place),
        "onsets": [] if truth is None else [[float(t), int(o)] for t, _, o in truth.onsets],
        "words": [] if truth is None else [[float(a), float(b), str(name)] for a, b, name in truth.words],
        "caption": clip.caption or "",
    }  # fmt: skip
    lines = [] if stems is False else _stems(clip)
    if stems is None and 4 / 3 * (_size(packed) + _size(lines)) + OVERHEAD > PER_SECOND * max(2, clip.seconds):
        lines = []
    if stems and not lines:
        raise ValueError(f"clip {place} has no two sources with sounds of their own: leave stems=True out")
    return packed | {"stems": lines, "wav": None if lines else wav_bytes(clip.waveform, clip.sample_rate)}


def _per_clip(given: Any, clips: int, name: str) -> list[Any]:
    """One entry a clip: what was given is that of a single clip, or a list for several."""
    if given is None or clips == 1:
        return [given] * clips
    if isinstance(given, Mapping) or len(given) != clips:
        got = "a dict" if isinstance(given, Mapping) else f"{len(given)} entries"
        raise ValueError(f"{name} needs a list with one entry a clip ({clips}), got {got}")
    return list(given)


class Player(anywidget.AnyWidget):
    """Play one clip or several, with layers over the picture and a cursor on the sound.

    `clips` is a `Clip` or a list of them. For a single clip, or as a list with one entry a clip:

    - `heat` (for a list `heats`): (N, h, w) or (h, w) in [0, 1], or a dict from name to such maps (rivals);
    - `attention`: weights of T moments of sound over places, (T, h, w) or (T, N, h, w), at least 0, or a dict by head;
      the moment under the cursor fills the places that it attends to, a chosen place shows the moments that attend;
    - `rows`: a dict from name to (T,) in [0, 1], drawn below the spectrogram over the clip's time (any T);
    - `flow`: (N, H, W, 2) px a frame, drawn as arrows; by default the true one, where the clip knows it.

    What the clip's truth knows is drawn too: outline, onsets, which source sounds when, flow, words. `stems` sends the
    sound source by source, with solo and mute: by default where there are two or more and the player stays under 200 kB
    a second in a notebook. `compare=True` shows two clips of one length side by side on one clock; `index` is heard.

    Traits, to read and to set: `time` (s, told at most four times a second), `playing`, `speed` (0.25, 0.5, 0.75, 1),
    `loop`, `selection` ([] or [start, end] in s), `index`, `layer` (the name of a heat or attention, or "none"),
    `opacity`, `threshold` (heat from there on is outlined; 0 for none), `truth` (False hides all that the truth knows),
    `onsets`, `flow`, `words`. A browser lets sound begin only after a click on the page.

    Raises `ValueError` naming the clip whose heat, attention, row or flow has another shape or range, for no clips, for
    clips that cannot be compared, for `stems=True` without two of them, and for more than 64 MB.
    """

    _esm = Path(__file__).with_name("player.js")
    clips = traitlets.List().tag(sync=True)
    lut = traitlets.Bytes(HEAT_RGB.tobytes()).tag(sync=True)
    colours = traitlets.List([kind_style(o)["color"] for o in range(9)]).tag(sync=True)  # of a clip's objects
    compare = traitlets.Bool(False).tag(sync=True)
    time = traitlets.Float(0.0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    speed = traitlets.Float(1.0).tag(sync=True)
    loop = traitlets.Bool(False).tag(sync=True)
    selection = traitlets.List(traitlets.Float()).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Unicode("none").tag(sync=True)
    opacity = traitlets.Float(0.75).tag(sync=True)
    threshold = traitlets.Float(0.0).tag(sync=True)
    truth = traitlets.Bool(True).tag(sync=True)
    onsets = traitlets.Bool(True).tag(sync=True)
    flow = traitlets.Bool(False).tag(sync=True)
    words = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        clips: Clip | Sequence[Clip],
        *,
        heat: ArrayLike | Mapping[str, ArrayLike] | None = None,
        heats: Sequence[ArrayLike | Mapping[str, ArrayLike] | None] | None = None,
        attention: Any = None,
        rows: Any = None,
        flow: Any = None,
        stems: bool | None = None,
        compare: bool = False,
        opacity: float = 0.75,
        loop: bool = False,
    ) -> None:
        self.sources = [clips] if isinstance(clips, Clip) else list(clips)
        count = len(self.sources)
        if not count:
            raise ValueError("a player needs at least one clip, got none")
        if heat is not None and (heats is not None or count != 1):
            raise ValueError("heat is for a single clip: give heats=[...] with one entry a clip")
        if compare:
            lengths = {(len(clip.frames), clip.fps) for clip in self.sources}
            if count != 2 or len(lengths) != 1:
                told = " and ".join(f"{n} frames at {fps:g} fps" for n, fps in sorted(lengths))
                raise ValueError(f"compare=True needs two clips of one length and fps, got {count} with {told}")
        self.heats = [heat] * count if heats is None else list(heats)  # for several, heat is None
        if len(self.heats) != count:
            raise ValueError(f"heats holds {len(self.heats)} entries for {count} clips")
        self.attention, self.rows = _per_clip(attention, count, "attention"), _per_clip(rows, count, "rows")
        given = zip(self.heats, self.attention, self.rows, _per_clip(flow, count, "flow"), strict=True)
        packed = [_packed(clip, i, *parts, stems) for i, (clip, parts) in
                  enumerate(zip(self.sources, given, strict=True))]  # fmt: skip
        self.size = _size(packed)
        if self.size > CAP:
            raise ValueError(f"{self.size / 1e6:.0f} MB in one player (limit 64): show fewer, shorter or smaller clips")
        first = next((layer["name"] for p in packed for layer in p["layers"]), "none")
        super().__init__(clips=packed, layer=first, opacity=opacity, loop=loop, compare=compare)

    @traitlets.validate("index")
    def _index_of_a_clip(self, proposal: dict[str, Any]) -> int:
        if not 0 <= proposal["value"] < len(self.sources):
            raise traitlets.TraitError(f"index {proposal['value']} of a player with {len(self.sources)} clips")
        return proposal["value"]

    @traitlets.validate("speed")
    def _one_of_the_speeds(self, proposal: dict[str, Any]) -> float:
        if proposal["value"] not in SPEEDS:
            raise traitlets.TraitError(f"speed {proposal['value']:g} is not one of {SPEEDS}")
        return proposal["value"]

    @traitlets.validate("selection")
    def _part_of_the_clip(self, proposal: dict[str, Any]) -> list[float]:
        chosen, seconds = proposal["value"], self.sources[self.index].seconds
        if chosen and not (len(chosen) == 2 and 0 <= chosen[0] < chosen[1] <= seconds + 1e-6):
            raise traitlets.TraitError(f"selection must be [] or [start, end] within {seconds:g} s, got {chosen}")
        return chosen

    def picture(self) -> tuple[bytes, str]:
        """The contact sheet at rest as PNG bytes, and its alternative text; what the truth knows where `truth` is set.

        Shows the first heat, or where there is none the first attention, each frame's at its own time.
        """
        maps = [self._first_map(place) for place in range(len(self.sources))]
        if len(self.sources) > 1:
            figure = figures.draw_sheet(self.sources, heats=maps, truth=self.truth)
        else:
            rows = (_true_rows(self.sources[0]) if self.truth else {}) | _check_rows(self.rows[0], 0)
            figure = figures.draw_clip(self.sources[0], heat=maps[0], truth=self.truth, rows=rows)
        return png(figure, colours=256), alt_text(figure)

    def _first_map(self, place: int) -> ArrayLike | None:
        frames = len(self.sources[place].frames)
        for _, values in _named(self.heats[place], ""):
            return values
        for _, values in _named(self.attention[place], ""):
            weights = check_attention(values, frames)
            moments = (np.arange(frames) + 0.5) * len(weights) / frames  # the middle of each frame
            chosen = weights[moments.astype(int)]
            return chosen if chosen.ndim == 3 else chosen[np.arange(frames), np.arange(frames)]
        return None

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return widget_bundle(self, *self.picture())

    def to_html(self, path: str | Path, *, title: str = "avlab player") -> Path:
        """Write one self-contained page (no network, no kernel) that plays these clips; returns its path."""
        state = {name: getattr(self, name) for name in Player.class_own_traits(sync=True)} | {"playing": False}
        return write_page(Path(path), self._esm, state, title=title)


SINGLE = '<main class="widget"></main>'
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">
<meta name="viewport" content="width=device-width, initial-scale=1"></head>
<body><h1 style="font: 600 18px sans-serif">{title}</h1>{body}
<script type="application/json" id="state">{state}</script>
<script type="module">
{code}
const unpack = (v) => Array.isArray(v) ? v.map(unpack) : v === null || typeof v !== "object" ? v
  : "base64" in v ? new DataView(Uint8Array.from(atob(v.base64), (c) => c.charCodeAt(0)).buffer)
  : Object.fromEntries(Object.entries(v).map(([k, x]) => [k, unpack(x)]));
const places = document.querySelectorAll(".widget");
[].concat(unpack(JSON.parse(document.getElementById("state").textContent))).forEach((state, i) => {{
  const listeners = {{}}, model = {{
    get: (name) => state[name],
    set: (name, value) => {{
      if (state[name] === value) return;
      state[name] = value;
      (listeners[`change:${{name}}`] ?? []).forEach((listener) => listener());
    }},
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    off: () => {{}},
    save_changes: () => {{}},
  }};
  render({{ model, el: places[i] }});
}});
</script></body></html>
"""


def write_page(
    path: Path, code: Any, state: dict[str, Any] | list[dict[str, Any]], *, title: str, body: str = SINGLE
) -> Path:
    """One HTML file with a widget's own JavaScript and its state; bytes go as base64 in JSON.

    Several states make several widgets: `body` is HTML with as many elements of the class "widget".
    """
    program = str(code)
    if "export default { render };" not in program:
        raise ValueError("the widget's JavaScript must end with `export default { render };`")
    plain = json.dumps(state, default=lambda b: {"base64": base64.b64encode(b).decode()}).replace("<", "\\u003c")
    program = program.replace("export default { render };", "")
    page = PAGE.format(title=html.escape(title), state=plain, code=program, body=body)
    path.write_text(page, encoding="utf-8")
    return path
