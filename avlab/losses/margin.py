"""Margins: a matched pair must be more alike than any mismatched one, and by how much.

Survey section 3.2 ii. The hinge ranking loss (equation 12, reference 90: Merkx et al. 2019; its hardest form after
Faghri et al. 2018), masked margin softmax (equation 13, references 63: Ilharco et al. 2019, and 116: Rouditchenko et
al. 2021), and three ways to set its margin: fixed, growing with the steps, or by the mean of each clip's negatives
(reference 93: Monfort et al. 2021). Left out here: angular margins (ArcFace and its kin), margins that are learned.

Conventions as in `avlab.losses.similarity`. A margin is in units of cosine, whose whole range is 2.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision

Negatives = Literal["sum", "hardest", "mean"]


def mismatched(B: int, label: torch.Tensor | None = None, *, device: torch.device | str = "cpu") -> torch.Tensor:
    """Which sounds and pictures of a batch are strangers: bool (B, B), True off the diagonal and, with `label`, only
    for clips of different classes, so that two clips of one kind are not pushed apart.

    Raises `ValueError` where `label` is not (B,) whole numbers.

    >>> mismatched(3, torch.tensor([4, 7, 4])).int().tolist()
    [[0, 1, 0], [1, 0, 1], [0, 1, 0]]
    """
    if label is None:
        return ~torch.eye(B, dtype=torch.bool, device=device)
    label = check_label(label, B).to(device)
    return label[:, None] != label[None, :]


class HingeRanking(NamedTuple):
    """`loss` (scalar, in cosine), `scores` (B, B) with a sound a row, both directions, and the share `active` (scalar)
    of the mismatched pairs that are still inside the margin, the only ones that push."""

    loss: torch.Tensor
    scores: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    active: torch.Tensor


def hinge(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    margin: float = 0.2,
    negatives: Negatives = "sum",
    label: torch.Tensor | None = None,
) -> HingeRanking:
    """Hinge ranking loss of cosines: each clip's own partner must be more similar than any other, by `margin`.

    `mean_i sum_{j != i} max(0, s_ij - s_ii + margin) + mean_j sum_{i != j} max(0, s_ij - s_jj + margin)`, where
    `s_ij = cos(a_i, v_j)`. `audio`, `visual` (B, D); `negatives` "hardest" takes the largest instead of the sum over
    them, "mean" their mean. With `label` (B,) clips of one class are no negatives of each other. 0 is the least: every
    pair is ahead by the margin, and then nothing moves any more.

    Differs from the survey: equation 12 as printed holds no mismatched pair; both its terms are
    `max(0, cos(matched) + margin)`, which is smallest where matched pairs are *dissimilar*. The form here is that of
    the paper it cites (Merkx et al. 2019), as a mean over the batch, so that a step does not grow with B.

    Raises `ValueError` where the shapes are not one (B, D), for B below 2, and as `hinge_from_scores`.

    >>> audio = visual = torch.eye(3)
    >>> hinge(audio, visual).loss.item(), round(hinge(audio, visual.roll(1, 0)).loss.item(), 4)
    (0.0, 2.8)
    >>> round(hinge(audio, visual.roll(1, 0), negatives="hardest").loss.item(), 4)
    2.4
    """
    check_pairs(audio, visual, smallest=2)
    return hinge_from_scores(cosines(audio, visual), margin=margin, negatives=negatives, label=label)


def hinge_from_scores(
    scores: torch.Tensor, *, margin: float = 0.2, negatives: Negatives = "sum", label: torch.Tensor | None = None
) -> HingeRanking:
    """`hinge` of any scores (B, B), `scores[i, j]` between sound `i` and picture `j`; higher means a better match.

    Raises `ValueError` where the scores are not square, B is below 2, the margin is negative, or for other `negatives`.

    >>> round(hinge_from_scores(torch.zeros(5, 5), margin=0.1).loss.item(), 4)
    0.8
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ValueError(f"scores must be (B, B), B 2 or more, a sound a row, got {tuple(scores.shape)}")
    if not margin >= 0:
        raise ValueError(f"the margin must be 0 or more, got {margin:g}; 0.1 to 0.3 is usual for cosines")
    if negatives not in ("sum", "hardest", "mean"):
        raise ValueError(f'negatives must be "sum", "hardest" or "mean", got {negatives!r}')
    with full_precision(scores):
        scores = at_least_float32(scores)
        own = scores.diagonal()
        strangers = mismatched(len(scores), label, device=scores.device)
        rows = F.relu(scores - (own - margin)[:, None]) * strangers  # (B, B): what each picture costs a sound
        columns = F.relu(scores - (own - margin)[None, :]) * strangers
        if negatives == "hardest":
            audio_to_visual, visual_to_audio = rows.amax(1).mean(), columns.amax(0).mean()
        else:
            audio_to_visual, visual_to_audio = rows.sum(1), columns.sum(0)
            if negatives == "mean":
                count = strangers.sum(1).clamp_min(1)
                audio_to_visual, visual_to_audio = audio_to_visual / count, visual_to_audio / count
            audio_to_visual, visual_to_audio = audio_to_visual.mean(), visual_to_audio.mean()
    with torch.no_grad():
        active = ((rows > 0).sum() + (columns > 0).sum()) / (2 * strangers.sum()).clamp_min(1)
    return HingeRanking(audio_to_visual + visual_to_audio, scores, audio_to_visual, visual_to_audio, active)


