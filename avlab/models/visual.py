"""Visual encoders. For now: a 2-D convolution over motion residuals that keeps a grid of places."""

from __future__ import annotations

import torch
from torch import nn

from avlab.models.audio import block


class VisualCNN(nn.Module):
    """Motion residual to a grid of features, one vector a place: (B, 3 + N, H, W) to (B, D, H / 8, W / 8).

    The time of every motion sits in the input's channels (`video.motion_residual`), so the first convolution can tell
    *when* a place moved. Places are kept, so that a similarity can be asked of each: that is the heatmap.

    >>> VisualCNN(frames=16)(torch.zeros(2, 19, 64, 64)).shape
    torch.Size([2, 128, 8, 8])
    """

    def __init__(self, frames: int, width: int = 128) -> None:
        super().__init__()
        self.features = width
        self.ins = 3 + frames
        self.layers = nn.Sequential(block(self.ins, 48), block(48, 72), block(72, 96), block(96, width, 1))

    def forward(self, residual: torch.Tensor) -> torch.Tensor:
        if residual.ndim != 4 or residual.shape[1] != self.ins:
            raise ValueError(f"VisualCNN takes (B, {self.ins}, H, W), got {tuple(residual.shape)}")
        return self.layers(residual)
