"""Sound localization: does the heatmap lie on the thing that sounds?

Survey section 4 and appendix D.4; cIoU after Senocak et al. 2018, references 17 and 58 of the survey.

Conventions: a heatmap `heat` is (..., h, w), any real values, higher where the sound is thought to come from; the truth
is (..., H, W), bool or in [0, 1], a tensor or an array. A heatmap of another size is resized to the truth's by
`resize_heat`. Scores are in [0, 1] and higher is better.

Thresholds: two different ones. A heatmap becomes a region where its *normalised* value (`normalise_heat`, per map) is
at least `threshold`; take 0.5, or find it on the training clips with `choose_threshold`, never on those that are
reported. A clip is a success where its cIoU reaches 0.5 (`ciou_success`); `success_auc` does without that choice.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F

Mask = torch.Tensor | np.ndarray


def resize_heat(heat: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """The heatmap at another size by bilinear interpolation between cell centres: (..., h, w) -> (..., H, W).

    Raises `ValueError` for an empty map, NaN or infinity.

    >>> resize_heat(torch.tensor([[0.0, 1.0]]), (1, 4)).tolist()
    [[0.0, 0.25, 0.75, 1.0]]
    """
    if heat.ndim < 2 or heat.numel() == 0 or not torch.isfinite(heat).all():
        raise ValueError(f"a heatmap must be (..., h, w), finite and not empty, got shape {tuple(heat.shape)}")
    h, w = heat.shape[-2:]
    if (h, w) == tuple(size):
        return heat
    flat = F.interpolate(heat.reshape(-1, 1, h, w), size=tuple(size), mode="bilinear", align_corners=False)
    return flat.reshape(*heat.shape[:-2], *size)


def normalise_heat(heat: torch.Tensor) -> torch.Tensor:
    """Each map brought to [0, 1]: `(heat - min) / (max - min)`; a constant map says nothing and becomes 0.

    >>> normalise_heat(torch.tensor([[-2.0, 0.0, 2.0]])).tolist()
    [[0.0, 0.5, 1.0]]
    """
    low, high = heat.amin(dim=(-2, -1), keepdim=True), heat.amax(dim=(-2, -1), keepdim=True)
    return torch.where(high > low, (heat - low) / (high - low).clamp(min=torch.finfo(heat.dtype).tiny), 0)


def heat_to_mask(heat: torch.Tensor, *, threshold: float = 0.5, size: tuple[int, int] | None = None) -> torch.Tensor:
    """The region that a heatmap points out, `normalised heat >= threshold`: (..., h, w) -> bool (..., H, W).

    Resized to `size` first, if given. `threshold` lies in (0, 1]. A constant map gives an empty region.

    >>> heat_to_mask(torch.tensor([[0.0, 3.0, 8.0, 10.0]])).tolist()
    [[False, False, True, True]]
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"the threshold on the normalised heatmap must lie in (0, 1], got {threshold}")
    return normalise_heat(heat if size is None else resize_heat(heat, size)) >= threshold


def iou(prediction: Mask, truth: Mask) -> torch.Tensor:
    """Intersection over union of two regions: bool (..., H, W) twice -> (...,); 1 where both are empty.

    Raises `ValueError` where heights or widths differ.

    >>> iou(torch.tensor([[1, 1, 0, 0]]).bool(), torch.tensor([[0, 1, 1, 0]]).bool())
    tensor(0.3333)
    """
    p, t = torch.as_tensor(prediction).bool(), torch.as_tensor(truth).bool()
    if p.shape[-2:] != t.shape[-2:]:
        raise ValueError(f"the regions differ in size: prediction {tuple(p.shape)}, truth {tuple(t.shape)}")
    t = t.to(p.device)
    union = (p | t).sum(dim=(-2, -1))
    return torch.where(union > 0, (p & t).sum(dim=(-2, -1)) / union.clamp(min=1), 1.0)


def consensus(annotations: Mask, *, agree: int = 2) -> torch.Tensor:
    """The soft truth of several annotators, `g = min(1, sum_j b_j / agree)`: bool (J, H, W) -> float (H, W).

    A pixel counts in full where at least `agree` of the J annotators marked it. Raises `ValueError` where `agree` is
    not in 1..J.

    >>> consensus(torch.tensor([[[1, 1, 0]], [[1, 0, 0]], [[1, 0, 0]]])).tolist()
    [[1.0, 0.5, 0.0]]
    """
    marks = torch.as_tensor(annotations).float()
    if not 1 <= agree <= len(marks):
        raise ValueError(f"agree must lie in 1..{len(marks)} (the number of annotators), got {agree}")
    return (marks.sum(dim=0) / agree).clamp(max=1)


