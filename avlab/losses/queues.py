"""Negatives from earlier steps: a queue, a memory bank, and which of many to take.

A batch holds B - 1 negatives, and a larger batch costs memory and time. Embeddings that were computed anyway can serve
again, without gradient and a little stale. Survey section 3.2 v and 4 (the cost of large batches); the queue after He
et al. 2020 [53], the bank after Wu et al. 2018, the choice after Ma et al. 2021 [88]. Left out: the slowly moving copy
of the encoders with which [53] fills its queue, so here entries are as old as the weights that made them.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from avlab.losses.similarity import check_pairs, cosines, full_precision, unit


class Negatives(NamedTuple):
    """Stored `audio` and `visual` of unit length, (K, D) or (B, M, D), without gradient; `age` of each, in pushes."""

    audio: torch.Tensor
    visual: torch.Tensor
    age: torch.Tensor


class Queue(nn.Module):
    """The last `size` pairs of embeddings, first in, first out.

    `push(audio, visual)` after the loss of a step, `negatives()` before it: (K, D) with K <= `size`, newest first. What
    is stored is detached (a gradient would reach weights that are gone) and has length one. It is no parameter, but it
    is saved with the module's state. Where the queue outlasts an epoch, a clip meets itself as a negative: keep it
    shorter. Raises `ValueError` for a size below 1 or embeddings of another D.

    >>> queue = Queue(3, D=2)
    >>> queue.push(torch.eye(2), torch.eye(2))
    >>> queue.push(2 * torch.eye(2), torch.eye(2))
    >>> queue.negatives().audio.tolist(), queue.negatives().age.tolist()
    ([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 0, 1])
    """

    audio: torch.Tensor
    visual: torch.Tensor
    age: torch.Tensor

    def __init__(self, size: int, *, D: int) -> None:
        super().__init__()
        if size < 1:
            raise ValueError(f"a queue holds 1 pair or more, got size {size}")
        self.size, self.D = size, D
        for name, empty in (
            ("audio", torch.zeros(size, D)),
            ("visual", torch.zeros(size, D)),
            ("age", torch.full((size,), -1)),  # not filled yet
        ):
            self.register_buffer(name, empty)

    @torch.no_grad()
    def push(self, audio: torch.Tensor, visual: torch.Tensor) -> None:
        """Store a batch of pairs (B, D) in place of the oldest; of more than fit, the first `size`."""
        check_pairs(audio, visual)
        if audio.shape[1] != self.D:
            raise ValueError(f"the queue holds embeddings of D = {self.D}, got {tuple(audio.shape)}")
        age = torch.where(self.age >= 0, self.age + 1, self.age)
        for name, new, held in (
            ("audio", unit(audio), self.audio),
            ("visual", unit(visual), self.visual),
            ("age", age.new_zeros(len(audio)), age),
        ):
            setattr(self, name, torch.cat([new.to(held.dtype), held])[: self.size])

    def negatives(self) -> Negatives:
        """What is stored, newest first; (0, D) at the start."""
        filled = int((self.age >= 0).sum())
        return Negatives(self.audio[:filled], self.visual[:filled], self.age[:filled])


class MemoryBank(nn.Module):
    """One slot for each of the M clips of the training set, a running mean of its embeddings.

    `update(rows, audio, visual)` blends `keep` of the old with the new and brings it back to length one; a first visit
    is stored as it is. `negatives(rows, count)` draws other clips for each row, never the clip itself: (B, count, D),
    uniformly and with replacement from those seen so far; (B, 0, D) where nobody else was. Entries are detached. `age`
    counts the updates since. Raises `ValueError` for fewer than 2 clips, `keep` out of range, shapes that do not fit.

    >>> bank = MemoryBank(3, D=2, keep=0.5)
    >>> bank.update(torch.tensor([0, 2]), torch.eye(2), torch.eye(2))
    >>> drawn = bank.negatives(torch.tensor([0, 1]), 4, generator=torch.Generator().manual_seed(0))
    >>> drawn.audio.shape, drawn.audio[0].tolist() == [[0.0, 1.0]] * 4  # clip 0 meets only clip 2
    (torch.Size([2, 4, 2]), True)
    """

    audio: torch.Tensor
    visual: torch.Tensor
    age: torch.Tensor

    def __init__(self, M: int, *, D: int, keep: float = 0.5) -> None:
        super().__init__()
        if M < 2 or not 0 <= keep < 1:
            raise ValueError(f"a bank needs 2 clips or more and 0 <= keep < 1, got {M} and {keep:g}")
        self.keep = keep
        self.register_buffer("audio", torch.zeros(M, D))
        self.register_buffer("visual", torch.zeros(M, D))
        self.register_buffer("age", torch.full((M,), -1))

    @torch.no_grad()
    def update(self, rows: torch.Tensor, audio: torch.Tensor, visual: torch.Tensor) -> None:
        """Blend a batch (B, D) into the slots `rows` (B,), each row once."""
        B = check_pairs(audio, visual)
        if rows.shape != (B,) or audio.shape[1] != self.audio.shape[1]:
            raise ValueError(f"rows {tuple(rows.shape)} and embeddings {tuple(audio.shape)} do not fit a bank "
                             f"of {tuple(self.audio.shape)}")  # fmt: skip
        keep = torch.where(self.age[rows] < 0, 0.0, self.keep)[:, None]
        for held, new in ((self.audio, unit(audio)), (self.visual, unit(visual))):
            held[rows] = unit(keep * held[rows] + (1 - keep) * new.to(held.dtype))
        self.age += self.age >= 0
        self.age[rows] = 0

    @torch.no_grad()
    def negatives(self, rows: torch.Tensor, count: int, *, generator: torch.Generator | None = None) -> Negatives:
        """`count` stored pairs for each of `rows` (B,), none of them its own."""
        seen = (self.age >= 0).nonzero().flatten()
        place = torch.full((len(self.age),), len(seen), device=seen.device)
        place[seen] = torch.arange(len(seen), device=seen.device)
        own = place[rows][:, None]  # where a clip itself stands among those seen, or beyond their end
        others = len(seen) - (own < len(seen)).long()  # (B, 1)
        if others.min() < 1:
            count = 0
        drawn = (torch.rand(len(rows), count, generator=generator).to(seen.device) * others).long()
        chosen = seen[drawn + (drawn >= own).long()]  # (B, count), stepping over its own place
        return Negatives(self.audio[chosen], self.visual[chosen], self.age[chosen])


@torch.no_grad()
def active_negatives(
    pool: torch.Tensor,
    anchors: torch.Tensor,
    *,
    count: int,
    temperature: float = 0.07,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Rows (count,) of a pool of negatives that would teach much, each something else.

    `pool` (K, D) of one sense, `anchors` (B, D) of the other. A candidate `z_k` is compared with all anchors,
    `p_k = softmax(cos(z_k, anchors) / tau)`; its gradient embedding, were its most similar anchor the right one, is
    `g_k = (p_k - onehot(argmax p_k)) z_k^T`: long where the model hesitates. Candidates are drawn one by one, with a
    chance in proportion to the squared distance of `g_k` from the nearest one drawn (the seeding of k-means++), the
    first by its squared length. The outer products are never formed.

    Differs from the paper [88]: there the candidates stand for a dictionary that the other sense was contrasted with
    before; here for any pool, and against the anchors of this step.

    Raises `ValueError` where D differs, or for more negatives than the pool holds.

    >>> pool = torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [-1.0, -1.0]])
    >>> chosen = active_negatives(pool, torch.eye(2), count=2, generator=torch.Generator().manual_seed(0))
    >>> sorted(chosen.tolist())  # one of the twins, and not the other one too: it would teach nothing new
    [1, 3]
    """
    K, D = pool.shape
    if anchors.ndim != 2 or anchors.shape[1] != D:
        raise ValueError(f"pool (K, D) and anchors (B, D) must share D, got {(K, D)} and {tuple(anchors.shape)}")
    if not 1 <= count <= K:
        raise ValueError(f"the pool holds {K} negatives, {count} were asked for")
    with full_precision(pool):
        p = (cosines(pool, anchors) / temperature).softmax(dim=1)  # (K, B)
        p[torch.arange(K), p.argmax(1)] -= 1
        z = unit(pool)
        length = p.square().sum(1) * z.square().sum(1)
        far, chosen = length.clone(), []
        left = torch.ones(K, dtype=torch.bool, device=pool.device)
        for _ in range(count):
            weight = (far.clamp_min(0) * left).cpu()
            # nothing new is left where all distances vanish: then any will do
            picked = int(torch.multinomial(weight if weight.sum() > 0 else left.float().cpu(), 1, generator=generator))
            chosen.append(picked)
            left[picked] = False
            distance = length + length[picked] - 2 * (p @ p[picked]) * (z @ z[picked])
            far = distance if len(chosen) == 1 else torch.minimum(far, distance)
    return torch.tensor(chosen, device=pool.device)
