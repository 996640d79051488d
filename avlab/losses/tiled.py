"""Contrast over long batches: a softmax over B x B pairs of which only 1024 x 1024 are in memory at a time.

`tiled_info_nce` is `avlab.losses.contrastive.info_nce` and `tiled_margin_softmax` is
`avlab.losses.margin.masked_margin_softmax`, value and gradient, for batches whose table of cosines does not fit: at
B = 65,536 the table alone takes 17 GB and automatic differentiation keeps several of its size. Survey section 3.2 ii
and iv, equations 13 and 16, and section 4 on the cost of large batches. After the observation that a softmax needs only
the sum of its denominator (Rabe and Staats 2021 for attention; Cheng et al. 2024 for this loss). Left out here: a mask
given as a table, which would itself grow with the square of B (labels say the same in B numbers), and extra negatives.

How it works
------------
With the negatives of a clip summed up in one number, `n_i = log sum_j exp(s_ij)`, the loss of its pair is
`log(1 + exp(n_i - s_ii))`. So the sums over rows and over columns are all that a forward pass leaves behind. The
backward pass makes each tile once more. Both directions share one exponential: instead of each row's own maximum, as
usual, one number is taken off all scores, which is possible because cosines are bounded.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from avlab.losses.similarity import check_label, check_pairs, full_precision, unit

TILE = 1024  # rows and columns at a time: 4 MB in float32, in cache from product to sum, yet few enough calls


class TiledInfoNCE(NamedTuple):
    """`loss` (scalar, nats) and both directions; then (B,) each, from which figures are drawn: `matched`, the logit of
    each pair, and what it has to beat, `log sum exp` of the logits of all other pictures and of all other sounds."""

    loss: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    matched: torch.Tensor
    other_pictures: torch.Tensor
    other_sounds: torch.Tensor


def tiled_info_nce(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    temperature: float | torch.Tensor = 0.07,
    symmetric: bool = True,
    label: torch.Tensor | None = None,
) -> TiledInfoNCE:
    """`info_nce` in memory that grows with B: `mean_i log(1 + sum_{j != i} exp((s_ij - s_ii) / tau))`, s the cosines.

    `audio`, `visual` (B, D); nats, lower is better; mean of both directions, or audio-to-visual alone where not
    `symmetric`. With `label` (B,) clips of one class are no negatives of each other. Gradients for both embeddings and
    for the temperature, of first order only. Exact: equal to `info_nce` to 1e-6 in float64, and in float32 to 1e-5 in
    value and to 1e-5 of the largest entry in gradient (sums in another order). A temperature so low that float32 loses
    terms (below 0.015) is handled row by row where that happens. References 4, 6; van den Oord et al. 2018.

    Differs from the survey: equation 16 as printed repeats the matched pair, as said in `info_nce`.

    Raises `ValueError` where the shapes are not one (B, D), the label does not fit, or the temperature is not above 0.

    >>> same = torch.eye(3)
    >>> round(tiled_info_nce(same, same, temperature=0.5).loss.item(), 4)
    0.2395
    """
    B = check_pairs(audio, visual)
    if not temperature > 0:
        raise ValueError(f"the temperature must be above 0, got {float(temperature):g}; 0.05 to 0.2 is usual")
    label = None if label is None else check_label(label, B).to(audio.device)
    with full_precision(audio):
        a, v = unit(audio) / temperature, unit(visual)
        matched = (a * v).sum(dim=1)
        other_pictures, other_sounds = _SumsOfNegatives.apply(a, v, label)
        audio_to_visual = -F.logsigmoid(matched - other_pictures).mean()
        visual_to_audio = -F.logsigmoid(matched - other_sounds).mean()
    loss = (audio_to_visual + visual_to_audio) / 2 if symmetric else audio_to_visual
    return TiledInfoNCE(loss, audio_to_visual, visual_to_audio, matched, other_pictures, other_sounds)


class TiledMarginSoftmax(NamedTuple):
    """`loss` (scalar, nats) = `audio_to_visual` + `visual_to_audio`; (B,) each: `matched`, the scaled cosine of each
    pair before its margin, and `log sum exp` of its scaled negatives among pictures and among sounds (-inf: none)."""

    loss: torch.Tensor
    audio_to_visual: torch.Tensor
    visual_to_audio: torch.Tensor
    matched: torch.Tensor
    other_pictures: torch.Tensor
    other_sounds: torch.Tensor


def tiled_margin_softmax(
    audio: torch.Tensor,
    visual: torch.Tensor,
    *,
    margin: float | torch.Tensor | tuple[torch.Tensor, torch.Tensor] = 0.001,
    scale: float | torch.Tensor = 20.0,
    label: torch.Tensor | None = None,
) -> TiledMarginSoftmax:
    """`masked_margin_softmax` in memory that grows with B: `mean_i log(1 + sum_j M_ij exp(c (s_ij - s_ii + margin)))`.

    The sum of both directions; `s_ij = cos(a_i, v_j)`, `c` is `scale`. `audio`, `visual` (B, D). `M` is 1 for all but
    the diagonal, or for pairs of different `label` (B,). `margin`, in cosine, is a number, one for each clip (B,), or
    one (B,) for sounds and one for pictures. Nats, lower is better. Gradients, of first order only, for both inputs,
    margin and scale; exact as `tiled_info_nce`. References 63, 116.

    Differs from the survey: equation 13 as printed loses an index, as said in `masked_margin_softmax`.

    Raises `ValueError` where shapes do not fit or the scale is not above 0.

    >>> same = torch.eye(4)
    >>> [round(tiled_margin_softmax(same, same, margin=m, scale=5.0).loss.item(), 4) for m in (0.0, 0.5)]
    [0.04, 0.4403]
    """
    B = check_pairs(audio, visual)
    if not scale > 0:
        raise ValueError(f"the scale must be above 0, got {float(scale):g}; 10 to 30 is usual for cosines")
    margins = [
        torch.as_tensor(m, device=audio.device) for m in (margin if isinstance(margin, tuple) else (margin,) * 2)
    ]
    if len(margins) != 2 or any(own.shape not in ((), (B,)) for own in margins):
        raise ValueError(f"a margin is a number or one for each clip, ({B},), got {[tuple(m.shape) for m in margins]}")
    label = None if label is None else check_label(label, B).to(audio.device)
    with full_precision(audio):
        a, v = unit(audio) * scale, unit(visual)
        matched = (a * v).sum(dim=1)
        other_pictures, other_sounds = _SumsOfNegatives.apply(a, v, label)
        audio_to_visual = -F.logsigmoid(matched - scale * margins[0] - other_pictures).mean()
        visual_to_audio = -F.logsigmoid(matched - scale * margins[1] - other_sounds).mean()
    loss = audio_to_visual + visual_to_audio
    return TiledMarginSoftmax(loss, audio_to_visual, visual_to_audio, matched, other_pictures, other_sounds)


class _SumsOfNegatives(torch.autograd.Function):
    """`log sum_j exp(x_i . v_j)` over the negatives of each row, and of each column: 2 x (B, D) -> 2 x (B,).

    Negatives are all but the diagonal, or all of another label. -inf where there is none.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, v: torch.Tensor, label: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        shift, least = _shift(x, v)
        rows, columns = x.new_zeros(len(x)), x.new_zeros(len(x))
        for i, j, exponentials in _tiles(x, v, label, shift):
            rows[i] += exponentials.sum(dim=1)
            columns[j] += exponentials.sum(dim=0)
        rows, columns = rows.log_().add_(shift), columns.log_().add_(shift)
        for sums, one, other in ((rows, x, v), (columns, v, x)):
            for index, scores in _apart(one, other, label, sums < least):
                sums[index] = scores.logsumexp(dim=1)
        ctx.save_for_backward(x, v, rows, columns)
        ctx.label, ctx.shift, ctx.least = label, shift, least
        return rows, columns

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_rows: torch.Tensor, to_columns: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, v, rows, columns = ctx.saved_tensors
        with full_precision(x):
            # of a row's sum R, the share exp(s_ij) / R is what pair (i, j) gets of its gradient: never more than 1
            row_factor, column_factor = (
                torch.where((sums > -torch.inf) & (sums >= ctx.least), to_sums * (ctx.shift - sums).exp(), 0.0)
                for sums, to_sums in ((rows, to_rows), (columns, to_columns))
            )
            to_x, to_v = torch.zeros_like(x), torch.zeros_like(v)
            space = x.new_empty(min(TILE, len(x)) ** 2)
            for i, j, shares in _tiles(x, v, ctx.label, ctx.shift):
                factor = space[: shares.numel()].view_as(shares)
                shares *= torch.add(row_factor[i, None], column_factor[None, j], out=factor)
                to_x[i].addmm_(shares, v[j])
                to_v[j].addmm_(shares.T, x[i])
            for sums, to_sums, one, other, to_one, to_other in (
                (rows, to_rows, x, v, to_x, to_v),
                (columns, to_columns, v, x, to_v, to_x),
            ):
                for index, scores in _apart(one, other, ctx.label, (sums < ctx.least) & (sums > -torch.inf)):
                    shares = (scores - sums[index, None]).exp_() * to_sums[index, None]
                    to_one[index] += shares @ other
                    to_other += shares.T @ one[index]
        return to_x, to_v, None


