"""Projectors: the maps `f` and `g` of the survey's 1.1 from each encoder's features into the common space."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Projector(nn.Module):
    """Two linear layers and a length of one: features (B, ..., in) to points on the unit sphere (B, ..., D).

    With `unit=False` the points keep their length, for objectives that look at variances.

    >>> Projector(11, 5)(torch.randn(2, 3, 11)).norm(dim=-1).allclose(torch.ones(2, 3))
    True
    """

    def __init__(self, ins: int, D: int, hidden: int | None = None, *, unit: bool = True) -> None:
        super().__init__()
        self.unit = unit
        hidden = hidden or ins
        self.layers = nn.Sequential(nn.Linear(ins, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, D))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        points = self.layers(features)
        return F.normalize(points, dim=-1) if self.unit else points
