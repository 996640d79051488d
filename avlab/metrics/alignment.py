"""How two modalities lie in one space: near each other, or in two clouds with a gap between (survey section 1).

All functions take embeddings (B, D), row `i` of both from the same clip, and normalise them to length one.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F


def _unit(audio: torch.Tensor, visual: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if audio.shape != visual.shape or audio.ndim != 2 or len(audio) == 0:
        raise ValueError(f"embeddings must both be (B, D), got {tuple(audio.shape)} and {tuple(visual.shape)}")
    return F.normalize(audio.float(), dim=1), F.normalize(visual.float(), dim=1)


def heterogeneity_gap(audio: torch.Tensor, visual: torch.Tensor) -> float:
    """Distance between the centres of the two clouds: `|mean(a / |a|) - mean(v / |v|)|`, 0 to 2; lower is closer.

    >>> heterogeneity_gap(torch.tensor([[1.0, 0]]), torch.tensor([[-3.0, 0]]))
    2.0
    """
    a, v = _unit(audio, visual)
    return (a.mean(0) - v.mean(0)).norm().item()


def pair_distance(audio: torch.Tensor, visual: torch.Tensor) -> float:
    """Mean squared distance of the halves of a pair on the unit sphere ("alignment"), 0 to 4; lower is closer.

    >>> pair_distance(torch.tensor([[1.0, 0], [0, 2]]), torch.tensor([[1.0, 0], [1, 0]]))
    1.0
    """
    a, v = _unit(audio, visual)
    return (a - v).square().sum(1).mean().item()
