"""Several right answers: a bag of windows of which one may be right, all clips of a class, a set of labels for a clip.

Survey section 3.2 v, references 4, 6 (MIL-NCE, after Miech et al. 2020) and 41 (multi-instance multi-label learning,
after Gao, Feris and Grauman 2018); supervised contrastive learning after Khosla et al. 2020, between two senses. The
three differ in what a set of positives means: *one* of them is right (MIL-NCE: the sum lies inside the logarithm),
*all* of them are (supervised contrastive: outside), or each label is shown by *some* instance (a maximum over them).
Left out: learned weights of instances (attention), labels with probabilities.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from avlab.losses.contrastive import InfoNCE, info_nce_from_scores
from avlab.losses.similarity import at_least_float32, check_label, check_pairs, cosines, full_precision, unit


def mil_nce(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    positive: torch.Tensor | None = None,
    temperature: float | torch.Tensor = 0.07,
    symmetric: bool = True,
) -> InfoNCE:
    """InfoNCE with a set of positives: `-mean_i log sum_{j in P_i} e^{s_ij / tau} / sum_j e^{s_ij / tau}`.

    Each of `audio` and `visual` is (B, D), or a bag of P vectors a clip, (B, P, D), for example the windows around a
    moment: at least one of them should fit, the loss does not ask which. A bag is scored by the logarithm of the sum
    of its exponentials, so that with one vector a bag the loss is `info_nce`. Instead of bags, `positive` (B, B) bool
    may name which pictures (columns) are right for which sounds (rows). `logits` (B, B) are those of the bags.
    The loss (nats, lower is better) is the mean of both directions unless not `symmetric`.

    The survey names MIL-NCE without an equation. Differs from the paper: there one softmax holds the negatives of both
    directions; here each direction has its own, as in InfoNCE.

    Raises `ValueError` where shapes do not fit, a row or column of `positive` is empty, or the temperature is not
    above 0.

    >>> sound, windows = torch.eye(2), torch.stack([torch.eye(2), torch.zeros(2, 2)], dim=1)  # (B, D), (B, P, D)
    >>> round(mil_nce(sound, windows, temperature=1.0).audio_to_visual.item(), 4)  # (e + 1) of e + 3
    0.4304
    """
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {float(temperature):g}; 0.05 to 0.2 is usual")
    if audio.ndim not in (2, 3) or visual.ndim not in (2, 3) or 0 in (*audio.shape, *visual.shape):
        raise ValueError(f"sounds and pictures are (B, D) or bags (B, P, D), got {tuple(audio.shape)} "
                         f"and {tuple(visual.shape)}")  # fmt: skip
    a, v = (x if x.ndim == 3 else x[:, None] for x in (audio, visual))
    check_pairs(a[:, 0], v[:, 0])
    B, P, Q = len(a), a.shape[1], v.shape[1]
    with full_precision(a):
        every = unit(a).flatten(0, 1) @ unit(v).flatten(0, 1).T / temperature  # (B P, B Q)
        bags = every.view(B, P, B, Q)
        logits = every if P == Q == 1 else bags.transpose(1, 2).flatten(2).logsumexp(dim=2)  # (B, B)
        if positive is None:
            return info_nce_from_scores(logits, 1.0, symmetric=symmetric)
        if positive.shape != (B, B) or positive.dtype != torch.bool:
            raise ValueError(f"positive must be ({B}, {B}) of bool, got {tuple(positive.shape)} of {positive.dtype}")
        if not (positive.any(0).all() and positive.any(1).all()):
            raise ValueError("each sound needs a picture that is right for it, and each picture a sound: see positive")
        right = logits.masked_fill(~positive, -torch.inf)
        ways = [(logits.logsumexp(dim) - right.logsumexp(dim)).mean() for dim in (1, 0)]
    return InfoNCE((ways[0] + ways[1]) / 2 if symmetric else ways[0], logits, *ways)


def sup_con(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    label: torch.Tensor,
    temperature: float | torch.Tensor = 0.07,
    symmetric: bool = True,
) -> InfoNCE:
    """Supervised contrastive loss across senses: every clip of the own class is a right answer, all are asked for.

    `-mean_i 1/|P_i| sum_{j in P_i} log softmax_j(s_i / tau)_j`, `P_i` the pictures whose `label` is that of sound `i`,
    its own among them. `audio`, `visual` (B, D), `label` (B,). It cannot fall below the mean of `log |P_i|`. With B
    classes it is `info_nce`. A cross-entropy with the target spread evenly over the class, so also "soft targets".

    Differs from the paper: anchors are compared with the other sense only, in both directions.

    Raises `ValueError` where shapes or label do not fit, or the temperature is not above 0.

    >>> same = torch.ones(4, 3)
    >>> round(sup_con(same, same, label=torch.tensor([0, 0, 1, 1])).loss.exp().item(), 4)
    4.0
    """
    B = check_pairs(audio, visual)
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {float(temperature):g}; 0.05 to 0.2 is usual")
    with full_precision(audio):
        logits = cosines(audio, visual) / temperature
        match = (check_label(label, B)[:, None] == label).to(logits.dtype)
        target = match / match.sum(1, keepdim=True)  # symmetric: a class is as large in both senses
        own = (logits * target).sum() / B
        ways = [logits.logsumexp(1).mean() - own, logits.logsumexp(0).mean() - (logits * target.T).sum() / B]
    return InfoNCE((ways[0] + ways[1]) / 2 if symmetric else ways[0], logits, *ways)


class MultiLabel(NamedTuple):
    """`loss`; `logits` (B, C) of the clips; `instance` (B, C), which of a clip's instances spoke for each class."""

    loss: torch.Tensor
    logits: torch.Tensor
    instance: torch.Tensor