def _shift(x: torch.Tensor, v: torch.Tensor) -> tuple[float, float]:
    """What to take off all scores before `exp`, and the least `log sum` that is then still right to rounding.

    `exp` overflows above 88 in float32 and fades out below -87. Taking off the largest score would waste half of that
    range; here the largest lands at 71, which leaves room for sums over 5e7 of them. A lost term is below `tiny`, B of
    them below `eps` of any sum that is at least `B tiny / eps`. Sums below it are to be computed apart.
    """
    number = torch.finfo(x.dtype)
    bound = float(x.norm(dim=1).amax() * v.norm(dim=1).amax())  # no score is larger: Cauchy and Schwarz
    shift = max(0.0, bound - 0.8 * math.log(number.max))
    least = math.log(len(x)) + math.log(number.tiny) - math.log(number.eps)
    return shift, shift + least if -bound - shift < least else -math.inf  # else no term can be lost


def _tiles(
    x: torch.Tensor, v: torch.Tensor, label: torch.Tensor | None, shift: float
) -> Iterator[tuple[slice, slice, torch.Tensor]]:
    """Rows, columns and `exp(x_i . v_j - shift)` of each tile, 0 where the two are no negatives; one memory for all."""
    B = len(x)
    space = x.new_empty(min(TILE, B) ** 2)
    for i in (slice(start, min(start + TILE, B)) for start in range(0, B, TILE)):
        for j in (slice(start, min(start + TILE, B)) for start in range(0, B, TILE)):
            tile = space[: (i.stop - i.start) * (j.stop - j.start)].view(i.stop - i.start, j.stop - j.start)
            torch.mm(x[i], v[j].T, out=tile)
            if shift:
                tile -= shift
            tile.exp_()
            if label is not None:
                tile.masked_fill_(label[i, None] == label[None, j], 0)
            elif i == j:
                tile.diagonal().zero_()
            yield i, j, tile


def _apart(
    x: torch.Tensor, v: torch.Tensor, label: torch.Tensor | None, chosen: torch.Tensor
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """For the `chosen` rows (B,), some at a time: which they are (n,), and their scores (n, B), -inf: no negative."""
    index = chosen.nonzero()[:, 0]
    for few in index.split(max(1, TILE * TILE // len(x))) if len(index) else ():
        scores = x[few] @ v.T
        same = few[:, None] == torch.arange(len(x), device=x.device) if label is None else label[few, None] == label
        yield few, scores.masked_fill_(same, -torch.inf)
