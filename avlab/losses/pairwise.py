"""The contrastive loss: one pair at a time, drawn together if it matches, pushed beyond a margin if it does not.

Survey section 3.2 iv and equation 15, references 58 (pairs of one clip), 88 (as the survey has it, pairs of one class)
and 99 (shifted and augmented copies as negatives); after Hadsell et al. 2006. Left out: pairs within one sense, and
any choice among the negatives (lesson 15 has mining).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.contrastive import check_extra, cosines_to_extra
from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision


class Contrastive(NamedTuple):
    """`loss`; `distances` (B, B), a sound a row; `attract` and `repel`, the means over matching and other pairs.

    `active` is the share of the other pairs that lie within the margin: only those are pushed.
    """

    loss: torch.Tensor
    distances: torch.Tensor
    attract: torch.Tensor
    repel: torch.Tensor
    active: torch.Tensor


def contrastive_loss(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    label: torch.Tensor | None = None,
    margin: float = 1.0,
    distance: Literal["cosine", "euclidean"] = "cosine",
    balanced: bool = True,
    negatives_audio: torch.Tensor | None = None,
    negatives_visual: torch.Tensor | None = None,
) -> Contrastive:
    """Squared distance of matching pairs, squared shortfall from the margin of others.

    `l_ij = d_ij^2` where sound `i` and picture `j` match, else `max(0, margin - d_ij)^2`, over all B x B pairs.
    `audio`, `visual` (B, D); `d = 1 - cos`, 0 to 2, or the Euclidean distance of the vectors as they are. Pairs match
    by index (self-supervised), or where `label` (B,) is equal (class-based). `balanced`: the loss is the mean of
    `attract` and `repel`, so that B matching pairs weigh as much as all others; else the mean over all pairs. Without
    any other pair `repel` is 0. `negatives_audio` and `negatives_visual` are further non-matching sounds for pictures
    and pictures for sounds, (K, D) or (B, M, D), as in `info_nce`.

    Differs from the survey: equation 15 as printed compares `y_i` with itself, and squares the cosine where the
    distance belongs: it would push matching pairs to a right angle and others together. From the paper: no factor 1/2,
    and the positives may be weighed up (`balanced`).

    Raises `ValueError` where shapes, label or negatives do not fit, the margin is not above 0, or for another distance.

    >>> audio, visual = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    >>> found = contrastive_loss(audio, visual, margin=0.5)
    >>> found.distances.tolist(), found.attract.item(), found.repel.item(), found.active.item()
    ([[0.0, 0.0], [1.0, 1.0]], 0.5, 0.125, 0.5)
    >>> found.loss.item(), contrastive_loss(audio, visual, margin=0.5, balanced=False).loss.item()
    (0.3125, 0.3125)
    """
    B = check_pairs(audio, visual)
    if not margin > 0:
        raise ValueError(f"the margin must be above 0, got {margin:g}: with 0 nothing is ever pushed apart")
    if distance not in ("cosine", "euclidean"):
        raise ValueError(f"distance must be 'cosine' or 'euclidean', got {distance!r}")
    if label is None:
        own = torch.arange(B, device=audio.device), torch.arange(B, device=audio.device)
    else:
        own = (check_label(label, B)[:, None] == label).nonzero(as_tuple=True)
    near, far = len(own[0]), B * B - len(own[0])
    with full_precision(audio):
        apart = _distances(audio, visual, distance)  # (B, B)
        further = [
            _distances(anchors, extra, distance).flatten()
            for anchors, extra in ((audio, negatives_visual), (visual, negatives_audio))
            if extra is not None
        ]
        pulled = _squares(apart[own])
        reach = apart.new_full((B, B), margin)  # how far a pair is pushed: those that match, not at all
        reach[own] = -torch.inf
        shortfall = F.relu(reach - apart)
        pushed, active = _squares(shortfall), shortfall.detach().sign().sum()
        for more in further:
            short = F.relu(margin - more)
            pushed, active, far = pushed + _squares(short), active + short.detach().sign().sum(), far + len(more)
        attract, repel = pulled / near, pushed / max(far, 1)
        loss = (attract + repel) / 2 if balanced else (pulled + pushed) / (near + far)
    return Contrastive(loss, apart, attract, repel, active / max(far, 1))


def _squares(x: torch.Tensor) -> torch.Tensor:
    """Their sum; as a dot product it takes a third of the time of `x.square().sum()`, with its gradient."""
    return torch.dot(x.flatten(), x.flatten())


def _distances(anchors: torch.Tensor, others: torch.Tensor, distance: str) -> torch.Tensor:
    """Of each of (B, D) to each of (K, D), or to each of its own of (B, M, D)."""
    if distance == "cosine":
        return 1 - (cosines(anchors, others) if others.ndim == 2 else cosines_to_extra(anchors, others))
    check_extra(anchors, others)
    a, o = at_least_float32(anchors), at_least_float32(others)
    if o.ndim == 3:
        return torch.cdist(a[:, None], o)[:, 0]
    middle = a.detach().mean(0)  # distances do not depend on it; near it, the matrix product inside cancels less
    return torch.cdist(a - middle, o - middle)
