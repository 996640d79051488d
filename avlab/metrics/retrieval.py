"""Cross-modal retrieval: given a sound, is its picture near the top of the list?

Survey section 4 and appendix D.3. A similarity matrix has a query a row and a candidate a column; the partner of query
`i` is candidate `i`. Higher similarity is a better match. Transpose it for the other direction.

Ties: the partner stands in the middle of the candidates that it ties with (mean rank). So a model that gives every pair
one score has the median rank of chance and no recall at 1: a constant never looks like a find.
"""

from __future__ import annotations

import torch


def ranks(similarity: torch.Tensor) -> torch.Tensor:
    """Place of the true partner in each query's list, 1 is best: (A, B) with A <= B -> float (A,).

    `rank_i = 1 + #{j: s_ij > s_ii} + #{j != i: s_ij = s_ii} / 2`. Raises `ValueError` for NaN, or fewer candidates
    than queries.

    >>> ranks(torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.3], [0.5, 0.5, 0.5]])).tolist()
    [1.0, 2.5, 2.0]
    """
    _check(similarity)
    A, B = similarity.shape
    if A > B:
        raise ValueError(f"{A} queries but only {B} candidates: the partner of query i must be candidate i")
    own = similarity.diagonal()[:, None]  # (A, 1)
    return 1 + (similarity > own).sum(dim=1) + ((similarity == own).sum(dim=1) - 1) / 2


def recall_at_k(similarity: torch.Tensor, k: int) -> float:
    """Share of queries whose partner is among the first `k` candidates, in [0, 1]; higher is better, chance is k / B.

    Raises `ValueError` where k is not in 1..B, and as `ranks` does.

    >>> recall_at_k(torch.tensor([[0.9, 0.1], [0.8, 0.3]]), 1)
    0.5
    """
    if not 1 <= k <= similarity.shape[-1]:
        raise ValueError(f"k must lie in 1..{similarity.shape[-1]} (the number of candidates), got {k}")
    return (ranks(similarity) <= k).double().mean().item()


def median_rank(similarity: torch.Tensor) -> float:
    """Median of the partners' ranks, from 1; lower is better, chance is (B + 1) / 2. Raises as `ranks` does.

    >>> median_rank(torch.eye(4)), median_rank(torch.ones(5, 5))
    (1.0, 3.0)
    """
    return ranks(similarity).double().quantile(0.5).item()


def mean_average_precision(similarity: torch.Tensor, relevance: torch.Tensor) -> float:
    """Mean over queries of the average precision, in [0, 1]; higher is better, chance is the share of relevant ones.

    `AP_i = mean over relevant j of (relevant candidates scored >= s_ij) / (candidates scored >= s_ij)`, scikit-learn's
    definition, also for ties. `similarity` (A, B), `relevance` bool (A, B), for example "of the same kind". Any real
    scores will do, cosines below 0 too. Raises `ValueError` where shapes differ, for NaN, or where a query has no
    relevant candidate (drop it first).

    >>> scores = torch.tensor([[0.9, -0.5, 0.2], [0.1, 0.2, 0.3]])
    >>> round(mean_average_precision(scores, torch.tensor([[True, True, False], [False, False, True]])), 4)
    0.9167
    """
    _check(similarity)
    relevance = relevance.to(similarity.device).bool()
    if relevance.shape != similarity.shape:
        raise ValueError(
            f"relevance {tuple(relevance.shape)} must have the shape of similarity {tuple(similarity.shape)}"
        )
    none = (~relevance.any(dim=1)).nonzero().flatten().tolist()
    if none:
        raise ValueError(f"{len(none)} queries have no relevant candidate (the first is {none[0]}): drop them first")
    scores, order = similarity.sort(dim=1, descending=True)
    hits = relevance.gather(1, order)
    falling = (-scores).contiguous()  # a transposed matrix stays transposed through a sort
    at_least = torch.searchsorted(falling, falling, right=True)  # how many candidates score as high or higher: (A, B)
    precision = hits.cumsum(dim=1).gather(1, at_least - 1).double() / at_least
    return ((precision * hits).sum(dim=1) / hits.sum(dim=1)).mean().item()


def _check(similarity: torch.Tensor) -> None:
    if similarity.ndim != 2 or similarity.numel() == 0:
        raise ValueError(f"similarity must be (A, B), a query a row, got {tuple(similarity.shape)}")
    if torch.isnan(similarity).any():
        raise ValueError("similarity holds NaN: the model that made it has broken down")
