"""The embedding space that can be seen and heard: audio and visual points, a line between the halves of each pair.

`atlas.js` draws it; hover shows a point's frame and (once sound is on) plays it, a click marks its nearest neighbours
in the other modality, a lasso or the legend selects points, a slider moves through training. At rest it is
`figures.draw_embedding` as PNG with alternative text.

Shape letters: `B` pairs, `D` embedding, `S` moments of a training. Points are numbered sounds 0 to B-1, sights B to
2B-1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import anywidget
import librosa
import numpy as np
import torch
import torch.nn.functional as F
import traitlets
from numpy.typing import ArrayLike
from PIL import Image

from avlab.clip import Clip
from avlab.metrics.retrieval import ranks
from avlab.show import figures
from avlab.show.bundle import alt_text, png, widget_bundle
from avlab.show.player import CAP, sprite, write_page
from avlab.show.style import HEAT_RGB, kind_style

RATE, SIDE, NEIGHBOURS, SECONDS = 8000, 64, 5, 3.0  # Hz and seconds of a sound, pixels of a thumbnail
BLOCK = 512  # queries whose similarities are held at once


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
    triangle = np.linalg.qr(centred, mode="r")  # has the same V, without a U of M rows
    axes = np.linalg.svd(triangle, full_matrices=False)[2][:2]  # (2, D)
    axes = axes * np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]
    flat = centred @ axes.T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))  # a single point has one direction


def plane(values: np.ndarray, how: str, *, seed: int = 0) -> np.ndarray:
    """Points (M, D) in a plane (M, 2) by "pca" (`pca2`), "tsne" (scikit-learn) or "umap" (umap-learn).

    t-SNE and UMAP see the rows at length one, so that near means similar by cosine; their axes mean nothing, and
    distances between far groups mean little. Raises `ValueError` for another name, `ImportError` naming the extra
    where umap-learn is missing.
    """
    if how == "pca":
        return pca2(values)
    if how not in ("tsne", "umap"):
        raise ValueError(f"points must be 'pca', 'tsne', 'umap' or places, got {how!r}")
    unit = F.normalize(torch.from_numpy(values), dim=1).numpy()
    if how == "tsne":
        from sklearn.manifold import TSNE  # 1 s: only where it is asked for

        fewer = min(30.0, (len(values) - 1) / 3)  # the default perplexity, or what so few points allow
        return TSNE(2, perplexity=fewer, random_state=seed).fit_transform(unit)
    try:
        import umap
    except ImportError as error:
        raise ImportError("points='umap' needs umap-learn: pip install 'avlab[umap]', or points='tsne'") from error
    few = min(15, len(values) - 1)
    if few < 2:
        raise ValueError(f"points='umap' needs 2 pairs or more, got {len(values)} points: use 'pca'")
    return umap.UMAP(n_neighbors=few, init="pca", random_state=seed, n_jobs=1).fit_transform(unit)


def neighbours(audio: np.ndarray, visual: np.ndarray, count: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The most similar points (cosine) in the other modality, and where among all of them the own partner comes.

    `audio`, `visual` (B, D) give int32 (2B, min(count, B)), the numbers of the points, best first, equal ones in order
    of number; and float32 (2B,), the partner's rank from 1, lower is better, as `metrics.retrieval.ranks` counts it.
    """
    a, v = (F.normalize(torch.from_numpy(x).float(), dim=1) for x in (audio, visual))
    near, place = [], []
    for queries, items, first in ((a, v, len(a)), (v, a, 0)):
        for start in range(0, len(queries), BLOCK):
            similarity = queries[start : start + BLOCK] @ items.T  # (block, B)
            place.append(ranks(similarity.roll(-start, dims=1)))  # rolled: the partner of row i stands in column i
            similarity, found = similarity.numpy(), []
            for _ in range(min(count, len(items))):  # argmax takes the first of equals, topk any
                found.append(similarity.argmax(axis=1)[:, None])
                np.put_along_axis(similarity, found[-1], -np.inf, axis=1)
            near.append(np.concatenate(found, axis=1) + first)
    return np.concatenate(near).astype(np.int32), torch.cat(place).float().numpy()


