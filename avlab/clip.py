"""The one data type: a `Clip` is a picture that moves, a sound, and what is known to be true of them.

Conventions
-----------
Time is in seconds, rates in Hz. Frame `n` covers `[n / fps, (n + 1) / fps)`. Pixels are uint8 RGB, waveforms are
float32 in [-1, 1]. Shape letters: `B` batch, `C` channels, `L` waveform samples, `N` video frames, `H W` pixels,
`O` objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # processes that only render clips start without torch
    import torch


@dataclass
class Truth:
    """What is known of a clip, where it is known; everything is optional but the number of objects is shared.

    Shapes: `masks` (O, N, H, W) bool (the visible part of each object), `moving` (O, N, H, W) bool (the part of it
    that moves when the thing sounds), `boxes` (O, N, 4) float `x0 y0 x1 y1` in [0, 1] of the picture's width and
    height, `sounding` (O, N) bool, `stems` (O, C, L) float32 (each object's own sound as the mix holds it), `dry`
    (O, L) float32 (the same before place, room and lag), `offscreen` (C, L) float32 (what sounds and is not seen),
    `azimuth` (O, N) float32 degrees from straight ahead, right positive; `flow` (N, H, W, 2) float32 px from a frame
    to the next, x then y.

    `onsets` list of `(seconds, strength, object)` as heard, `factors` one dict an object, `scene` what holds for the
    whole clip, `notes` `(start, end, MIDI number, object)` with cents as fraction, `captions` wordings of one scene,
    `phones` and `words` `(start, end, name)`, `lag` seconds by which the sound comes after the picture, `corresponds`
    False for a dubbed clip.
    """

    masks: np.ndarray | None = None
    moving: np.ndarray | None = None
    boxes: np.ndarray | None = None
    sounding: np.ndarray | None = None
    stems: np.ndarray | None = None
    dry: np.ndarray | None = None
    offscreen: np.ndarray | None = None
    azimuth: np.ndarray | None = None
    flow: np.ndarray | None = None
    onsets: list[tuple[float, float, int]] = field(default_factory=list)
    factors: list[dict[str, Any]] = field(default_factory=list)
    scene: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[float, float, float, int]] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    phones: list[tuple[float, float, str]] = field(default_factory=list)
    words: list[tuple[float, float, str]] = field(default_factory=list)
    lag: float = 0.0
    corresponds: bool = True

    def sounding_mask(self) -> np.ndarray:
        """The union of the masks of all objects that sound at some time in the clip, per frame: (N, H, W) bool.

        Raises `ValueError` where masks or `sounding` are not known.
        """
        if self.masks is None or self.sounding is None:
            raise ValueError("this clip's truth holds no masks: only clips of avlab.world know who sounds where")
        audible = self.sounding.any(axis=1)  # (O,)
        return self.masks[audible].any(axis=0)


@dataclass
class Clip:
    """A picture that moves and its sound.

    `frames` uint8 (N, H, W, 3); `waveform` float32 (C, L) in [-1, 1]; `fps` and `sample_rate` in Hz; `label` the name
    of its kind or class, if any; `source` where it comes from (a file's name, or the world and index); `start` the
    second of that source at which the clip begins. Raises `ValueError` naming the field whose shape, type or rate is
    not as said here.

    >>> clip = Clip(np.zeros((16, 8, 8, 3), np.uint8), np.zeros((1, 32000), np.float32), fps=8, sample_rate=16000)
    >>> clip.seconds, clip.times[:3].tolist()
    (2.0, [0.0, 0.125, 0.25])
    """

    frames: np.ndarray
    waveform: np.ndarray
    fps: float
    sample_rate: int
    label: str | None = None
    caption: str | None = None
    source: str = ""
    start: float = 0.0
    truth: Truth | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[-1] != 3 or self.frames.dtype != np.uint8:
            raise ValueError(f"frames must be uint8 (N, H, W, 3), got {self.frames.dtype} {self.frames.shape}")
        if self.waveform.ndim != 2 or self.waveform.dtype != np.float32:
            raise ValueError(f"waveform must be float32 (C, L), got {self.waveform.dtype} {self.waveform.shape}")
        if not (self.fps > 0 and self.sample_rate > 0):
            raise ValueError(f"fps and sample_rate must be above 0 Hz, got {self.fps} and {self.sample_rate}")
        if 0 in self.frames.shape or 0 in self.waveform.shape:
            raise ValueError(f"an empty clip: frames {self.frames.shape}, waveform {self.waveform.shape}")

    @property
    def seconds(self) -> float:
        """Duration of the picture in seconds, `N / fps`."""
        return len(self.frames) / self.fps

    @property
    def times(self) -> np.ndarray:
        """Start of each frame in seconds after the clip's own start: (N,)."""
        return np.arange(len(self.frames)) / self.fps

    def mono(self) -> np.ndarray:
        """The mean over channels: float32 (L,)."""
        return self.waveform.mean(axis=0)

    def window(self, start: float, seconds: float) -> Clip:
        """The part of the clip in `[start, start + seconds)`, without truth; raises `ValueError` if it lies outside."""
        n0, n1 = round(start * self.fps), round((start + seconds) * self.fps)
        l0, l1 = round(start * self.sample_rate), round((start + seconds) * self.sample_rate)
        if n0 < 0 or n1 > len(self.frames) or n0 >= n1 or l0 >= self.waveform.shape[1]:
            raise ValueError(f"window [{start:g}, {start + seconds:g}) s lies outside of a clip of {self.seconds:g} s")
        part = self.waveform[:, l0:l1]
        if part.shape[1] < l1 - l0:  # the sound may be a few samples shorter than the picture
            part = np.pad(part, ((0, 0), (0, l1 - l0 - part.shape[1])))
        return replace(self, frames=self.frames[n0:n1], waveform=part, start=self.start + start, truth=None)


@dataclass
class Batch:
    """Clips as stacked tensors on one device.

    `audio` float32 (B, C, L) in [-1, 1]; `video` float32 (B, N, 3, H, W) in [0, 1]; `index` int64 (B,), the position
    of each clip in its set; `label` int64 (B,), the position in `kinds`, -1 where unknown; `truth` one a clip or None.
    """

    audio: torch.Tensor
    video: torch.Tensor
    index: torch.Tensor
    label: torch.Tensor
    kinds: tuple[str, ...]
    fps: float
    sample_rate: int
    truth: list[Truth | None] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device (truth stays on the host)."""
        moved = {name: getattr(self, name).to(device) for name in ("audio", "video", "index", "label")}
        return replace(self, **moved)


def collate(
    clips: Sequence[Clip],
    *,
    kinds: Sequence[str] | None = None,
    index: Sequence[int] | None = None,
    device: torch.device | str = "cpu",
) -> Batch:
    """Stack clips of one size and rate into a `Batch`.

    `kinds` gives the order of the labels (default: the sorted labels found). Raises `ValueError` where clips differ in
    size or rate, naming the first that differs, or where there are none.

    >>> clip = Clip(np.zeros((3, 5, 7, 3), np.uint8), np.zeros((1, 11), np.float32), fps=8, sample_rate=16000)
    >>> collate([clip, clip]).video.shape
    torch.Size([2, 3, 3, 5, 7])
    """
    import torch

    if not clips:
        raise ValueError("no clips to stack: the list is empty")
    first = clips[0]
    for i, clip in enumerate(clips):
        if clip.frames.shape != first.frames.shape or clip.waveform.shape != first.waveform.shape:
            raise ValueError(
                f"clip {i} ({clip.source or 'no source'}) has frames {clip.frames.shape} and waveform "
                f"{clip.waveform.shape}, clip 0 has {first.frames.shape} and {first.waveform.shape}: "
                "read them with one size, fps and window"
            )
        if (clip.fps, clip.sample_rate) != (first.fps, first.sample_rate):
            raise ValueError(f"clip {i} runs at {clip.fps} fps, {clip.sample_rate} Hz; clip 0 differs")
    names = tuple(kinds) if kinds is not None else tuple(sorted({c.label for c in clips if c.label is not None}))
    places = {name: place for place, name in enumerate(names)}
    frames = torch.from_numpy(np.stack([c.frames for c in clips])).to(device)  # (B, N, H, W, 3)
    return Batch(
        audio=torch.from_numpy(np.stack([c.waveform for c in clips])).to(device),
        video=frames.permute(0, 1, 4, 2, 3).float() / 255,  # (B, N, 3, H, W)
        index=torch.as_tensor(list(index) if index is not None else range(len(clips)), device=device),
        label=torch.tensor([places.get(c.label, -1) for c in clips], device=device),
        kinds=names,
        fps=first.fps,
        sample_rate=first.sample_rate,
        truth=[c.truth for c in clips],
    )
