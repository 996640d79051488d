"""A vector of plain features for each sound and each picture, on which small projectors learn in seconds.

What they hold: the spectrum of a sound and when it is loud; the colours of a picture, when it moves, and where. What
caused them, the world knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from avlab.datasets.pairs import Pairs, render
from avlab.video import pool_grid
from avlab.world import World


@dataclass
class Features:
    """`audio` (M, D1), `visual` (M, D2), row `i` of both from one clip; `label` (M,), its place in `kinds`.

    `causes` maps the name of a cause of the clip's first thing ("size", "x", "y", "material") to (M,) float32;
    materials by their place in `materials`. Empty where causes are not known. Whole encoders take the clips themselves
    (`world_clips`): spectrograms (M, F, T) in place of `audio`, motion residuals (M, 3 + N, H, W) of `visual`.
    """

    audio: torch.Tensor
    visual: torch.Tensor
    label: torch.Tensor
    kinds: tuple[str, ...]
    causes: dict[str, torch.Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.label)

    def to(self, device: torch.device | str) -> Features:
        """The same on a device."""
        causes = {name: values.to(device) for name, values in self.causes.items()}
        return Features(self.audio.to(device), self.visual.to(device), self.label.to(device), self.kinds, causes)

    def rows(self, rows: torch.Tensor | slice) -> Features:
        """Some of the clips."""
        causes = {name: values[rows] for name, values in self.causes.items()}
        return Features(self.audio[rows], self.visual[rows], self.label[rows], self.kinds, causes)


def paired_features(pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Sounds (M, F + N): mean spectrum, level in time. Pictures (M, 3 + N + 64): colours, motion in time, and where.

    Level and motion in time have mean 0 and standard deviation 1 within each clip: it is their shape that both senses
    share. Motion is taken beyond that of the median place, so that a lamp that flickers over the whole picture does not
    count, and in time from the four places of 64 that move most.
    """
    level = _shape(pairs.loudness, 0.5)
    colour = pairs.residual[:, :3].float().mean((2, 3)) / 64
    own = pool_grid(pairs.motion, 8).flatten(2)  # (M, N, 64)
    own = own - own.median(2, keepdim=True).values
    when = _shape(own.topk(4, dim=2).values.mean(2), 1e-4)
    audio = torch.cat([pairs.spectrogram.float().mean(2), level], 1)
    return audio, torch.cat([colour, when, 30 * own.clamp_min(0).mean(1)], 1)


def _shape(signal: torch.Tensor, least: float) -> torch.Tensor:
    """A signal (M, N) in time with mean 0 and standard deviation 1; one that hardly varies stays small."""
    return (signal - signal.mean(1, keepdim=True)) / signal.std(1, keepdim=True).clamp_min(least)


def standardised(train: Features, *others: Features) -> tuple[Features, ...]:
    """All with mean 0 and standard deviation 1 of each feature on `train`; a feature that never varies becomes 0."""
    done = []
    for one in (train, *others):
        scaled = []
        for own, known in ((one.audio, train.audio), (one.visual, train.visual)):
            spread = known.std(0)
            scaled.append((own - known.mean(0)) / torch.where(spread > 1e-6, spread, torch.inf))
        done.append(Features(*scaled, one.label, one.kinds, one.causes))
    return tuple(done)


def world_features(
    level: str = "L1", *, seed: int = 0, kinds: Sequence[str] | None = None, train: int = 1536, test: int = 256
) -> tuple[Features, Features]:
    """Paired features of `train` and `test` clips of the world, standardised, with their causes.

    Test clips have the indices from 0 on, clips to learn from those from 100,000 on, as in `lesson_clips`.
    """
    pairs, causes = _rendered(level, seed, kinds, train, test)
    whole = Features(*paired_features(pairs), pairs.label, pairs.kinds, causes)
    return standardised(whole.rows(slice(train)), whole.rows(slice(train, None)))


def world_clips(
    level: str = "L1", *, seed: int = 0, kinds: Sequence[str] | None = None, train: int = 1536, test: int = 256
) -> tuple[Features, Features]:
    """The same clips as those of `world_features`, as spectrograms and motion residuals, for whole encoders."""
    pairs, causes = _rendered(level, seed, kinds, train, test)
    whole = Features(pairs.spectrogram, pairs.residual, pairs.label, pairs.kinds, causes)
    return whole.rows(slice(train)), whole.rows(slice(train, None))


def _rendered(
    level: str, seed: int, kinds: Sequence[str] | None, train: int, test: int
) -> tuple[Pairs, dict[str, torch.Tensor]]:
    """Pairs of the clips to learn from, then of those to test on, and the causes of each clip's first thing."""
    world = World(level=level, seed=seed, kinds=kinds)
    indices = [*range(100_000, 100_000 + train), *range(test)]
    pairs = render(world, indices)
    things = [world.causes(i)[0] for i in indices]
    materials = sorted({thing["material"] for thing in things})
    causes = {name: torch.tensor([thing[name] for thing in things]).float() for name in ("size", "x", "y")}
    causes["material"] = torch.tensor([float(materials.index(thing["material"])) for thing in things])
    return pairs, causes