class Atlas(anywidget.AnyWidget):
    """Pairs of sound and sight as points that can be seen and heard.

    `audio`, `visual` (B, D) embeddings, `clips` the B clips or None, `labels` their positions in `kinds`, -1 unknown
    (default: from the clips' own labels). Neighbours are by cosine in all D dimensions.

    `points` puts both modalities into one plane: "pca" (the default), "tsne" or "umap" (see `plane`); (2, B, 2) gives
    the places of sounds and sights instead; with D = 2 the embeddings are the places unless `points` is given.
    `factors` maps a name to B values to colour by: numbers on an even scale (NaN unknown), anything else as categories
    (None unknown). "kind" and "error" (the rank of a point's own partner among all, 1 is best) are always there.
    `path` (S, 2, B, D) holds the embeddings at the training steps `steps` (S,), rising; it ends with `audio` and
    `visual`. One projection is fitted to all moments, places are linear in between, neighbours and errors are those
    of the nearest moment. `heard` limits how many clips, evenly taken, are sent with frame and sound (default: as many
    as fit into 64 MB). `seed` is for t-SNE and UMAP.

    To read and set: `selected`, the clicked point, -1 none; `selection`, the numbers of the points in the lasso;
    `colour`, the name to colour by; `step`, the moment shown, at first the last.

    Raises `ValueError` where shapes or counts differ, naming them, and for t-SNE or UMAP with a path.
    """

    _esm = Path(__file__).with_name("atlas.js")
    points = traitlets.Bytes().tag(sync=True)
    steps = traitlets.List().tag(sync=True)
    near = traitlets.Bytes().tag(sync=True)
    ranks = traitlets.Bytes().tag(sync=True)
    colourings = traitlets.List().tag(sync=True)
    lut = traitlets.Bytes(HEAT_RGB.tobytes()).tag(sync=True)
    heard = traitlets.List().tag(sync=True)
    thumbs = traitlets.Bytes().tag(sync=True)
    sheet = traitlets.Dict().tag(sync=True)
    sounds = traitlets.Bytes().tag(sync=True)
    offsets = traitlets.List().tag(sync=True)
    rate = traitlets.Int(RATE).tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)
    selection = traitlets.List(traitlets.Int()).tag(sync=True)
    colour = traitlets.Unicode("kind").tag(sync=True)
    step = traitlets.Float(0.0).tag(sync=True)

    def __init__(
        self,
        audio: ArrayLike,
        visual: ArrayLike,
        clips: Sequence[Clip] | None = None,
        labels: Sequence[int] | None = None,
        *,
        kinds: Sequence[str] | None = None,
        points: str | ArrayLike | None = None,
        factors: Mapping[str, Any] | None = None,
        path: ArrayLike | None = None,
        steps: Sequence[float] | None = None,
        heard: int | None = None,
        seed: int = 0,
    ) -> None:
        a, v = _plain(audio), _plain(visual)
        B = len(a)
        if a.ndim != 2 or a.shape != v.shape or not B or (clips is not None and len(clips) != B):
            many = "no clips" if clips is None else f"{len(clips)} clips"
            raise ValueError(f"audio and visual must both be (B, D) with B clips, got {a.shape}, {v.shape}, {many}")
        moments, times = _moments(np.stack([a, v]), path, steps)
        clips = [] if clips is None else clips
        given = sorted({clip.label for clip in clips if clip.label is not None}) if kinds is None else list(kinds)
        if labels is None:
            known = [given.index(clip.label) if clip.label in given else -1 for clip in clips] or [-1] * B
        else:
            known = [*map(int, labels)]
        if len(known) != B or max(known) >= len(given):
            raise ValueError(f"labels must be {B} positions in {len(given)} kinds, got {len(known)} up to {max(known)}")
        places = _places(moments, points, seed)
        found = [neighbours(*moment) for moment in moments]
        rank = np.stack([place for _, place in found])  # (S, 2B)
        colourings = [_named("kind", np.array(known), given), _even("error", np.log(rank), 1, B, log=True)]
        for name, values in (factors or {}).items():
            if name in ("kind", "error"):
                raise ValueError(f"a factor cannot be called {name!r}: the atlas has that already")
            colourings.append(_factor(name, values, B))
        which = _evenly(clips, heard)
        tiles, columns = sprite(np.stack([_thumbnail(clips[i]) for i in which])) if which else (b"", 1)
        waves = [_small(clips[i]) for i in which]
        self.places, self.known, self.given, self.times = places, known, given, times
        super().__init__(
            points=places.astype("<f4").tobytes(), steps=times, step=times[-1], colourings=colourings, heard=which,
            near=np.stack([near for near, _ in found]).astype("<i4").tobytes(), ranks=rank.astype("<f4").tobytes(),
            thumbs=tiles, sheet={"columns": columns, "side": SIDE}, sounds=b"".join(wave.tobytes() for wave in waves),
            offsets=[0, *np.cumsum([len(wave) for wave in waves]).tolist()],
        )  # fmt: skip

    @traitlets.validate("selected", "selection", "colour", "step")
    def _known_to_the_atlas(self, proposal: dict[str, Any]) -> Any:
        name, value, total = proposal["trait"].name, proposal["value"], 2 * len(self.known)
        names = [colouring["name"] for colouring in self.colourings]
        allowed = {
            "selected": (lambda: -1 <= value < total, f"-1 or a point from 0 to {total - 1}"),
            "selection": (lambda: all(0 <= p < total for p in value), f"points from 0 to {total - 1}"),
            "colour": (lambda: value in names, f"one of {names}"),
            "step": (lambda: self.times[0] <= value <= self.times[-1], f"from {self.times[0]:g} to {self.times[-1]:g}"),
        }
        fits, wanted = allowed[name]
        if not fits():
            raise traitlets.TraitError(f"{name} must be {wanted}, got {value!r}")
        return value

    def picture(self) -> tuple[bytes, str]:
        """The points at rest as PNG bytes, and their alternative text; of the moment nearest to `step`."""
        moment = int(np.abs(np.array(self.times) - self.step).argmin())
        figure = figures.draw_embedding(*self.places[moment], self.known, self.given)
        return png(figure, colours=256), alt_text(figure)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return widget_bundle(self, *self.picture())

    def to_html(self, path: str | Path, *, title: str = "avlab atlas") -> Path:
        """Write one self-contained page (no network, no kernel) with this space; returns its path."""
        state = {name: getattr(self, name) for name in Atlas.class_own_traits(sync=True)}
        return write_page(Path(path), self._esm, state, title=title)


