"""What the tests of the losses share: pairs to try, and inputs that break a careless loss."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # of audio and visual (B, D)


def pairs(B: int = 5, D: int = 11, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    """Random embeddings of sounds and pictures (B, D), half of each shared."""
    g = torch.Generator().manual_seed(seed)
    shared, audio, visual = torch.randn(3, B, D, generator=g, dtype=dtype)
    return shared + audio, shared + visual


def assert_gradient(loss: Loss, B: int = 5, D: int = 3, seed: int = 0) -> None:
    """`torch.autograd.gradcheck` in float64 for both inputs."""
    audio, visual = (x.requires_grad_() for x in pairs(B, D, seed, torch.float64))
    assert torch.autograd.gradcheck(loss, (audio, visual))


def hard_inputs(B: int = 5, D: int = 11) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Zeros, duplicates, identical views, opposite views, a batch of one, extreme scales."""
    audio, visual = pairs(B, D)
    zero = torch.zeros(B, D)
    some = torch.arange(B)[:, None] > 0
    return {
        "random": (audio, visual),
        "all zero": (zero, zero),
        "one zero": (audio * some, visual * some),
        "zero against random": (zero, visual),
        "duplicates": (audio[:1].expand(B, D), visual[:1].expand(B, D)),
        "identical views": (audio, audio),
        "opposite views": (audio, -audio),
        "a batch of one": (audio[:1], visual[:1]),
        "large": (1e4 * audio, 1e4 * visual),
        "small": (1e-4 * audio, 1e-4 * visual),
        "large against small": (1e4 * audio, 1e-4 * visual),
    }


def assert_finite(loss: Loss, *, smallest: int = 1, refuses: tuple[str, ...] = (), B: int = 5, D: int = 11) -> None:
    """Loss and gradients are finite and float32 for every hard input, in float32, bfloat16 and float16 autocast.

    A batch below `smallest`, and the inputs named in `refuses`, must be refused with a `ValueError` instead.
    """
    for name, (audio, visual) in hard_inputs(B, D).items():
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            a, v = audio.clone().requires_grad_(), visual.clone().requires_grad_()
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                inside = [x @ torch.eye(D) for x in (a, v)]  # what an encoder gives under autocast
                if name in refuses or len(audio) < smallest:
                    with pytest.raises(ValueError, match=r"\w{4}"):
                        loss(*inside)
                    continue
                found = loss(*inside)
            found.backward()
            where = f"{name} in {dtype}"
            assert found.dtype == torch.float32, where
            assert torch.isfinite(found), where
            for x in (a, v):
                assert x.grad is None or torch.isfinite(x.grad).all(), where


def assert_order_is_free(loss: Loss, B: int = 7, D: int = 5) -> None:
    """Which pair comes first does not matter."""
    audio, visual = pairs(B, D, dtype=torch.float64)
    order = torch.randperm(B, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(loss(audio[order], visual[order]), loss(audio, visual))


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, *, atol: float = 1e-6) -> None:
    """Equal to an oracle, 1e-6 in float64 unless said otherwise."""
    torch.testing.assert_close(ours.double(), torch.as_tensor(theirs).double(), atol=atol, rtol=0)
