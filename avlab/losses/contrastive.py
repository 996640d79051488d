"""InfoNCE: of all pictures in the batch, which one goes with this sound?

Survey section 3.2 iv and v, equation 16, references 4, 6, 90; after van den Oord et al. 2018. More negatives than the
batch holds (a queue, a bank, shifted copies of a clip) are taken as they are given; where they come from stands in
`avlab.losses.queues` and `avlab.datasets.shifts`. Several right answers: `avlab.losses.bags`. Batches so large that
(B, B) does not fit into memory: `avlab.losses.tiled`; batches spread over processes: `avlab.losses.gathered`.

Conventions as in `avlab.losses.similarity`: every other row of the batch is a negative, `log B` is what guessing costs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision, unit


class InfoNCE(NamedTuple):
    """`loss` (scalar, nats), `logits` (B, B) = similarity / temperature with a sound a row, and both directions."""

    loss: torch.Tensor
    logits: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor


def info_nce(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.07,
    symmetric: bool = True,
    label: torch.Tensor | None = None,
    negatives_audio: torch.Tensor | None = None,
    negatives_visual: torch.Tensor | None = None,
) -> InfoNCE:
    """InfoNCE of cosine similarities with the batch as negatives: `-mean_i log softmax_j(cos(a_i, v_j) / tau)_i`.

    `audio`, `visual` (B, D); the loss is the mean of both directions, or audio-to-visual alone where not `symmetric`.
    `log B - loss` is a lower bound (in nats) of the mutual information of the two, so it never shows more than `log B`.
    A zero vector is similar to nothing (cosine 0). With B = 1 there is nothing to tell apart: the loss is 0.
    Computed in float32 at least, also under autocast.

    `label` (B,): clips of one class are no negatives of each other, each pair still its own only positive (class-aware
    masking; the bound no longer holds). `negatives_visual` more pictures that are wrong, for sounds to choose among,
    `negatives_audio` more sounds for pictures: (K, D) for all clips alike, or (B, M, D), each clip's own.

    Differs from the survey: equation 16 as printed sums `exp(cos(x_a, x_v) / tau)`, the matched pair, once per
    negative, so that its value is `log(1 + number of negatives)` whatever the embeddings and its gradient is zero.
    Here the sum runs over the negatives `x'`: `exp(cos(x_a, x') / tau)`.

    Raises `ValueError` where the shapes are not one (B, D), a label or a negative does not fit them, or the
    temperature is not above 0.

    >>> same = torch.eye(3)
    >>> round(info_nce(same, same, temperature=0.5).loss.item(), 4)
    0.2395
    >>> round(info_nce(torch.ones(3, 2), torch.ones(3, 2)).loss.item(), 4), round(math.log(3), 4)
    (1.0986, 1.0986)
    >>> info_nce(torch.ones(3, 2), torch.ones(3, 2), label=torch.tensor([7, 7, 7])).loss.item()
    0.0
    """
    B = check_pairs(audio, visual)
    same = None if label is None else check_label(label, B)[:, None] == label
    extra_visual = None if negatives_visual is None else cosines_to_extra(audio, negatives_visual)
    extra_audio = None if negatives_audio is None else cosines_to_extra(visual, negatives_audio)
    scores, further = cosines(audio, visual), {"extra_visual": extra_visual, "extra_audio": extra_audio}
    return info_nce_from_scores(scores, temperature, symmetric=symmetric, ignore=same, **further)


def info_nce_from_scores(
    scores: torch.Tensor,
    temperature: float | torch.Tensor = 0.07,
    *,
    symmetric: bool = True,
    ignore: torch.Tensor | None = None,
    extra_visual: torch.Tensor | None = None,
    extra_audio: torch.Tensor | None = None,
) -> InfoNCE:
    """InfoNCE of any scores (B, B), `scores[i, j]` between sound `i` and picture `j`; higher means a better match.

    For models that compare more than two vectors, as a localization heatmap pooled over space. Equation, direction and
    differences as in `info_nce`. `ignore` (B, B) bool: these pairs are left out of the sums, save for matched ones.
    `extra_visual` (B, M) scores of sound `i` with further wrong pictures, `extra_audio` (B, M) of picture `i` with
    further wrong sounds. Raises `ValueError` where a shape does not fit or the temperature is not above 0.

    >>> round(info_nce_from_scores(torch.zeros(5, 5)).loss.item(), 4), round(math.log(5), 4)
    (1.6094, 1.6094)
    >>> round(info_nce_from_scores(torch.zeros(5, 5), extra_visual=torch.zeros(5, 3)).audio_to_visual.exp().item())
    8
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or scores.shape[0] == 0:
        raise ValueError(f"scores must be (B, B), a sound a row, a picture a column, got {tuple(scores.shape)}")
    B = len(scores)
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {float(temperature):g}; 0.05 to 0.2 is usual")
    if ignore is not None and (ignore.shape != scores.shape or ignore.dtype != torch.bool):
        raise ValueError(f"ignore must be ({B}, {B}) of bool, got {tuple(ignore.shape)} of {ignore.dtype}")
    for name, extra in (("extra_visual", extra_visual), ("extra_audio", extra_audio)):
        if extra is not None and (extra.ndim != 2 or len(extra) != B):
            raise ValueError(f"{name} must be ({B}, M), further wrong answers a row, got {tuple(extra.shape)}")
    with full_precision(scores):
        logits = at_least_float32(scores) / temperature  # (B, B)
        partner = torch.arange(B, device=logits.device)
        kept = logits
        if ignore is not None:
            kept = logits.masked_fill(ignore & ~torch.eye(B, dtype=torch.bool, device=ignore.device), -torch.inf)
        ways = []
        for way, extra in ((kept, extra_visual), (kept.T, extra_audio)):
            answers = way if extra is None else torch.cat([way, at_least_float32(extra) / temperature], dim=1)
            ways.append(F.cross_entropy(answers, partner))
    loss = (ways[0] + ways[1]) / 2 if symmetric else ways[0]
    return InfoNCE(loss, logits, *ways)


