"""From a scene to a `Clip`: frames, masks, flow, stems and the mix, and worlds of numbered clips.

Clip `i` is a function of the world's settings, its seed and `i` alone: every random stream is keyed by seed and index,
there is no global state, so any process renders the same bytes in any order. Waveforms lie on the grid of 16-bit
sound, flow on steps of 1/128 px: storing them loses nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avlab import media
from avlab.clip import Batch, Clip, Truth, collate
from avlab.world import sounds
from avlab.world.captions import wordings
from avlab.world.drawing import Part, Sketch, backdrop, flow_of, rasterise
from avlab.world.families import KINDS
from avlab.world.scenes import (
    LEVELS,
    RINGING,
    SHARED,
    SPLITS,
    WHOLE,
    Scene,
    Streams,
    Thing,
    another,
    changed,
    make_scene,
    streams,
)

MOST_PIXELS = 100e6  # of a clip's frames together


@dataclass(frozen=True)
class World:
    """A small audio-visual world in which what is heard is caused by what is seen.

    `level` "L0" (one centred object, no noise), "L1" (anywhere, with noise), "L2" (and up to two silent look-alikes),
    "L3" (two sources, sounds from outside the picture, a room that reverberates, loud noise) or "L4" (and dubbed,
    lagging and occluded clips, unseen combinations). `split` "iid", "compositional" (kinds in materials that iid never
    shows), "extrapolation" (sizes that iid never shows) or "counterfactual" (clip `2k` is clip `k` of iid, clip
    `2k + 1` the same with one factor changed, named in `truth.scene["changed"]`). `size` px a side; `fps` and
    `sample_rate` in Hz; `seconds` a clip; `kinds` a choice of `world.KINDS` (default all). A clip is labelled by the
    kind of the thing in front: the only one that sounds, or the loudest of those that are seen. Raises `ValueError`
    naming the setting and what it may be; a clip holds at most 100 million pixels (about 2.5 GB with its truth).

    >>> world = World(level="L1", seed=0)
    >>> clip = world.clip(3)
    >>> clip.frames.shape, clip.waveform.shape, clip.label in world.kinds
    ((16, 64, 64, 3), (2, 32000), True)
    """

    level: str = "L2"
    split: str = "iid"
    seed: int = 0
    size: int = 64
    fps: float = 8
    seconds: float = 2.0
    sample_rate: int = 16000
    kinds: Sequence[str] | None = None

    def __post_init__(self) -> None:
        kinds = (self.kinds,) if isinstance(self.kinds, str) else KINDS if self.kinds is None else self.kinds
        object.__setattr__(self, "kinds", tuple(kinds))
        unknown = [k for k in self.kinds if k not in KINDS]
        known = [k for k in self.kinds if k in KINDS]
        shrill = max(known, key=lambda k: KINDS[k].highest, default=None)
        lowest = 2 * KINDS[shrill].highest if shrill else 0
        sources = LEVELS[self.level].sources if self.level in LEVELS else 1
        for name in ("seed", "size", "sample_rate"):
            if not isinstance(getattr(self, name), Integral):
                raise ValueError(f"World: {name}={getattr(self, name)!r} must be a whole number")
        checks = (
            (self.level in LEVELS, f"level={self.level!r} is not one of {', '.join(LEVELS)}"),
            (self.split in SPLITS, f"split={self.split!r} is not one of {', '.join(SPLITS)}"),
            (0 <= self.seed < 2**63, f"seed={self.seed} must be 0 or more"),
            (16 <= self.size <= 512, f"size={self.size} must lie between 16 and 512 px"),
            (1 <= self.fps <= 240, f"fps={self.fps} must lie between 1 and 240 Hz"),
            (0.5 <= self.seconds <= 30, f"seconds={self.seconds} must lie between 0.5 and 30 s"),
            (self.fps * self.seconds > 0.5, f"seconds={self.seconds} at fps={self.fps} holds no frame: raise either"),
            (
                self.fps * self.seconds * self.size**2 <= MOST_PIXELS,
                f"size={self.size}, fps={self.fps} and seconds={self.seconds} make a clip of more than "
                f"{MOST_PIXELS / 1e6:.0f} million pixels: lower one of them",
            ),
            (not unknown, f"kinds={unknown} are not among {', '.join(KINDS)}"),
            (len(self.kinds) > 0, "kinds is empty: name at least one"),
            (
                lowest <= self.sample_rate <= 96000,
                f"sample_rate={self.sample_rate} must lie between {lowest:.0f} and 96000 Hz: "
                f"a {shrill} sounds up to {lowest / 2:.0f} Hz; raise it, or leave that kind out",
            ),
            (
                len(set(self.kinds)) >= sources,
                f"level={self.level!r} has {sources} sources of different kinds, kinds={self.kinds} names "
                f"{len(set(self.kinds))}: name {sources} or more, or take level {', '.join(_levels_of_one())}",
            ),
            (
                self.split != "compositional" or len(self._scene_kinds()) >= sources,
                f"split='compositional' needs {sources} of the kinds with materials held out of iid: "
                f"{', '.join(k for k in KINDS if KINDS[k].held_out)}",
            ),
        )
        for good, message in checks:
            if not good:
                raise ValueError(f"World: {message}")

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of all factors that `counterfactual` may set: what every thing has, what some kinds have, what the
        whole clip has. Those of an object stand in `truth.factors`, those of the clip in `truth.scene`."""
        own = dict.fromkeys(name for kind in self.kinds for name in KINDS[kind].ranges)
        return (*SHARED, *own, *WHOLE)

    def _scene_kinds(self) -> tuple[str, ...]:
        if self.split != "compositional":
            return self.kinds
        return tuple(k for k in self.kinds if k in KINDS and KINDS[k].held_out)

    def _made(self, i: int) -> tuple[Scene, Streams, dict[str, Any]]:
        if not 0 <= i < 2**63:
            raise ValueError(f"World.clip({i}): indices start at 0")
        pairs = self.split == "counterfactual"  # clips 2k and 2k + 1 come from scene k of iid
        settings = {"level": self.level, "split": "iid" if pairs else self.split, "seconds": self.seconds}
        stream = streams(self.seed, i // 2 if pairs else i)
        return make_scene(self._scene_kinds(), stream, **settings), stream, settings

    def clip(self, i: int) -> Clip:
        """Clip `i` (0 or more), with its truth."""
        scene, stream, settings = self._made(i)
        if self.split == "counterfactual" and i % 2:
            factor, value = another(scene, self.kinds, stream("another"))
            return self._changed(scene, stream, settings, i - 1, factor, value, 0)
        return self._render(scene, stream, f"clip {i}")

    def causes(self, i: int) -> list[dict[str, Any]]:
        """What clip `i` is made of, without drawing or sounding it: one dict of factors a thing, with its `kind`.

        The first thing is the one that sounds; all of them as in `truth.factors`, but without what follows from them.
        """
        scene, stream, settings = self._made(i)
        if self.split == "counterfactual" and i % 2:
            factor, value = another(scene, self.kinds, stream("another"))
            scene = changed(scene, factor, value, o=0, stream=stream, **settings)
        return [{"kind": thing.kind, **thing.factors} for thing in scene.things]

    def counterfactual(self, i: int, factor: str, value: Any, *, object: int = 0) -> Clip:
        """Clip `i` with one factor of one object (or of the whole clip) set to `value`, and all else as it was.

        What the factor causes follows it (a larger bar is lower, a new kind brings its own sound, events and
        material); no other cause changes, down to the noise. Raises `ValueError` that names the factor and what it
        may be.

        >>> world = World(level="L1", seed=0, kinds=["bird"])
        >>> a, b = world.clip(0), world.counterfactual(0, "colour", (255, 0, 0))
        >>> bool((a.waveform == b.waveform).all()), bool((a.frames == b.frames).all())
        (True, False)
        """
        return self._changed(*self._made(i), i, factor, value, object)

    def _changed(
        self, scene: Scene, stream: Streams, settings: dict[str, Any], i: int, factor: str, value: Any, object: int
    ) -> Clip:
        new = changed(scene, factor, value, o=object, stream=stream, **settings)
        clip = self._render(new, stream, f"clip {i} with {factor}={value}")
        clip.truth.scene["changed"] = {"clip": i, "object": object, "factor": factor, "value": value}
        return clip

    def batch(self, indices: Sequence[int]) -> Batch:
        """Several clips as one `Batch`, labelled by their place in `kinds`."""
        return collate([self.clip(int(i)) for i in indices], kinds=self.kinds, index=indices)

    def _render(self, scene: Scene, stream: Streams, name: str) -> Clip:
        N, L = round(self.fps * self.seconds), round(self.seconds * self.sample_rate)
        picture = draw(scene, stream, self.level, self.size, np.arange(N + 1) / self.fps)
        sound = mixed(scene, stream, L, self.sample_rate)
        truth = truth_of(scene, picture, sound, self.fps, self.sample_rate)
        source = f"world {self.level}/{self.split} seed {self.seed} {name}"
        label, caption = scene.things[0].kind, truth.captions[0]
        return Clip(picture["frames"], sound["mix"], self.fps, self.sample_rate, label, caption, source, 0.0, truth)


def _levels_of_one() -> list[str]:
    return [name for name, level in LEVELS.items() if level.sources == 1]


def where(thing: Thing, times: np.ndarray) -> float | np.ndarray:
    """The x of a thing in the picture, from 0 left to 1 right: one number, or one a time where it travels."""
    path = KINDS[thing.kind].path
    return thing.factors["x"] if path is None else path(thing.factors, thing.events, times)


def heard(thing: Thing) -> bool:
    """Whether a thing makes a sound in this clip: what does nothing is silent."""
    return thing.sounds and bool(thing.events)


def draw(scene: Scene, stream: Streams, level: str, size: int, times: np.ndarray) -> dict[str, np.ndarray]:
    """`frames` (N, H, W, 3), `owners` (N, H, W), `flow` (N, H, W, 2) of a scene at N + 1 times; the last is for flow.

    Owners: `2 o + 1` where the body of object `o` is seen, `2 o + 2` where its moving part is, 0 for what is no object.
    """
    parts: list[Part] = []
    for o, thing in reversed(list(enumerate(scene.things))):
        sketch = Sketch(thing.factors, times, owner=o, x=where(thing, times))
        KINDS[thing.kind].look(sketch, thing.factors, thing.events, times)
        parts += sketch.parts
    if scene.occluder is not None:
        parts.append(_occluder(scene.occluder, times))
    still = backdrop(np.random.Generator(np.random.Philox(scene.backdrop)), size, plain=level == "L0")
    if scene.room is not None:
        still = _room(still, scene.room)
    N = len(times) - 1
    frames, ids = rasterise(parts, still, N)
    owners = np.zeros((N, 256), np.uint8)
    for k, part in enumerate(parts):
        if part.owner >= 0:
            owners[:, k + 1] = 2 * part.owner + 1 + np.broadcast_to(part.moving, len(times))[:N]
    seen = np.stack([cv2.LUT(frame, row) for row, frame in zip(owners, ids, strict=True)])
    for frame, light in zip(frames, _lamp(times[:N], stream("lamp")), strict=True):
        cv2.convertScaleAbs(frame, frame, 1 + scene.flicker * light)
    return {"frames": frames, "owners": seen, "flow": flow_of(parts, ids)}


def _lamp(times: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """How the light departs from its mean at `times`: four slow sines of random rate, mean square 1 over long times."""
    rates, phases = rng.uniform(0.7, 3.5, (4, 1)), rng.uniform(0, 2 * np.pi, (4, 1))
    return np.sin(2 * np.pi * rates * times + phases).sum(axis=0) / np.sqrt(2)


def _occluder(panel: dict[str, Any], times: np.ndarray) -> Part:
    """A plain panel in front of everything, from edge to edge, that may slide."""
    centre = panel["x" if panel["upright"] else "y"] + panel["speed"] * (times - times.mean())
    low, high = centre - panel["width"] / 2, centre + panel["width"] / 2
    ends = [(low, -0.1), (high, -0.1), (high, 1.1), (low, 1.1)]
    points = np.stack([np.stack(np.broadcast_arrays(a, b), -1) for a, b in ends], axis=1)  # (T, 4, 2)
    return Part("polygon", points if panel["upright"] else points[..., ::-1], panel["colour"], 0.0, False, True, -1)


def _room(still: np.ndarray, side: float) -> np.ndarray:
    """The backdrop as the five visible walls of a cubic room of `side` m: the larger, the smaller its far wall looks.

    Seen from 1.5 m before its open side: the far wall's share of the picture is `1.5 / (1.5 + side)`.
    """
    size, half = len(still), 0.5 * 1.5 / (1.5 + side)
    near, far = (
        [(0, 0), (1, 0), (1, 1), (0, 1)],
        [(0.5 + i * half, 0.5 + j * half) for i, j in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
    )
    light = np.ones((size, size), np.float32)
    walls = [(1.15, 0), (0.9, 1), (0.75, 2), (0.85, 3)]  # ceiling, right, floor, left
    for gain, k in walls:
        corners = np.array([near[k], near[(k + 1) % 4], far[(k + 1) % 4], far[k]]) * size - 0.5
        cv2.fillConvexPoly(light, np.rint(corners * 16).astype(np.int32), gain, cv2.LINE_8, 4)
    return np.clip(still * light[..., None], 0, 255).astype(np.uint8)


def mixed(scene: Scene, stream: Streams, L: int, sample_rate: int) -> dict[str, np.ndarray | None]:
    """`mix` (C, L), `stems` (O, C, L) as the mix holds them, `dry` (O, L), `offscreen` (C, L) or None, on the grid.

    The mix is the exact sum of stems, what is off screen, and noise. Each source peaks at `scene.ceiling` at most.
    """
    late = round(scene.lag * sample_rate)
    answer = sounds.room_response(scene.room, sample_rate, stream("room")) if scene.room is not None else None
    times = np.arange(L) / sample_rate

    def voice(thing: Thing) -> tuple[np.ndarray, np.ndarray]:
        settings = {"seconds": L / sample_rate, "sample_rate": sample_rate, "rng": stream("voice", thing.number)}
        dry = KINDS[thing.kind].sound(thing.factors, thing.events, **settings)
        dry = sounds.levelled(dry, thing.factors["loudness"], scene.ceiling)
        wet = sounds.delayed(sounds.pan(dry, where(thing, times)), late)
        if answer is not None:
            wet = sounds.in_room(wet, sounds.delayed(dry, late), answer)
        return sounds.on_grid(dry), sounds.on_grid(wet)

    O = len(scene.things)
    dry, stems, mix = np.zeros((O, L), np.float32), np.zeros((O, 2, L), np.float32), np.zeros((2, L), np.float32)
    for o, thing in enumerate(scene.things):
        if heard(thing):
            dry[o], stems[o] = voice(thing)
            mix += stems[o]
    offscreen = sum(voice(thing)[1] for thing in scene.unseen) if scene.unseen else None
    mix = mix if offscreen is None else mix + offscreen
    if scene.snr is not None:
        noise = stream("noise").standard_normal(mix.shape, np.float32)
        noise[:, 1:] = noise[:, 1:] + noise[:, :-1]  # tilted towards low frequencies, as rooms are
        level = scene.reference - scene.snr  # dB of full scale
        mix = mix + sounds.on_grid(noise * np.float32(10 ** (level / 20) / np.sqrt(2)))
    return {"mix": np.clip(mix, -1, 1 - sounds.STEP), "stems": stems, "dry": dry, "offscreen": offscreen}


@lru_cache(maxsize=8)
def _frame_of(L: int, fps: float, sample_rate: int) -> np.ndarray:
    """The video frame that each sample falls into: (L,); beyond the last frame where the sound is longer."""
    return (np.arange(L) * fps / sample_rate + 1e-9).astype(int)


def truth_of(scene: Scene, picture: dict, sound: dict, fps: float, sample_rate: int) -> Truth:
    """Masks and boxes from the owners, sounding frames from the stems, onsets and the rest from the scene."""
    O, owners, things, lag = len(scene.things), picture["owners"], scene.things, scene.lag
    N, L = len(owners), sound["mix"].shape[1]
    body = 2 * np.arange(O, dtype=np.uint8)[:, None, None, None] + 1
    moving = owners[None] == body + 1  # (O, N, H, W)
    masks = (owners[None] == body) | moving
    audible = [(o, t) for o, t in enumerate(things) if heard(t)]
    frame_of, sounding = _frame_of(L, fps, sample_rate), np.zeros((O, N), bool)
    for o, _ in audible:
        late = sounds.delayed(sound["dry"][o], round(lag * sample_rate)).astype(float)
        power = np.bincount(frame_of, late**2, minlength=N)[:N]
        sounding[o] = power > 1e-4 * max(power.max(), 1e-12)  # within 40 dB of its loudest frame
    middles = (np.arange(N) + 0.5) / fps
    azimuth = np.stack([np.broadcast_to(np.clip(where(t, middles), 0, 1), N) for t in things]) * 90 - 45
    onsets = sorted((e.time + lag, e.strength, o) for o, t in audible for e in t.events)
    phones, words = _spoken([t for _, t in audible], lag)
    return Truth(
        masks=masks, moving=moving, boxes=boxes_of(masks), sounding=sounding, stems=sound["stems"], dry=sound["dry"],
        offscreen=sound["offscreen"], azimuth=azimuth.astype(np.float32), flow=picture["flow"],
        onsets=[onset for onset in onsets if 0 <= onset[0] < L / sample_rate],
        factors=[_facts(thing) for thing in things], scene=_facts_of_all(scene), notes=_notes(audible, lag),
        captions=wordings(scene), phones=phones, words=words, lag=lag, corresponds=not scene.dubbed,
    )  # fmt: skip


def _facts(thing: Thing) -> dict[str, Any]:
    kind = KINDS[thing.kind]
    return {
        "kind": thing.kind, "family": kind.family, "f0": float(kind.pitch(thing.factors)), "sounds": thing.sounds,
        **thing.factors, "events": [tuple(event) for event in thing.events],
    }  # fmt: skip


def _facts_of_all(scene: Scene) -> dict[str, Any]:
    """What holds for the whole clip. `xor`: the front thing rings on (heard) XOR leans to the right (seen).

    It is known for painted things of kinds of which iid shows as many materials that ring as others: paint hides the
    material, so that neither sense alone can tell it.
    """
    front = scene.things[0]
    kind, material = KINDS[front.kind], front.factors["material"]
    usual = [m for m in kind.materials if m not in kind.held_out]
    balanced = 2 * sum(m in RINGING for m in usual) == len(usual) and material in usual
    hidden = front.factors["coat"] == "painted" and balanced and front.sounds
    xor = (material in RINGING) != (front.factors["tilt"] > 0) if hidden else None
    return {
        "backdrop": scene.backdrop, "flicker": scene.flicker, "snr": scene.snr, "room": scene.room, "lag": scene.lag,
        "occluder": scene.occluder, "dubbed": scene.dubbed, "offscreen": [_facts(thing) for thing in scene.unseen],
        "xor": xor, "reverberation": None if scene.room is None else sounds.reverberation_time(scene.room),
    }  # fmt: skip


def _notes(audible: list[tuple[int, Thing]], lag: float) -> list[tuple[float, float, float, int]]:
    """Notes of all that plays some, as heard."""
    played = [(o, t, KINDS[t.kind].notes) for o, t in audible]
    return sorted((a + lag, b + lag, n, o) for o, t, notes in played if notes for a, b, n in notes(t.factors, t.events))


def _spoken(audible: list[Thing], lag: float) -> tuple[list, list]:
    """Phones and words of the first one that speaks, as heard."""
    for thing in audible:
        spoken = KINDS[thing.kind].words
        if spoken is not None:
            both = spoken(thing.factors, thing.events)
            return tuple([(a + lag, b + lag, name) for a, b, name in part] for part in both)
    return [], []


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Tight boxes (O, N, 4) `x0 y0 x1 y1` in [0, 1] around masks (O, N, H, W); all 0 where nothing of it is seen."""
    H, W = masks.shape[-2:]
    rows, columns = masks.any(axis=-1), masks.any(axis=-2)
    seen = rows.any(axis=-1)
    edges = [columns.argmax(-1) / W, rows.argmax(-1) / H]
    edges += [1 - columns[..., ::-1].argmax(-1) / W, 1 - rows[..., ::-1].argmax(-1) / H]
    return np.stack(edges, axis=-1) * seen[..., None]


def export(
    directory: str | Path, *, clips: int = 20, size: int = 64, lossless_audio: bool = False, **settings: Any
) -> list[Path]:
    """Write the first `clips` clips of a world as media files (H.264 and AAC or FLAC in mp4), the truth as JSON beside.

    Also writes `labels.csv` (file, label, caption), which `datasets.folder.scan` reads. The JSON holds boxes, sounding
    frames, onsets, notes, words, captions and all factors. Returns the paths of the media files. Raises `ValueError`
    for fewer than one clip.
    """
    if clips < 1:
        raise ValueError(f"clips={clips}: export at least one")
    world = World(size=size, **settings)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths, rows = [], []
    for i in range(clips):
        clip = world.clip(i)
        path = folder / f"{i:03d}_{clip.label}.mp4"
        media.write(clip, path, lossless_audio=lossless_audio)
        truth = clip.truth
        known = {
            "source": clip.source, "label": clip.label, "captions": truth.captions, "fps": clip.fps,
            "boxes": np.round(truth.boxes, 4).tolist(), "sounding": truth.sounding.astype(int).tolist(),
            "azimuth": np.round(truth.azimuth, 1).tolist(), "onsets": truth.onsets, "notes": truth.notes,
            "phones": truth.phones, "words": truth.words, "lag": truth.lag, "corresponds": truth.corresponds,
            "factors": truth.factors, "scene": truth.scene,
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(known))
        paths.append(path)
        rows.append([path.name, clip.label, clip.caption])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "caption"], *rows])
    return paths
