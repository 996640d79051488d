"""The same clip out of step: shifted copies of a sequence, as negatives that teach timing (survey 3.2 iv, [99])."""

from __future__ import annotations

from collections.abc import Sequence

import torch


def shifted(sequence: torch.Tensor, frames: int | Sequence[int]) -> torch.Tensor:
    """A sequence (B, T, ...) moved later by `frames` in a circle; for several numbers of frames (B, M, T, ...).

    What leaves at the end comes back at the beginning, so that nothing tells a shifted copy but its timing. Raises
    `ValueError` for a sequence without time.

    >>> shifted(torch.tensor([[1, 2, 3]]), 1).tolist(), shifted(torch.tensor([[1, 2, 3]]), [0, -1]).tolist()
    ([[3, 1, 2]], [[[1, 2, 3], [2, 3, 1]]])
    """
    if sequence.ndim < 2:
        raise ValueError(f"a batch of sequences is (B, T, ...), got {tuple(sequence.shape)}")
    if isinstance(frames, int):
        return sequence.roll(frames, dims=1)
    return torch.stack([sequence.roll(number, dims=1) for number in frames], dim=1)