def _plain(values: Any) -> np.ndarray:
    return np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=float)


def _moments(last: np.ndarray, path: Any, steps: Any) -> tuple[np.ndarray, list[float]]:
    """The embeddings at every moment (S, 2, B, D) and their steps: only `last` (2, B, D) where there is no path."""
    if (path is None) != (steps is None):
        raise ValueError("path and steps belong together: the embeddings at S moments, and the step of each")
    moments = last[None] if path is None else _plain(path)
    times = [0.0] if steps is None else [float(step) for step in steps]
    if moments.ndim != 4 or not len(moments) or moments.shape[1:] != last.shape or len(times) != len(moments):
        raise ValueError(f"path must be (S, {', '.join(map(str, last.shape))}) with S steps, got {moments.shape} with "
                         f"{len(times)}")  # fmt: skip
    if not np.isfinite(moments).all() or not np.isfinite(last).all():
        raise ValueError("the embeddings hold NaN or infinity: look at the loss before drawing its space")
    if not (np.diff(times) > 0).all():
        raise ValueError(f"steps must rise from moment to moment, got {times}")
    if not np.allclose(moments[-1], last, rtol=1e-3, atol=1e-5):
        raise ValueError("path must end with audio and visual: pass path[-1][0] and path[-1][1] as the two")
    return moments, times


