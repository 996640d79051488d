"""What all losses share: pairs that fit, cosines that half precision and zero vectors cannot spoil.

Conventions of `avlab.losses`
-----------------------------
`audio` and `visual` are (B, D) embeddings in that order, paired by index: row `i` of both comes from one clip. `label`
is (B,), the class of a clip. A loss is a scalar to be made small, in nats where it has a unit. Each function returns a
NamedTuple whose first field is `loss` and whose others are what a figure or a lesson wants to see. Losses are computed
in float32 at least, also under autocast: 8 bits of mantissa are too few for a cosine over a temperature.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F

NEARLY_ZERO = 1e-6  # a vector shorter than this points nowhere: cosine 0, and no gradient, which could only be endless


def check_pairs(audio: torch.Tensor, visual: torch.Tensor, *, smallest: int = 1) -> int:
    """B of two batches (B, D); raises `ValueError` naming the shapes, or a batch below the `smallest` that will do.

    >>> check_pairs(torch.ones(5, 3), torch.ones(5, 3))
    5
    """
    if audio.ndim != 2 or audio.shape != visual.shape or len(audio) == 0:
        raise ValueError(f"audio and visual must both be (B, D), got {tuple(audio.shape)} and {tuple(visual.shape)}")
    if len(audio) < smallest:
        raise ValueError(f"this loss compares clips with each other: it needs a batch of {smallest}, got {len(audio)}")
    return len(audio)


def check_label(label: torch.Tensor, B: int, *, classes: int | None = None) -> torch.Tensor:
    """`label` if it is (B,) whole numbers (in 0..classes - 1 where `classes` is given); else raises `ValueError`.

    >>> check_label(torch.tensor([2, 0]), 2, classes=3).tolist()
    [2, 0]
    """
    if label.shape != (B,) or label.is_floating_point() or label.dtype == torch.bool:
        raise ValueError(f"label must be ({B},) whole numbers, got {tuple(label.shape)} of {label.dtype}")
    if classes is not None and not 0 <= int(label.min()) <= int(label.max()) < classes:
        raise ValueError(f"labels must lie in 0..{classes - 1}, got {int(label.min())} to {int(label.max())}")
    return label


def full_precision(x: torch.Tensor) -> AbstractContextManager:
    """Within this context autocast leaves the tensors of `x`'s device as they are.

    >>> x = torch.ones(2, 2)
    >>> with torch.autocast("cpu", torch.bfloat16), full_precision(x):
    ...     (x @ x).dtype
    torch.float32
    """
    return torch.autocast(x.device.type, enabled=False)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """`x` itself in float64 or float32, else as float32.

    >>> at_least_float32(torch.ones(2).half()).dtype, at_least_float32(torch.ones(2).double()).dtype
    (torch.float32, torch.float64)
    """
    return x if x.dtype == torch.float64 else x.float()


def unit(x: torch.Tensor) -> torch.Tensor:
    """Vectors (..., D) brought to length one, in float32 at least; a vector of (nearly) no length stays at zero.

    Any finite length will do, also one whose square is not finite. A vector that points nowhere feels no force: it
    could turn to any side, with a slope that half precision cannot hold.

    >>> [[round(x, 3) for x in row] for row in unit(torch.tensor([[3.0, 4.0], [0.0, 0.0], [3e30, 4e30]])).tolist()]
    [[0.6, 0.8], [0.0, 0.0], [0.6, 0.8]]
    """
    x = at_least_float32(x)
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    x = torch.where(largest > NEARLY_ZERO, x, x.detach())
    return F.normalize(x / largest.clamp_min(1.0), dim=-1, eps=NEARLY_ZERO)  # no direction depends on the divisor


def cosines(audio: torch.Tensor, visual: torch.Tensor) -> torch.Tensor:
    """Cosine of each sound with each picture: (A, D), (B, D) -> (A, B) in [-1, 1], a sound a row.

    >>> cosines(torch.eye(2), torch.tensor([[1.0, 0.0], [0.0, -2.0]])).tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    with full_precision(audio):
        return unit(audio) @ unit(visual).mT
