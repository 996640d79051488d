"""Plain features of paired clips: a vector for each sound and each picture, on which small projectors learn in seconds.

What they are made of is a matter of averages: the spectrum of a sound and how loud it is when; the colours of a
picture, how much it moves when, and where. What causes them, the world knows.
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
    materials by their place in `materials`. Empty where causes are not known.
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


def plain_features(pairs: Pairs) -> tuple[torch.Tensor, torch.Tensor]:
    """Sounds (M, F + N): mean spectrum and level per frame; pictures (M, 3 + N + 64): colours, motion when and where.

    The level is in dB over 40; motion is given 30 times, so that all are of the order of one.
    """
    spectrum = pairs.spectrogram.float().mean(2)
    colour = pairs.residual[:, :3].float().mean((2, 3)) / 64
    where = pool_grid(pairs.motion, 8).mean(1).flatten(1)
    when = pairs.motion.mean((2, 3))
    return torch.cat([spectrum, pairs.loudness / 40], 1), torch.cat([colour, 30 * when, 30 * where], 1)


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
    """Plain features of `train` and `test` clips of the world, standardised, with their causes.

    Test clips have the indices from 0 on, clips to learn from those from 100,000 on, as in `lesson_clips`.
    """
    world = World(level=level, seed=seed, kinds=kinds)
    indices = [*range(100_000, 100_000 + train), *range(test)]
    pairs = render(world, indices)
    things = [world.causes(i)[0] for i in indices]
    materials = sorted({thing["material"] for thing in things})
    causes = {name: torch.tensor([thing[name] for thing in things]).float() for name in ("size", "x", "y")}
    causes["material"] = torch.tensor([float(materials.index(thing["material"])) for thing in things])
    whole = Features(*plain_features(pairs), pairs.label, pairs.kinds, causes)
    return standardised(whole.rows(slice(train)), whole.rows(slice(train, None)))
