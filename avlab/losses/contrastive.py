"""InfoNCE: of all pictures in the batch, which one goes with this sound?

Survey section 3.2 iv and equation 16, references 4, 6, 41, 90; after van den Oord et al. 2018. Left out here: memory
banks, bags of positives (MIL-NCE), class-aware negatives.

Conventions as in `avlab.losses.similarity`: every other row of the batch is a negative, `log B` is what guessing costs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avlab.losses.similarity import at_least_float32, check_pairs, cosines, full_precision


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
) -> InfoNCE:
    """InfoNCE of cosine similarities with the batch as negatives: `-mean_i log softmax_j(cos(a_i, v_j) / tau)_i`.

    `audio`, `visual` (B, D); the loss is the mean of both directions, or audio-to-visual alone where not `symmetric`.
    `log B - loss` is a lower bound (in nats) of the mutual information of the two, so it never shows more than `log B`.
    A zero vector is similar to nothing (cosine 0). With B = 1 there is nothing to tell apart: the loss is 0.
    Computed in float32 at least, also under autocast.

    Differs from the survey: equation 16 as printed sums `exp(cos(x_a, x_v) / tau)`, the matched pair, once per
    negative, so that its value is `log(1 + number of negatives)` whatever the embeddings and its gradient is zero.
    Here the sum runs over the negatives `x'`: `exp(cos(x_a, x') / tau)`.

    Raises `ValueError` where the shapes are not one (B, D) or the temperature is not above 0.

    >>> same = torch.eye(3)
    >>> round(info_nce(same, same, temperature=0.5).loss.item(), 4)
    0.2395
    >>> round(info_nce(torch.ones(3, 2), torch.ones(3, 2)).loss.item(), 4), round(math.log(3), 4)
    (1.0986, 1.0986)
    """
    check_pairs(audio, visual)
    return info_nce_from_scores(cosines(audio, visual), temperature, symmetric=symmetric)


def info_nce_from_scores(
    scores: torch.Tensor, temperature: float | torch.Tensor = 0.07, *, symmetric: bool = True
) -> InfoNCE:
    """InfoNCE of any scores (B, B), `scores[i, j]` between sound `i` and picture `j`; higher means a better match.

    For models that compare more than two vectors, as a localization heatmap pooled over space. Equation, direction and
    differences as in `info_nce`. Raises `ValueError` where the scores are not square or the temperature is not above 0.

    >>> round(info_nce_from_scores(torch.zeros(5, 5)).loss.item(), 4), round(math.log(5), 4)
    (1.6094, 1.6094)
    """
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1] or scores.shape[0] == 0:
        raise ValueError(f"scores must be (B, B), a sound a row, a picture a column, got {tuple(scores.shape)}")
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {float(temperature):g}; 0.05 to 0.2 is usual")
    with full_precision(scores):
        logits = at_least_float32(scores) / temperature  # (B, B)
        partner = torch.arange(len(logits), device=logits.device)
        audio_to_visual = F.cross_entropy(logits, partner)
        visual_to_audio = F.cross_entropy(logits.T, partner)
    loss = (audio_to_visual + visual_to_audio) / 2 if symmetric else audio_to_visual
    return InfoNCE(loss, logits, audio_to_visual, visual_to_audio)


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