def check_extra(anchors: torch.Tensor, negatives: torch.Tensor) -> None:
    """Raises `ValueError` unless negatives of anchors (B, D) are (K, D), or (B, M, D) with M of its own for each.

    >>> check_extra(torch.ones(2, 3), torch.ones(4, 5))
    Traceback (most recent call last):
    ValueError: negatives must be (K, 3) or (2, M, 3), got (4, 5)
    """
    B, D = anchors.shape
    if negatives.ndim not in (2, 3) or negatives.shape[-1] != D or (negatives.ndim == 3 and len(negatives) != B):
        raise ValueError(f"negatives must be (K, {D}) or ({B}, M, {D}), got {tuple(negatives.shape)}")


def cosines_to_extra(anchors: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """Cosine of each anchor (B, D) with extra negatives, (K, D) for all or (B, M, D) for each: (B, K) or (B, M).

    >>> cosines_to_extra(torch.eye(2), torch.tensor([[[0.0, 5.0]], [[0.0, -1.0]]])).tolist()
    [[0.0], [-1.0]]
    """
    check_extra(anchors, negatives)
    if negatives.ndim == 2:
        return cosines(anchors, negatives)
    with full_precision(anchors):
        return torch.einsum("bd,bmd->bm", unit(anchors), unit(negatives))


class InfoNCELoss(nn.Module):
    """`info_nce` with a learned temperature, kept within `[lowest, highest]`.

    The logarithm is learned, so that a step changes the temperature by a ratio. The parameter itself is brought back to
    its bounds, instead of its use being clamped: beyond a clamp there is no gradient, and it would never return.

    >>> criterion = InfoNCELoss(temperature=0.1)
    >>> round(criterion.temperature.item(), 4), round(criterion(torch.eye(3), torch.eye(3)).loss.item(), 4)
    (0.1, 0.0001)
    """

    def __init__(
        self, temperature: float = 0.07, *, lowest: float = 0.01, highest: float = 1.0, symmetric: bool = True
    ) -> None:
        super().__init__()
        if not 0 < lowest <= temperature <= highest:
            raise ValueError(f"need 0 < lowest <= temperature <= highest, got {lowest}, {temperature}, {highest}")
        self.lowest, self.highest, self.symmetric = lowest, highest, symmetric
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def temperature(self) -> torch.Tensor:
        """The temperature as a scalar with gradient, after bringing it back within its bounds."""
        with torch.no_grad():
            self.log_temperature.clamp_(math.log(self.lowest), math.log(self.highest))
        return self.log_temperature.exp()

    def forward(self, audio: torch.Tensor, visual: torch.Tensor) -> InfoNCE:
        """`info_nce` of audio (B, D) and visual (B, D) at the present temperature."""
        return info_nce(audio, visual, temperature=self.temperature, symmetric=self.symmetric)

    def from_scores(self, scores: torch.Tensor) -> InfoNCE:
        """`info_nce_from_scores` of scores (B, B) at the present temperature."""
        return info_nce_from_scores(scores, self.temperature, symmetric=self.symmetric)
