"""The synchronised player: see and hear a clip on one clock, with heat over the picture.

The picture travels as one JPEG sprite, the sound as a 16-bit WAV, heat as a small uint8 grid: no codec is needed, so it
plays in every browser. `player.js` draws them; the same file serves a notebook and a page on its own (`to_html`).
At rest (no kernel, paper, a code-hosting site) the same bundle holds a contact sheet as PNG with alternative text.
"""

from __future__ import annotations

import base64
import html
import io
import json
import math
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import numpy as np
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from avlab.clip import Clip
from avlab.show import figures
from avlab.show.bundle import alt_text, png, widget_bundle
from avlab.show.style import HEAT_RGB, SPECTROGRAM

CAP = 64_000_000  # bytes a player may send to the browser


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


def _layers(heat: Any, frames: int, names: str) -> list[dict[str, Any]]:
    if heat is None:
        return []
    layers = []
    for name, values in (heat if isinstance(heat, Mapping) else {"prediction": heat}).items():
        grid = figures.check_heat(values, frames, f"{names} {name!r}")
        layers.append({"name": str(name), "shape": list(grid.shape[1:]), "data": (grid * 255).round().astype(np.uint8)
                       .tobytes()})  # fmt: skip
    return layers


def _packed(clip: Clip, heat: Any, place: int) -> dict[str, Any]:
    """A clip as the browser takes it: plain values and bytes."""
    n, h, w = clip.frames.shape[:3]
    levels, ticks = figures.mel_picture(clip)
    truth = figures.truth_of(clip)
    palette = (SPECTROGRAM(np.arange(256))[:, :3] * 255).round()
    tiles, columns = sprite(clip.frames)
    known = [part for part in (clip.label, clip.source, f"at {clip.start:g} s" if clip.start else "") if part]
    return {
        "title": ", ".join(known) or f"clip {place + 1}",
        "sprite": tiles,
        "columns": columns,
        "frames": n,
        "width": w,
        "height": h,
        "pitch": [pitch(h), pitch(w)],
        "fps": float(clip.fps),
        "seconds": clip.seconds,
        "wav": wav_bytes(clip.waveform, clip.sample_rate),
        "spectrogram": encode((levels[::-1] * 255).round().astype(np.uint8), palette=palette),
        "ticks": [[place, name] for place, name in ticks[::2]],
        "layers": _layers(heat, n, f"heat of clip {place}"),
        "truth": None if truth is None else np.packbits(truth.ravel()).tobytes(),
    }


class Player(anywidget.AnyWidget):
    """Play one clip or several, with heat over the picture and a cursor on the sound.

    `clips` a `Clip` or a list of them; `heat` for one clip, `heats` a list for several: each (N, h, w) or (h, w) in
    [0, 1], or a dict from name to such maps (rivals to choose from), or None. True outlines are drawn where the clips
    know them. `time` (s, told at most four times a second), `playing`, `index`, `layer`, `opacity`, `truth` and `loop`
    can be read and set from Python; a browser lets sound begin only after a click on the page.

    Raises `ValueError` naming the clip whose heat has another shape or range, for no clips, and for more than 64 MB.
    """

    _esm = Path(__file__).with_name("player.js")
    clips = traitlets.List().tag(sync=True)
    lut = traitlets.Bytes(HEAT_RGB.tobytes()).tag(sync=True)
    time = traitlets.Float(0.0).tag(sync=True)
    playing = traitlets.Bool(False).tag(sync=True)
    index = traitlets.Int(0).tag(sync=True)
    layer = traitlets.Unicode("none").tag(sync=True)
    opacity = traitlets.Float(0.75).tag(sync=True)
    truth = traitlets.Bool(True).tag(sync=True)
    loop = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        clips: Clip | Sequence[Clip],
        *,
        heat: ArrayLike | Mapping[str, ArrayLike] | None = None,
        heats: Sequence[ArrayLike | Mapping[str, ArrayLike] | None] | None = None,
        opacity: float = 0.75,
        loop: bool = False,
    ) -> None:
        self.sources = [clips] if isinstance(clips, Clip) else list(clips)
        if not self.sources:
            raise ValueError("a player needs at least one clip, got none")
        if heat is not None and (heats is not None or len(self.sources) != 1):
            raise ValueError("heat is for a single clip: give heats=[...] with one entry a clip")
        self.heats = [heat] * len(self.sources) if heats is None else list(heats)  # for several, heat is None
        if len(self.heats) != len(self.sources):
            raise ValueError(f"heats holds {len(self.heats)} entries for {len(self.sources)} clips")
        packed = [_packed(clip, one, i) for i, (clip, one) in enumerate(zip(self.sources, self.heats, strict=True))]
        parts = [v for p in packed for one in (p, *p["layers"]) for v in one.values()]
        self.size = sum(len(part) for part in parts if isinstance(part, bytes))
        if self.size > CAP:
            raise ValueError(f"{self.size / 1e6:.0f} MB in one player (limit 64): show fewer, shorter or smaller clips")
        first = next((layer["name"] for p in packed for layer in p["layers"]), "none")
        super().__init__(clips=packed, layer=first, opacity=opacity, loop=loop)

    @traitlets.validate("index")
    def _index_of_a_clip(self, proposal: dict[str, Any]) -> int:
        if not 0 <= proposal["value"] < len(self.sources):
            raise traitlets.TraitError(f"index {proposal['value']} of a player with {len(self.sources)} clips")
        return proposal["value"]

    def picture(self) -> tuple[bytes, str]:
        """The contact sheet at rest as PNG bytes, and its alternative text; outlined where `truth` is set."""
        maps = [next(iter(h.values()), None) if isinstance(h, Mapping) else h for h in self.heats]
        if len(self.sources) == 1:
            figure = figures.draw_clip(self.sources[0], heat=maps[0], truth=self.truth)
        else:
            figure = figures.draw_sheet(self.sources, heats=maps, truth=self.truth)
        return png(figure, colours=256), alt_text(figure)

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