class Margins(NamedTuple):
    """A margin for each sound choosing a picture, and for each picture choosing a sound: (B,) and (B,), in cosine."""

    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor


class MaskedMarginSoftmax(NamedTuple):
    """`loss` (scalar, nats) = `audio_to_visual` + `visual_to_audio`, `scores` (B, B) the cosines with a sound a row,
    `margins` as they were used."""

    loss: torch.Tensor
    scores: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    margins: Margins


def masked_margin_softmax(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    margin: float | torch.Tensor | Margins = 0.001,
    scale: float = 20.0,
    mask: torch.Tensor | None = None,
    label: torch.Tensor | None = None,
) -> MaskedMarginSoftmax:
    """Masked margin softmax: a softmax over the batch in which the matched pair starts `margin` behind.

    `L_av = -mean_i log(e^(c (s_ii - margin)) / (e^(c (s_ii - margin)) + sum_j M_ij e^(c s_ij)))`, likewise `L_va` over
    columns, and `L = L_av + L_va`; `s_ij = cos(a_i, v_j)` and `c` is `scale`. `audio`, `visual` (B, D). `M` is 1 for
    negatives: all but the diagonal, or as `mask` says (bool (B, B), True for a negative), or pairs of different `label`
    (B,). `margin` is a number, one for each clip (B,), or one for each clip and direction (`Margins`).

    With margin 0 and every stranger a negative it is twice `info_nce` at temperature `1 / scale`. Why a scale: cosines
    end at -1 and 1, so without one (`scale=1`) neither direction can fall below `log(1 + (B - 1) e^(-2 + margin))`,
    which is 2.25 at B = 64 and margin 0.001, and every clip keeps pushing every other.

    Differs from the survey: in equation 13 the inner sums run over `i`, the index of the outer sum, which leaves `j`
    without a meaning in `L_av`, and `i` without a use in `L_va`. Differs from the papers: they take dot products of
    embeddings of any length, which need no scale.

    Raises `ValueError` where the shapes are not one (B, D), the scale is not above 0, the mask is not bool (B, B) or
    calls a matched pair a negative, or both mask and label are given.

    >>> same = torch.eye(4)
    >>> [round(masked_margin_softmax(same, same, margin=m, scale=5.0).loss.item(), 4) for m in (0.0, 0.5)]
    [0.04, 0.4403]
    """
    B = check_pairs(audio, visual)
    if not scale > 0:
        raise ValueError(f"the scale must be above 0, got {scale:g}; 10 to 30 is usual for cosines")
    if mask is not None and label is not None:
        raise ValueError("give a mask or a label, not both: each says which pairs are negatives")
    if mask is None:
        mask = mismatched(B, label, device=audio.device)
    elif mask.shape != (B, B) or mask.dtype != torch.bool or mask.diagonal().any():
        raise ValueError(f"mask must be bool ({B}, {B}), False for matched pairs (the diagonal), got "
                         f"{tuple(mask.shape)} of {mask.dtype}")  # fmt: skip
    scores = cosines(audio, visual)
    margins = margin if isinstance(margin, Margins) else Margins(*[_for_each(margin, scores)] * 2)
    if any(own.shape != (B,) for own in margins):
        raise ValueError(f"a margin for each clip must be ({B},), got {[tuple(own.shape) for own in margins]}")
    partner = torch.arange(B, device=scores.device)
    with full_precision(scores):
        rivals = (scale * scores).masked_fill(~mask, -torch.inf)
        matched = scale * scores.diagonal()
        rows = rivals.diagonal_scatter(matched - scale * margins.audio_to_visual)
        columns = rivals.T.diagonal_scatter(matched - scale * margins.visual_to_audio)
        audio_to_visual, visual_to_audio = F.cross_entropy(rows, partner), F.cross_entropy(columns, partner)
    return MaskedMarginSoftmax(audio_to_visual + visual_to_audio, scores, audio_to_visual, visual_to_audio, margins)


