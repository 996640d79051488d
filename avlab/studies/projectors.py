"""Two networks trained by any objective, for comparing objectives: everything else is the same for all.

On vectors of features they are projectors, and a training takes a second or two. On clips themselves (a spectrogram, a
motion residual) each is a small convolutional encoder with a projector on top, and it takes a minute.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import nn

from avlab.datasets.features import Features
from avlab.models.audio import AudioCNN
from avlab.models.projector import Projector
from avlab.models.visual import VisualCNN
from avlab.train import train

PART = 256  # clips that are embedded at a time
Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # of audio, visual (B, D) and label (B,)


@dataclass
class Fitted:
    """Trained networks; `objective` as it was given (with what it learned), `history` one row a step, `seconds`."""

    audio: nn.Module
    visual: nn.Module
    objective: Objective
    history: pd.DataFrame
    seconds: float

    def embed(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Sounds and pictures as points of the common space: two tensors (M, D), on the host."""
        device = next(self.audio.parameters()).device
        with torch.no_grad():
            sides = ((self.audio, features.audio), (self.visual, features.visual))
            return tuple(torch.cat([net(x.to(device)).cpu() for x in whole.split(PART)]) for net, whole in sides)


class AudioTower(nn.Sequential):
    """Log-mel spectrograms (B, F, T) of any float type to embeddings (B, D): `AudioCNN`, then a projector."""

    def __init__(self, D: int, hidden: int, *, unit: bool = True) -> None:
        encoder = AudioCNN()
        super().__init__(encoder, Projector(encoder.features, D, hidden, unit=unit))

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return super().forward(spectrogram.float())


class VisualTower(nn.Module):
    """Motion residuals (B, 3 + N, H, W) in int8 as `Pairs` holds them to (B, D): `VisualCNN`, pooling, a projector.

    The mean and the maximum over places are kept side by side: a small thing fills few places.
    """

    def __init__(self, frames: int, D: int, hidden: int, *, unit: bool = True) -> None:
        super().__init__()
        self.encoder = VisualCNN(frames)
        self.projector = Projector(2 * self.encoder.features, D, hidden, unit=unit)

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        places = self.encoder(residual.float() / 64)
        return self.projector(torch.cat([places.mean((2, 3)), places.amax((2, 3))], 1))


def towers(features: Features, D: int, hidden: int, *, unit: bool = True) -> tuple[nn.Module, nn.Module]:
    """A network for each sense: projectors where features are vectors, encoders with projectors where they are clips.

    Raises `ValueError` where a sound is neither a vector nor a spectrogram, or a picture no vector and no residual.
    """
    shapes = features.audio.ndim, features.visual.ndim
    if shapes == (2, 2):
        return tuple(Projector(x.shape[1], D, hidden, unit=unit) for x in (features.audio, features.visual))
    if shapes == (3, 4):
        frames = features.visual.shape[1] - 3
        return AudioTower(D, hidden, unit=unit), VisualTower(frames, D, hidden, unit=unit)
    raise ValueError(
        f"features are (M, D1) and (M, D2), or clips (M, F, T) and (M, 3 + N, H, W); got {tuple(features.audio.shape)} "
        f"and {tuple(features.visual.shape)}"
    )


def fit(
    features: Features,
    objective: Objective,
    *,
    D: int = 32,
    hidden: int = 128,
    steps: int = 300,
    batch: int = 128,
    lr: float = 2e-3,
    weight_decay: float = 0.01,
    unit: bool = True,
    device: torch.device | str = "cpu",
    watch: Callable[[int, Fitted], None] | None = None,
    moments: Collection[int] = (),
    seed: int = 0,
) -> Fitted:
    """Train a network for each sense (see `towers`) so that `objective(audio, visual, label)` of batches gets small.

    The objective returns a scalar, or a NamedTuple with one as its `loss`; where it is a `torch.nn.Module`, what it
    holds (a temperature, centres) is learned too. `unit` brings embeddings to length one. `watch(done, fitted)` is
    called at the `moments`, as in `avlab.train.train`. Same seed, same start, same order of clips for every objective.
    Raises `ValueError` where there are fewer clips than one batch takes.
    """
    if len(features) < batch:
        raise ValueError(f"{len(features)} clips do not fill one batch of {batch}")
    torch.manual_seed(seed)
    networks = towers(features, D, hidden, unit=unit)
    learner = nn.ModuleDict(dict(zip(("audio", "visual"), networks, strict=True)))
    if isinstance(objective, nn.Module):
        learner["objective"] = objective
    learner.to(device)
    features = features.to(device)
    per_epoch = len(features) // batch

    def rows_of(step: int) -> torch.Tensor:
        epoch, place = divmod(step, per_epoch)
        order = torch.randperm(len(features), generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
        return order[place * batch : (place + 1) * batch].to(device)

    def loss_of(learner: nn.ModuleDict, rows: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        points = learner["audio"](features.audio[rows]), learner["visual"](features.visual[rows])
        found = objective(*points, features.label[rows])
        return (found if isinstance(found, torch.Tensor) else found.loss), {}

    begun = time.perf_counter()
    fitted = Fitted(*networks, objective, pd.DataFrame(), 0.0)
    precision = "float32" if features.audio.ndim == 2 else "auto"  # half precision helps convolutions only
    settings = {"steps": steps, "lr": lr, "weight_decay": weight_decay, "precision": precision, "progress": False}
    seen = None if watch is None else (lambda done: watch(done, fitted))
    history = train(learner, loss_of, rows_of, **settings, watch=seen, moments=moments, seed=seed)
    fitted.history, fitted.seconds = history.frame(), time.perf_counter() - begun
    return fitted
