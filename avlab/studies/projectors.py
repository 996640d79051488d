"""Two projectors on stored features, trained by any objective in a second or two, for comparing objectives.

Everything but the objective is the same for all: the projectors and their start, the order of the data, the steps.
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
from avlab.models.projector import Projector
from avlab.train import train

Objective = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # of audio, visual (B, D) and label (B,)


@dataclass
class Fitted:
    """Trained projectors; `objective` as it was given (with what it learned), `history` one row a step, `seconds`."""

    audio: Projector
    visual: Projector
    objective: Objective
    history: pd.DataFrame
    seconds: float

    def embed(self, features: Features) -> tuple[torch.Tensor, torch.Tensor]:
        """Sounds and pictures as points of the common space: two tensors (M, D), on the host."""
        with torch.no_grad():
            device = next(self.audio.parameters()).device
            return self.audio(features.audio.to(device)).cpu(), self.visual(features.visual.to(device)).cpu()


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
    """Train a projector for each sense so that `objective(audio, visual, label)` of batches gets small.

    The objective returns a scalar, or a NamedTuple with one as its `loss`; where it is a `torch.nn.Module`, what it
    holds (a temperature, centres) is learned too. `unit` brings embeddings to length one. `watch(done, fitted)` is
    called at the `moments`, as in `avlab.train.train`. Same seed, same start, same order of clips for every objective.
    Raises `ValueError` where there are fewer clips than one batch takes.
    """
    if len(features) < batch:
        raise ValueError(f"{len(features)} clips do not fill one batch of {batch}")
    torch.manual_seed(seed)
    ins = features.audio.shape[1], features.visual.shape[1]
    projectors = [Projector(size, D, hidden, unit=unit) for size in ins]
    learner = nn.ModuleDict({"audio": projectors[0], "visual": projectors[1]})
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
    fitted = Fitted(*projectors, objective, pd.DataFrame(), 0.0)
    settings = {"steps": steps, "lr": lr, "weight_decay": weight_decay, "precision": "float32", "progress": False}
    seen = None if watch is None else (lambda done: watch(done, fitted))
    history = train(learner, loss_of, rows_of, **settings, watch=seen, moments=moments, seed=seed)
    fitted.history, fitted.seconds = history.frame(), time.perf_counter() - begun
    return fitted
