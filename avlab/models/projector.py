"""Projectors: the maps `f` and `g` of the survey's 1.1 from each encoder's features into the common space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Projector(nn.Module):
    """Two linear layers and a length of one: features (B, ..., in) to points on the unit sphere (B, ..., D).

    >>> Projector(11, 5)(torch.randn(2, 3, 11)).norm(dim=-1).allclose(torch.ones(2, 3))
    True
    """

    def __init__(self, ins: int, D: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or ins
        self.layers = nn.Sequential(nn.Linear(ins, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, D))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.layers(features), dim=-1)
