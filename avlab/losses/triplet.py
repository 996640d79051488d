"""Triplets and their kin: an anchor must be nearer to its positive than to a negative, and which negative to ask about.

Survey section 3.2 iii. The triplet loss (equation 14, after Schroff et al. 2015) with four ways of mining, each sense
an anchor in turn (reference 103: Pretet et al. 2021), positives from the same clip (110: Ramaswamy and Das 2020) or of
the same class (178: Zeng et al. 2020); its extensions to many negatives (54, 56): lifted structure (Song et al. 2016),
N-pair (Sohn 2016), quadruplet (Chen et al. 2017). Left out here: triplets within one sense, proxies, Cluster-CCA.

Conventions as in `avlab.losses.similarity`. Distances are squared, between embeddings of length one: `2 - 2 cos`, in
[0, 4]; so a margin of 0.4 here is one of 0.2 in cosine. A zero vector lies at distance 2 from everything.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from avlab.losses.margin import mismatched
from avlab.losses.similarity import at_least_float32, check_pairs, cosines, full_precision

Mining = Literal["random", "semi-hard", "hardest", "all"]


class Triplet(NamedTuple):
    """`loss` (scalar, squared distance), `distances` (B, B) with a sound a row, both directions, and how many
    `triplets` were looked at and how many of them are `active`, that is, push (whole numbers as scalars)."""

    loss: torch.Tensor
    distances: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    triplets: torch.Tensor
    active: torch.Tensor


def triplet(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    margin: float = 0.4,
    mining: Mining = "semi-hard",
    label: torch.Tensor | None = None,
    bidirectional: bool = True,
    generator: torch.Generator | None = None,
) -> Triplet:
    """Triplet loss, `mean max(0, d(anchor, positive) - d(anchor, negative) + margin)` over the triplets that are mined.

    `audio`, `visual` (B, D). A sound is the anchor, its own picture the positive, another picture the negative; where
    `bidirectional`, pictures are anchors too and the loss is the mean of both directions. With `label` (B,) each clip
    of the anchor's class is a positive and only clips of other classes are negatives. For each anchor and positive,
    `mining` picks one negative: "random" (from a CPU `generator`), "semi-hard" (the nearest of those that are farther
    than the positive; an anchor without one sits out), "hardest" (the nearest of all); or "all", each of them.
    0 is the least; where all embeddings coincide, every triplet costs the margin.

    Where nothing can be picked (a batch of one class) the loss is 0, and `triplets` says so.
    Differs from the survey: equation 14 has one `f`; for two senses it is that of sounds for the one and that of
    pictures for the other. A mean here, not a sum.

    Raises `ValueError` where the shapes are not one (B, D), for B below 2, a negative margin or an unknown mining.

    >>> audio, visual = torch.eye(3), torch.eye(3).roll(1, 0)
    >>> [round(triplet(audio, visual, mining=m).loss.item(), 2) for m in ("hardest", "all")]
    [2.4, 1.4]
    >>> triplet(audio, audio).loss.item(), triplet(audio, audio).active.item()
    (0.0, 0)
    """
    B = check_pairs(audio, visual, smallest=2)
    _check_margin("margin", margin)
    if mining not in ("random", "semi-hard", "hardest", "all"):
        raise ValueError(f'mining must be "random", "semi-hard", "hardest" or "all", got {mining!r}')
    with full_precision(audio):
        distances = 2 - 2 * cosines(audio, visual)  # (B, B)
        negative = mismatched(B, label, device=distances.device)
        means, counts = [], []
        for d in (distances, distances.T)[: 1 + bidirectional]:
            total, picked, active = _one_way(d, negative, margin, mining, generator, one=label is None)
            means.append(total / picked.clamp_min(1))
            counts.append(torch.stack([picked, active]))
    triplets, active = torch.stack(counts).sum(0)
    return Triplet(sum(means) / len(means), distances, means[0], means[-1], triplets, active)


def _check_margin(name: str, margin: float) -> None:
    if not margin >= 0:
        raise ValueError(f"{name} must be 0 or more, got {margin:g}; squared distances lie in 0 to 4")


def _one_way(
    d: torch.Tensor, negative: torch.Tensor, margin: float, mining: Mining, generator: torch.Generator | None, one: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of hinges over the triplets of the rows of `d` as anchors, how many there are, how many are above 0.

    `one`: each anchor has one positive, its partner. Nothing of size B^3 is made.
    """
    if one:
        own, fits = d.diagonal()[:, None], torch.ones_like(negative[:, :1])  # (B, 1)
    else:  # each anchor's positives side by side, (B, K) for the largest class of K; `fits` says which places are taken
        own, fits = _chosen(
            ~negative, torch.arange(int((~negative).sum(1).max()), device=d.device).expand(len(d), -1), d
        )
    if mining == "all" and one:
        cost = F.relu(own - d + margin) * negative  # (B, B)
        return cost.sum(), negative.sum(), (cost > 0).sum()
    if mining == "all":
        sums, counts = _hinges(d.masked_fill(~negative, torch.inf), own + margin)
        picked = (fits * negative.sum(1, keepdim=True)).sum()
        return (sums * fits).sum(), picked, (counts * fits).sum()
    if mining == "hardest":
        other = d.masked_fill(~negative, torch.inf).amin(1, keepdim=True).expand_as(own)
    elif mining == "semi-hard" and one:
        other = d.masked_fill(~negative | (d <= own), torch.inf).amin(1, keepdim=True)
    elif mining == "semi-hard":
        ordered = d.masked_fill(~negative, torch.inf).sort(1).values
        place = torch.searchsorted(ordered.detach(), own.detach(), right=True)
        other = F.pad(ordered, (0, 1), value=torch.inf).gather(1, place)
    else:
        draw = torch.rand(own.shape, generator=generator, dtype=torch.float64).to(d.device)
        place = (draw * negative.sum(1, keepdim=True)).long()
        other, found = _chosen(negative, place, d)
        fits = fits & found
    fits = fits & other.isfinite()
    cost = F.relu(own - other.where(fits, own) + margin) * fits
    return cost.sum(), fits.sum(), (cost > 0).sum()