def ciou(heat: torch.Tensor, truth: Mask, *, threshold: float = 0.5) -> torch.Tensor:
    """Consensus IoU of a heatmap with a soft truth `g` in [0, 1]: heat (..., h, w), truth (..., H, W) -> (...,).

    `cIoU = sum of g over A / (sum of g + number of pixels of A where g = 0)` with `A` the region of
    `heat_to_mask(heat, threshold)` at the truth's size. With a truth of zeros and ones it is the IoU. Raises
    `ValueError` where the truth leaves [0, 1] or is empty for a map: there cIoU is not defined, leave silent clips out.

    >>> ciou(torch.tensor([[9.0, 9.0, 0.0]]), torch.tensor([[1.0, 0.0, 0.5]]))
    tensor(0.4000)
    """
    g = torch.as_tensor(truth).to(heat.device).float()
    if (g < 0).any() or (g > 1).any():
        raise ValueError("the truth must lie in [0, 1]")
    if (g.amax(dim=(-2, -1)) == 0).any():
        raise ValueError("the truth marks no pixel for at least one map: cIoU is not defined there, leave it out")
    region = heat_to_mask(heat, threshold=threshold, size=tuple(g.shape[-2:]))
    outside = (region & (g == 0)).sum(dim=(-2, -1))
    return (g * region).sum(dim=(-2, -1)) / (g.sum(dim=(-2, -1)) + outside)


def ciou_success(scores: torch.Tensor | Sequence[float], *, threshold: float = 0.5) -> float:
    """Share of clips whose cIoU (one a clip) is at least `threshold`; the literature's "cIoU@0.5".

    >>> ciou_success([0.1, 0.5, 0.8, 0.2])
    0.5
    """
    return (_scores(scores) >= threshold).double().mean().item()


def success_auc(scores: torch.Tensor | Sequence[float]) -> float:
    """Area under the share of successes over cIoU thresholds 0, 0.05 ... 1 (trapezoids); higher is better.

    It is the "AUC" of sound localization, not the area under a classifier's ROC curve as the survey's wording in
    appendix D.4 may suggest. Perfect maps score 1; maps that always miss score 0.025, since each passes threshold 0.

    >>> round(success_auc([0.0, 0.0]), 4), round(success_auc([0.5, 1.0]), 4)
    (0.025, 0.7625)
    """
    values = _scores(scores)
    thresholds = torch.linspace(0, 1, 21, dtype=torch.float64)
    share = (values[None] >= thresholds[:, None] - 1e-9).double().mean(dim=1)  # (21,); 1e-9 forgives rounding
    return torch.trapezoid(share, thresholds).item()


def pointing(heat: torch.Tensor, truth: Mask) -> torch.Tensor:
    """The pointing game: does the heatmap's maximum lie on the truth? heat (..., h, w), truth (..., H, W) -> (...,).

    1 or 0; where several pixels share the maximum, the share of them that lies on the truth, so that a constant map
    scores its chance (the truth's share of the picture). Pixels with truth above 0 count as on it.

    >>> pointing(torch.tensor([[0.0, 9.0, 1.0]]), torch.tensor([[False, True, True]]))
    tensor(1.)
    """
    on = torch.as_tensor(truth).to(heat.device) > 0
    heat = resize_heat(heat, tuple(on.shape[-2:]))
    top = heat == heat.amax(dim=(-2, -1), keepdim=True)
    return (top & on).sum(dim=(-2, -1)) / top.sum(dim=(-2, -1))


def box_mask(boxes: Mask, H: int, W: int) -> torch.Tensor:
    """Boxes `x0 y0 x1 y1` in [0, 1] of the picture's width and height as regions: (..., 4) -> bool (..., H, W).

    A pixel is inside where its centre is. Raises `ValueError` where a box is turned round (x1 < x0 or y1 < y0).

    >>> box_mask(torch.tensor([0.0, 0.0, 0.5, 1.0]), 1, 4).tolist()
    [[True, True, False, False]]
    """
    x0, y0, x1, y1 = torch.as_tensor(boxes).double()[..., None, None].unbind(dim=-3)  # each (..., 1, 1)
    if (x1 < x0).any() or (y1 < y0).any():
        raise ValueError("boxes must be x0 y0 x1 y1 with x0 <= x1 and y0 <= y1, as fractions of width and height")
    x = (torch.arange(W, device=x0.device, dtype=torch.float64) + 0.5) / W
    y = ((torch.arange(H, device=x0.device, dtype=torch.float64) + 0.5) / H)[:, None]
    return (x0 <= x) & (x < x1) & (y0 <= y) & (y < y1)


def choose_threshold(heat: torch.Tensor, truth: Mask, *, candidates: Sequence[float] | None = None) -> float:
    """The threshold on normalised heatmaps with the highest mean cIoU on these clips; the lowest one where equal.

    heat (B, h, w), truth (B, H, W); `candidates` default to 0.05, 0.10 ... 0.95. Choose on training clips and report on
    others: chosen on the reported clips, the score is flattered. Raises as `ciou` does.

    >>> heat = torch.tensor([[[0.0, 2.0, 8.0, 10.0]]])
    >>> choose_threshold(heat, torch.tensor([[[False, False, True, True]]]))
    0.25
    """
    tried = [round(0.05 * i, 2) for i in range(1, 20)] if candidates is None else list(candidates)
    means = [ciou(heat, truth, threshold=value).mean().item() for value in tried]
    return tried[int(np.argmax(means))]


def _scores(scores: torch.Tensor | Sequence[float]) -> torch.Tensor:
    values = torch.as_tensor(scores).flatten().double().cpu()
    if values.numel() == 0 or not torch.isfinite(values).all():
        raise ValueError(f"need one finite score a clip, got {values.numel()} scores")
    return values