def multi_instance_multi_label(scores: torch.Tensor, *, labels: torch.Tensor, margin: float = 1.0) -> MultiLabel:
    """Each label of a clip must be shown by some instance: the best instance of each class speaks for the clip.

    `F_c = max_p scores_pc`, and every present class has to beat every absent one by a margin:
    `L = mean over clips of 1/C sum_{c present, n absent} max(0, margin - F_c + F_n)`. `scores` (B, P, C) of P
    instances for C classes, or (B, P, K, C) with K sub-concepts a class, of which the best counts; `labels` (B, C)
    bool. Which instance shows what is never told; `instance` says what was found. A clip with all classes, or none,
    gives no gradient.

    The survey places it among the contrastive objectives; it is a classification loss (see the paper).

    Raises `ValueError` where shapes do not fit.

    >>> scores = torch.tensor([[[3.0, 0.0, 0.5], [0.0, 0.2, 0.0]]])  # two instances, three classes
    >>> found = multi_instance_multi_label(scores, labels=torch.tensor([[True, True, False]]))
    >>> round(found.loss.item(), 4), found.instance.tolist()  # class 1 lags behind class 2 by 0.3
    (0.4333, [[0, 1, 0]])
    """
    if scores.ndim not in (3, 4) or math.prod(scores.shape) == 0:
        raise ValueError(f"scores must be (B, P, C) or (B, P, K, C), got {tuple(scores.shape)}")
    B, C = len(scores), scores.shape[-1]
    if labels.shape != (B, C) or labels.dtype != torch.bool:
        raise ValueError(f"labels must be ({B}, {C}) of bool, got {tuple(labels.shape)} of {labels.dtype}")
    with full_precision(scores):
        concepts = at_least_float32(scores)
        concepts = concepts if concepts.ndim == 3 else concepts.amax(dim=2)  # (B, P, C)
        logits, instance = concepts.max(dim=1)
        gap = (margin - logits[:, :, None] + logits[:, None, :]).clamp_min(0)  # (B, present, absent)
        pairs = labels[:, :, None] & ~labels[:, None, :]
        loss = (gap * pairs).sum() / (B * C)
    return MultiLabel(loss, logits, instance)
