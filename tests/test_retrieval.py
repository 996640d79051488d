"""Retrieval metrics against scikit-learn and slow loops."""

import pytest
import torch
from sklearn.metrics import average_precision_score

from avlab.metrics.retrieval import mean_average_precision, median_rank, ranks, recall_at_k


def scores(A: int = 5, B: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(A, B, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("decimals", [6, 0])  # rounded to whole numbers there are many ties
def test_ranks_are_the_mean_over_all_orders_of_the_ties(decimals):
    S = scores(11, 13).round(decimals=decimals)
    for i, found in enumerate(ranks(S).tolist()):
        better = sum(S[i, j] > S[i, i] for j in range(13))
        tied = sum(S[i, j] == S[i, i] for j in range(13))  # the partner itself included
        assert found == pytest.approx(float(better + (1 + tied) / 2))


def test_known_answers():
    assert ranks(torch.eye(5)).tolist() == [1.0] * 5
    assert ranks(-torch.eye(5)).tolist() == [5.0] * 5
    assert recall_at_k(torch.eye(5), 1) == 1.0
    assert recall_at_k(-torch.eye(5), 4) == 0.0
    assert recall_at_k(-torch.eye(5), 5) == 1.0
    S = torch.tensor([[0.1, 0.9, 0.5], [0.2, 0.8, 0.1], [0.3, 0.4, 0.35]])  # ranks 3, 1, 2
    assert median_rank(S) == 2.0
    assert recall_at_k(S, 2) == pytest.approx(2 / 3)


def test_a_constant_never_looks_like_a_find():
    constant = torch.zeros(9, 9)
    assert median_rank(constant) == 5.0
    assert recall_at_k(constant, 1) == 0.0


def test_chance():
    S = scores(2000, 2000)
    assert recall_at_k(S, 10) == pytest.approx(0.005, abs=0.005)
    assert median_rank(S) == pytest.approx(1000.5, abs=60)


def test_only_the_order_within_a_row_matters():
    S = scores()
    R = S > 0.3
    R[:, 0] = True
    moved = torch.exp(3 * S) * torch.arange(1, 6)[:, None] - 4
    assert torch.equal(ranks(S), ranks(moved))
    assert mean_average_precision(S, R) == pytest.approx(mean_average_precision(moved, R))
    order = torch.tensor([6, 2, 0, 5, 1, 4, 3])
    assert mean_average_precision(S[:, order], R[:, order]) == pytest.approx(mean_average_precision(S, R))


@pytest.mark.parametrize("decimals", [6, 0])
def test_mean_average_precision_is_scikit_learns(decimals):
    S = scores(23, 41).round(decimals=decimals)  # half of the scores lie below 0
    R = scores(23, 41, seed=1) > 0.7
    R[:, 3] = True
    theirs = [average_precision_score(R[i].numpy(), S[i].numpy()) for i in range(23)]
    assert mean_average_precision(S, R) == pytest.approx(sum(theirs) / 23, abs=1e-9)


def test_mean_average_precision_known_answers():
    assert mean_average_precision(torch.eye(5), torch.eye(5)) == 1.0
    assert mean_average_precision(-torch.eye(4), torch.eye(4)) == pytest.approx(0.25)
    assert mean_average_precision(scores(), torch.ones(5, 7)) == 1.0
    # one relevant item: the reciprocal of its rank
    assert mean_average_precision(torch.tensor([[3.0, 2.0, 1.0]]), torch.tensor([[0, 0, 1]])) == pytest.approx(1 / 3)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="NaN"):
        ranks(scores(4, 4) * float("nan"))
    with pytest.raises(ValueError, match="7 queries but only 5"):
        ranks(scores(7, 5))
    with pytest.raises(ValueError, match="a query a row"):
        ranks(torch.zeros(4))
    with pytest.raises(ValueError, match=r"k must lie in 1\.\.7"):
        recall_at_k(scores(), 8)
    with pytest.raises(ValueError, match="shape"):
        mean_average_precision(scores(), torch.ones(5, 6))
    with pytest.raises(ValueError, match=r"2 queries have no relevant candidate .the first is 1."):
        mean_average_precision(scores(3, 3), torch.tensor([[1, 0, 0], [0, 0, 0], [0, 0, 0]]))
