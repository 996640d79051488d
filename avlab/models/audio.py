"""Audio encoders. For now: a 2-D convolution over the log-mel spectrogram (survey 2.1, as in [69])."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import nn


def block(ins: int, outs: int, stride: int | tuple[int, int] = 2) -> nn.Sequential:
    """3x3 convolution, batch norm, ReLU: the brick of the small convolutional encoders."""
    return nn.Sequential(
        nn.Conv2d(ins, outs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outs), nn.ReLU(inplace=True)
    )


class AudioCNN(nn.Module):
    """Log-mel spectrogram to one feature vector per clip: (B, F, T) to (B, width * moments).

    Four strided 3x3 convolutions, the mean over frequency, and `moments` moments in time *kept apart*: averaging time
    away would leave "what" but not "when", and when is what a picture of moving things shares with its sound.

    >>> AudioCNN()(torch.zeros(2, 64, 101)).shape
    torch.Size([2, 768])
    """

    def __init__(self, width: int = 96, moments: int = 8) -> None:
        super().__init__()
        self.features = width * moments
        self.layers = nn.Sequential(block(1, 24), block(24, 48), block(48, 72, (2, 1)), block(72, width, (2, 1)))
        self.time = nn.AdaptiveAvgPool1d(moments)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        if spectrogram.ndim != 3:
            raise ValueError(f"AudioCNN takes log-mel (B, F, T), got {tuple(spectrogram.shape)}")
        x = self.layers(rearrange(spectrogram, "B F T -> B 1 F T"))
        return rearrange(self.time(x.mean(dim=2)), "B C T -> B (C T)")
