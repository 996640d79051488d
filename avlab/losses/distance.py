"""Distance objectives: to the right class, to a class's centre, and to the other half of the pair.

Survey section 3.2 i with equations 1 and 2, references 54 (He 2019), 91 (Min 2021) and 186 (Zhen et al. 2019, DSCMR);
center loss after Wen et al. 2016. Left out here: distillation (`avlab.losses.distillation`), how terms are summed
(`avlab.losses.weighted`), and everything that compares clips with each other (margins, contrast).

Conventions as in `avlab.losses.similarity`. K classes. A loss is the mean over clips; what it is for the sounds and
what it is for the pictures are added, as in the survey's equation 3, and returned beside the sum.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from avlab.losses.similarity import at_least_float32, check_label, check_pairs, full_precision, unit

Distance = Literal["l1", "l2", "squared_l2", "cosine"]
Update = Literal["learned", "mean"]


class BothSenses(NamedTuple):
    """`loss` = `audio` + `visual`: what the sounds cost and what the pictures cost, scalars."""

    loss: torch.Tensor
    audio: torch.Tensor
    visual: torch.Tensor


class Aligned(NamedTuple):
    """`loss` (scalar) = mean of `distances` (B,), one a pair."""

    loss: torch.Tensor
    distances: torch.Tensor


class Classified(NamedTuple):
    """`loss` = `audio` + `visual`, scalars, and the predictions of the classes: (B, K) for each sense."""

    loss: torch.Tensor
    audio: torch.Tensor
    visual: torch.Tensor
    audio_logits: torch.Tensor
    visual_logits: torch.Tensor


def class_cross_entropy(audio: torch.Tensor, visual: torch.Tensor, *, label: torch.Tensor) -> BothSenses:
    """Cross-entropy of class logits for both senses: `-mean_i log softmax(a_i)[y_i] - mean_i log softmax(v_i)[y_i]`.

    `audio`, `visual` (B, K) are logits of K classes, `label` (B,) in 0..K - 1. Nats; `2 log K` is what guessing costs.
    It asks that the right class wins, and falls the further it wins: not that the clips of a class lie together.
    Survey equation 1, which holds as printed: its N is the number of classes, `y` one-hot.

    Raises `ValueError` where the shapes are not one (B, K) or a label is not in 0..K - 1.

    >>> logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    >>> found = class_cross_entropy(logits, torch.zeros(2, 2), label=torch.tensor([0, 1]))
    >>> round(found.audio.item(), 4), round(found.visual.item(), 4)
    (0.1269, 0.6931)
    """
    check_label(label, check_pairs(audio, visual), classes=audio.shape[1])
    with full_precision(audio):
        parts = [F.cross_entropy(at_least_float32(x), label) for x in (audio, visual)]
    return BothSenses(parts[0] + parts[1], *parts)


def label_distance(
    audio: torch.Tensor, visual: torch.Tensor, *, label: torch.Tensor, squared: bool = True
) -> BothSenses:
    """Distance of predictions to one-hot labels: `mean_i |a_i - y_i|^2 + mean_i |v_i - y_i|^2`.

    `audio`, `visual` (B, K): predictions in a space with one axis a class, no softmax; `label` (B,) in 0..K - 1. Lower
    is better, 0 is perfect; predicting nothing (zeros) costs 1 a sense. Unlike cross-entropy it also punishes a right
    class that wins by too much. With `squared=False` the form of DSCMR [186]: the Frobenius norm of the whole batch
    over B, `|A - Y|_F / B + |V - Y|_F / B`, which shrinks like `1 / sqrt(B)` as the batch grows.

    Differs from the survey: equation 2 prints `(1/n) sum_n |y' - y|^2`, whose summand does not depend on `n`: with `y`
    for the whole batch it is B times too large. Here the sum runs over clips.

    Raises `ValueError` where the shapes are not one (B, K) or a label is not in 0..K - 1.

    >>> right, label = torch.eye(3), torch.tensor([0, 1, 2])
    >>> found = label_distance(right, 3 * right, label=label)
    >>> found.audio.item(), found.visual.item()
    (0.0, 4.0)
    """
    B = check_pairs(audio, visual)
    K = audio.shape[1]
    check_label(label, B, classes=K)
    parts = []
    with full_precision(audio):
        for x in (audio, visual):
            x = at_least_float32(x)
            off = x - F.one_hot(label, K).to(x.dtype)  # (B, K)
            parts.append(off.square().sum() / B if squared else torch.linalg.vector_norm(off) / B)
    return BothSenses(parts[0] + parts[1], *parts)


def embedding_distance(audio: torch.Tensor, visual: torch.Tensor, *, distance: Distance = "squared_l2") -> Aligned:
    """Alignment: the mean distance between the two halves of a pair, `mean_i d(a_i, v_i)`.

    `audio`, `visual` (B, D). `distance`: "l1" `sum_d |a_d - v_d|`, "l2" `|a - v|`, "squared_l2" `|a - v|^2`, "cosine"
    `1 - cos(a, v)`, which is half of "squared_l2" for vectors of length one. Lower is nearer; 0 also where all clips
    are one point, which is why it is a term beside others and no objective of its own. Survey section 3.2 i, after
    Min et al. 2021 [91], which the survey describes in words only.

    Raises `ValueError` where the shapes are not one (B, D), or for another distance.

    >>> sound, picture = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    >>> [embedding_distance(sound, picture, distance=d).loss.item() for d in ("l1", "l2", "squared_l2", "cosine")]
    [7.0, 5.0, 25.0, 1.0]
    """
    check_pairs(audio, visual)
    with full_precision(audio):
        distances = _distances(audio, visual, distance)
    return Aligned(distances.mean(), distances)


def center_loss(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    label: torch.Tensor,
    centres: torch.Tensor,
    distance: Distance = "squared_l2",
) -> BothSenses:
    """Center loss: how far clips lie from the centre of their class, `mean_i d(a_i, c_{y_i}) + mean_i d(v_i, c_{y_i})`.

    `audio`, `visual` (B, D), `centres` (K, D) shared by both senses, `label` (B,) in 0..K - 1. `distance` as in
    `embedding_distance`, except that "squared_l2" is halved, as in Wen et al. 2016: the force on an embedding is then
    `c - x`, over B. The gradient reaches embeddings, and centres if they ask for it. Lower is tighter. Alone it is
    solved by one point for all classes if the centres may move.

    Differs from the survey: it calls center loss an L1 distance; that is `distance="l1"`. Differs from the paper: the
    mean over the batch instead of the sum.

    Raises `ValueError` where shapes do not fit, a label is not in 0..K - 1, or for another distance.

    >>> sound, picture, centres = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    >>> found = center_loss(sound, picture, label=torch.tensor([0]), centres=centres)
    >>> found.audio.item(), found.visual.item()
    (2.5, 0.5)
    """
    B = check_pairs(audio, visual)
    if centres.ndim != 2 or centres.shape[1] != audio.shape[1]:
        raise ValueError(f"centres must be (K, {audio.shape[1]}) for embeddings (B, D), got {tuple(centres.shape)}")
    check_label(label, B, classes=len(centres))
    factor = 0.5 if distance == "squared_l2" else 1.0
    with full_precision(audio):
        own = centres[label]  # (B, D)
        parts = [factor * _distances(x, own, distance).mean() for x in (audio, visual)]
    return BothSenses(parts[0] + parts[1], *parts)


def _distances(x: torch.Tensor, y: torch.Tensor, distance: str) -> torch.Tensor:
    """Row by row: (B, D), (B, D) -> (B,)."""
    if distance == "cosine":
        return 1 - (unit(x) * unit(y)).sum(1)
    off = at_least_float32(x) - at_least_float32(y)
    of: dict[str, Callable[[], torch.Tensor]] = {
        "l1": lambda: off.abs().sum(1),
        "l2": lambda: torch.linalg.vector_norm(off, dim=1),
        "squared_l2": lambda: off.square().sum(1),
    }
    if distance not in of:
        raise ValueError(f"distance must be one of {[*of, 'cosine']}, got {distance!r}")
    return of[distance]()


class ClassifierLoss(nn.Module):
    """One linear classifier for both senses, and what its answers cost: P of DSCMR [186], learned.

    The same `P` (K, D) reads sounds and pictures, `x P^T`, so a class has to look alike in both. `by` is
    "cross_entropy" (`class_cross_entropy`) or "distance" (`label_distance`, squared unless said otherwise). No bias, as
    in DSCMR. Raises `ValueError` for another `by`, or fewer than two classes.

    >>> criterion = ClassifierLoss(2, 3, by="distance")
    >>> _ = criterion.P.data.copy_(torch.eye(2, 3))
    >>> criterion(torch.eye(2, 3), torch.zeros(2, 3), torch.tensor([0, 1])).loss.item()
    1.0
    """

    def __init__(
        self, K: int, D: int, *, by: Literal["cross_entropy", "distance"] = "cross_entropy", squared: bool = True
    ) -> None:
        super().__init__()
        if by not in ("cross_entropy", "distance"):
            raise ValueError(f'by must be "cross_entropy" or "distance", got {by!r}')
        if K < 2 or D < 1:
            raise ValueError(f"a classifier needs two classes and one dimension or more, got K={K} and D={D}")
        self.by, self.squared = by, squared
        self.P = nn.Parameter(torch.randn(K, D) / D**0.5)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor) -> Classified:
        """Both senses (B, D) through P, and the loss of their predictions (B, K) against `label` (B,)."""
        check_pairs(audio, visual)
        if audio.shape[1] != self.P.shape[1]:
            raise ValueError(f"the classifier reads embeddings (B, {self.P.shape[1]}), got {tuple(audio.shape)}")
        with full_precision(audio):
            P = at_least_float32(self.P)
            logits = [at_least_float32(x) @ P.to(at_least_float32(x).dtype).T for x in (audio, visual)]  # (B, K) each
        if self.by == "cross_entropy":
            return Classified(*class_cross_entropy(*logits, label=label), *logits)
        return Classified(*label_distance(*logits, label=label, squared=self.squared), *logits)


class CenterLoss(nn.Module):
    """`center_loss` with the centres it needs, (K, D), one a class for both senses.

    `update="learned"`: centres are parameters and follow the gradient. `update="mean"`: they are no parameters; each
    call in training mode, after the loss, moves the centre of each class seen towards the mean of its clips, by
    `rate * sum_{i of class}(x_i - c) / (1 + count)` over sounds and pictures (Wen et al. 2016; the 1 keeps a class with
    few clips from jumping). They start as random directions of length one: where classes start apart, center loss can
    pull without making one point of all. Raises `ValueError` for another update, or a rate not in (0, 1].

    >>> criterion = CenterLoss(2, 1, update="mean", rate=1.0)
    >>> _ = criterion.centres.copy_(torch.tensor([[0.0], [5.0]]))
    >>> before = criterion(torch.tensor([[3.0]]), torch.tensor([[3.0]]), torch.tensor([0])).loss
    >>> before.item(), criterion.centres.flatten().tolist()
    (9.0, [2.0, 5.0])
    """

    def __init__(
        self, K: int, D: int, *, distance: Distance = "squared_l2", update: Update = "learned", rate: float = 0.5
    ) -> None:
        super().__init__()
        if update not in ("learned", "mean"):
            raise ValueError(f'update must be "learned" or "mean", got {update!r}')
        if not 0 < rate <= 1:
            raise ValueError(f"rate must lie in (0, 1], got {rate:g}")
        self.distance, self.update, self.rate = distance, update, rate
        start = unit(torch.randn(K, D))
        if update == "learned":
            self.centres = nn.Parameter(start)
        else:
            self.register_buffer("centres", start)

    def forward(self, audio: torch.Tensor, visual: torch.Tensor, label: torch.Tensor) -> BothSenses:
        """`center_loss` of both senses (B, D) with `label` (B,); then the centres move, if the mean moves them."""
        found = center_loss(audio, visual, label=label, centres=self.centres, distance=self.distance)
        if self.update == "mean" and self.training:
            self._move(torch.cat([audio, visual]).detach(), torch.cat([label, label]))
        return found

    @torch.no_grad()
    def _move(self, points: torch.Tensor, label: torch.Tensor) -> None:
        points = points.to(self.centres.dtype)
        off = torch.zeros_like(self.centres).index_add_(0, label, points - self.centres[label])  # (K, D)
        count = torch.bincount(label, minlength=len(self.centres)).to(off.dtype)[:, None]
        self.centres += self.rate * off / (1 + count)
