"""Pairs of sound and picture, ready for training: rendered once, held as features, drawn in a fixed order.

A clip of 2 s takes 450 kB raw; as the features that the first encoders read (log-mel in float16, motion residual in
int8, motion per cell) it takes 107 kB, so thousands fit in memory. Everything here is a function of its seed: the
batch of a step does not depend on how many steps were run before, which is what lets a killed training run go on where
it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import torch

from avlab.audio import frame_energy, log_mel
from avlab.clip import Batch, Clip, collate
from avlab.datasets.stream import stream
from avlab.video import motion, motion_residual, pool_grid
from avlab.world import World

CHUNK = 8  # clips that features are made of at a time
GRID = 16  # cells a side of the motion grid kept with each pair


class Views(NamedTuple):
    """One batch for a dual encoder: `spectrogram` (B, F, T), `residual` (B, 3 + N, H, W), `label` (B,)."""

    spectrogram: torch.Tensor
    residual: torch.Tensor
    label: torch.Tensor


@dataclass
class Pairs:
    """Features of M paired clips, on the host.

    `spectrogram` float16 (M, F, T), log-mel mapped to about [-1, 1]; `residual` int8 (M, 3 + N, H, W), in 1/64;
    `loudness` float32 (M, N), the sound's level per video frame in dB of
    full scale, not below -80; `motion` float32 (M, N, 16, 16), mean absolute luminance
    change per cell; `label` int64 (M,), the place in `kinds` or -1. What CCA and the dual encoder both read.
    """

    spectrogram: torch.Tensor
    residual: torch.Tensor
    loudness: torch.Tensor
    motion: torch.Tensor
    label: torch.Tensor
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.label)

    def views(self, rows: torch.Tensor | slice = slice(None), device: torch.device | str = "cpu") -> Views:
        """Some rows as float tensors on a device."""
        return Views(
            self.spectrogram[rows].to(device).float(),
            self.residual[rows].to(device).float() / 64,
            self.label[rows].to(device),
        )

    def batches(
        self, size: int, *, seed: int, device: torch.device | str = "cpu", mirror: bool = False
    ) -> Callable[[int], Views]:
        """The batch of step `i` as a function of `i`: epochs of shuffled rows, the last incomplete batch left out.

        `mirror` swaps left and right in half of the pictures, drawn anew in each step: the sound of a mirrored scene
        is the same in one channel. Raises `ValueError` where there are fewer pairs than `size`.
        """
        per_epoch = len(self) // size if size > 0 else 0
        if per_epoch == 0:
            raise ValueError(f"{len(self)} pairs do not fill one batch of {size}: render more or lower the batch size")

        def batch(step: int) -> Views:
            epoch, place = divmod(step, per_epoch)
            order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
            views = self.views(order[place * size : (place + 1) * size], device)
            if mirror:
                turned = torch.rand(size, generator=torch.Generator().manual_seed(seed * 100_003 + step)) < 0.5
                views.residual[turned] = views.residual[turned].flip(-1)
            return views

        return batch


def level_and_motion(clip: Clip, grid: int = GRID) -> tuple[torch.Tensor, torch.Tensor]:
    """One clip of any length as two signals in time: level (1, N) in dB of full scale, motion (1, N, grid, grid).

    The level is the RMS of the mono sound in each video frame, not below -80 dB; motion is `video.motion`, averaged
    over the cells of a grid.
    """
    return _level_and_motion(collate([clip]), grid)


def _level_and_motion(batch: Batch, grid: int) -> tuple[torch.Tensor, torch.Tensor]:
    mono, N = batch.audio.mean(dim=1), batch.video.shape[1]
    energy = frame_energy(mono, sample_rate=batch.sample_rate, fps=batch.fps, frames=N)
    return 20 * energy.clamp_min(1e-4).log10(), pool_grid(motion(batch.video), grid)


def pairs_of(clips: Iterable[Clip], kinds: Sequence[str] | None = None, *, count: int | None = None) -> Pairs:
    """Features of clips of one size, rate and length; `count` says how many a stream will give (default: its length).

    Memory grows with the features only: a stream of clips is never held whole. Raises `ValueError` where there are no
    clips, another number than `count`, or clips that differ (see `avlab.clip.collate`).
    """
    count = len(clips) if count is None else count
    if count == 0:
        raise ValueError("no clips: nothing to make pairs of")
    labels: list[str | None] = []
    columns: list[torch.Tensor] = []  # filled in place: joining parts at the end would take twice the memory
    stream = iter(clips)
    first: list[Clip] = []
    while chunk := list(islice(stream, CHUNK)):
        first = first or chunk[:1]
        collate(first + chunk[:1])  # raises for a chunk of another size or rate than the first
        parts = _features(chunk)
        columns = columns or [torch.empty(count, *part.shape[1:], dtype=part.dtype) for part in parts]
        if len(labels) + len(chunk) > count:
            raise ValueError(f"more clips than the {count} announced")
        for column, part in zip(columns, parts, strict=True):
            column[len(labels) : len(labels) + len(chunk)] = part
        labels += [clip.label for clip in chunk]
    if len(labels) != count:
        raise ValueError(f"{len(labels)} clips came, {count} were announced")
    names = tuple(kinds) if kinds is not None else tuple(sorted({name for name in labels if name is not None}))
    label = torch.tensor([names.index(name) if name in names else -1 for name in labels])
    return Pairs(*columns, label, names)


def _features(clips: Sequence[Clip]) -> tuple[torch.Tensor, ...]:
    """`spectrogram`, `residual`, `loudness`, `motion` of a few clips."""
    batch = collate(clips)
    spectrogram = log_mel(batch.audio.mean(dim=1), sample_rate=batch.sample_rate, hop=batch.sample_rate // 50) / 40 + 1
    residual = (motion_residual(batch.video) * 64).round().clamp(-128, 127).to(torch.int8)
    return spectrogram.half(), residual, *_level_and_motion(batch, GRID)


def render(world: World, indices: Sequence[int], *, workers: int = 2, progress: bool = True) -> Pairs:
    """Pairs of the clips `indices` of a world, rendered by `workers` processes of one thread each (0: in this one).

    The result does not depend on `workers`. Shows a progress bar.
    """
    clips = stream(world, indices, workers=workers, truth=False, progress=progress)
    return pairs_of(clips, world.kinds, count=len(indices))
