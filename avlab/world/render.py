"""From a scene to a `Clip`: frames, masks, stems and the mix, and worlds of numbered clips.

Clip `i` is a function of the world's settings, its seed and `i` alone: one `Generator(Philox)` keyed by seed and
index, no global state, so any process renders the same bytes in any order.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from avlab import media
from avlab.clip import Batch, Clip, Truth, collate
from avlab.world import drawing, sounds
from avlab.world.scenes import FACTORS, KINDS, Thing, make_scene

LEVELS = ("L0", "L1", "L2")
SNR_DB = {"L1": (15.0, 30.0), "L2": (10.0, 25.0)}  # noise below the mix; L0 has none


@dataclass(frozen=True)
class World:
    """A small audio-visual world in which what is heard is caused by what is seen.

    `level` "L0" (one centred object, no noise), "L1" (anywhere, with noise) or "L2" (and up to two silent
    look-alikes); `split` "iid"; `size` px a side; `fps` and `sample_rate` in Hz; `seconds` a clip; `kinds` a choice of
    `world.KINDS` (default all). Raises `ValueError` naming the setting and what it may be.

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
        object.__setattr__(self, "kinds", tuple(KINDS) if self.kinds is None else tuple(self.kinds))
        unknown = [k for k in self.kinds if k not in KINDS]
        lowest = 16000 if "bird" in self.kinds else 8000
        checks = (
            (self.level in LEVELS, f"level={self.level!r} is not one of {', '.join(LEVELS)}"),
            (self.split == "iid", f"split={self.split!r} is not one of iid"),
            (self.seed >= 0, f"seed={self.seed} must be 0 or more"),
            (16 <= self.size <= 512, f"size={self.size} must lie between 16 and 512 px"),
            (1 <= self.fps <= 60, f"fps={self.fps} must lie between 1 and 60 Hz"),
            (0.5 <= self.seconds <= 30, f"seconds={self.seconds} must lie between 0.5 and 30 s"),
            (self.fps * self.seconds > 0.5, f"seconds={self.seconds} at fps={self.fps} holds no frame: raise either"),
            (
                lowest <= self.sample_rate <= 96000,
                f"sample_rate={self.sample_rate} must lie between {lowest} and 96000 Hz: "
                "birds sing up to 7.6 kHz and need 16000, the other kinds 8000",
            ),
            (not unknown, f"kinds={unknown} are not among {', '.join(KINDS)}"),
            (len(self.kinds) > 0, "kinds is empty: name at least one"),
        )
        for good, message in checks:
            if not good:
                raise ValueError(f"World: {message}")

    @property
    def factors(self) -> tuple[str, ...]:
        """Names of the factors in `truth.factors` of each object."""
        return FACTORS

    def clip(self, i: int) -> Clip:
        """Clip `i` (0 or more), with its truth."""
        if i < 0:
            raise ValueError(f"World.clip({i}): indices start at 0")
        rng = np.random.Generator(np.random.Philox(key=[self.seed, i]))
        things = make_scene(LEVELS.index(self.level), self.kinds, rng, seconds=self.seconds)
        still = drawing.background(rng, self.size, plain=self.level == "L0")
        frames, owners = draw(things, still, self.fps, self.seconds)
        stems = [voice(t, self.seconds, self.sample_rate, rng) for t in things]
        stereo = np.stack([pan(s, t.spot["x"]) for s, t in zip(stems, things, strict=True)])  # (O, C, L)
        loudness = 10 ** (rng.uniform(-37, -27) / 20)  # root mean square of the mix: loudness tells no kind
        mix = stereo.sum(axis=0)
        level, peak = np.sqrt((mix**2).mean()), np.abs(mix).max()
        stereo *= min(loudness / level, 0.95 / peak)  # the pluck of a string may peak 30 dB above its mean
        mix = stereo.sum(axis=0)
        if self.level in SNR_DB:
            noise = rng.standard_normal(mix.shape, np.float32)
            noise = noise + np.roll(noise, 1, axis=1)  # tilted towards low frequencies, as rooms are
            snr = rng.uniform(*SNR_DB[self.level])
            mix = mix + noise * (np.sqrt((mix**2).mean() / (noise**2).mean()) * 10 ** (-snr / 20))
        mix = np.clip(mix, -1, 1).astype(np.float32)
        source = f"world {self.level}/{self.split} seed {self.seed} clip {i}"
        truth = truth_of(things, owners, stereo, self.fps, self.sample_rate)
        return Clip(frames, mix, self.fps, self.sample_rate, things[0].kind, caption(things), source, 0.0, truth)

    def batch(self, indices: Sequence[int]) -> Batch:
        """Several clips as one `Batch`, labelled by their place in `kinds`."""
        return collate([self.clip(int(i)) for i in indices], kinds=self.kinds, index=indices)