def _places(moments: np.ndarray, points: Any, seed: int) -> np.ndarray:
    """Where the points of each moment lie: (S, 2, B, 2)."""
    S, _, B, D = moments.shape
    wanted = (2, B, 2) if S == 1 else (S, 2, B, 2)
    if points is None and D == 2:
        return moments
    if points is None or isinstance(points, str):
        how = points or "pca"
        if S > 1 and how in ("tsne", "umap"):
            raise ValueError(
                f"points={how!r} gives each moment axes of its own, so a path could not be followed: use 'pca'"
            )
        return plane(moments.reshape(-1, D), how, seed=seed).reshape(S, 2, B, 2)
    places = _plain(points)
    if places.shape not in (wanted, (S, 2, B, 2)) or not np.isfinite(places).all():
        raise ValueError(f"points must be 'pca', 'tsne', 'umap' or finite {wanted}: sounds, then sights; "
                         f"got {places.shape}")  # fmt: skip
    return places.reshape(S, 2, B, 2)


def _named(name: str, codes: np.ndarray, kinds: Sequence[str]) -> dict[str, Any]:
    """A colouring by category: `codes` are positions in `kinds`, -1 unknown."""
    entries = [{"name": str(kind)} | kind_style(k) for k, kind in enumerate(kinds)]
    return {"name": name, "entries": entries, "values": codes.astype("<i2").tobytes()}


def _even(name: str, values: np.ndarray, low: float, high: float, *, log: bool = False) -> dict[str, Any]:
    """A colouring by number: levels 0 to 255 between `low` and `high` (with `log`, `values` are logarithms already)."""
    bottom, top = (np.log(low), np.log(high)) if log else (low, high)
    levels = 255 * (values - bottom) / ((top - bottom) or 1)
    codes = np.where(np.isfinite(levels), levels.round(), -1).astype("<i2").tobytes()
    return {"name": name, "low": float(low), "high": float(high), "log": log, "values": codes}


def _factor(name: str, values: Any, count: int) -> dict[str, Any]:
    array = np.asarray(values.detach().cpu() if isinstance(values, torch.Tensor) else values)
    if array.shape != (count,):
        raise ValueError(f"factor {name!r} must hold {count} values, one a pair, got {array.shape}")
    if array.dtype.kind in "iuf":
        array = np.where(np.isfinite(array), array, np.nan).astype(float)
        if np.isnan(array).all():
            raise ValueError(f"factor {name!r} holds no number that is finite")
        return _even(name, array, np.nanmin(array), np.nanmax(array))
    words = [None if value is None or value != value else str(value) for value in array.tolist()]
    known = sorted({word for word in words if word is not None})
    place = {word: k for k, word in enumerate(known)} | {None: -1}
    return _named(name, np.array([place[word] for word in words]), known)


def _evenly(clips: Sequence[Clip], most: int | None) -> list[int]:
    """The numbers of the clips to send, spread evenly over all: at most `most`, and no more than fit."""
    if not len(clips) or most == 0:
        return []
    if most is not None and most < 0:
        raise ValueError(f"heard must be 0 or more clips, got {most}")
    longest = max(min(clip.waveform.shape[1] / clip.sample_rate, SECONDS) for clip in clips)
    fit = int(CAP / (2 * RATE * longest + 3 * SIDE**2))  # a JPEG thumbnail is smaller than its pixels
    count = min(len(clips), fit, len(clips) if most is None else most)
    return np.linspace(0, len(clips) - 1, count).round().astype(int).tolist()


def _thumbnail(clip: Clip) -> np.ndarray:
    middle = Image.fromarray(clip.frames[len(clip.frames) // 2])
    return np.asarray(middle.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def _small(clip: Clip) -> np.ndarray:
    """The start of a clip's sound as 8 kHz 16-bit mono."""
    mono = clip.mono()[: int(SECONDS * clip.sample_rate)]
    if clip.sample_rate != RATE:
        mono = librosa.resample(mono, orig_sr=clip.sample_rate, target_sr=RATE)
    return np.round(mono.clip(-1, 1) * 32767).astype("<i2")