def _chosen(mask: torch.Tensor, place: torch.Tensor, d: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row of `d` (B, B) the values where `mask` is True the `place`-th time (B, K, from 0); is there one?"""
    rank = mask.cumsum(1)  # (B, B)
    column = torch.searchsorted(rank, place.contiguous() + 1)  # the first column by which so many were counted
    return d.gather(1, column.clamp_max(d.shape[1] - 1)), place < rank[:, -1:]


def _hinges(values: torch.Tensor, thresholds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`sum_n max(0, threshold - values_n)` for each threshold (..., K) over values (..., N), and how many are above 0.

    By sorting: N log N in place of K N, and nothing larger than the input. Values may be infinite: they never count.
    """
    ordered = values.contiguous().sort(-1).values  # of a transposed view it is not contiguous either
    count = torch.searchsorted(ordered.detach(), thresholds.detach().contiguous())
    below = F.pad(ordered.double().cumsum(-1), (1, 0))  # float64: a small difference of large sums
    return (count * thresholds.double() - below.gather(-1, count)).to(values.dtype), count


class LiftedStructure(NamedTuple):
    """`loss` (scalar), `distances` (B, B) of a sound a row, not squared, and the share `active` (scalar) of positive
    pairs that still cost something."""

    loss: torch.Tensor
    distances: torch.Tensor
    active: torch.Tensor


def lifted_structure(
    audio: torch.Tensor, visual: torch.Tensor, *, margin: float = 1.0, label: torch.Tensor | None = None
) -> LiftedStructure:
    """Lifted structured loss: each positive pair against the negatives of both its ends, near ones counting most.

    `mean over positive (i, j) of max(0, log(sum_k e^(margin - D_ik) + sum_l e^(margin - D_lj)) + D_ij)^2 / 2`, where
    `D_ij` is the (not squared) distance of sound `i` and picture `j` on the sphere, `k` runs over the pictures that are
    negatives of sound `i`, `l` over the sounds that are negatives of picture `j`. `audio`, `visual` (B, D). Positives
    are the pairs, with `label` (B,) all sounds and pictures of one class.

    Differs from the paper (Song et al. 2016): its pairs lie in one set, here across two.
    Raises `ValueError` where the shapes are not one (B, D) or B is below 2.

    >>> audio = torch.eye(3)
    >>> [round(lifted_structure(audio, v).loss.item(), 4) for v in (audio, audio.roll(1, 0), -audio)]
    [0.4725, 5.5278, 4.4166]
    """
    B = check_pairs(audio, visual, smallest=2)
    scores = cosines(audio, visual)
    with full_precision(scores):
        distances = (2 - 2 * scores).clamp_min(1e-12).sqrt()  # the slope of a root at 0 is endless
        negative = mismatched(B, label, device=scores.device)
        push = (margin - distances).masked_fill(~negative, -1e4)  # no infinities: a class may have no negatives
        if label is None:
            pull, others = distances.diagonal(), torch.logaddexp(push.logsumexp(1), push.logsumexp(0))
        else:
            pull, others = distances, torch.logaddexp(push.logsumexp(1)[:, None], push.logsumexp(0)[None, :])
            pull, others = pull[~negative], others[~negative]
        cost = F.relu(others + pull).square() / 2
    return LiftedStructure(cost.mean(), distances, (cost > 0).float().mean().detach())


class NPair(NamedTuple):
    """`loss` (scalar, nats) with the penalty, `scores` (B, B) dot products with a sound a row, both directions without
    it, and the `penalty` on lengths."""

    loss: torch.Tensor
    scores: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    penalty: torch.Tensor


def n_pair(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    penalty: float = 0.002,
    label: torch.Tensor | None = None,
    bidirectional: bool = True,
) -> NPair:
    """N-pair loss: one positive against all negatives of the batch by dot products, `mean_i log(1 + sum_{j != i}
    e^(a_i v_j - a_i v_i))`, plus `penalty` times the mean squared length.

    `audio`, `visual` (B, D), of any length: the length does what a temperature does in `info_nce`, which this equals on
    embeddings of length `1 / sqrt(temperature)`; the penalty keeps it from growing for ever. On embeddings of length
    one it cannot fall below `log(1 + (B - 1) e^-2)`: leave them their length. With `label` (B,) clips of one class are
    no negatives of each other. Mean of both directions, or sounds as anchors alone.

    Differs from the paper (Sohn 2016): that has one pair of each class in a batch and one direction.
    Raises `ValueError` where the shapes are not one (B, D) or the penalty is negative.

    >>> long = 3 * torch.eye(4)
    >>> [round(n_pair(x, x, penalty=0.0).loss.item(), 4) for x in (torch.eye(4), long)]
    [0.7437, 0.0004]
    """
    B = check_pairs(audio, visual)
    _check_margin("penalty", penalty)
    with full_precision(audio):
        audio, visual = at_least_float32(audio), at_least_float32(visual)
        scores = audio @ visual.mT
        strangers = mismatched(B, label, device=scores.device)
        own = torch.arange(B, device=scores.device)
        logits = (
            scores if label is None else scores.masked_fill(~strangers, -torch.inf).diagonal_scatter(scores.diagonal())
        )
        audio_to_visual, visual_to_audio = F.cross_entropy(logits, own), F.cross_entropy(logits.T, own)
        length = penalty * (audio.square().sum(1).mean() + visual.square().sum(1).mean()) / 2
    loss = (audio_to_visual + visual_to_audio) / 2 if bidirectional else audio_to_visual
    return NPair(loss + length, scores, audio_to_visual, visual_to_audio, length)


class Quadruplet(NamedTuple):
    """`loss` (scalar, squared distance) = `triplet_term` + `pair_term`, and `distances` (B, B), a sound a row."""

    loss: torch.Tensor
    distances: torch.Tensor
    triplet_term: torch.Tensor
    pair_term: torch.Tensor


def quadruplet(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    margin: float = 0.4,
    pair_margin: float = 0.2,
    mining: Literal["random", "hardest", "all"] = "hardest",
    generator: torch.Generator | None = None,
) -> Quadruplet:
    """Quadruplet loss: a triplet, and the positive pair must also be nearer than a pair of two *other*, strange clips.

    `mean max(0, d_ii - d_ik + margin) + mean max(0, d_ii - d_lk + pair_margin)` with `i`, `k`, `l` three different
    clips, `d_lk` the squared distance of sound `l` and picture `k`. `audio`, `visual` (B, D). The first term is
    `triplet` in both directions with the same `mining`; the second asks for one scale of near and far, which no triplet
    sees, since all its distances start from one anchor. `mining` picks `(l, k)` too: "random" (from a CPU
    `generator`), the "hardest" (nearest) without clip `i`, or the mean over "all".

    Differs from the paper (Chen et al. 2017): a distance on the sphere in place of a learned one.
    Raises `ValueError` where the shapes are not one (B, D), for B below 3, a negative margin or another mining.

    >>> audio, visual = torch.eye(4), torch.eye(4).roll(1, 0)
    >>> found = quadruplet(audio, visual)
    >>> [round(term.item(), 2) for term in (found.triplet_term, found.pair_term)]
    [2.4, 2.2]
    """
    B = check_pairs(audio, visual, smallest=3)
    _check_margin("pair_margin", pair_margin)
    if mining not in ("random", "hardest", "all"):
        raise ValueError(f'mining must be "random", "hardest" or "all", got {mining!r}')
    first = triplet(audio, visual, margin=margin, mining=mining, generator=generator)
    d, own = first.distances, first.distances.diagonal()
    with full_precision(audio):
        if mining == "all":
            strange = d.masked_fill(~mismatched(B, device=d.device), torch.inf)
            # all strange pairs, less those in which clip i is the sound or the picture
            sums = _hinges(strange.flatten(), own + pair_margin)[0]
            for part in (strange, strange.T):
                sums = sums - _hinges(part, own[:, None] + pair_margin)[0][:, 0]
            second = sums.clamp_min(0).mean() / ((B - 1) * (B - 2))
        else:
            sound, picture = _strange_pair(d.detach(), mining, generator)
            second = F.relu(own - d[sound, picture] + pair_margin).mean()
    return Quadruplet(first.loss + second, d, first.loss, second)


def _strange_pair(d: torch.Tensor, mining: str, generator: torch.Generator | None) -> tuple[torch.Tensor, torch.Tensor]:
    """For each clip `i` a sound (B,) and a picture (B,) of two different clips, neither of them `i`."""
    B = len(d)
    if mining == "random":
        step, other = (torch.randint(n, (B,), generator=generator).to(d.device) for n in (B - 1, B - 2))
        other = 1 + other + (other >= step)  # 1 + step and 1 + other: two different steps from i on, none of them 0
        i = torch.arange(B, device=d.device)
        return (i + 1 + step) % B, (i + other) % B
    # at most 2 (B - 1) strange pairs hold clip i: among one more, the nearest that does not is its own
    near = d.masked_fill(torch.eye(B, dtype=torch.bool, device=d.device), torch.inf).flatten()
    near = near.topk(2 * B - 1, largest=False).indices  # (2 B - 1,)
    sound, picture = near // B, near % B
    i = torch.arange(B, device=d.device)[:, None]
    first = ((sound != i) & (picture != i)).int().argmax(1)  # (B,)
    return sound[first], picture[first]