def draw(things: Sequence[Thing], still: np.ndarray, fps: float, seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, H, W, 3) and owners (N, H, W): frame `n` shows the world at `n / fps`; the first lies in front."""
    N = round(fps * seconds)
    frames = np.empty((N, *still.shape), np.uint8)
    owners = np.empty((N, *still.shape[:2]), np.uint8)
    for n in range(N):
        canvas = drawing.Canvas(still)
        for o in reversed(range(len(things))):
            thing = things[o]
            drawing.DRAW[thing.kind](canvas, thing.spot, 2 * o + 1, thing.events, n / fps)
        frames[n], owners[n] = canvas.pixels, canvas.owners
    return frames, owners


def voice(thing: Thing, seconds: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """The dry mono stem of one object, its root mean square 0.1; silent look-alikes: 0."""
    if not thing.sounds:
        return np.zeros(round(seconds * sample_rate), np.float32)
    shared = {"f0": thing.f0, "seconds": seconds, "sample_rate": sample_rate}
    if thing.kind == "bird":
        stem = sounds.sung(thing.events, **thing.voice, **shared)
    elif thing.kind == "string":
        stem = sounds.plucked(thing.events, pick=thing.spot["pick"], material=thing.spot["material"], rng=rng, **shared)
    else:
        ratios = sounds.BAR_RATIOS if thing.kind == "bar" else sounds.MEMBRANE_RATIOS
        stem = sounds.struck(thing.events, ratios=ratios, material=thing.spot["material"], **shared)
    return stem * (0.1 / max(float(np.sqrt((stem**2).mean())), 1e-9))


def pan(stem: np.ndarray, x: float) -> np.ndarray:
    """A mono stem in two channels (C, L) of equal power: `cos` and `sin` of `x pi / 2`, x 0 left to 1 right."""
    return np.stack([stem * np.cos(x * np.pi / 2), stem * np.sin(x * np.pi / 2)])


def truth_of(things: Sequence[Thing], owners: np.ndarray, stereo: np.ndarray, fps: float, sample_rate: int) -> Truth:
    """Masks and boxes from the owners, sounding frames from the stems, onsets and factors from the scene."""
    O, N = len(things), len(owners)
    body = 2 * np.arange(O, dtype=np.uint8)[:, None, None, None] + 1
    moving = owners[None] == body + 1  # (O, N, H, W)
    masks = (owners[None] == body) | moving
    frame_of = (np.arange(stereo.shape[-1]) * fps / sample_rate + 1e-9).astype(int)  # beyond N: after the last frame
    power = np.stack([np.bincount(frame_of, s, minlength=N)[:N] for s in (stereo**2).sum(axis=1)])  # (O, N)
    sounding = power > 1e-4 * np.maximum(power.max(axis=1, keepdims=True), 1e-12)  # within 40 dB of its loudest frame
    factors = [
        {
            "kind": t.kind, "family": KINDS[t.kind].family, "size": t.spot["radius"], "f0": t.f0, "sounds": t.sounds,
            "moves": [e.time for e in t.events],
            **{name: t.spot[name] for name in ("material", "x", "y", "colour", "tilt", "pick")}, **t.voice,
        }
        for t in things
    ]  # fmt: skip
    onsets = sorted((e.time, e.strength, o) for o, t in enumerate(things) if t.sounds for e in t.events)
    return Truth(
        masks=masks, moving=moving, boxes=boxes_of(masks), sounding=sounding, stems=stereo.astype(np.float32),
        onsets=onsets, factors=factors, captions=[caption(things)],
    )  # fmt: skip


def boxes_of(masks: np.ndarray) -> np.ndarray:
    """Tight boxes (O, N, 4) `x0 y0 x1 y1` in [0, 1] around masks (O, N, H, W); all 0 where nothing of it is seen."""
    H, W = masks.shape[-2:]
    rows, columns = masks.any(axis=-1), masks.any(axis=-2)
    seen = rows.any(axis=-1)
    edges = [columns.argmax(-1) / W, rows.argmax(-1) / H]
    edges += [1 - columns[..., ::-1].argmax(-1) / W, 1 - rows[..., ::-1].argmax(-1) / H]
    return np.stack(edges, axis=-1) * seen[..., None]


def caption(things: Sequence[Thing]) -> str:
    """One sentence: what sounds, of what, where, and what stays silent."""
    t = things[0]
    size = "small" if t.spot["radius"] < 13 / 64 else "large" if t.spot["radius"] > 15 / 64 else "middle-sized"
    side = "left" if t.spot["x"] < 0.4 else "right" if t.spot["x"] > 0.6 else "middle"
    silent = [f"a silent {other.kind}" for other in things[1:]]
    return f"a {size} {t.spot['material']} {t.kind} sounds on the {side}" + (
        f", beside {' and '.join(silent)}" if silent else ""
    )


def export(directory: str | Path, *, clips: int = 20, size: int = 64, **settings: Any) -> list[Path]:
    """Write the first `clips` clips of a world as media files (H.264 and AAC in mp4), the truth as JSON beside each.

    Also writes `labels.csv` (file, label, caption), which `datasets.folder.scan` reads. The JSON holds boxes, sounding
    frames, onsets and factors. Returns the paths of the media files.
    """
    world = World(size=size, **settings)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    paths, rows = [], []
    for i in range(clips):
        clip = world.clip(i)
        path = folder / f"{i:03d}_{clip.label}.mp4"
        media.write(clip, path)
        truth = clip.truth
        known = {
            "source": clip.source, "label": clip.label, "caption": clip.caption, "fps": clip.fps,
            "boxes": np.round(truth.boxes, 4).tolist(), "sounding": truth.sounding.astype(int).tolist(),
            "onsets": truth.onsets, "factors": truth.factors,
        }  # fmt: skip
        path.with_suffix(".json").write_text(json.dumps(known))
        paths.append(path)
        rows.append([path.name, clip.label, clip.caption])
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "label", "caption"], *rows])
    return paths


def without_truth(world: World, indices: Sequence[int]) -> list[Clip]:
    """Several clips, mono and without truth: most of the bytes between processes, and training needs none."""
    clips = [world.clip(i) for i in indices]
    return [replace(clip, waveform=clip.mono()[None], truth=None) for clip in clips]


cv2.setNumThreads(0)  # clips are small: OpenCV's threads cost more than they give, and many processes would fight
