"""What a picture sequence offers before any learning: motion, residuals, grids, samples of frames.

Conventions: `video` float (..., N, 3, H, W) in [0, 1]; `luminance` weighs R, G, B by 0.299, 0.587, 0.114 (Rec. 601).
Functions keep their device and type. Letters: `N` frames, `H W` pixels, `h w` cells of a grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

DARK = 1 / 255  # luminance below which a pixel says nothing about the light


def luminance(video: torch.Tensor) -> torch.Tensor:
    """Brightness of each pixel: (..., N, 3, H, W) to (..., N, H, W), in [0, 1].

    >>> luminance(torch.ones(2, 3, 5, 7)).shape
    torch.Size([2, 5, 7])
    """
    if video.ndim < 4 or video.shape[-3] != 3:
        raise ValueError(f"video must be (..., N, 3, H, W), got {tuple(video.shape)}")
    weights = video.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("...chw,c->...hw", video, weights)


def motion(video: torch.Tensor) -> torch.Tensor:
    """How much each pixel changes around each frame: (..., N, 3, H, W) to (..., N, H, W), in [0, 1].

    `M_n = (|Y_n - Y_(n-1)| + |Y_(n+1) - Y_n|) / 2`, one-sided at both ends: centred on the frame, as the sound of
    frame `n` is, so that neither runs ahead of the other. Raises `ValueError` for fewer than 2 frames.

    >>> video = torch.zeros(4, 3, 5, 7); video[2:] = 1
    >>> [round(m, 6) for m in motion(video).mean((-2, -1)).tolist()]
    [0.0, 0.5, 0.5, 0.0]
    """
    Y = luminance(video)
    if Y.shape[-3] < 2:
        raise ValueError(f"motion needs 2 frames or more, got {Y.shape[-3]}")
    change = Y.diff(dim=-3).abs()  # between n and n + 1
    before = torch.cat([change[..., :1, :, :], change], dim=-3)
    after = torch.cat([change, change[..., -1:, :, :]], dim=-3)
    return (before + after) / 2


def motion_residual(video: torch.Tensor) -> torch.Tensor:
    """Mean picture and what departs from it: (B, N, 3, H, W) to (B, 3 + N, H, W).

    Channels 0-2 are the mean RGB picture, centred at 0; channel `3 + n` is `4 (Y_n - g_n mean_n Y)`: what a still
    background under changing light cannot explain. `g_n`, the light of frame `n`, is the median over the picture of
    `Y_n / mean_n Y`: right as long as less than half of the picture moves. It lets a 2-D convolution see when
    something moved.

    >>> motion_residual(torch.zeros(2, 11, 3, 5, 7)).shape
    torch.Size([2, 14, 5, 7])
    """
    if video.ndim != 5 or video.shape[2] != 3:
        raise ValueError(f"video must be (B, N, 3, H, W), got {tuple(video.shape)}")
    Y = luminance(video)
    still = Y.mean(dim=1, keepdim=True)
    light = (Y / still.clamp_min(DARK)).flatten(2).median(dim=2).values  # (B, N)
    return torch.cat([video.mean(dim=1) - 0.5, 4 * (Y - light[:, :, None, None] * still)], dim=1)


def pool_grid(x: torch.Tensor, grid: int | tuple[int, int]) -> torch.Tensor:
    """Mean over the cells of a grid: (..., H, W) to (..., h, w); sizes need not divide.

    >>> pool_grid(torch.arange(4.0).reshape(1, 2, 2), 1)
    tensor([[[1.5000]]])
    """
    h, w = (grid, grid) if isinstance(grid, int) else grid
    if x.ndim < 3 or min(h, w) < 1 or h > x.shape[-2] or w > x.shape[-1]:
        raise ValueError(f"a grid of {h}x{w} cells does not fit (..., H, W) = {tuple(x.shape)}")
    return F.adaptive_avg_pool2d(x.reshape(-1, *x.shape[-3:]), (h, w)).reshape(*x.shape[:-2], h, w)


def resize(video: torch.Tensor, size: int | tuple[int, int]) -> torch.Tensor:
    """Frames of another size by area-preserving interpolation: (..., 3, H, W) to (..., 3, h, w).

    >>> resize(torch.ones(2, 3, 8, 6), (4, 3)).shape
    torch.Size([2, 3, 4, 3])
    """
    h, w = (size, size) if isinstance(size, int) else size
    flat = video.reshape(-1, *video.shape[-3:])
    out = F.interpolate(flat, (h, w), mode="bilinear", antialias=True, align_corners=False)
    return out.reshape(*video.shape[:-2], h, w)


def sample_frames(video: torch.Tensor, count: int) -> torch.Tensor:
    """`count` frames at even distances, the middles of `count` equal parts: (..., N, 3, H, W) to (..., count, 3, H, W).

    >>> sample_frames(torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, 1, 1), 2)[:, 0, 0, 0].tolist()
    [2.0, 6.0]
    """
    N = video.shape[-4]
    if not 1 <= count <= N:
        raise ValueError(f"cannot sample {count} of {N} frames")
    places = ((torch.arange(count, device=video.device) + 0.5) * N / count).long()
    return video.index_select(video.ndim - 4, places)
