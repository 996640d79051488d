"""The embedding space that can be seen and heard: audio and visual points, a line between the halves of each pair.

`atlas.js` draws it; hover shows a point's frame and (once sound is on) plays it, a click marks its nearest neighbours
in the other modality. At rest it is `figures.draw_embedding` as PNG with alternative text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import librosa
import numpy as np
import torch
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from avlab.clip import Clip
from avlab.show import figures
from avlab.show.bundle import alt_text, png, widget_bundle
from avlab.show.player import CAP, sprite, write_page
from avlab.show.style import kind_style

RATE, SIDE, NEIGHBOURS, SECONDS = 8000, 64, 5, 3.0  # Hz and seconds of a sound, pixels of a thumbnail


def pca2(values: np.ndarray) -> np.ndarray:
    """The two directions of most variance: (M, D) -> (M, 2), centred; `X V` with `X = U S V^T`.

    The sign of each direction is fixed so that its largest weight is positive: the same picture in every run. Raises
    `ValueError` for fewer than two dimensions.

    >>> pca2(np.array([[0.0, 0, 5], [0, 1, 5], [0, 4, 5]])).round(3).tolist()
    [[-1.667, 0.0], [-0.667, 0.0], [2.333, 0.0]]
    """
    if values.ndim != 2 or values.shape[1] < 2:
        raise ValueError(f"points must be (M, D) with D of 2 or more, got {values.shape}")
    centred = values - values.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=False)[2][:2]  # (2, D)
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    flat = centred @ axes.T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))  # a single point has one direction


def neighbours(audio: np.ndarray, visual: np.ndarray, count: int = NEIGHBOURS) -> list[list[int]]:
    """The most similar points (cosine) in the other modality: a list for each of the B sounds, then of the B sights.

    Sounds are numbered 0 to B-1, sights B to 2B-1. Equal similarities come in order of number.
    """

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)

    similarity = unit(audio) @ unit(visual).T  # (B sounds, B sights)
    to_sight = np.argsort(-similarity, axis=1, kind="stable")[:, :count] + len(audio)
    to_sound = np.argsort(-similarity.T, axis=1, kind="stable")[:, :count]
    return [*to_sight.tolist(), *to_sound.tolist()]


class Atlas(anywidget.AnyWidget):
    """Pairs of sound and sight as points that can be seen and heard.

    `audio`, `visual` (B, D) embeddings, `clips` the B clips, `labels` their positions in `kinds` (default: from the
    clips' own labels). `points` "pca" puts both modalities into one plane by `pca2`; (2, B, 2) gives the places of
    sounds and sights instead; with D = 2 the embeddings are the places unless `points` is given. Neighbours are by
    cosine in all D dimensions. `selected` is the clicked point: 0 to B-1 sounds, B to 2B-1 sights, -1 none.

    Raises `ValueError` where shapes or counts differ, naming them.
    """

    _esm = Path(__file__).with_name("atlas.js")
    points = traitlets.Bytes().tag(sync=True)
    labels = traitlets.List().tag(sync=True)
    kinds = traitlets.List().tag(sync=True)
    names = traitlets.List().tag(sync=True)
    near = traitlets.List().tag(sync=True)
    thumbs = traitlets.Bytes().tag(sync=True)
    sheet = traitlets.Dict().tag(sync=True)
    sounds = traitlets.Bytes().tag(sync=True)
    offsets = traitlets.List().tag(sync=True)
    rate = traitlets.Int(RATE).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)

    def __init__(
        self,
        audio: ArrayLike,
        visual: ArrayLike,
        clips: Sequence[Clip],
        labels: Sequence[int] | None = None,
        *,
        kinds: Sequence[str] | None = None,
        points: str | ArrayLike | None = None,
    ) -> None:
        a, v = _plain(audio), _plain(visual)
        if a.ndim != 2 or a.shape != v.shape or len(clips) != len(a) or not len(a):
            raise ValueError(
                f"audio and visual must both be (B, D) with B clips, got {a.shape}, {v.shape}, {len(clips)}"
            )
        if not (np.isfinite(a).all() and np.isfinite(v).all()):
            raise ValueError("the embeddings hold NaN or infinity: look at the loss before drawing its space")
        given = sorted({clip.label for clip in clips if clip.label is not None}) if kinds is None else list(kinds)
        known = (
            [given.index(c.label) if c.label in given else -1 for c in clips] if labels is None else [*map(int, labels)]
        )
        if len(known) != len(a) or max(known) >= len(given):
            raise ValueError(
                f"labels must be {len(a)} positions in {len(given)} kinds, got {len(known)} up to {max(known)}"
            )
        if points is None and a.shape[1] == 2:
            places = np.stack([a, v])
        elif points is None or (isinstance(points, str) and points == "pca"):
            places = pca2(np.r_[a, v]).reshape(2, -1, 2)
        else:
            places = _plain(points)
        if places.shape != (2, len(a), 2):
            raise ValueError(f"points must be 'pca' or (2, {len(a)}, 2): sounds, then sights; got {places.shape}")
        self.places, self.known, self.given = places, known, given
        tiles, columns = sprite(np.stack([_thumbnail(clip) for clip in clips]))
        waves = [_small(clip) for clip in clips]
        if 2 * sum(map(len, waves)) > CAP:
            raise ValueError(f"{len(clips)} clips hold more than 64 MB of sound: show fewer")
        super().__init__(
            points=places.astype("<f4").tobytes(), labels=known, near=neighbours(a, v), thumbs=tiles,
            kinds=[{"name": kind} | kind_style(k) for k, kind in enumerate(given)],
            names=[f"{clip.label or 'clip'} {i}" for i, clip in enumerate(clips)],
            sheet={"columns": columns, "side": SIDE}, sounds=np.concatenate(waves).tobytes(),
            offsets=[0, *np.cumsum([len(w) for w in waves]).tolist()],
        )  # fmt: skip

    def picture(self) -> tuple[bytes, str]:
        """The points at rest as PNG bytes, and their alternative text."""
        figure = figures.draw_embedding(*self.places, self.known, self.given)
        return png(figure, colours=256), alt_text(figure)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return widget_bundle(self, *self.picture())

    def to_html(self, path: str | Path, *, title: str = "avlab atlas") -> Path:
        """Write one self-contained page (no network, no kernel) with this space; returns its path."""
        state = {name: getattr(self, name) for name in Atlas.class_own_traits(sync=True)}
        return write_page(Path(path), self._esm, state, title=title)


def _plain(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=float)


def _thumbnail(clip: Clip) -> np.ndarray:
    middle = Image.fromarray(clip.frames[len(clip.frames) // 2])
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _small(clip: Clip) -> np.ndarray:
    """The start of a clip's sound as 8 kHz 16-bit mono."""
    mono = clip.mono()[: int(SECONDS * clip.sample_rate)]
    if clip.sample_rate != RATE:
        mono = librosa.resample(mono, orig_sr=clip.sample_rate, target_sr=RATE)
    return np.round(mono.clip(-1, 1) * 32767).astype("<i2")