def _for_each(margin: float | torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    margin = torch.as_tensor(margin, dtype=scores.dtype, device=scores.device)
    return margin.expand(len(scores)) if margin.ndim == 0 else margin


def scheduled_margin(
    step: int, *, start: float = 0.001, growth: float = 1.002, every: int = 1000, highest: float = 1.0
) -> float:
    """A margin that grows while the model learns: `min(start * growth^(step // every), highest)`, in cosine.

    `growth` is a factor per `every` steps; the defaults, 0.2 % more each 1000 steps from 0.001, are those reported for
    references 63 and 116 (dot products, long training). A lesson of 300 steps needs a larger start and factor.
    Raises `ValueError` for a step below 0, a factor below 1, or a start not in 0 to `highest`.

    >>> [round(scheduled_margin(step, start=0.02, growth=2, every=50, highest=0.3), 3) for step in (0, 49, 50, 300)]
    [0.02, 0.02, 0.04, 0.3]
    """
    if step < 0 or every < 1:
        raise ValueError(f"step must be 0 or more and every 1 or more, got {step} and {every}")
    if not growth >= 1 or not 0 <= start <= highest:
        raise ValueError(f"need growth of 1 or more and 0 <= start <= highest, got {growth}, {start} and {highest}")
    times = step // every
    if start > 0 and times * math.log(growth) >= math.log(highest / start):  # asked first: the power could overflow
        return highest
    return start * growth**times if start > 0 else 0.0


def adaptive_mean_margin(scores: torch.Tensor, *, alpha: float = 0.5, label: torch.Tensor | None = None) -> Margins:
    """A margin for each clip, in step with how far its pair is ahead already: `alpha (s_ii - mean_{j != i} s_ij)`.

    `scores` (B, B), a sound a row; for pictures the mean is over columns. `alpha` 0.5 is that of reference 93. A clip
    that its model tells apart well gets a large margin, one that it confuses a small, even a negative one. A setting,
    not a way to lower the loss: no gradient goes through it. With `label` the mean is over clips of other classes.
    Raises `ValueError` where the scores are not square or B is below 2.

    >>> margins = adaptive_mean_margin(torch.tensor([[0.9, 0.1], [0.5, 0.3]]))
    >>> [round(x, 2) for x in margins.audio_to_visual.tolist()], [round(x, 2) for x in margins.visual_to_audio.tolist()]
    ([0.4, -0.1], [0.2, 0.1])
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or len(scores) < 2:
        raise ValueError(f"scores must be (B, B), B 2 or more, a sound a row, got {tuple(scores.shape)}")
    with torch.no_grad():
        scores = at_least_float32(scores)
        strangers = mismatched(len(scores), label, device=scores.device)
        count = strangers.sum(1).clamp_min(1)  # symmetric: the same for rows and columns
        own, others = scores.diagonal(), scores * strangers
        return Margins(alpha * (own - others.sum(1) / count), alpha * (own - others.sum(0) / count))
